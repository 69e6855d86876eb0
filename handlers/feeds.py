"""The feeds that can be followed, as the services tell them."""

from functools import partial
from typing import Any, Literal

import orjson

from services.admin import Series
from services.finding import TaskFilter
from services.notifications import Done, NotificationService, Verb
from services.notifications.requests import (
    ActRequest,
    AnswerRequest,
    Filter,
    ListRequest,
    UndoRequest,
)
from services.progress import PlanBook
from services.queue import By, QueueService
from services.tasks import TaskService
from services.topics import TopicService
from tornado_rt.bounds import OutOfBounds
from tornado_rt.feed import Action, Opening
from tornado_rt.json_body import structure
from tornado_rt.limits import Limits
from tornado_rt.problems import Problem
from tornado_rt.protocol import (
    ADMIN_TOPIC,
    BROADCAST,
    ClientMessageType,
    Cursor,
    Message,
    MessageType,
    app_topic,
    batch_topic,
    task_topic,
    tasks_topic,
    user_topic,
)


class ProgressFeed:
    """One task or batch: snapshots until it has finished. `by` is who follows it."""

    __slots__ = ("_by", "_id", "_kind", "_limits", "_plans", "_queue", "topics")
    contiguous = False

    def __init__(
        self,
        queue: QueueService,
        plans: PlanBook,
        kind: Literal["task", "batch"],
        id_: str,
        limits: Limits,
        by: By,
    ) -> None:
        self._by = by
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
        await self._queue.cancel_task(self._id, by=self._by)


class NotificationFeed:
    """One user's notifications, and broadcasts."""

    __slots__ = ("_notifications", "_user_id", "topics")
    contiguous = True

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
        counts = replay.counts
        return Opening(
            state={
                "unread_count": counts["unread"],
                "unseen_count": counts["unseen"],
                "version": counts["version"],
            },
            messages=tuple(replay.messages),
            begin=replay.begin,
            cursor=replay.cursor,
            resync=replay.resync,
            current=(Message.of(MessageType.UNREAD_COUNT, counts),),
        )

    def idle_seconds(self) -> float:
        """Never end for want of news."""
        return 0.0

    def actions(self) -> dict[str, Action]:
        """Return what a user may ask for: each verb, its undo, an action's answer, and a list."""
        verbs: dict[str, Action] = {verb: partial(self._act, verb) for verb in Verb}
        return {
            **verbs,
            ClientMessageType.UNDO: self._undo,
            ClientMessageType.ANSWER: self._answer,
            ClientMessageType.LIST: self._list,
        }

    async def _act(self, verb: Verb, data: Any) -> Message:
        request = structure(data, ActRequest)
        done = await changed_by(self._notifications, self._user_id, verb, request)
        return Message.of(MessageType.DONE, done.to_dict())

    async def _undo(self, data: Any) -> Message:
        done = await self._notifications.undo(self._user_id, structure(data, UndoRequest).undo)
        return Message.of(MessageType.DONE, done.to_dict())

    async def _answer(self, data: Any) -> Message:
        given = structure(data, AnswerRequest)
        answered = await self._notifications.answer(self._user_id, given.id, given.action)
        return Message.of(MessageType.DONE, {"notification": answered.to_dict()})

    async def _list(self, data: Any) -> Message:
        found = await self._notifications.find(self._user_id, structure(data, ListRequest).query())
        return Message.of(MessageType.LIST, found.to_dict())


class TasksFeed:
    """All tasks of a user: the newest of them as a list, and then each change."""

    __slots__ = ("_queue", "_tasks", "_user_id", "topics")
    contiguous = True

    def __init__(self, queue: QueueService, tasks: TaskService, user_id: str) -> None:
        self.topics: tuple[str, ...] = (tasks_topic(user_id),)
        self._queue = queue
        self._tasks = tasks
        self._user_id = user_id

    def show(self, message: Message) -> Message:
        """Return the message: it is published as it is seen."""
        return message

    async def read(self, after: Cursor | None) -> Opening:
        """Return the changes after the cursor; without one, or when they are gone, the list."""
        changes = await self._queue.read_changes(self._user_id, after)
        cursor = changes.cursor
        if after is not None and changes.resync is None:
            return Opening({}, tuple(changes.messages), cursor, cursor)
        # Read behind the cursor: a change that it has already comes again, and changes nothing.
        listed = await self._tasks.find(self._user_id, TaskFilter())
        if after is None:
            return Opening({"snapshot": listed}, (), cursor, cursor)
        # A client that is cut off before the list gets another resync.
        begin = Cursor(cursor.epoch, 0)
        messages = (Message.of(MessageType.LIST, listed, str(cursor)),)
        return Opening({}, messages, begin, cursor, changes.resync)

    def idle_seconds(self) -> float:
        """Never end for want of news."""
        return 0.0

    def actions(self) -> dict[str, Action]:
        """Return nothing: each task has a topic of its own."""
        return {}


class TopicFeed:
    """A topic of the application."""

    __slots__ = ("_name", "_service", "topics")
    contiguous = True

    def __init__(self, service: TopicService, name: str) -> None:
        self.topics: tuple[str, ...] = (app_topic(name),)
        self._service = service
        self._name = name

    def show(self, message: Message) -> Message:
        """Return the message: it is published as it is seen."""
        return message

    async def read(self, after: Cursor | None) -> Opening:
        """Return what was published after the cursor; the last one as a snapshot without one."""
        return await self._service.read(self._name, after)

    def idle_seconds(self) -> float:
        """Never end for want of news."""
        return 0.0

    def actions(self) -> dict[str, Action]:
        """Return nothing: what a client has to say goes to the application."""
        return {}


class AdminFeed:
    """The points of the queue's past as they are made, for an admin."""

    __slots__ = ("_series", "topics")
    contiguous = False

    def __init__(self, series: Series) -> None:
        self.topics: tuple[str, ...] = (ADMIN_TOPIC,)
        self._series = series

    def show(self, message: Message) -> Message:
        """Return the message: it is published as it is seen."""
        return message

    async def read(self, after: Cursor | None) -> Opening:
        """Return the points behind the cursor; the newest as a snapshot without one."""
        return await self._series.follow(after)

    def idle_seconds(self) -> float:
        """Never end for want of news."""
        return 0.0

    def actions(self) -> dict[str, Action]:
        """Return nothing: an admin acts by requests, which are noted."""
        return {}


async def changed_by(
    notifications: NotificationService, user_id: str, verb: Verb, request: ActRequest
) -> Done:
    """Apply a verb to what a request names. Raise Problem 422 for a wrong time."""
    try:
        until = request.moment() if verb == Verb.SNOOZE else None
    except OutOfBounds as error:
        raise Problem(422, str(error)) from None
    if request.ids:
        return await notifications.act(user_id, verb, request.ids, until)
    if request.all and verb == Verb.READ:
        return await notifications.read_all(user_id)
    chosen = (request.filter or Filter()).query()
    return await notifications.act_where(user_id, verb, chosen, until)
