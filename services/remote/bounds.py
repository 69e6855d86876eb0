"""The bounds of workers that are elsewhere."""

import attrs

from settings import Settings


@attrs.frozen(kw_only=True)
class RemoteBounds:
    """Bounds of one process, of one worker, and of one message.

    `workers` may be connected, or wait for a claim, at once; 0 serves none. A worker has at most
    `slots` tasks at once and names at most `kinds`. A message has at most `items`. `result_bytes`
    bounds a result, and all once-results of a task together, 0 for any size. Durations are seconds:
    `wait` of a claim, `lease` of a task, and `absence` of a worker whose connection was lost.
    """

    workers: int = 1000
    slots: int = 1000
    kinds: int = 100
    items: int = 1000
    result_bytes: int = 262_144
    wait: float = 30.0
    lease: float = 300.0
    absence: float = 30.0
    backoff: tuple[float, float] = (5.0, 300.0)

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
            backoff=(
                settings.queue.queue_retry_base_seconds,
                settings.queue.queue_retry_max_seconds,
            ),
        )
