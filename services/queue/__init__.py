"""The task queue: limits, leases, batches, and the log of each task's events."""

from services.queue.models import (
    Ack,
    Batch,
    BatchNotFound,
    BatchState,
    Claim,
    KeyReused,
    Once,
    Outcome,
    QueueError,
    QueueFull,
    QueueStats,
    Replay,
    Task,
    TaskNotFound,
    TaskState,
    Upkeep,
    UserQueueStatus,
)
from services.queue.service import QueueService, key_prefix

__all__ = [
    "Ack",
    "Batch",
    "BatchNotFound",
    "BatchState",
    "Claim",
    "KeyReused",
    "Once",
    "Outcome",
    "QueueError",
    "QueueFull",
    "QueueService",
    "QueueStats",
    "Replay",
    "Task",
    "TaskNotFound",
    "TaskState",
    "Upkeep",
    "UserQueueStatus",
    "key_prefix",
]
