"""The values that the queue takes and returns.

It is long because all values of the queue's verbs stand here.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal, overload

import attrs

from tornado_rt.protocol import Cursor, Message, ResyncReason, iso_time
from tornado_rt.work import Plan
from tornado_rt.work.attempts.models import LEVELS as LEVELS
from tornado_rt.work.attempts.models import Ack as Ack
from tornado_rt.work.attempts.models import Asked as Asked
from tornado_rt.work.attempts.models import Claim as Claim
from tornado_rt.work.attempts.models import Claimed as Claimed
from tornado_rt.work.attempts.models import Job as Job
from tornado_rt.work.attempts.models import Kept as Kept
from tornado_rt.work.attempts.models import Outcome as Outcome
from tornado_rt.work.attempts.models import Priority as Priority
from tornado_rt.work.attempts.models import Task as Task
from tornado_rt.work.attempts.models import TaskState as TaskState
from tornado_rt.work.texts import phrase
from tornado_rt.work.values import MAX_ATTEMPTS

# Both have a log of events.
Followed = Literal["task", "batch"]


class QueueError(Exception):
    """Base of the queue's errors."""


class QueueFull(QueueError):
    """A user has as many waiting tasks as they may; `retry_after` in seconds."""

    def __init__(self, limit: int, retry_after: float) -> None:
        super().__init__(phrase("at most {limit} tasks of a user may wait", limit=limit))
        self.retry_after = retry_after


class TaskNotFound(QueueError):
    """There is no such task of this user."""

    def __init__(self, task_id: str) -> None:
        super().__init__(phrase("there is no task {task_id}", task_id=task_id))


class BatchNotFound(QueueError):
    """There is no such batch of this user."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(phrase("there is no batch {batch_id}", batch_id=batch_id))


class KeyReused(QueueError):
    """An idempotency key came with another request than the first time."""

    def __init__(self) -> None:
        super().__init__(phrase("this idempotency key was used for another request"))


class Conflict(QueueError):
    """A task under the same unique key is there already: `task_id`."""

    def __init__(self, task_id: str) -> None:
        super().__init__(phrase("task {task_id} has this unique key already", task_id=task_id))
        self.task_id = task_id
        self.more = {"task_id": task_id}


class NotEnded(QueueError):
    """Somebody wants to run a task again that has not ended, or has completed."""

    def __init__(self, task_id: str, status: str) -> None:
        super().__init__(
            phrase(
                "task {task_id} is {status}: only what failed can be run again",
                task_id=task_id,
                status=status,
            )
        )


class NotPurged(QueueError, ValueError):
    """Tasks in this state are not purged; the message says what to do."""


class TooManyToCheck(QueueError):
    """The queue has more tasks, or Redis more keys, than one check may read."""

    def __init__(self, tasks: int, most: int) -> None:
        super().__init__(
            phrase(
                "the queue has {tasks} tasks and one check reads {most} at most, "
                "for all others wait: run.py queue check reads more",
                tasks=tasks,
                most=most,
            )
        )


class LimitsRefused(QueueError, ValueError):
    """A limit is unknown or not allowed; the message names it."""


class BatchState(StrEnum):
    """Where a batch is; the last four are ends."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


class LeaseState(StrEnum):
    """Whose an attempt is: its worker's, or over: cancelled, ended, or lost to the worker."""

    YOURS = "yours"
    CANCELLED = "cancelled"
    ENDED = "ended"
    LOST = "lost"


class OnConflict(StrEnum):
    """The fate of a task whose unique key another one has."""

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
class NewTask:
    """A task to submit.

    `first` is the snapshot's first fragment: a JSON object without its braces. `shown` stands in
    each snapshot, beside the label. `expected_seconds` is how long it may take, for the first guess
    of when others start; None: nobody knows. `notify`: its end makes a notification.
    """

    kind: str
    job: Job
    first: bytes
    plan: Plan | None = None
    shown: Mapping[str, Any] = attrs.field(factory=dict)
    priority: Priority = Priority.NORMAL
    key: str = ""
    max_attempts: int = MAX_ATTEMPTS
    expected_seconds: float | None = None
    notify: bool = True
    unique: Unique | None = None


@attrs.frozen
class Band:
    """A duration that is not known [s]: its median, its 10th and its 90th percentile."""

    middle: float
    low: float
    high: float


@attrs.frozen(kw_only=True)
class StartEstimate:
    """When a task or batch would start and end if it were submitted at the time `at` [s].

    `starts` and `ends` count from then, `runs` from its start. None: too little is known, or
    nothing would start it. `there` is the id of one that there is already, "" for a new one;
    `waiting_for` the code of what holds it back, "" for nothing; `position` None when it would not
    stand in the line.
    """

    at: float
    there: str
    waiting_for: str
    position: int | None
    starts: Band | None
    runs: Band | None
    ends: Band | None


def describe_dead(task: Task) -> dict[str, Any]:
    """Return the fields of a dead task for the person who decides about it."""
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
class Idempotency:
    """The idempotency of a request: the user's key, and the whole request."""

    key: str
    request: bytes


@attrs.frozen
class UpkeepReply:
    """The result of upkeep; `due_in`: seconds until it is needed again, None: not before a wake.

    `lost`: the kind of each task whose worker was lost, and what became of it: "lost" when another
    attempt follows, or "dead".
    """

    expired: int
    due_in: float | None
    lost: Sequence[tuple[str, str]] = ()


@attrs.frozen
class QueueStats:
    """Numbers of tasks in each state; ended ones until their retention is over."""

    queued: int
    processing: int
    completed: int
    failed: int
    cancelled: int
    dead: int
    delayed: int


@attrs.frozen
class UserQueueStatus:
    """A user's place in the queue; `limit` bounds their running tasks, 0 for none."""

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
    """A kind as processes tell each other of it; `description` is JSON for submitters."""

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
class TaskPage:
    """A part of a list; `next` is where it goes on, None at its end."""

    items: Sequence[Task]
    next: str | None


@attrs.frozen
class LoggedEvents:
    """The logged events of a task as they were told, the oldest first; `older`: some came before.

    They lack the events that the record of the task tells.
    """

    events: Sequence[bytes]
    older: bool


@attrs.frozen
class Replay:
    """The beginning of a subscription.

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
    """The number of purged tasks; `next`: the cursor of the rest, None when there is none."""

    count: int
    next: str | None = None
