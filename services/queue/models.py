"""What the queue speaks of."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, overload

import attrs

from tornado_rt.protocol import Cursor, Message, ResyncReason, iso_time
from tornado_rt.work import Plan

# Both have a log of events.
Followed = Literal["task", "batch"]


class QueueError(Exception):
    """Base of the queue's errors."""


class QueueFull(QueueError):
    """A user has as many waiting tasks as he may; `retry_after` in seconds."""

    def __init__(self, limit: int, retry_after: float) -> None:
        super().__init__(f"at most {limit} tasks of a user may wait")
        self.retry_after = retry_after


class TaskNotFound(QueueError):
    """There is no such task of this user."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"there is no task {task_id}")


class BatchNotFound(QueueError):
    """There is no such batch of this user."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(f"there is no batch {batch_id}")


class KeyReused(QueueError):
    """An idempotency key came with another request than the first time."""

    def __init__(self) -> None:
        super().__init__("this idempotency key was used for another request")


class Conflict(QueueError):
    """A task under the same unique key is there already: `task_id`."""

    def __init__(self, task_id: str) -> None:
        super().__init__(f"task {task_id} has this unique key already")
        self.task_id = task_id
        self.more = {"task_id": task_id}


class NotEnded(QueueError):
    """A task is to be run again that has not ended, or has completed."""

    def __init__(self, task_id: str, status: str) -> None:
        super().__init__(f"task {task_id} is {status}: only what failed can be run again")


class NotPurged(QueueError, ValueError):
    """Tasks in this state are not purged; the message says what to do."""


class TooManyToCheck(QueueError):
    """The queue has more tasks, or Redis more keys, than one check may read."""

    def __init__(self, tasks: int, most: int) -> None:
        super().__init__(
            f"the queue has {tasks} tasks and one check reads {most} at most, for all others wait: "
            "run.py queue check reads more"
        )


class LimitsRefused(QueueError, ValueError):
    """A limit is unknown or not allowed; the message names it."""


class TaskState(StrEnum):
    """Where a task is; the last four are ends."""

    QUEUED = "queued"
    DELAYED = "delayed"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DEAD = "dead"


class BatchState(StrEnum):
    """Where a batch is; the last four are ends."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


class LeaseState(StrEnum):
    """Whose an attempt is: its worker's; or it was cancelled, has ended, or is another's."""

    YOURS = "yours"
    CANCELLED = "cancelled"
    ENDED = "ended"
    LOST = "lost"


class Outcome(StrEnum):
    """How a worker ends an attempt.

    After the last attempt an ERROR makes the task failed, a RETRY makes it dead.
    """

    COMPLETED = "completed"
    FAILED = "failed"
    ERROR = "error"
    RETRY = "retry"


class Priority(StrEnum):
    """Which tasks of a kind start before others, the first first."""

    HIGHEST = "highest"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"
    LOWEST = "lowest"

    @property
    def level(self) -> int:
        """Its place, from 0 for the highest."""
        return LEVELS.index(self)


LEVELS = tuple(Priority)


class OnConflict(StrEnum):
    """What becomes of a task whose unique key another one has."""

    RETURN = "return"
    REPLACE = "replace"
    REJECT = "reject"


@attrs.frozen(kw_only=True)
class Unique:
    """At most one task of a kind and user has this key, `scope` long.

    `scope` is "waiting" (until one starts), "running" (until it ends), or a number of seconds since
    it was submitted.
    """

    key: str
    scope: str | float = "running"
    on_conflict: OnConflict = OnConflict.RETURN


@attrs.frozen(kw_only=True)
class Job:
    """What no script reads of a task: it is handed on as one blob.

    `timeout` bounds one attempt, `budget_seconds` all of them together [s]; 0 is no bound of its
    own. `schedule` is the name of the schedule that made it.
    """

    label: str
    params: dict[str, Any] = attrs.field(factory=dict)
    tags: tuple[str, ...] = ()
    callback_url: str = ""
    timeout: float = 0.0
    budget_seconds: float = 0.0
    schedule: str = ""


@attrs.frozen(kw_only=True)
class NewTask:
    """A task that is to be submitted.

    `first` is the snapshot's first fragment: a JSON object without its braces. `shown` stands in
    each snapshot, beside the label. `expected_seconds` is how long it may take, for the first guess
    of when others start. `notify`: its end makes a notification.
    """

    kind: str
    job: Job
    first: bytes
    plan: Plan | None = None
    shown: Mapping[str, Any] = attrs.field(factory=dict)
    priority: Priority = Priority.NORMAL
    key: str = ""
    max_attempts: int = 3
    expected_seconds: float = 60.0
    notify: bool = True
    unique: Unique | None = None


# Without slots, one with so many fields is made in half the time: each enqueue and claim makes one.
@attrs.frozen(slots=False)
class Task:
    """A task as it was when read.

    Times are seconds since the epoch, None before they are reached. `position` counts from 1 over
    the waiting tasks of its kind. `snapshot` is its JSON object as the queue keeps it; empty in
    what enqueue and claim return. `attempts` are those that have ended. `used_seconds` is the time
    of all since the task was begun anew; it is read with a single task. `waiting_for` is the code
    of what holds a waiting task back, "" when nothing does.
    """

    task_id: str
    user_id: str
    kind: str
    job: Job
    batch_id: str | None
    status: TaskState
    attempt: int
    created_at: float
    priority: Priority = Priority.NORMAL
    key: str = ""
    max_attempts: int = 3
    position: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    run_at: float | None = None
    result: Any = None
    error: str | None = None
    progress: float = 0.0
    snapshot: bytes = b""
    attempts: tuple[dict[str, Any], ...] = ()
    used_seconds: float = 0.0
    waiting_for: str = ""

    @property
    def label(self) -> str:
        """The text that people see."""
        return self.job.label

    @property
    def params(self) -> dict[str, Any]:
        """Its parameters."""
        return self.job.params


def describe_dead(task: Task) -> dict[str, Any]:
    """Return what is shown of a dead task to whoever decides about it."""
    return {
        "task_id": task.task_id,
        "user_id": task.user_id,
        "kind": task.kind,
        "label": task.label,
        "params": task.params,
        "attempt": task.attempt,
        "error": task.error,
        "created_at": iso_of(task.created_at),
        "ended_at": iso_of(task.ended_at),
    }


@overload
def iso_of(time: float) -> str: ...
@overload
def iso_of(time: float | None) -> str | None: ...
def iso_of(time: float | None) -> str | None:
    """Return seconds since the epoch in ISO 8601; None of None."""
    return None if time is None else iso_time(datetime.fromtimestamp(time, UTC))


@attrs.frozen
class Batch:
    """A batch as it was when read; `snapshot` is its JSON object on the wire."""

    batch_id: str
    user_id: str
    status: BatchState
    task_ids: list[str]
    snapshot: bytes


@attrs.frozen
class Claim:
    """A task that is this worker's until its visibility ends; `token` proves it.

    `waited`: how long it was in the line before this start [s]. `kept`: earlier attempts left
    results of steps, or a state. `plan`: the digest of the plan that it was made with, "" for none.
    """

    task: Task
    token: str
    waited: float = 0.0
    kept: bool = False
    plan: str = ""


@attrs.frozen
class Claimed:
    """The reply to a claim; `again_in`: more may start in so many seconds, None: at a wake.

    `became`: for each end that it handed in, what became of the task: "completed", "failed" or
    "dead", the outcome of the attempt when another one follows, "" when its token was not valid any
    more.
    """

    claims: list[Claim]
    again_in: float | None = None
    became: Sequence[str] = ()

    @property
    def owned(self) -> list[bool]:
        """For each end that it handed in, whether its token was still valid."""
        return [bool(one) for one in self.became]


@attrs.frozen
class Kept:
    """What earlier attempts of a task left: results of steps by name (JSON), and a state (JSON)."""

    results: dict[str, bytes]
    state: bytes = b""


@attrs.frozen
class Asked:
    """The state of a question: its answer (JSON), None while there is none, and its age [s]."""

    answer: bytes | None
    age: float = 0.0


@attrs.frozen
class Ack:
    """The end of an attempt.

    `fragment`: the state of the snapshot when the task ends by it, None to leave it. `report`: the
    fragment of the attempt's last report, None when it was told. `delay`: seconds before a retry.
    """

    task_id: str
    token: str
    outcome: Outcome
    result: Any = None
    error: str | None = None
    fragment: bytes | None = None
    delay: float = 0.0
    report: bytes | None = None


@attrs.frozen
class Once:
    """What makes a request repeatable: the user's key, and all that the request asked for."""

    key: str
    request: bytes


@attrs.frozen
class Upkeep:
    """The result of upkeep; `due_in`: seconds until it is needed again, None: not before a wake.

    `lost`: the kind of each task whose worker was lost, and what became of it: "lost" when another
    attempt follows, or "dead".
    """

    expired: int
    due_in: float | None
    lost: Sequence[tuple[str, str]] = ()


@attrs.frozen
class QueueStats:
    """How many tasks are in each state; ended ones until their retention is over."""

    queued: int
    processing: int
    completed: int
    failed: int
    cancelled: int
    dead: int
    delayed: int


@attrs.frozen
class UserQueueStatus:
    """A user's place in the queue; `limit` bounds his running tasks, 0 for none."""

    waiting: int
    processing: int
    limit: int


@attrs.frozen(kw_only=True)
class KindLimits:
    """Bounds of a kind's running tasks: in all, of a user, of a key; and of starts.

    A rate is written "10/m"; "" is none, and 0 is no bound.
    """

    limit: int = 0
    user_limit: int = 0
    key_limit: int = 0
    rate: str = ""
    key_rate: str = ""


@attrs.frozen(kw_only=True)
class KindEntry:
    """A kind as processes tell each other of it; `description` is JSON for whoever submits."""

    kind: str
    title: str = ""
    version: int = 0
    description: Mapping[str, Any] = attrs.field(factory=dict)
    limits: KindLimits = KindLimits()


@attrs.frozen(kw_only=True)
class KindState:
    """A kind and how it stands now; `changed`: the limits that an admin has set.

    Under the name "" it is what holds over all kinds: user_limit, global_limit, order.
    """

    entry: KindEntry
    limits: Mapping[str, Any]
    changed: Mapping[str, Any]
    paused: bool
    queued: int
    running: int
    workers: int
    oldest_seconds: float | None


@attrs.frozen
class Page:
    """A part of a list; `next` is where it goes on, None at its end."""

    items: Sequence[Task]
    next: str | None


@attrs.frozen
class Replay:
    """What a subscriber needs who comes now.

    `messages` came after the asked cursor, all of them, unless `resync` says why they cannot be
    had. `finished` is the last message of what has ended.
    """

    snapshot: Message
    messages: Sequence[Message]
    resync: ResyncReason | None
    finished: Message | None
    cursor: Cursor


@attrs.frozen
class Changes:
    """Changes of a user's tasks up to a cursor; `resync`: why the gap cannot be filled."""

    messages: Sequence[Message]
    cursor: Cursor
    resync: ResyncReason | None = None


@attrs.frozen
class Purged:
    """How many tasks were purged; `next`: where to go on with the rest, None when there is none."""

    count: int
    next: str | None = None
