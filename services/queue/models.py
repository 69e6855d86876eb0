"""What the queue speaks of."""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import attrs

from tornado_rt.protocol import Cursor, Message, ResyncReason, iso_time


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


class Outcome(StrEnum):
    """How a worker ends an attempt."""

    COMPLETED = "completed"
    FAILED = "failed"
    RETRY = "retry"


@attrs.frozen
class Task:
    """A task as it was when read.

    Times are seconds since the epoch, None before they are reached. `position` counts from 1 over
    all waiting tasks. `snapshot` is its JSON object as the queue keeps it; empty in what enqueue
    and claim return.
    """

    task_id: str
    user_id: str
    symbol: str
    params: dict[str, Any]
    batch_id: str | None
    status: TaskState
    attempt: int
    created_at: float
    position: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    progress: float = 0.0
    snapshot: bytes = b""


def describe_dead(task: Task) -> dict[str, Any]:
    """Return what is shown of a dead task to whoever decides about it."""
    return {
        "task_id": task.task_id,
        "user_id": task.user_id,
        "symbol": task.symbol,
        "params": task.params,
        "attempt": task.attempt,
        "error": task.error,
        "created_at": _iso(task.created_at),
        "ended_at": None if task.ended_at is None else _iso(task.ended_at),
    }


def _iso(time: float) -> str:
    return iso_time(datetime.fromtimestamp(time, UTC))


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
    """A task that is this worker's until its visibility ends; `token` proves it."""

    task: Task
    token: str


@attrs.frozen
class Ack:
    """The end of an attempt.

    `fragment`: the last state of the snapshot, None to leave it. `delay`: seconds before a retry.
    """

    task_id: str
    token: str
    outcome: Outcome
    result: dict[str, Any] | None = None
    error: str | None = None
    fragment: bytes | None = None
    delay: float = 0.0


@attrs.frozen
class Once:
    """What makes a request repeatable: the user's key, and all that the request asked for."""

    key: str
    request: bytes


@attrs.frozen
class Upkeep:
    """What upkeep found; `due_in`: seconds until it is wanted again, None for not before a wake."""

    expired: int
    due_in: float | None


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
