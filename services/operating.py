"""The verbs of an operator: list kinds, pause, drain, purge, move limits."""

import contextlib
import math
import time
from collections.abc import Mapping
from typing import Any

import attrs

from services.finding import TaskFilter, find_page
from services.kinds import RESERVED
from services.queue import (
    Conflict,
    KindState,
    NotEnded,
    Purged,
    QueueFull,
    QueueService,
    Task,
    TaskNotFound,
    TaskState,
)
from tornado_rt.work.texts import phrase

# Number of tasks that are looked at before others are served.
PAGE_SIZE = 200
# Fields of a kind's description that anybody may see; the rest is for processes.
SHOWN = ("params_schema", "label", "max_attempts", "timeout")


class KindNotFound(Exception):
    """There is no such kind."""

    def __init__(self, kind: str) -> None:
        super().__init__(phrase("there is no kind {kind}", kind=kind))


@attrs.frozen
class Rerun:
    """The number of tasks that run again; `next`: the cursor of the rest, None for none."""

    count: int
    next: str | None = None


class RerunFull(Exception):
    """Some tasks run again, and no more of their owner may wait; `retry_after` in seconds."""

    def __init__(self, full: QueueFull, count: int) -> None:
        super().__init__(phrase("{full}; {count} of these run again", full=full, count=count))
        self.retry_after = full.retry_after


class Operator:
    """Acts on one kind, or on all of them at once (""). Raise KindNotFound for a kind that is none.

    What it changes holds in every process within a second.
    """

    def __init__(self, queue: QueueService) -> None:
        self._queue = queue

    async def list_kinds(self) -> dict[str, Any]:
        """Return the kinds as they are on the wire, by name, and whether all are paused at once."""
        # The entry over all kinds has the empty name, and comes first.
        over_all, *states = sorted(await self._queue.read_kinds(), key=lambda one: one.entry.kind)
        shown = [one for one in states if not one.entry.kind.startswith(RESERVED)]
        return {"items": [_describe(state) for state in shown], "paused_all": over_all.paused}

    async def pause(self, kind: str) -> int:
        """Have no task start; return how many run."""
        await self._find(kind)
        return await self._queue.pause(kind)

    async def resume(self, kind: str) -> bool:
        """Have tasks start again; return whether none does, for all kinds are still paused."""
        await self._find(kind)
        return await self._queue.resume(kind)

    async def purge(
        self,
        status: TaskState,
        kind: str,
        user_id: str,
        limit: int,
        *,
        tag: str = "",
        after: str = "",
        seconds: float = math.inf,
    ) -> Purged:
        """Cancel waiting tasks, or delete ended ones. `limit` 0: all of them.

        It ends after `seconds`, and goes on where another ended: `after` is the `next` of that.
        Raise NotPurged for tasks that run; KindNotFound when nothing is found at all of a kind that
        is none: a kind that nobody serves any more may have tasks that ended.
        """
        if tag:
            wanted = TaskFilter(kind=kind, statuses=(status,), tag=tag, before=after)
            purged = await self._purge_tagged(status, user_id, wanted, limit, seconds)
        else:
            purged = await self._queue.purge(
                status, kind=kind, user_id=user_id, limit=limit, after=after, seconds=seconds
            )
        if not (purged.count or purged.next or after):
            await self._find(kind)
        return purged

    async def _purge_tagged(
        self, status: TaskState, user_id: str, wanted: TaskFilter, limit: int, seconds: float
    ) -> Purged:
        """Find what has the tag, and purge it: the scripts of the queue read no tags."""
        count, until = 0, time.monotonic() + seconds
        while True:
            most = min(limit - count, PAGE_SIZE) if limit else PAGE_SIZE
            page = await find_page(self._queue, user_id, attrs.evolve(wanted, limit=most))
            count += await self._queue.purge_tasks([one.task_id for one in page.items], status)
            if page.next is None or 0 < limit <= count:
                return Purged(count)
            if time.monotonic() >= until:
                return Purged(count, page.next)
            wanted = attrs.evolve(wanted, before=page.next)

    async def rerun_all(
        self,
        user_id: str | None,
        wanted: TaskFilter,
        *,
        owner: str | None = None,
        seconds: float = math.inf,
    ) -> Rerun:
        """Run again what a filter finds, `limit` at most. It ends after `seconds`, as `purge`.

        `owner` asks for it, None: an operator, whom no bound of waiting tasks stops. Raise
        RerunFull when the owner's does, and KindNotFound as `purge` does.
        """
        found, count, until = 0, 0, time.monotonic() + seconds
        begins = not wanted.before
        while count < wanted.limit:
            left = attrs.evolve(wanted, limit=min(wanted.limit - count, PAGE_SIZE))
            page = await find_page(self._queue, user_id, left)
            found += len(page.items)
            for task in page.items:
                with contextlib.suppress(TaskNotFound, NotEnded, Conflict):
                    try:
                        await self._queue.rerun_task(task.task_id, owner)
                    except QueueFull as full:
                        raise RerunFull(full, count) from None
                    count += 1
            if page.next is None:
                break
            wanted = attrs.evolve(wanted, before=page.next)
            if time.monotonic() >= until:
                return Rerun(count, page.next)
        if begins and not found:
            await self._find(wanted.kind)
        return Rerun(count)

    async def list_dead(self, kind: str, user_id: str, limit: int) -> list[Task]:
        """Read dead tasks, the last to die first, `limit` at most.

        Raise KindNotFound as `purge` does.
        """
        # One that dies meanwhile moves the others on.
        found: dict[str, Task] = {}
        for offset in range(0, (await self._queue.stats()).dead, PAGE_SIZE):
            for task in await self._queue.list_dead(PAGE_SIZE, offset):
                if kind in ("", task.kind) and user_id in ("", task.user_id):
                    found[task.task_id] = task
            if len(found) >= limit:
                break
        if not found:
            await self._find(kind)
        return list(found.values())[:limit]

    async def read_limits(self, kind: str) -> dict[str, Any]:
        """Return the limits that hold, those of them that an admin has set, and a pause."""
        state = await self._find(kind)
        return {
            "limits": dict(state.limits),
            "changed": dict(state.changed),
            "paused": state.paused,
        }

    async def change_limits(self, kind: str, changes: Mapping[str, Any] | None) -> dict[str, Any]:
        """Change some limits, None drops all changes; return what holds. Raise LimitsRefused."""
        await self._find(kind)
        await self._queue.set_limits(kind, changes)
        return await self.read_limits(kind)

    async def _find(self, kind: str) -> KindState:
        for state in await self._queue.read_kinds():
            if state.entry.kind == kind:
                return state
        raise KindNotFound(kind)


def _describe(state: KindState) -> dict[str, Any]:
    entry = state.entry
    return {
        "kind": entry.kind,
        "title": entry.title,
        "version": entry.version,
        **{name: entry.description[name] for name in SHOWN if name in entry.description},
        "limits": dict(state.limits),
        "changed": dict(state.changed),
        "paused": state.paused,
        "queued": state.queued,
        "running": state.running,
        "workers": state.workers,
        "oldest_seconds": state.oldest_seconds,
    }
