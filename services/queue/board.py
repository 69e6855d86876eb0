"""Reads for an operator: running tasks, ends by kind, points of a series; and held discards."""

from collections.abc import Sequence
from typing import Any

import attrs

from services.queue.access import QueueAccess
from services.queue.models import Task
from services.queue.replies import read_task

# One script looks at this many running tasks.
LOOKED_AT_ONCE = 500
# One script discards, or has discarded, this many tasks.
DISCARDED_AT_ONCE = 200
# Points of this step are published [s].
TOLD_STEP = 5


@attrs.frozen
class Running:
    """A running task: its worker, and when its lease ends [s since the epoch]."""

    task: Task
    worker_id: str
    lease_until: float


class Board(QueueAccess):
    """Reads for the operator's page."""

    async def list_running(
        self, *, kind: str = "", user_id: str = "", after: str = "", limit: int = 100
    ) -> tuple[list[Running], str | None]:
        """Read running tasks, the one whose lease ends first first, and where the list goes on.

        A task whose lease is extended meanwhile may come twice.
        """
        found, place = list[Running](), after
        while True:
            lease, _, id_ = place.partition("/")
            reply, behind = await self.scripts.run(
                "list_running",
                kind=kind,
                user=user_id,
                lease=int(lease) if lease else None,
                id=id_,
                most=limit - len(found),
                looked=LOOKED_AT_ONCE,
            )
            found += [
                Running(read_task(task), worker.decode(), float(until))
                for task, worker, until in reply
            ]
            place = "/".join(one.decode() for one in behind)
            if not place or len(found) >= limit:
                return found, place or None

    async def count_by_worker(self, most: int) -> dict[str, int]:
        """Count the running tasks of each worker, of the first `most` running ones."""
        counts: dict[str, int] = {}
        for worker in await self.scripts.run("count_by_worker", most=most):
            counts[worker.decode()] = counts.get(worker.decode(), 0) + 1
        return counts

    async def read_ends(self) -> dict[str, dict[str, int]]:
        """Return how many tasks of each kind have ended in each state, since they are counted."""
        async with self._reading() as pipe:
            pipe.hgetall(f"{self.prefix}ends")
            [counts] = await pipe.execute()
        ends: dict[str, dict[str, int]] = {}
        for name, count in counts.items():
            kind, _, status = name.decode(errors="replace").partition("\n")
            ends.setdefault(kind, {})[status] = int(count)
        return ends

    async def count_submitted(self) -> int:
        """Return how many numbers of submission were given out: they only grow."""
        async with self._reading() as pipe:
            pipe.get(f"{self.prefix}seq")
            [found] = await pipe.execute()
        return int(found or 0)

    async def last_point(self, step: int) -> int:
        """Return the number of the last point of a series, 0 without one."""
        async with self._reading() as pipe:
            pipe.hget(f"{self.prefix}series", str(step))
            [found] = await pipe.execute()
        return int(found or 0)

    async def keep_point(self, step: int, number: int, point: bytes, most: int) -> None:
        """Keep a point, and tell one of the shortest step, unless another process has done so."""
        await self.scripts.run(
            "keep_point", step=step, number=number, point=point, most=most, told=step == TOLD_STEP
        )

    async def read_points(self, step: int, last: int = 0) -> list[tuple[int, bytes]]:
        """Return the points of a series with their numbers, the oldest first; `last`: only some."""
        async with self._reading() as pipe:
            pipe.lrange(f"{self.prefix}series:{step}", -last if last else 0, -1)
            [found] = await pipe.execute()
        parts = (one.partition(b" ") for one in found)
        return [(int(number), point) for number, _, point in parts]

    async def discard_later(self, task_ids: Sequence[str], seconds: float) -> list[str]:
        """Have tasks that failed or are dead deleted later; return which these are."""
        taken: list[Any] = []
        for first in range(0, len(task_ids), DISCARDED_AT_ONCE):
            part = list(task_ids[first : first + DISCARDED_AT_ONCE])
            taken += await self.scripts.run("discard_later", ids=part, seconds=seconds)
        return [one.decode() for one in taken]

    async def keep_after_all(self, task_ids: Sequence[str]) -> int:
        """Keep these tasks after all; return how many were still to go."""
        async with self._reading() as pipe:
            pipe.zrem(f"{self.prefix}discarding", *task_ids)
            [kept] = await pipe.execute()
        return int(kept)

    async def read_due(self, task_ids: Sequence[str]) -> dict[str, float]:
        """Return when delayed tasks may start [s since the epoch]; of others nothing."""
        async with self._reading() as pipe:
            for task_id in task_ids:
                pipe.zscore(f"{self.prefix}delayed", task_id)
            found = await pipe.execute()
        return {id_: due for id_, due in zip(task_ids, found, strict=True) if due is not None}
