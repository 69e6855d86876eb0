"""The counters of a process, in Prometheus form."""

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

# Bounds of waits and of runs, from what starts at once to what takes a day [s].
SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400)
# Ends of an attempt that another one follows.
RETRIES = {"error", "retry", "lost"}

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def method_label(method: str | None) -> str:
    """Return the label of a method: each word of a client's own would be a time series."""
    return method if method in METHODS else "other"


@attrs.define
class Tally:
    """Counts of messages: plain numbers, read when somebody asks.

    A client library's counter costs as much as a tenth of a delivery.
    """

    delivered: int = 0
    bytes: int = 0
    conflated: int = 0
    dropped: int = 0
    closed_slow: int = 0


class Metrics:
    """The counters of one process, in a registry of their own so that each test has fresh ones."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.tally = Tally()
        self.refused = Counter(
            "rt_connections_refused", "Connections over a limit", ["limit"], registry=registry
        )
        self.degraded = Counter(
            "rt_publish_degraded", "Messages that reached only this process", registry=registry
        )
        self.resyncs = Counter(
            "rt_backplane_gaps", "Topics whose subscription was renewed", registry=registry
        )
        self.log_gaps = Counter(
            "rt_log_gaps", "Topics found to be behind their log", registry=registry
        )
        self.backplane_up = Gauge(
            "rt_backplane_up", "1 while the Redis subscription is alive", registry=registry
        )
        self.requests = Counter(
            "rt_http_requests", "HTTP answers", ["method", "status"], registry=registry
        )

        self.set_aside = Counter(
            "rt_outbox_set_aside", "Ends of tasks that could not be told", registry=registry
        )
        self.callbacks = Counter(
            "rt_callbacks", "Callbacks by what became of them", ["outcome"], registry=registry
        )

        self.progress_writes = Counter(
            "rt_progress_writes", "Reports of progress that were written", registry=registry
        )
        self._tasks = Counter(
            "rt_tasks", "Attempts by how they ended", ["kind", "outcome"], registry=registry
        )
        self._retries = Counter(
            "rt_task_retries", "Attempts that another one followed", ["kind"], registry=registry
        )
        self._ended: dict[tuple[str, str], tuple[Counter, Histogram, Histogram]] = {}
        self._waits = _histogram(
            "rt_task_wait_seconds", "Time in the line before a start", registry
        )
        self._runs = _histogram("rt_task_run_seconds", "From start to end of an attempt", registry)

    def task_ended(self, kind: str, outcome: str, wait_seconds: float, run_seconds: float) -> None:
        """Count the end of an attempt that this process ran.

        `outcome`: what became of the task, completed, failed, dead or cancelled; or error or retry,
        when another attempt follows. `wait_seconds`: how long the task was in the line before it.
        """
        ended = self._ended.get((kind, outcome))
        if ended is None:
            # Looking them up for each task is most of the cost of counting.
            ended = (
                self._tasks.labels(kind, outcome),
                self._runs.labels(kind),
                self._waits.labels(kind),
            )
            self._ended[kind, outcome] = ended
        count, runs, waits = ended
        count.inc()
        runs.observe(run_seconds)
        waits.observe(wait_seconds)
        if outcome in RETRIES:
            self._retries.labels(kind).inc()

    def task_lost(self, kind: str, outcome: str) -> None:
        """Count an attempt whose worker was lost: `lost` when another follows, else `dead`."""
        self._tasks.labels(kind, outcome).inc()
        if outcome in RETRIES:
            self._retries.labels(kind).inc()

    def register(self, collector: Collector) -> None:
        """Let a scrape ask this one too."""
        self._registry.register(collector)

    def render(self) -> bytes:
        """Return the text exposition format 0.0.4."""
        return generate_latest(self._registry)


def _histogram(name: str, what: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(name, what, ["kind"], buckets=SECONDS, registry=registry)
