"""The bounds of workers that are elsewhere."""

import attrs

from services.worker.targets import backoff_of
from settings import Settings, default
from tornado_rt.work.attempts.backoff import Backoff


@attrs.frozen(kw_only=True)
class RemoteBounds:
    """Bounds of one process, of one worker, and of one message.

    `workers` may be connected, or wait for a claim, at once; 0 serves none. A worker has at most
    `slots` tasks at once and names at most `kinds`. A message has at most `items`. `result_bytes`
    bounds a result, and all once-results of a task together, 0 for any size. Durations are seconds:
    `wait` of a claim, `lease` of a task, and `absence` of a worker whose connection was lost.
    """

    workers: int = default("remote_workers")
    slots: int = default("remote_slots")
    kinds: int = default("remote_kinds")
    items: int = default("remote_items")
    result_bytes: int = default("task_result_bytes")
    wait: float = default("remote_wait_seconds")
    lease: float = default("queue_visibility_seconds")
    absence: float = default("remote_return_seconds")
    backoff: Backoff = attrs.field(factory=Backoff)

    @classmethod
    def of(cls, settings: Settings) -> "RemoteBounds":
        """Return those of the settings."""
        return cls(
            workers=settings.workers.remote_workers,
            slots=settings.workers.remote_slots,
            kinds=settings.workers.remote_kinds,
            items=settings.workers.remote_items,
            result_bytes=settings.tasks.task_result_bytes,
            wait=settings.workers.remote_wait_seconds,
            lease=settings.queue.queue_visibility_seconds,
            absence=settings.workers.remote_return_seconds,
            backoff=backoff_of(settings.queue),
        )
