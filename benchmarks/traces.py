"""`python -m benchmarks.traces`: the processor time that traces take of a server with a worker.

One process is the server, and records no trace, a share of them, or all, in turns within each
round: so the machine, the stores and the process are the same for all. A turn submits some tasks
over one connection, and waits until its user's event stream has told of the end of each. Its time
is that of all threads of the server's process. The load and the collector are another process. The
turns are short and their order changes, so that a machine that is busy for seconds is so for all
rows; a ratio is the median of the rounds' ratios to traces off.

Spans are exported between turns, in batches of the size that a busy server exports in the five
seconds of OpenTelemetry's default, and their time is added to that of the tasks. The same number of
spans made by OpenTelemetry's SDK alone is measured beside it: no recorder that uses it can take
less. The page goes to `benchmarks/results/traces.md`.
"""

import argparse
import asyncio
import contextlib
import gc
import http.client
import json
import math
import os
import platform
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Tracer, set_span_in_context

from benchmarks.programs import ROOT, SECRET, free_port, temporary_folder, token
from services.worker import worker
from settings import LogLevel, Settings
from tornado_rt import tracing
from tornado_rt.app import running_server
from tornado_rt.garbage import collect_seldom
from tornado_rt.logs import configure_logging
from tornado_rt.tracing.export import RATIO
from tornado_rt.tracing.recorder import SpanRecorder
from tornado_rt.work.attempts.tracing import AttemptSpans, NoSpans

RESULTS = Path(__file__).resolve().parent / "results" / "traces.md"
NAMES = {
    "off": "off",
    "hundredth": "1 %",
    "tenth": "10 %, which is the default",
    "all": "all",
}
BASE = "off"
# Of the traces that are recorded.
SHARES = {"hundredth": 0.01, "tenth": RATIO, "all": 1.0}
Times = dict[str, list[float]]
# Spans of a task: its request, its submission, its attempt and its notification.
SPANS_OF_TASK = 4
# A server at its most records this many in five seconds, if it records a tenth of its traces.
BATCH = 256
# The SDK alone makes this many batches for each row.
ALONE = 20
# As those of a task.
ATTRIBUTES: Mapping[str, str | int] = {
    "messaging.system": "tornado_rt",
    "messaging.operation.name": "send",
    "messaging.operation.type": "send",
    "messaging.destination.name": "bench.quick",
    "messaging.message.id": "0af7651916cd43dd8448eb211c80319c",
    "tornado_rt.attempt": 1,
}
TURN_SECONDS = 60.0
# After a turn, for what the server does when its tasks have ended.
SETTLE_SECONDS = 0.02
# Half the width of the 95 % interval of a normal distribution, which the rank of the median is
# close to.
DEVIATIONS_OF_95 = 1.96


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=2, help="of a turn")
    parser.add_argument("--rounds", type=int, default=600)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--load", type=int, metavar="PORT", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.load:
        load(chosen.load)
        return
    measured = asyncio.run(measure(chosen.tasks, chosen.rounds))
    table = document(measured, chosen.tasks, chosen.rounds)
    chosen.results.write_text(table)
    print(table)


class TimedExporter(SpanExporter):
    """Exports, and counts spans and the processor time of their export [s]."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self.spans = 0
        self.seconds = 0.0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export some."""
        began = time.thread_time()
        result = self._inner.export(spans)
        self.seconds += time.thread_time() - began
        self.spans += len(spans)
        if result is not SpanExportResult.SUCCESS:
            raise RuntimeError("the collector does not take spans")
        return result

    def shutdown(self) -> None:
        """End."""
        self._inner.shutdown()


class Recording:
    """Records a share of the traces with the SDK, and exports when it is asked to."""

    def __init__(self, collector: str, share: float) -> None:
        self.tasks_of_batch = math.ceil(BATCH / (SPANS_OF_TASK * share))
        self.exporter = TimedExporter(OTLPSpanExporter(f"{collector}/v1/traces"))
        # Far more than a batch, so that no thread exports in between.
        most = 64 * BATCH
        processor = BatchSpanProcessor(
            self.exporter,
            max_queue_size=most,
            max_export_batch_size=most,
            schedule_delay_millis=3_600_000,
        )
        self.export = processor.force_flush
        provider = TracerProvider(sampler=ParentBasedTraceIdRatio(share), shutdown_on_exit=False)
        provider.add_span_processor(processor)
        self.tracer = provider.get_tracer("benchmark")


class Switch:
    """Records with one of several recorders, or with none."""

    def __init__(self, collector: str) -> None:
        self.recordings = {name: Recording(collector, share) for name, share in SHARES.items()}
        self._recorders: dict[str, tracing.Recorder | None] = {BASE: None}
        for name, one in self.recordings.items():
            self._recorders[name] = SpanRecorder(
                one.tracer, names_users=False, follows_parents=True
            )
        self._of_workers: list[SwitchedSpans] = []

    def attempt_spans(self, worker_id: str) -> "SwitchedSpans":
        """Return what a worker records with."""
        made = {
            name: NoSpans() if one is None else one.attempt_spans(worker_id)
            for name, one in self._recorders.items()
        }
        self._of_workers.append(SwitchedSpans(made, made[BASE]))
        return self._of_workers[-1]

    def to(self, name: str) -> None:
        """Record so from now on."""
        tracing._Here.recorder = self._recorders[name]
        for one in self._of_workers:
            one.now = one.made[name]


@attrs.define
class SwitchedSpans:
    """The spans of attempts as they are recorded now."""

    made: dict[str, AttemptSpans]
    now: AttemptSpans

    def begun(self, claim: Any) -> contextlib.AbstractContextManager[None]:
        """Begin one."""
        return self.now.begun(claim)

    def ended(self, claim: Any, outcome: str) -> None:
        """End one."""
        self.now.ended(claim, outcome)


class Load:
    """The process that submits tasks, and is the collector too."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._asks = process.stdin
        self._answers = process.stdout

    @classmethod
    async def started(cls, port: int) -> "Load":
        """Start one for the server at a port."""
        return cls(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.traces", "--load", str(port)),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
        )

    async def answer(self) -> str:
        """Return the next line of it."""
        line = await self._answers.readline()
        if not line:
            raise RuntimeError("the load has failed")
        return line.decode().strip()

    async def ask(self, *words: object) -> None:
        """Let it do something, and wait for its end."""
        self._asks.write(" ".join(map(str, words)).encode() + b"\n")
        await self.answer()

    async def end(self) -> None:
        """End it."""
        self._asks.close()
        await self._process.wait()


@attrs.frozen
class Measured:
    """Processor times of a task [s].

    `tasks`: in each round, without exports. `exports`: of the export of its spans. `alone`: of the
    same spans made and exported by the SDK alone.
    """

    tasks: Times
    exports: dict[str, float]
    alone: dict[str, float]


async def measure(tasks: int, rounds: int) -> Measured:
    """Measure rounds, each with a turn of some tasks for each row."""
    # As the command does.
    collect_seldom()
    configure_logging(LogLevel.WARNING)
    with temporary_folder() as folder:
        port = free_port()
        load = await Load.started(port)
        collector = await load.answer()
        switch = Switch(collector)
        vars(worker)["attempt_spans"] = switch.attempt_spans
        times: Times = {name: [] for name in NAMES}
        async with running_server(settings_of(folder, port)):
            warming = range(-max(2, rounds // 20), 0)
            for number in warming:
                await round_of(load, switch, tasks, number)
            for one in switch.recordings.values():
                await asyncio.to_thread(one.export)
                one.exporter.seconds = 0.0
            for number in range(rounds):
                for name, seconds in (await round_of(load, switch, tasks, number)).items():
                    times[name].append(seconds / tasks)
                await asyncio.to_thread(export_due, switch, tasks, number + 1)
        alone = {name: time_alone(collector, share) for name, share in SHARES.items()}
        await load.end()
        exports = {
            name: one.exporter.seconds / (rounds * tasks) for name, one in switch.recordings.items()
        }
        return Measured(times, {BASE: 0.0} | exports, {BASE: 0.0} | alone)


async def round_of(load: Load, switch: Switch, tasks: int, number: int) -> dict[str, float]:
    """Return the processor times of a turn of each row [s]; the number says their order."""
    shift = number % len(NAMES)
    names = [*NAMES, *NAMES][shift : shift + len(NAMES)]
    if number // len(NAMES) % 2:
        names.reverse()
    await load.ask("open", f"user{number}")
    took = {}
    for name in names:
        switch.to(name)
        gc.collect()
        began = time.process_time()
        await load.ask("turn", tasks)
        await asyncio.sleep(SETTLE_SECONDS)
        took[name] = time.process_time() - began
    switch.to(BASE)
    await load.ask("close")
    return took


def export_due(switch: Switch, tasks: int, rounds: int) -> None:
    """Export the batches that are full after some rounds."""
    for one in switch.recordings.values():
        if rounds * tasks % one.tasks_of_batch < tasks:
            one.export()


def time_alone(collector: str, share: float) -> float:
    """Return the processor time of a task's spans, made and exported by the SDK alone [s]."""
    recording, took = Recording(collector, share), []
    for _ in range(ALONE):
        gc.collect()
        began = time.process_time()
        for _ in range(recording.tasks_of_batch):
            make_spans(recording.tracer)
        recording.export()
        took.append((time.process_time() - began) / recording.tasks_of_batch)
    return statistics.median(took)


def make_spans(tracer: Tracer) -> None:
    """Make a span, and the others of a task as its children."""
    root = tracer.start_span("request", attributes=ATTRIBUTES)
    within = set_span_in_context(root)
    for _ in range(SPANS_OF_TASK - 1):
        tracer.start_span("message", within, attributes=ATTRIBUTES).end()
    root.end()


def settings_of(folder: Path, port: int) -> Settings:
    """Return the settings of a server without limits that are in the way."""
    return Settings(
        data_dir=folder / "data",
        port=port,
        jwt_secret=SECRET,
        kinds=[str(ROOT / "benchmarks" / "quick_kind.py")],
        worker_concurrency=4,
        queue_user_limit=0,
        queue_global_limit=0,
        queue_max_waiting_per_user=0,
        requests_per_second=0,
        drain_seconds=0,
    )


def load(port: int) -> None:
    """Be the load, and the collector: do what each line asks for."""
    with collecting() as collector, contextlib.ExitStack() as stack:
        print(collector, flush=True)
        for line in sys.stdin:
            match line.split():
                case ["open", user_id]:
                    user = stack.enter_context(User.opened(port, user_id))
                case ["turn", tasks]:
                    user.turn(int(tasks))
                case _:
                    stack.close()
            print("done", flush=True)


@attrs.frozen
class User:
    """Submits tasks over one connection, and reads notifications over another."""

    asked: http.client.HTTPConnection
    headers: Mapping[str, str]
    stream: http.client.HTTPResponse

    @classmethod
    @contextlib.contextmanager
    def opened(cls, port: int, user_id: str) -> "Iterator[User]":
        """Open both."""
        headers = {"Authorization": f"Bearer {token(user_id)}"}
        asked, reads = (
            http.client.HTTPConnection("127.0.0.1", port, timeout=TURN_SECONDS) for _ in range(2)
        )
        with contextlib.closing(asked), contextlib.closing(reads):
            reads.request("GET", "/api/notifications/stream", headers=headers)
            yield cls(asked, headers, reads.getresponse())

    def turn(self, tasks: int) -> None:
        """Submit tasks, and wait until all notifications of their ends have come."""
        for _ in range(tasks):
            ask(self.asked, "POST", "/api/tasks", self.headers, {"kind": "bench.quick"})
        while tasks:
            line = self.stream.readline()
            if not line:
                raise RuntimeError("the stream of notifications has ended")
            tasks -= line.rstrip() == b"event: notification"


@contextlib.contextmanager
def collecting() -> Iterator[str]:
    """Run what takes spans and forgets them; yield its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"


def ask(
    asked: http.client.HTTPConnection,
    method: str,
    path: str,
    headers: Mapping[str, str],
    body: Any = None,
) -> Any:
    """Send a request and return the JSON of its answer."""
    asked.request(method, path, None if body is None else json.dumps(body), dict(headers))
    answer = asked.getresponse()
    content = answer.read()
    if answer.status >= 300:
        raise ValueError(f"{method} {path}: {answer.status} {content.decode()}")
    return json.loads(content)


def document(measured: Measured, tasks: int, rounds: int) -> str:
    """Return the page of the results."""
    rows, base = [], statistics.median(measured.tasks[BASE])
    for name, own in measured.tasks.items():
        ratios = [one / other for one, other in zip(own, measured.tasks[BASE], strict=True)]
        export, alone = measured.exports[name] / base, measured.alone[name]
        low, middle, high = (ratio + export for ratio in median_within(ratios))
        took = statistics.median(own) + measured.exports[name]
        rows.append(
            f"| {NAMES[name]} | {took * 1e3:.2f} | {middle:.3f} | {low:.3f} to {high:.3f} |"
            f" {alone * 1e6:.0f} | {1 + alone / base:.3f} |"
        )
    told = (
        f"`python -m benchmarks.traces`: {rounds} rounds, each with a turn of {tasks} tasks for "
        f"each row, in one process; {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load average {os.getloadavg()[0]:.1f}. A task is submitted over HTTP, runs in the "
        "server's own worker, and its notification is stored and pushed: four spans. Times are "
        "those of the process on a processor, of all its threads, with the export of the spans in "
        f"batches of {BATCH}. A ratio is the median of the rounds' ratios to traces off; beside "
        "it is the interval that has the true median with a probability of 95 %. The last columns "
        "are of OpenTelemetry's SDK alone: four spans of six attributes, made and exported, and "
        "the ratio if a recorder took nothing else."
    )
    head = "| traces | task [ms] | ratio | 95 % | SDK alone [µs] | ratio of the SDK alone |"
    line = "| --- | ---: | ---: | ---: | ---: | ---: |"
    return "\n".join(["# Traces, measured", "", told, "", head, line, *rows, ""])


def median_within(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, between the ends of the interval that has the true one at 95 %."""
    ordered, middle = sorted(values), len(values) / 2
    reach = DEVIATIONS_OF_95 * math.sqrt(len(values)) / 2
    low, high = math.floor(middle - reach), math.ceil(middle + reach)
    last = len(values) - 1
    return ordered[max(0, low)], statistics.median(ordered), ordered[min(last, high)]


if __name__ == "__main__":
    main()
