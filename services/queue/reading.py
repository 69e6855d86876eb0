"""Reading tasks and batches, their logs of events, and the counts of them."""

from collections.abc import Iterable, Sequence

import attrs

from services.queue.access import QueueAccess
from services.queue.kinds import ALL_KINDS, unpack_limits
from services.queue.models import (
    Band,
    Batch,
    BatchNotFound,
    Followed,
    LoggedEvents,
    QueueStats,
    Replay,
    Task,
    TaskNotFound,
    TaskPage,
    TaskState,
    TooManyToCheck,
    UserQueueStatus,
)
from services.queue.replies import fields_of, read_band, read_batch, read_replay, read_task
from tornado_rt.protocol import Cursor

# Most tasks that one request of a list looks at, and most that one script does.
LOOKED_AT = 2000
LOOKED_AT_ONCE = 200
# Most tasks that one script returns whole, so that their texts can be searched.
READ_AT_ONCE = 50


class Reading(QueueAccess):
    """The verbs of readers: none of them changes anything."""

    async def get_task(self, task_id: str) -> Task | None:
        """Read a task."""
        reply = await self.scripts.run("get_task", id=task_id)
        return None if reply is None else read_task(reply)

    async def get_batch(self, batch_id: str) -> Batch | None:
        """Read a batch."""
        reply = await self.scripts.run("get_batch", id=batch_id)
        return None if reply is None else read_batch(reply)

    async def list_tasks(
        self,
        user_id: str,
        *,
        kind: str = "",
        statuses: Sequence[str] = (),
        tag: str = "",
        batch_id: str = "",
        parent_id: str = "",
        since: float | None = None,
        until: float | None = None,
        words: str = "",
        before: str = "",
        limit: int = 50,
    ) -> TaskPage:
        """Read a user's tasks that fit, or everybody's (the user ""), the newest first.

        `since` and `until` are when they were made, None: any time; `words` stand in the label or
        in the id, and the handler of `parent_id` submitted them. `before` is the `next` of the page
        before. One page may have fewer than `limit` and go on all the same: it looks at 2,000 tasks
        at most.
        """
        found: list[Task] = []
        by_text, place = bool(tag or parent_id or words), before
        step = READ_AT_ONCE if by_text else LOOKED_AT_ONCE
        for _ in range(0, LOOKED_AT, step):
            room = limit - len(found)
            most = step if by_text else room
            part, place = await self._list_part(
                user_id, kind, statuses, batch_id, since, until, place, most, step
            )
            fitting = [(seq, task) for seq, task in part if _fits(task, tag, parent_id, words)]
            if len(fitting) > room:
                place, _ = fitting[room - 1]
            found += [task for _, task in fitting[:room]]
            if not place or len(found) >= limit:
                break
        return TaskPage(found, place or None)

    async def get_user_queue_status(self, user_id: str) -> UserQueueStatus:
        """Count a user's tasks."""
        async with self._reading() as pipe:
            for name in ("waiting_of", "aside", "active"):
                pipe.hget(self.prefix + name, user_id)
            pipe.hget(self.prefix + "limits", ALL_KINDS)
            *counts, packed = await pipe.execute()
        waiting, aside, active = (int(found or 0) for found in counts)
        limits = attrs.asdict(self.limits) | unpack_limits(packed)
        return UserQueueStatus(waiting + aside, active, limits["user_limit"])

    async def read_lengths(self, kinds: Iterable[str]) -> dict[str, Band]:
        """Return how long tasks of kinds usually take [s], of those of which some have ended."""
        asked = sorted(set(kinds))
        found = await self.scripts.run("read_lengths", kinds=asked) if asked else []
        bands = zip(asked, map(read_band, found), strict=True)
        return {kind: band for kind, band in bands if band is not None}

    async def stats(self) -> QueueStats:
        """Count the tasks in each state."""
        async with self._reading() as pipe:
            pipe.hvals(self.prefix + "queued")
            pipe.zcard(self.prefix + "processing")
            pipe.zcard(self.prefix + "delayed")
            pipe.hgetall(self.prefix + "counts")
            queued, processing, delayed, counts = await pipe.execute()
        ended = {
            state.value: int(counts.get(state.encode(), 0))
            for state in TaskState
            if state.value not in ("queued", "processing", "delayed")
        }
        waiting = sum(map(int, queued))
        return QueueStats(queued=waiting, processing=processing, delayed=delayed, **ended)

    async def list_dead(self, limit: int = 50, offset: int = 0) -> list[Task]:
        """Read the tasks that are dead, the last to die first."""
        replies = await self.scripts.run("list_dead", passed=offset, most=limit)
        return [read_task(reply) for reply in replies]

    async def read_events(
        self, followed: Followed, id_: str, after: Cursor | None = None
    ) -> Replay:
        """Read the state, and the messages after a cursor. Raise TaskNotFound, BatchNotFound."""
        epoch, offset = ("", 0) if after is None else (after.epoch, after.offset)
        reply = await self.scripts.run(
            "read_events", what=followed, id=id_, epoch=epoch, after=offset
        )
        if reply is None:
            raise TaskNotFound(id_) if followed == "task" else BatchNotFound(id_)
        return read_replay({f"{followed}_id": id_}, *reply)

    async def read_logged(self, task_id: str) -> LoggedEvents:
        """Return the events of a task that its log has; none when there is no such task."""
        async with self._reading() as pipe:
            pipe.lrange(f"{self.prefix}log:task:{task_id}", 0, -1)
            pipe.hget(f"{self.prefix}task:{task_id}", "logged")
            events, logged = await pipe.execute()
        # The first event of all is never logged (lib/events.lua).
        return LoggedEvents(events, older=len(events) < int(logged or 1) - 1)

    async def read_heads(self, followed: Followed, ids: Sequence[str]) -> dict[str, Cursor]:
        """Return where the logs of tasks or batches end, of those that there are."""
        epoch, *offsets = await self.scripts.run("read_heads", what=followed, ids=list(ids))
        return {
            id_: Cursor(epoch.decode(), int(offset))
            for id_, offset in zip(ids, offsets, strict=True)
            if offset
        }

    async def check_invariants(self, most: int = 0) -> list[str]:
        """Compare everything with everything; return the violations.

        Everybody waits meanwhile. Raise TooManyToCheck for more than `most` tasks, 0: any number.
        """
        reply = await self.scripts.run("check_invariants", most=most)
        if isinstance(reply, int):
            raise TooManyToCheck(reply, most)
        return [fault.decode() for fault in reply]

    async def _list_part(
        self,
        user_id: str,
        kind: str,
        statuses: Sequence[str],
        batch_id: str,
        since: float | None,
        until: float | None,
        before: str,
        most: int,
        looked: int,
    ) -> tuple[list[tuple[str, Task]], str]:
        replies, last = await self.scripts.run(
            "list_tasks",
            user=user_id,
            kind=kind,
            statuses=list(statuses),
            batch=batch_id,
            since=since,
            till=until,
            before=int(before) if before else None,
            most=most,
            looked=looked,
        )
        found = [(fields_of(reply)["seq"].decode(), read_task(reply)) for reply in replies]
        return found, last.decode()


def _fits(task: Task, tag: str, parent_id: str, words: str) -> bool:
    if tag and tag not in task.job.tags:
        return False
    if parent_id and task.job.parent_id != parent_id:
        return False
    told = f"{task.label}\n{task.task_id}".casefold()
    return all(word in told for word in words.casefold().split())
