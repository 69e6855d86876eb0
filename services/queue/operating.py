"""Cancelling, running again and deleting tasks, and the upkeep of a queue."""

import math
import time
from collections.abc import Sequence
from typing import Any

import structlog

from services.queue.access import QueueAccess
from services.queue.asking import By
from services.queue.models import (
    Batch,
    BatchNotFound,
    Followed,
    NotEnded,
    NotPurged,
    Purged,
    Task,
    TaskNotFound,
    TaskState,
    UpkeepReply,
)
from services.queue.replies import read_batch, read_task
from services.queue.sent_plans import PLAN_IDLE_SECONDS
from tornado_rt.work.texts import phrase, stored_phrase

log = structlog.get_logger(__name__)

# A script blocks Redis: what exceeds this waits for the next script.
UPKEEP_COUNT = 200
CANCEL_COUNT = 200
PURGE_COUNT = 200
POSITIONS_COUNT = 100
POSITIONS_SECONDS = 1.0
# The error of an attempt whose worker was lost.
WORKER_LOST = stored_phrase("the worker was lost")


class Operating(QueueAccess):
    """Verbs that change existing tasks, and upkeep."""

    # Tasks that upkeep has set aside, as it last said.
    _broken = 0

    async def cancel_task(
        self, task_id: str, user_id: str | None = None, by: By | None = None
    ) -> Task:
        """End a task as cancelled, unless it has ended. Raise TaskNotFound, also for another's."""
        reply = await self._cancel("task", task_id, user_id, by or By.of(user_id))
        if reply is None:
            raise TaskNotFound(task_id)
        return read_task(reply)

    async def cancel_batch(
        self, batch_id: str, user_id: str | None = None, by: By | None = None
    ) -> Batch:
        """Cancel what has not ended of a batch. Raise BatchNotFound, also for another's."""
        more, batch, by = 1, (), (by or By.of(user_id)).with_batch()
        while more:
            reply = await self._cancel("batch", batch_id, user_id, by)
            if reply is None:
                raise BatchNotFound(batch_id)
            more, batch = reply
        return read_batch(batch)

    async def hear_quiet_ends(self) -> None:
        """Have the ends of tasks told from now on that make no notification, but for a batch's."""
        await self._redis.set(f"{self.prefix}quiet_ends", "1")

    async def rerun_task(
        self,
        task_id: str,
        user_id: str | None = None,
        by: By | None = None,
        *,
        run_at: float = 0.0,
    ) -> Task:
        """Give a task that failed, died or was cancelled all its attempts again.

        It starts at `run_at` [s since the epoch] at the earliest.

        The bound of waiting tasks holds for `user_id`, and for None, an operator, it does not.
        Raise TaskNotFound, also for another's; NotEnded for one that waits, runs or has completed;
        Conflict when another has its unique key; QueueFull.
        """
        bound = 0 if user_id is None else self.max_waiting_per_user
        reply = await self.scripts.run(
            "rerun",
            id=task_id,
            user=user_id or "",
            waiting=bound,
            by=(by or By.of(user_id)).packed,
            run_at=run_at,
        )
        if reply is None:
            raise TaskNotFound(task_id)
        reply = self._unless_refused(reply)
        if isinstance(reply, bytes):
            raise NotEnded(task_id, reply.decode())
        return read_task(reply)

    async def discard_task(self, task_id: str) -> None:
        """Delete a task that failed or is dead. Raise TaskNotFound when there is none such."""
        if not await self.scripts.run("discard", id=task_id):
            raise TaskNotFound(task_id)

    async def purge(
        self,
        status: TaskState,
        *,
        kind: str = "",
        user_id: str = "",
        limit: int = 0,
        after: str = "",
        seconds: float = math.inf,
    ) -> Purged:
        """Cancel waiting tasks, or delete ended ones, at most `limit` of them, 0: all there are.

        It ends after `seconds`, and goes on where another ended: `after` is the `next` of that.
        Raise NotPurged for tasks that run: those are cancelled one by one.
        """
        _refuse_running(status)
        purged, until = 0, time.monotonic() + seconds
        while True:
            done, place = await self.scripts.run(
                "purge",
                status=status.value,
                kind=kind,
                user=user_id,
                after=after,
                most=min(PURGE_COUNT, limit - purged) if limit else PURGE_COUNT,
                kept=self.kept_per_user,
            )
            purged, after = purged + done, place.decode()
            if not after or 0 < limit <= purged:
                return Purged(purged)
            if time.monotonic() >= until:
                return Purged(purged, after)

    async def purge_tasks(self, task_ids: Sequence[str], status: TaskState) -> int:
        """Purge those of 200 tasks at most that are in this state; return how many.

        Raise NotPurged.
        """
        _refuse_running(status)
        purged: int = await self.scripts.run(
            "purge_tasks", ids=list(task_ids), status=status.value, kept=self.kept_per_user
        )
        return purged

    async def cleanup_expired_tasks(self) -> int:
        """Do what is due, at most 200 of each; return how many leases had run out.

        Those tasks go back to the head of their line, or are dead after the last attempt. Delays
        that are over end, and ended tasks past their retention are deleted.
        """
        return (await self.keep_up()).expired

    async def keep_up(self) -> UpkeepReply:
        """Do what `cleanup_expired_tasks` does, and say when it is wanted again."""
        expired, _, _, due_in, broken, lost = await self.scripts.run(
            "upkeep",
            retention=self.retention_seconds,
            most=UPKEEP_COUNT,
            kept=self.kept_per_user,
            idle=PLAN_IDLE_SECONDS,
            lost=WORKER_LOST,
        )
        if broken != self._broken:
            log.error("tasks_set_aside", tasks=broken, see="run.py queue check")
        self._broken = broken
        return UpkeepReply(
            expired,
            float(due_in) if due_in else None,
            [(kind.decode(errors="replace"), became.decode()) for kind, became in lost],
        )

    async def publish_positions(self) -> int:
        """Tell the watchers of waiting tasks where they stand, at most once a second in all.

        Return how many were told; -1 when there is more to tell a second later, since this was too
        soon, a hundred were told and others are left, or a line moved meanwhile.
        """
        told: int = await self.scripts.run(
            "publish_positions", pause=POSITIONS_SECONDS, most=POSITIONS_COUNT
        )
        return told

    async def _cancel(self, what: Followed, id_: str, user_id: str | None, by: By) -> Any:
        return await self.scripts.run(
            "cancel",
            what=what,
            id=id_,
            user=user_id or "",
            kept=self.kept_per_user,
            most=CANCEL_COUNT,
            by=by.packed,
        )


def _refuse_running(status: TaskState) -> None:
    if status == TaskState.PROCESSING:
        raise NotPurged(phrase("tasks that run are not purged: cancel them"))
