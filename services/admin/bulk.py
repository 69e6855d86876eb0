"""Acting on many tasks, by their ids or by a filter; and taking it back for some seconds."""

import contextlib
import math
import time
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import attrs
import orjson
from redis.asyncio import Redis

from services.queue import (
    Conflict,
    NotEnded,
    QueueService,
    Search,
    TaskNotFound,
    TaskState,
    new_id,
)
from tornado_rt.work.texts import phrase

# A cancel or a discard may be taken back for this long [s].
UNDO_SECONDS = 10.0
# Look for this many tasks, then let others be served.
PORTION = 100
WAITING = (TaskState.QUEUED, TaskState.DELAYED)


class BulkVerb(StrEnum):
    """Acts on many tasks."""

    RETRY = "retry"
    CANCEL = "cancel"
    DISCARD = "discard"


# The states that a verb takes.
TAKES = {
    BulkVerb.RETRY: (TaskState.FAILED, TaskState.DEAD, TaskState.CANCELLED),
    BulkVerb.CANCEL: (*WAITING, TaskState.PROCESSING),
    BulkVerb.DISCARD: (TaskState.FAILED, TaskState.DEAD),
}


class NothingToUndo(Exception):
    """It is unknown, was undone, or it is too late."""

    def __init__(self) -> None:
        super().__init__(phrase("there is nothing to undo under this name: it may be too late"))


@attrs.define
class _Done:
    """The ids of tasks that were changed, of those that can be taken back, and a count.

    `due`: when those of them may start that were delayed [s since the epoch].
    """

    changed: list[str] = attrs.field(factory=list)
    undoable: list[str] = attrs.field(factory=list)
    due: dict[str, float] = attrs.field(factory=dict)
    skipped: int = 0


class BulkWork:
    """Retries, cancels and discards; `prefix` is of the queue's keys."""

    def __init__(self, queue: QueueService, redis: Redis, prefix: str) -> None:
        self._queue = queue
        self._redis = redis
        self._undo_prefix = f"{prefix}undo:"

    async def act_on(self, verb: BulkVerb, task_ids: Sequence[str]) -> dict[str, Any]:
        """Act on the tasks with these ids; one that is not there is skipped."""
        done = _Done()
        ids = list(dict.fromkeys(task_ids))
        for first in range(0, len(ids), PORTION):
            part = ids[first : first + PORTION]
            found = [(id_, await self._state_of(id_)) for id_ in part]
            await self._act(verb, found, done)
        return await self._answer(verb, done, None)

    async def act_where(
        self, verb: BulkVerb, wanted: Search, seconds: float = math.inf
    ) -> dict[str, Any]:
        """Act on what a filter finds, `limit` tasks at most.

        It ends after `seconds`, and says where to go on.
        """
        if not wanted.statuses:
            wanted = attrs.evolve(wanted, statuses=TAKES[verb])
        done, place, left = _Done(), wanted.before, wanted.limit
        until = time.monotonic() + seconds
        while True:
            asked = attrs.evolve(wanted, before=place, limit=min(left, PORTION))
            page = await self._queue.match(asked)
            await self._act(verb, page.items, done)
            left -= len(page.items)
            place = page.next or ""
            if not place or left <= 0 or time.monotonic() >= until:
                return await self._answer(verb, done, page.next)

    async def undo(self, name: str) -> int:
        """Take back what was done under a name; return of how many tasks. Raise NothingToUndo."""
        kept: Any = await self._redis.getdel(self._undo_prefix + name)
        if kept is None:
            raise NothingToUndo
        told = orjson.loads(kept)
        if told["verb"] == BulkVerb.DISCARD:
            return await self._queue.keep_after_all(told["ids"])
        undone = 0
        for id_ in told["ids"]:
            with contextlib.suppress(TaskNotFound, NotEnded, Conflict):
                await self._queue.rerun_task(id_, run_at=told["due"].get(id_, 0.0))
                undone += 1
        return undone

    async def _state_of(self, task_id: str) -> TaskState | None:
        task = await self._queue.get_task(task_id)
        return None if task is None else task.status

    async def _act(
        self, verb: BulkVerb, found: Sequence[tuple[str, TaskState | None]], done: _Done
    ) -> None:
        fitting = [(id_, state) for id_, state in found if state in TAKES[verb]]
        before = len(done.changed)
        if verb is BulkVerb.DISCARD:
            taken = await self._queue.discard_later([id_ for id_, _ in fitting], UNDO_SECONDS)
            done.changed += taken
            done.undoable += taken
        if verb is BulkVerb.CANCEL:
            late = [id_ for id_, state in fitting if state is TaskState.DELAYED]
            done.due |= await self._queue.read_due(late)
        for id_, state in fitting if verb is not BulkVerb.DISCARD else ():
            with contextlib.suppress(TaskNotFound, NotEnded, Conflict):
                if await self._change(verb, id_):
                    done.changed.append(id_)
                    if verb is BulkVerb.CANCEL and state in WAITING:
                        done.undoable.append(id_)
        done.skipped += len(found) - (len(done.changed) - before)

    async def _change(self, verb: BulkVerb, task_id: str) -> bool:
        """Say whether it has done anything: a task may have ended meanwhile."""
        if verb is BulkVerb.RETRY:
            await self._queue.rerun_task(task_id)
            return True
        cancelled = await self._queue.cancel_task(task_id)
        return cancelled.status is TaskState.CANCELLED

    async def _answer(self, verb: BulkVerb, done: _Done, place: str | None) -> dict[str, Any]:
        name = new_id() if done.undoable else None
        if name is not None:
            kept = orjson.dumps({"verb": verb, "ids": done.undoable, "due": done.due})
            await self._redis.set(self._undo_prefix + name, kept, px=int(UNDO_SECONDS * 1000))
        return {
            "changed": len(done.changed),
            "skipped": done.skipped,
            "next": place,
            "undo": name,
            "undo_seconds": UNDO_SECONDS if name else None,
        }
