"""The words of a worker and its queue: tasks, claims, and how attempts end."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import attrs

from tornado_rt.work.attempts.lessons import Lesson
from tornado_rt.work.values import MAX_ATTEMPTS


class TaskState(StrEnum):
    """Where a task is; the last four are ends."""

    QUEUED = "queued"
    DELAYED = "delayed"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DEAD = "dead"


class Outcome(StrEnum):
    """The outcome of an attempt.

    After the last attempt an ERROR makes the task failed, a RETRY makes it dead.
    """

    COMPLETED = "completed"
    FAILED = "failed"
    ERROR = "error"
    RETRY = "retry"


class Priority(StrEnum):
    """The priorities of tasks of a kind, the one that starts first at the top."""

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


# Without slots these are made in half the time: each enqueue and claim makes some.
@attrs.frozen(kw_only=True, slots=False)
class Job:
    """The part of a task that no script reads: it is handed on as one blob.

    `timeout` bounds one attempt, `budget_seconds` all of them together [s]; 0 is no bound of its
    own. `schedule` is the name of the schedule that made it, `locale` the language of what is told
    of it where nothing else says, "" for none. `trace` has the headers that name the span that sent
    it (W3C Trace Context), nothing while none is recorded. `parent_id`: the task whose handler
    submitted it, "" for none.
    """

    label: str
    params: dict[str, Any] = attrs.field(factory=dict)
    tags: tuple[str, ...] = ()
    callback_url: str = ""
    timeout: float = 0.0
    budget_seconds: float = 0.0
    schedule: str = ""
    trace: Mapping[str, str] = attrs.field(factory=dict)
    locale: str = ""
    parent_id: str = ""


@attrs.frozen(slots=False)
class Task:
    """A task as it was when read.

    Times are seconds since the epoch, None before they are reached. `position` counts from 1 over
    the waiting tasks of its kind. `snapshot` is its JSON object as the queue keeps it; empty in
    what enqueue and claim return. `attempts` are those that have ended. `used_seconds` is the time
    of all since the task was begun anew; it is read with a single task. `waiting_for` is the code
    of what holds a waiting task back, "" when nothing does.

    It is wide because it is the record of a task, as the queue keeps it.
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
    max_attempts: int = MAX_ATTEMPTS
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


@attrs.frozen(slots=False)
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
    """The reply to a claim; `again_in`: more may start in this many seconds, None: at a wake.

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
    """Results of steps by name (JSON) and a state (JSON), left by earlier attempts of a task."""

    results: Mapping[str, bytes]
    state: bytes = b""


NOTHING_KEPT = Kept({})


@attrs.frozen
class Asked:
    """The state of a question: its answer (JSON), None while there is none, and its age [s]."""

    answer: bytes | None
    age: float = 0.0


@attrs.frozen(slots=False)
class Ack:
    """The end of an attempt.

    `fragment`: the state of the snapshot when the task ends by it, None to leave it. `report`: the
    fragment of the attempt's last report, None when it was told. `delay`: seconds before a retry.
    `lesson`: what a completed task has taught. `ran`: how long the attempt took [s], 0: not known.
    """

    task_id: str
    token: str
    outcome: Outcome
    result: Any = None
    error: str | None = None
    fragment: bytes | None = None
    delay: float = 0.0
    report: bytes | None = None
    lesson: Lesson | None = None
    ran: float = 0.0
