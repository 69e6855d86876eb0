"""What can be followed, as the services tell it."""

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import attrs
import orjson

from services.notifications import NotificationService
from services.progress import PlanBook
from services.queue import QueueService
from tornado_rt.connection import Opening
from tornado_rt.json_body import MOST_ITEMS, structure
from tornado_rt.limits import Limits
from tornado_rt.problems import Problem
from tornado_rt.protocol import (
    BROADCAST,
    ClientMessageType,
    Cursor,
    Message,
    MessageType,
    batch_topic,
    task_topic,
    user_topic,
)

MAX_MARKED = 1000

Action = Callable[[Any], Awaitable[None]]


@attrs.frozen
class ReadRequest:
    """`data` of a client's `read` message: ids, or all of them."""

    ids: list[str] = attrs.field(factory=list, metadata={MOST_ITEMS: MAX_MARKED})
    all: bool = False


class ProgressFeed:
    """One task or batch: snapshots until it has finished."""

    __slots__ = ("_id", "_kind", "_limits", "_plans", "_queue", "topics")
    ordered = True

    def __init__(
        self,
        queue: QueueService,
        plans: PlanBook,
        kind: Literal["task", "batch"],
        id_: str,
        limits: Limits,
    ) -> None:
        self.topics: tuple[str, ...] = (task_topic(id_) if kind == "task" else batch_topic(id_),)
        self._limits = limits
        self._queue = queue
        self._plans = plans
        self._kind = kind
        self._id = id_

    def show(self, message: Message) -> Message | None:
        """Return a snapshot with its steps, None when its plan is still to be read."""
        return self._plans.show_message(message)

    async def read(self, after: Cursor | None) -> Opening:
        """Return what came after the cursor, or the snapshot. Raise TaskNotFound, BatchNotFound."""
        replay = await self._queue.read_events(self._kind, self._id, after)
        logged = [replay.snapshot, *replay.messages]
        snapshot, *messages = await self._plans.all_shown_messages(logged)
        assert snapshot.cursor is not None
        if after is None or replay.resync:
            messages = [snapshot, *([replay.finished] if replay.finished else [])]
        return Opening(
            state={"snapshot": orjson.Fragment(snapshot.data)},
            messages=tuple(messages),
            # The snapshot has its own id, and is yet to come.
            begin=snapshot.cursor.previous,
            cursor=replay.cursor,
            resync=replay.resync,
            ended=replay.finished is not None,
        )

    def idle_seconds(self) -> float:
        """Return after how long without progress a stream ends."""
        live, of_task = self._limits.live, self._kind == "task"
        return live.sse_task_max_idle_seconds if of_task else live.sse_batch_max_idle_seconds

    def actions(self) -> dict[str, Action]:
        """Return what the watcher of a task may ask for."""
        return {ClientMessageType.CANCEL: self._cancel} if self._kind == "task" else {}

    async def _cancel(self, _: Any) -> None:
        # The owner was checked when the connection was opened.
        await self._queue.cancel_task(self._id)


class NotificationFeed:
    """One user's notifications, and broadcasts."""

    __slots__ = ("_notifications", "_user_id", "topics")
    # Two processes may publish the notifications of one user in another order than they were
    # numbered in.
    ordered = False

    def __init__(self, notifications: NotificationService, user_id: str) -> None:
        self.topics: tuple[str, ...] = (user_topic(user_id), BROADCAST)
        self._notifications = notifications
        self._user_id = user_id

    def show(self, message: Message) -> Message:
        """Return the message: it is published as it is seen."""
        return message

    async def read(self, after: Cursor | None) -> Opening:
        """Return the notifications after the cursor; none without one."""
        replay = await self._notifications.replay(self._user_id, after)
        return Opening(
            state={"unread_count": replay.unread},
            messages=tuple(replay.messages),
            begin=replay.begin,
            cursor=replay.cursor,
            resync=replay.resync,
            current=(Message.of(MessageType.UNREAD_COUNT, {"unread": replay.unread}),),
        )

    def idle_seconds(self) -> float:
        """Never end for want of news."""
        return 0.0

    def actions(self) -> dict[str, Action]:
        """Return what a user may ask for: `read` marks some as read."""
        return {ClientMessageType.READ: self._read}

    async def _read(self, data: Any) -> None:
        request = structure(data, ReadRequest)
        if request.all:
            await self._notifications.mark_all_read(self._user_id)
        elif request.ids:
            await self._notifications.mark_read(self._user_id, request.ids)
        else:
            raise Problem(422, "name some ids, or all")
