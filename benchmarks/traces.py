"""`python -m benchmarks.traces`: the processor time that traces take of a server with a worker.

One process is the server, and records no trace, a share of them, or all, in turns within each
round: so the machine, the stores and the process are the same for all. A turn submits tasks over
one connection, and waits until each has run and its user has the notification of its end. The time
is that of all threads of the server's process, the exporting one among them. The load and the
collector are another process. A ratio is the median of the rounds' ratios to traces off.

On a machine that is busy these ratios spread by more than traces cost. So spans are measured alone
too, in the same rounds: begun, ended and exported in a loop. The page goes to
`benchmarks/results/traces.md`.
"""

import argparse
import asyncio
import contextlib
import gc
import http.client
import json
import os
import platform
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    ParentBased,
    ParentBasedTraceIdRatio,
    Sampler,
)

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
SAMPLERS: Mapping[str, Sampler] = {
    "hundredth": ParentBasedTraceIdRatio(0.01),
    "tenth": ParentBasedTraceIdRatio(RATIO),
    "all": ParentBased(ALWAYS_ON),
}
Times = dict[str, list[float]]
# Of a task: its request, its submission, its attempt and its notification.
SPANS_OF_TASK = 4
# As many are measured alone.
SPANS = 500
TURN_SECONDS = 60.0
LOOK_SECONDS = 0.05


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--load", type=int, metavar="PORT", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.load:
        load(chosen.load)
        return
    times, spans = asyncio.run(measure(chosen.tasks, chosen.rounds))
    table = document(times, spans, chosen.tasks, chosen.rounds)
    chosen.results.write_text(table)
    print(table)


class Switch:
    """Records with one of several recorders, or with none."""

    def __init__(self, collector: str) -> None:
        self._recorders: dict[str, tracing.Recorder | None] = {BASE: None}
        self._providers: dict[str, TracerProvider] = {}
        for name, sampler in SAMPLERS.items():
            provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
            exporter = OTLPSpanExporter(f"{collector}/v1/traces")
            provider.add_span_processor(BatchSpanProcessor(exporter))
            self._providers[name] = provider
            tracer = provider.get_tracer("benchmark")
            self._recorders[name] = SpanRecorder(tracer, names_users=False)
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

    def export(self, name: str) -> None:
        """Export what waits: a turn is shorter than the five seconds in which it would be."""
        if name in self._providers:
            self._providers[name].force_flush()


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


def time_of_span(switch: Switch, name: str) -> float:
    """Return the processor time of a span as it is recorded now, with its export [s]."""
    began = time.process_time()
    for number in range(SPANS):
        with tracing.sending("bench.quick", message_id=str(number)):
            pass
    switch.export(name)
    return (time.process_time() - began) / SPANS


async def measure(tasks: int, rounds: int) -> tuple[Times, Times]:
    """Return the processor times of a task, and of a span [s], in the turns of each."""
    # As the command does.
    collect_seldom()
    configure_logging(LogLevel.WARNING)
    with temporary_folder() as folder:
        port = free_port()
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.traces", "--load", str(port)),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert client.stdin is not None
        assert client.stdout is not None
        switch = Switch((await client.stdout.readline()).decode().strip())
        vars(worker)["attempt_spans"] = switch.attempt_spans
        times: Times = {name: [] for name in NAMES}
        spans: Times = {name: [] for name in NAMES}
        async with running_server(settings_of(folder, port)):
            # Two rounds warm it up.
            for number in range(-2, rounds):
                shift = number % len(NAMES)
                for name in [*NAMES, *NAMES][shift : shift + len(NAMES)]:
                    switch.to(name)
                    gc.collect()
                    began = time.process_time()
                    client.stdin.write(f"{name}{number} {tasks}\n".encode())
                    if not await client.stdout.readline():
                        raise RuntimeError("the load has failed")
                    await asyncio.to_thread(switch.export, name)
                    if number >= 0:
                        times[name].append((time.process_time() - began) / tasks)
                        spans[name].append(time_of_span(switch, name))
            switch.to(BASE)
            client.stdin.close()
            await client.wait()
        return times, spans


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
    """Be the load, and the collector: for each line with a user and a number, submit tasks."""
    with collecting() as collector:
        print(collector, flush=True)
        for line in sys.stdin:
            user_id, tasks = line.split()
            turn(port, user_id, int(tasks))
            print("done", flush=True)


def turn(port: int, user_id: str, tasks: int) -> None:
    """Submit tasks, and wait until the user has all notifications."""
    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=TURN_SECONDS)
    headers = {"Authorization": f"Bearer {token(user_id)}"}
    with contextlib.closing(asked):
        for _ in range(tasks):
            ask(asked, "POST", "/api/tasks", headers, {"kind": "bench.quick"})
        until = time.monotonic() + TURN_SECONDS
        while ask(asked, "GET", "/api/notifications/unread_count", headers)["unread"] < tasks:
            if time.monotonic() > until:
                raise TimeoutError("a turn does not end")
            time.sleep(LOOK_SECONDS)


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


def document(times: Times, spans: Times, tasks: int, rounds: int) -> str:
    """Return the page of the results."""
    rows, base = [], statistics.median(times[BASE])
    for name, own in times.items():
        ratios = [one / other for one, other in zip(own, times[BASE], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        took, span = statistics.median(own), statistics.median(spans[name])
        share = 1 + SPANS_OF_TASK * span / base
        rows.append(
            f"| {NAMES[name]} | {took * 1e3:.2f} | {middle:.3f} | {low:.3f} to {high:.3f} |"
            f" {span * 1e6:.1f} | {share:.3f} |"
        )
    told = (
        f"`python -m benchmarks.traces`: {rounds} rounds, each with a turn of {tasks} tasks for "
        f"each row, in one process; {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"load average {os.getloadavg()[0]:.1f}. A task is submitted over HTTP, runs in the "
        "server's own worker, and its notification is stored and published: four spans. Times "
        "are those of the process on a processor, of all its threads. A ratio is the median of "
        "the rounds' ratios to traces off; beside it are their quartiles. The last columns are of "
        "a span alone, and what four of them add to the time of a task: on a busy machine that "
        "says more than the ratios."
    )
    head = "| traces | task [ms] | ratio | quartiles | span [µs] | task with four spans |"
    line = "| --- | ---: | ---: | ---: | ---: | ---: |"
    return "\n".join(["# Traces, measured", "", told, "", head, line, *rows, ""])


if __name__ == "__main__":
    main()
