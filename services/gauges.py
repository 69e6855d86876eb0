"""Gauges of the queue, read at a scrape: waiting tasks, their age, pauses, and the outbox's lag."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import structlog
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from services.queue import ALL_KINDS, KindState, QueueService
from tornado_rt.metrics import Metrics

log = structlog.get_logger(__name__)

# Greatest age of an answer, and the time that Redis has for a new one [s].
SHARED_SECONDS = 1.0
ANSWER_SECONDS = 2.0


class QueueGauges(Collector):
    """Reads the gauges of the queue when somebody looks, at most once a second.

    They are of the whole system, whichever process serves them. `lag` returns the age of the oldest
    entry of the outbox [s]. While Redis is away they have no values.
    """

    def __init__(
        self, queue: QueueService, lag: Callable[[], Awaitable[float]], metrics: Metrics
    ) -> None:
        self._queue = queue
        self._lag = lag
        self._next_at = 0.0
        self._states: Sequence[KindState] = ()
        self._lags: Sequence[float] = ()
        metrics.register(self)

    async def refresh(self) -> None:
        """Read them again when they are old."""
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + SHARED_SECONDS
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                self._states, self._lags = await self._queue.read_kinds(), [await self._lag()]
        except (RedisError, OSError) as error:
            log.warning("queue_not_measured", error=error)
            self._states, self._lags = (), ()

    def collect(self) -> Iterator[Metric]:
        """Yield what was read last."""
        kinds = [state for state in self._states if state.entry.kind != ALL_KINDS]
        yield _by_kind(
            "rt_queue_depth", "Waiting tasks", ((one, float(one.queued)) for one in kinds)
        )
        yield _by_kind(
            "rt_queue_oldest_seconds",
            "Longest time in the line",
            ((one, one.oldest_seconds or 0.0) for one in kinds),
        )
        yield _by_kind(
            "rt_queue_paused",
            'Whether no task starts; of all kinds under ""',
            ((one, float(one.paused)) for one in self._states),
        )
        lag = GaugeMetricFamily("rt_outbox_lag_seconds", "Age of the oldest end that is not told")
        for seconds in self._lags:
            lag.add_metric([], seconds)
        yield lag


def _by_kind(name: str, what: str, values: Iterable[tuple[KindState, float]]) -> Metric:
    family = GaugeMetricFamily(name, what, labels=["kind"])
    for state, value in values:
        family.add_metric([state.entry.kind], value)
    return family
