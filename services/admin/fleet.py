"""Workers and what they run."""

import time
from typing import Any

import orjson

from services.progress import PlanBook
from services.queue import QueueService, Running, iso_of
from services.remote import RemoteWork
from tornado_rt.gathering import Gathering
from tornado_rt.work.texts import phrase

HOLDERS = "holders"
# Of more running tasks it is not counted who has them.
MOST_COUNTED = 10_000
# The name under which a process claims for all of its workers elsewhere.
TOGETHER = "remote:"
TOLD = ("host", "pid", "version", "language", "address")


class WorkerNotFound(Exception):
    """There is no such worker, or it is gone."""

    def __init__(self, worker_id: str) -> None:
        super().__init__(phrase("there is no worker {worker_id}", worker_id=worker_id))


class Fleet:
    """Lists workers and running tasks, and drains a worker."""

    def __init__(
        self, queue: QueueService, plans: PlanBook, remote: RemoteWork, gathering: Gathering
    ) -> None:
        self._queue = queue
        self._plans = plans
        self._gathering = gathering
        gathering.answer_by(HOLDERS, remote.holders)

    async def list_workers(self) -> list[dict[str, Any]]:
        """Return the workers that live, by their ids, as they are on the wire."""
        workers = await self._queue.read_workers()
        drained = await self._queue.read_drained()
        counts = await self._counts()
        return [
            _describe(one, running=counts.get(one["worker_id"], 0), drained=drained)
            for one in workers
        ]

    async def drain(self, worker_id: str, *, draining: bool) -> dict[str, Any]:
        """Have a worker claim nothing more, or claim again. Raise WorkerNotFound."""
        if not await self._queue.drain_worker(worker_id, draining=draining):
            raise WorkerNotFound(worker_id)
        running = (await self._counts()).get(worker_id, 0)
        return {"worker_id": worker_id, "draining": draining, "running": running}

    async def list_running(
        self, *, kind: str, user_id: str, worker_id: str, after: str, limit: int
    ) -> dict[str, Any]:
        """Return a page of running tasks, the one whose lease ends first first, as on the wire.

        A page of one worker may have fewer than `limit` and go on all the same.
        """
        found, place = await self._queue.list_running(
            kind=kind, user_id=user_id, after=after, limit=limit
        )
        holders = await self._holders([one for one in found if one.worker_id.startswith(TOGETHER)])
        shown = await self._plans.all_shown([one.task.snapshot or b"{}" for one in found])
        items = [
            _describe_running(one, snapshot, holders.get(one.task.task_id, one.worker_id))
            for one, snapshot in zip(found, shown, strict=True)
        ]
        fitting = [one for one in items if worker_id in ("", one["worker_id"])]
        return {"items": fitting, "next": place}

    async def _counts(self) -> dict[str, int]:
        counts = await self._queue.count_by_worker(MOST_COUNTED)
        if any(one.startswith(TOGETHER) for one in counts):
            for held in await self._gathering.ask(HOLDERS, None):
                for worker in (held or {}).values():
                    counts[worker] = counts.get(worker, 0) + 1
        return counts

    async def _holders(self, running: list[Running]) -> dict[str, str]:
        if not running:
            return {}
        ids = [one.task.task_id for one in running]
        answers = await self._gathering.ask(HOLDERS, ids)
        return {id_: worker for answer in answers for id_, worker in (answer or {}).items()}


def _describe(one: dict[str, Any], *, running: int, drained: set[str]) -> dict[str, Any]:
    started = one.get("started_at")
    age = max(time.time() - started, 0.0) if isinstance(started, int | float) else None
    slots = one.get("slots", one.get("concurrency"))
    return {
        "worker_id": one["worker_id"],
        "kinds": sorted(one["kinds"]),
        "slots": slots if isinstance(slots, int) else None,
        "running": running,
        **{name: one.get(name) for name in TOLD},
        "seconds": None if age is None else round(age, 3),
        "seen_seconds": one["seen_seconds"],
        "remote": "transport" in one,
        "draining": one["worker_id"] in drained,
    }


def _describe_running(one: Running, snapshot: bytes, worker_id: str) -> dict[str, Any]:
    task, shown = one.task, orjson.loads(snapshot)
    return {
        "task_id": task.task_id,
        "kind": task.kind,
        "label": task.label,
        "user_id": task.user_id,
        "worker_id": worker_id,
        "attempt": task.attempt,
        "max_attempts": task.max_attempts,
        "started_at": iso_of(task.started_at),
        "lease_until": iso_of(one.lease_until),
        "lease_seconds": round(one.lease_until - time.time(), 3),
        "progress": task.progress,
        "step": shown.get("current_step_name"),
        "message": shown.get("message"),
        "remaining_time": shown.get("remaining_time"),
    }
