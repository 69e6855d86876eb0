"""The events that a stream brings to its reader.

A task brings `Progress`, the snapshot first, and at its end `Finished`; a batch `BatchProgress` and
`BatchFinished`. An inbox brings `Arrived`, `Changed` and `Counts`, the topic `tasks` `TasksListed`
and `TasksChanged`, an application's topic `Message`. `Resync` says that some were missed and cannot
be had again. `topic` is None but on a stream of many topics.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import attrs

from tornado_rt_client.errors import ProtocolError, TaskCancelled, TaskFailed
from tornado_rt_client.records import (
    BatchSnapshot,
    Notification,
    Snapshot,
    TaskRecord,
    UnreadCount,
)

CANCELLED = "cancelled"
COMPLETED = "completed"
TASKS = "tasks"

K = TypeVar("K", bound="Event")


@attrs.frozen
class Event:
    """The base of all. `id` is the message's place in its log, None for one that has none."""

    topic: str | None = attrs.field(default=None, kw_only=True)
    id: str | None = attrs.field(default=None, kw_only=True)


@attrs.frozen
class Progress(Event):
    """A task has moved on; `snapshot` is its whole state."""

    snapshot: Snapshot

    @property
    def percent(self) -> float:
        """The progress, from 0 to 100."""
        return self.snapshot.progress

    @property
    def message(self) -> str | None:
        """The task's own words for its current work."""
        return self.snapshot.message

    @property
    def status(self) -> str:
        """The state of the task."""
        return self.snapshot.status


@attrs.frozen
class Finished(Event):
    """A task has ended; nothing follows. `status` is how, `error` why it has no result."""

    task_id: str
    status: str
    result: Any = None
    error: str | None = None

    def outcome(self) -> Any:
        """Return the result. Raise TaskFailed, TaskCancelled."""
        if self.status == COMPLETED:
            return self.result
        kind = TaskCancelled if self.status == CANCELLED else TaskFailed
        raise kind(self.task_id, self.status, self.error)


@attrs.frozen
class BatchProgress(Event):
    """A batch has moved on; `snapshot` is its whole state."""

    snapshot: BatchSnapshot


@attrs.frozen
class BatchFinished(Event):
    """A batch has ended; nothing follows. `status` is completed, partial, failed or cancelled."""

    batch_id: str
    status: str
    data: Mapping[str, Any] = attrs.field(repr=False)


@attrs.frozen
class Arrived(Event):
    """A notification is new, was renewed, or came back from a snooze."""

    notification: Notification


@attrs.frozen
class Changed(Event):
    """Notifications have changed, or were deleted (their ids). Each takes the place of its own."""

    items: tuple[Notification, ...]
    deleted: tuple[str, ...]


@attrs.frozen
class TasksListed(Event):
    """The newest of one's tasks, the newest first. They take the place of all that came before."""

    items: tuple[TaskRecord, ...]


@attrs.frozen
class TasksChanged(Event):
    """Tasks were made, have moved or ended, or are gone (their ids).

    A field that has changed is in the `data` of an item. `position`, `starts_in` and its bounds,
    `run_at`, `started_at`, `ended_at` and `error` have no value when they are not there.
    """

    items: tuple[TaskRecord, ...]
    deleted: tuple[str, ...]


@attrs.frozen
class Counts(Event):
    """Numbers of notifications that are unread and unseen now."""

    counts: UnreadCount


@attrs.frozen
class Message(Event):
    """Data that was published on a topic; `is_snapshot`: the last one from before we came."""

    data: Any
    is_snapshot: bool = False


@attrs.frozen
class Resync(Event):
    """Some events were missed for good. Forget what came before, and read lists anew."""

    reason: str


TaskEvent = Progress | Finished
BatchEvent = BatchProgress | BatchFinished
InboxEvent = Arrived | Changed | Counts | Resync


@attrs.frozen
class Envelope:
    """A message of the server, decoded."""

    type: str
    data: Any
    topic: str | None = None
    id: str | None = None

    @property
    def fields(self) -> Mapping[str, Any]:
        """The data as an object, empty when it is none."""
        return self.data if isinstance(self.data, dict) else {}


def decode(type_: str, text: str, id_: str | None, *, has_topics: bool = False) -> Envelope:
    """Read the data of one event of a stream. Raise ProtocolError.

    On a stream that has topics they are the whole message, with its topic and its own id; those of
    a message about the connection are its data alone.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise ProtocolError(f"an event that is not JSON: {error}") from None
    if has_topics and isinstance(data, dict) and "topic" in data:
        own = data.get("id")
        own_id = own if isinstance(own, str) else None
        return Envelope(type_, data.get("data"), str(data["topic"]), own_id)
    return Envelope(type_, data, None, id_)


def read_event(envelope: Envelope) -> Event | None:
    """Return the event of a message; None for one that its reader has no use for."""
    readers = _READERS_OF_TASKS if envelope.topic == TASKS else _READERS
    read = readers.get(envelope.type)
    event = None if read is None else read(envelope)
    return None if event is None else attrs.evolve(event, topic=envelope.topic, id=envelope.id)


def _progress(envelope: Envelope) -> Event:
    if "batch_id" in envelope.fields and "task_id" not in envelope.fields:
        return BatchProgress(BatchSnapshot.read(envelope.data))
    return Progress(Snapshot.read(envelope.data))


def _finished(envelope: Envelope) -> Event:
    fields = envelope.fields
    status = str(fields.get("final_status", ""))
    if "task_id" in fields:
        return Finished(str(fields["task_id"]), status, fields.get("result"), fields.get("error"))
    return BatchFinished(str(fields.get("batch_id", "")), status, fields)


def _arrived(envelope: Envelope) -> Event:
    return Arrived(Notification.read(envelope.data))


def _changed(envelope: Envelope) -> Event:
    items, deleted = envelope.fields.get("items", ()), envelope.fields.get("deleted", ())
    return Changed(tuple(map(Notification.read, items)), tuple(map(str, deleted)))


def _counts(envelope: Envelope) -> Event:
    return Counts(UnreadCount.read(envelope.data))


def _first_counts(envelope: Envelope) -> Event | None:
    """Return the counts that the first message of an inbox has, by names of their own."""
    fields = envelope.fields
    if "unread_count" in fields:
        counts = {"unread": fields["unread_count"], "unseen": fields.get("unseen_count", 0)}
        return Counts(UnreadCount.read({**counts, "version": fields.get("version", 0)}))
    return None


def _subscribed(envelope: Envelope) -> Event | None:
    """Return the first news of a topic: the counts of an inbox, or what was published last.

    The snapshot of a task or batch comes as a message of its own.
    """
    snapshot = envelope.fields.get("snapshot")
    is_own = str(envelope.topic).startswith(("task:", "batch:"))
    if snapshot is not None and not is_own:
        return Message(snapshot, is_snapshot=True)
    return _first_counts(envelope)


_READERS: Mapping[str, Callable[[Envelope], Event | None]] = {
    "connected": _first_counts,
    "subscribed": _subscribed,
    "progress": _progress,
    "finished": _finished,
    "notification": _arrived,
    "changed": _changed,
    "unread_count": _counts,
    "message": lambda envelope: Message(envelope.data),
    "resync": lambda envelope: Resync(str(envelope.fields.get("reason", ""))),
}


def _tasks_changed(envelope: Envelope) -> Event:
    items, deleted = envelope.fields.get("items", ()), envelope.fields.get("deleted", ())
    return TasksChanged(tuple(map(TaskRecord.read, items)), tuple(map(str, deleted)))


def _tasks_listed(envelope: Envelope) -> Event:
    return TasksListed(tuple(map(TaskRecord.read, envelope.fields.get("items", ()))))


def _tasks_begun(envelope: Envelope) -> Event | None:
    snapshot = envelope.fields.get("snapshot")
    return None if snapshot is None else _tasks_listed(attrs.evolve(envelope, data=snapshot))


_READERS_OF_TASKS: Mapping[str, Callable[[Envelope], Event | None]] = {
    "subscribed": _tasks_begun,
    "list": _tasks_listed,
    "changed": _tasks_changed,
    "resync": _READERS["resync"],
}


def last_of(kind: type[K], event: Event | None) -> K:
    """Return the event that ended a stream. Raise ProtocolError for a stream without one."""
    if not isinstance(event, kind):
        raise ProtocolError(f"the stream ended without {kind.__name__}")
    return event
