"""Gauges of the queue, read at a scrape: waiting tasks, their age, and the outbox's lag."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from redis.exceptions import RedisError

from services.queue import QueueService
from tornado_rt.metrics import Metrics

log = structlog.get_logger(__name__)

# How old an answer may be, and how long Redis may take for a new one.
SHARED_SECONDS = 1.0
ANSWER_SECONDS = 2.0


class QueueGauges:
    """Fills the gauges of the queue when somebody looks, at most once a second.

    `lag` returns the age of the oldest entry of the outbox [s]. While Redis is away they keep what
    they had.
    """

    def __init__(
        self, queue: QueueService, lag: Callable[[], Awaitable[float]], metrics: Metrics
    ) -> None:
        self._queue = queue
        self._lag = lag
        self._metrics = metrics
        self._next_at = 0.0

    async def refresh(self) -> None:
        """Read them again when they are old."""
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + SHARED_SECONDS
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                states = await self._queue.read_kinds()
                lag = await self._lag()
        except (RedisError, OSError) as error:
            log.warning("queue_not_measured", error=error)
            return
        self._metrics.show_depths(
            (state.entry.kind, state.queued, state.oldest_seconds or 0.0)
            for state in states
            # The one without a name is what holds over all.
            if state.entry.kind
        )
        self._metrics.outbox_lag.set(lag)
