"""The counters of a process, in Prometheus form, and those of several together.

Processes that share a port share a folder too, in which each keeps its numbers: whichever of them
is asked answers for all (prometheus_client's multiprocess mode). The folder outlives a process, so
that no counter goes back when one is started again.
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from tornado_rt import __version__

# Files there are memory: a disk that is full stops no process.
MEMORY = Path("/dev/shm")
FOLDER_PREFIX = "tornado_rt-metrics-"
# Greatest age of the counts that another process answers with [s].
SHARED_SECONDS = 1.0

# Bounds of waits and of runs, from what starts at once to what takes a day [s].
SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 14400, 86400)
# Bounds of the time to answer a request [s].
REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# The second number there is the resident memory in pages (proc(5)).
STATM = Path("/proc/self/statm")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
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
    """The counters of one process, in a registry of their own so that each test has fresh ones.

    `folder`: the one that it shares with others, "" for none; the client library must have known it
    when it was imported.
    """

    def __init__(self, folder: str = "") -> None:
        registry = self._registry = CollectorRegistry()
        self._folder = folder
        # Metrics of the whole system, whichever process serves them.
        self._collectors: list[Collector] = []
        self._measures: list[Callable[[], None]] = []
        self.tally = Tally()
        self._shown = Tally()
        self._messages = {
            "delivered": Counter(
                "rt_messages_delivered", "Messages written to subscribers", registry=registry
            ),
            "bytes": Counter(
                "rt_bytes_delivered", "Bytes written to subscribers", registry=registry
            ),
            "conflated": Counter(
                "rt_messages_conflated", "Messages that a newer one replaced", registry=registry
            ),
            "dropped": Counter(
                "rt_messages_dropped", "Messages lost to a slow reader", registry=registry
            ),
            "closed_slow": Counter(
                "rt_closed_slow", "Connections closed as too slow", registry=registry
            ),
        }
        self.users = Gauge(
            "rt_users", "Users with a connection", registry=registry, multiprocess_mode="livesum"
        )
        self.connections = Gauge(
            "rt_connections",
            "Open sockets and streams",
            ["transport"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.subscribers = Gauge(
            "rt_subscribers",
            "Followers of topics",
            ["kind"],
            registry=registry,
            multiprocess_mode="livesum",
        )
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
            "rt_backplane_up",
            "1 while the Redis subscription is alive",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.requests = Counter(
            "rt_http_requests", "HTTP answers", ["method", "status"], registry=registry
        )

        self.request_seconds = Histogram(
            "rt_http_request_seconds",
            "Time to answer a request; of a stream or socket, to open it",
            ["method"],
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        Gauge(
            "rt_build_info",
            "1, by the version that runs",
            ["version"],
            registry=registry,
            multiprocess_mode="livemax",
        ).labels(__version__).set(1)
        self._memory = Gauge(
            "rt_process_resident_bytes",
            "Memory that is in use; of all processes that share a port",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._processor = Counter(
            "rt_process_cpu_seconds",
            "Processor time, of the user and the system",
            registry=registry,
        )
        self._processor_shown = 0.0
        self.set_aside = Counter(
            "rt_outbox_set_aside", "Ends of tasks that could not be told", registry=registry
        )
        self.deliveries = Counter(
            "rt_deliveries",
            "Deliveries by what became of them",
            ["kind", "outcome"],
            registry=registry,
        )

        self.progress_writes = Counter(
            "rt_progress_writes", "Reports of progress that were written", registry=registry
        )
        self.remote_workers = Gauge(
            "rt_remote_workers",
            "Workers elsewhere that this process serves",
            ["transport"],
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.remote_tasks = Gauge(
            "rt_remote_tasks",
            "Tasks of workers elsewhere that this process knows of",
            registry=registry,
            multiprocess_mode="livesum",
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
        """Let a scrape ask this one too, for what is of the whole system."""
        self._registry.register(collector)
        self._collectors.append(collector)

    def measure_by(self, measure: Callable[[], None]) -> None:
        """Have this called before the gauges are looked at."""
        self._measures.append(measure)

    def measure(self) -> None:
        """Show what is counted as plain numbers."""
        for measure in self._measures:
            measure()
        self._measure_process()
        for name, counter in self._messages.items():
            count = getattr(self.tally, name)
            counter.inc(count - getattr(self._shown, name))
            setattr(self._shown, name, count)

    def _measure_process(self) -> None:
        used = time.process_time()
        self._processor.inc(used - self._processor_shown)
        self._processor_shown = used
        # Where there is no /proc it stays 0.
        with contextlib.suppress(OSError):
            self._memory.set(int(STATM.read_text().split()[1]) * PAGE_BYTES)

    async def share(self) -> None:
        """Measure once a second, where other processes answer for this one."""
        try:
            while self._folder:
                self.measure()
                await asyncio.sleep(SHARED_SECONDS)
        finally:
            self.measure()

    def render(self) -> bytes:
        """Return the text exposition format 0.0.4, of all processes that share a folder."""
        self.measure()
        if not self._folder:
            return generate_latest(self._registry)
        _forget_dead(self._folder)
        together = CollectorRegistry()
        MultiProcessCollector(together, self._folder)  # type: ignore[no-untyped-call]
        for collector in self._collectors:
            together.register(collector)
        return generate_latest(together)


@contextlib.contextmanager
def shared_folder() -> Iterator[str]:
    """Make a folder for processes that share their numbers, until the block ends."""
    where = MEMORY if MEMORY.is_dir() else Path(tempfile.gettempdir())
    for left in where.glob(f"{FOLDER_PREFIX}*"):
        # Its process was killed.
        if not _is_alive(_number(left.name.removeprefix(FOLDER_PREFIX).partition("-")[0])):
            shutil.rmtree(left, ignore_errors=True)
    prefix = f"{FOLDER_PREFIX}{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=where, ignore_cleanup_errors=True) as path:
        yield path


def _forget_dead(folder: str) -> None:
    """Take out the gauges of processes that have ended."""
    for path in Path(folder).glob("gauge_live*_*.db"):
        pid = _number(path.stem.rpartition("_")[2])
        if not _is_alive(pid):
            # Another process may be quicker.
            with contextlib.suppress(FileNotFoundError):
                mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _histogram(name: str, what: str, registry: CollectorRegistry) -> Histogram:
    return Histogram(name, what, ["kind"], buckets=SECONDS, registry=registry)
