"""Tasks, batches, notifications and schedules as the server describes them.

Each has the fields that most callers need, and in `data` all that came, so that a newer server's
fields can be read too.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, Self, TypeVar

import attrs

from tornado_rt_client.errors import ProtocolError

T = TypeVar("T")


@attrs.frozen
class Record:
    """The base of all: `data` is the JSON object that came, at `received_at` [s since 1970]."""

    data: Mapping[str, Any] = attrs.field(repr=False, eq=False, kw_only=True)
    received_at: float = attrs.field(factory=time.time, repr=False, eq=False, kw_only=True)

    @classmethod
    def read(cls, data: Any) -> Self:
        """Read a JSON object. Raise ProtocolError when it is none."""
        if not isinstance(data, dict):
            raise ProtocolError(f"an object was expected, not {type(data).__name__}")
        names = {field.name for field in attrs.fields(cls)} - {"data", "received_at"}
        return cls(data=data, **{name: data[name] for name in names & data.keys()})


@attrs.frozen
class Snapshot(Record):
    """The state of a task. `progress` is in percent, times are in seconds, None is unknown.

    A task that waits starts within `starts_in_low` and `starts_in_high` in four of five cases; one
    that runs ends within `remaining_low` and `remaining_high`, counted from `updated_at`: see
    `time_left`. `revised` says why the time left rose, at `revised_at`. `slow_since` is when it
    became later than was told at first, `stalled_since` when its last sign of life was. `steps` are
    as in docs/protocol.md; `steps_open`: more will be found.

    It is wide because it has the members of the server's message.
    """

    task_id: str = ""
    kind: str = ""
    label: str = ""
    status: str = ""
    attempt: int = 0
    progress: float = 0.0
    message: str | None = None
    current_step_name: str | None = None
    position: int | None = None
    starts_in: float | None = None
    starts_in_low: float | None = None
    starts_in_high: float | None = None
    elapsed_time: float | None = None
    remaining_time: float | None = None
    remaining_low: float | None = None
    remaining_high: float | None = None
    estimated_total_time: float | None = None
    updated_at: str | None = None
    revised: str | None = None
    revised_at: str | None = None
    slow_since: str | None = None
    stalled_since: str | None = None
    step_progress: float = 0.0
    steps_open: bool = False
    steps: list[Mapping[str, Any]] = attrs.Factory(list)
    error: str | None = None


@attrs.frozen
class TaskRecord(Snapshot):
    """All that is known of a task; a list leaves `result` out."""

    params: Any = None
    result: Any = None
    tags: list[str] = attrs.Factory(list)
    batch_id: str | None = None
    parent_id: str | None = None
    created_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None


@attrs.frozen
class BatchSnapshot(Record):
    """The state of a batch: how many of its tasks are where, and how long it still takes [s].

    The time left is between `remaining_low` and `remaining_high` in four of five cases; None is
    unknown.

    It is wide because it has the members of the server's message.
    """

    batch_id: str = ""
    kind: str = ""
    status: str = ""
    total: int = 0
    queued: int = 0
    processing: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    dead: int = 0
    progress: float = 0.0
    remaining_time: float | None = None
    remaining_low: float | None = None
    remaining_high: float | None = None


@attrs.frozen
class Estimate(Record):
    """When a task or batch would start, in how many seconds, and end, if it were submitted now.

    `remaining_time` is how long it would run [s]. The bounds hold in four of five cases; None is
    unknown, and `waiting_for` says what holds it back. `task_id` or `batch_id` name what is there
    already and would be the answer.

    It is wide because it has the members of the server's answer.
    """

    kind: str = ""
    label: str = ""
    total: int = 1
    position: int | None = None
    starts_in: float | None = None
    starts_in_low: float | None = None
    starts_in_high: float | None = None
    remaining_time: float | None = None
    remaining_low: float | None = None
    remaining_high: float | None = None
    starts_at: str | None = None
    ends_at: str | None = None
    ends_at_low: str | None = None
    ends_at_high: str | None = None
    waiting_for: Mapping[str, str] | None = None
    task_id: str | None = None
    batch_id: str | None = None


@attrs.frozen
class Output(Record):
    """The messages that a task has told so far, the oldest first.

    Each of `items` has `updated_at`, `attempt`, `status`, `current_step_name` and `message`.
    `older` says that something before them is not kept any more.
    """

    items: Sequence[Mapping[str, Any]] = ()
    older: bool = False


@attrs.frozen
class Why(Record):
    """Why a task is where it is: see docs/why.md of the server.

    `cause` and `heard` have a `code` and a `text`; `heard` says whether its user has heard of its
    end, None while it has not ended. Each of `chain` has `at`, `code`, `text` and its facts.
    """

    task_id: str = ""
    status: str = ""
    cause: Mapping[str, str] = attrs.Factory(dict)
    heard: Mapping[str, str] | None = None
    chain: Sequence[Mapping[str, Any]] = ()


@attrs.frozen
class Notification(Record):
    """A notification as it is in its user's inbox.

    It is wide because it has the members of the server's message.
    """

    id: str = ""
    type: str = ""
    title: str = ""
    content: str | None = None
    link: str | None = None
    source: str | None = None
    severity: str = "info"
    status: str = ""
    metadata: Mapping[str, Any] = attrs.Factory(dict)
    seq: int | None = None
    count: int = 1
    created_at: str | None = None
    read_at: str | None = None

    @property
    def is_unread(self) -> bool:
        """Whether it was not read yet."""
        return self.status == "unread"


@attrs.frozen
class UnreadCount(Record):
    """Numbers of unread and of unseen notifications, at this version of the inbox."""

    unread: int = 0
    unseen: int = 0
    version: int = 0


@attrs.frozen
class Schedule(Record):
    """Makes tasks by the clock: a `cron` expression in a time zone, or an interval `every` [s].

    Its tasks usually take `usual_seconds`; None is unknown.
    """

    name: str = ""
    kind: str = ""
    cron: str | None = None
    timezone: str | None = None
    every: float | None = None
    params: Any = None
    enabled: bool = True
    next_at: str | None = None
    usual_seconds: float | None = None
    next_ends_at: str | None = None
    last_at: str | None = None
    last_task_id: str | None = None


@attrs.frozen
class Kind(Record):
    """A kind of work that can be submitted; `params_schema` is a JSON Schema."""

    kind: str = ""
    title: str = ""
    params_schema: Mapping[str, Any] = attrs.Factory(dict)
    workers: int = 0
    queued: int = 0
    running: int = 0


@attrs.frozen
class Page(Generic[T]):
    """A part of a list; `next` is where it goes on, None at the end."""

    items: list[T]
    next: str | None


def page_of(read: Callable[[Any], T]) -> Callable[[Any], Page[T]]:
    """Return a reader of pages of such items."""

    def read_page(data: Any) -> Page[T]:
        if not isinstance(data, dict) or not isinstance(data.get("items"), list):
            raise ProtocolError("a list was expected")
        place = data.get("next")
        return Page([read(one) for one in data["items"]], None if place is None else str(place))

    return read_page


def text_field(name: str) -> Callable[[Any], str]:
    """Return a reader of one text of an answer."""

    def read(data: Any) -> str:
        if not isinstance(data, dict) or not isinstance(data.get(name), str):
            raise ProtocolError(f"{name} is missing in the answer")
        text: str = data[name]
        return text

    return read


def anything(data: Any) -> Any:
    """Return the answer as it is: its caller knows its shape."""
    return data


def nothing(_: Any) -> None:
    """Pass over an answer."""
