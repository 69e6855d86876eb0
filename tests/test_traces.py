"""Traces: spans of real processes, as a real collector gets them."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

from services.queue import Job
from services.queue.jobs import pack_job, unpack_job
from tests.collector import Collector, Span, collecting
from tests.conftest import ROOT, SECRET, ServerProcess, start_server, stop_server
from tests.elsewhere import worker_program
from tests.jobs.receivers import receiving
from tests.waiting import wait_until
from tornado_rt.tracing.recorder import SpanRecorder
from tornado_rt.work.attempts.spans import headers_of, remote_context

pytestmark = pytest.mark.long

TOKEN = jwt.encode({"sub": "alice", "exp": 4_000_000_000}, SECRET, algorithm="HS256")
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"
KINDS = {"RT_KINDS": "tests.traced_kinds", "RT_JWT_SECRET": SECRET, "RT_DRAIN_SECONDS": "0"}


def ask(server: ServerProcess, path: str, body: Any = None, **headers: str) -> Any:
    request = urllib.request.Request(
        server.url + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {TOKEN}",
            "Accept": "application/json",
            **headers,
        },
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def delete(server: ServerProcess, path: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    request = urllib.request.Request(server.url + path, headers=headers, method="DELETE")
    with urllib.request.urlopen(request, timeout=60):
        pass


def submit(
    server: ServerProcess, kind: str, headers: dict[str, str] | None = None, **more: Any
) -> str:
    made = ask(server, "/api/tasks", {"kind": kind, **more}, **(headers or {}))
    return str(made["task_id"])


def wait_for_end(server: ServerProcess, task_id: str) -> Any:
    def ended() -> Any:
        task = ask(server, f"/api/tasks/{task_id}")
        return task if task["ended_at"] else None

    return wait_until(ended, what=f"{task_id} ends")


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[ServerProcess]:
    """A server that exports its spans."""
    folder = tmp_path_factory.mktemp("traced") / "data"
    allowed = {"RT_CALLBACK_ALLOW_PRIVATE": "true"}
    server = start_server(folder, **KINDS, **allowed, **collector.environment)
    yield server
    assert stop_server(server) == 0


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """Start servers; whatever still runs at the end is stopped."""
    started: list[ServerProcess] = []

    def begin(**environment: str) -> ServerProcess:
        made = start_server(tmp_path / "data", prefix=("env",), **KINDS, **environment)
        started.append(made)
        return made

    yield begin
    for one in started:
        if one.process.poll() is None:
            stop_server(one)


def imported_by_redis() -> list[str]:
    program = (
        "import json, sys, redis.asyncio;"
        "print(json.dumps([name for name in sys.modules if name.startswith('opentelemetry')]))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True
    )
    listed: list[str] = json.loads(found.stdout)
    return listed


def one_of(spans: list[Span]) -> Span:
    [span] = spans
    return span


def line_of_request(server: ServerProcess, trace_id: str) -> dict[str, Any]:
    """Return the log line of the only request of a trace."""

    def lines() -> list[dict[str, Any]]:
        told = server.log.read_text().splitlines()
        found = [json.loads(one) for one in told if trace_id in one]
        return [one for one in found if one["event"] == "request"]

    [line] = wait_until(lines, what="the line of the request")
    return line


def test_one_trace_leads_from_a_request_through_attempts_to_notification_and_callback(
    server: ServerProcess, collector: Collector
) -> None:
    headers = {"traceparent": TRACEPARENT, "tracestate": "vendor=1"}
    with receiving() as receiver:
        task_id = submit(server, "traced.flaky", headers, callback_url=receiver.url)
        posted = receiver.next()
        posted.answer(200)
        call = collector.wait_for("POST", TRACE)[0]
    assert posted.headers["traceparent"] == call.headers
    assert posted.headers["tracestate"] == "vendor=1"

    served = one_of(collector.wait_for("POST /api/tasks", TRACE))
    assert (served.kind, served.parent_id) == ("SERVER", PARENT)
    told = served.attributes
    assert told["http.request.method"] == "POST"
    assert told["http.route"] == told["url.path"] == "/api/tasks"
    assert told["http.response.status_code"] == 202
    assert told["url.scheme"] == "http"
    assert not served.has_failed

    sent = one_of(collector.wait_for("send traced.flaky", TRACE))
    assert (sent.kind, sent.parent_id) == ("PRODUCER", served.span_id)
    assert sent.attributes == {
        "messaging.system": "tornado_rt",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "traced.flaky",
        "messaging.message.id": task_id,
    }

    first, second = collector.wait_for("process traced.flaky", TRACE, 2)
    for number, one in enumerate((first, second), 1):
        assert (one.kind, one.parent_id, one.links) == ("CONSUMER", sent.span_id, [sent.span_id])
        assert one.attributes["tornado_rt.attempt"] == number
        assert one.attributes["messaging.message.id"] == task_id
        assert one.attributes["messaging.operation.type"] == "process"
        assert one.attributes["messaging.client.id"]
    assert first.has_failed
    assert first.attributes["error.type"] == first.attributes["tornado_rt.outcome"] == "retry"
    assert not second.has_failed
    assert second.attributes["tornado_rt.outcome"] == "completed"

    notified = one_of(collector.wait_for("send notification", TRACE))
    assert (notified.kind, notified.parent_id) == ("PRODUCER", sent.span_id)

    delivered = one_of(collector.wait_for("send webhook", TRACE))
    assert delivered.parent_id == sent.span_id
    posting = one_of(collector.wait_for("process webhook", TRACE))
    assert (posting.parent_id, posting.links) == (delivered.span_id, [delivered.span_id])
    assert (call.kind, call.parent_id) == ("CLIENT", posting.span_id)
    assert call.attributes["http.response.status_code"] == 200
    assert call.attributes["server.address"] == "127.0.0.1"
    assert call.attributes["url.full"].endswith("/REDACTED")


def test_spans_name_no_person_and_no_parameter(server: ServerProcess, collector: Collector) -> None:
    task_id = submit(server, "traced.flaky", params={"secret": "open-sesame"})
    wait_for_end(server, task_id)
    ask(server, "/api/notifications?q=open-sesame")
    collector.wait_for("GET /api/notifications")
    collector.wait_for("send notification")
    shown = repr([(one.attributes, one.status_message, one.resource) for one in collector.spans])
    assert "open-sesame" not in shown
    assert "alice" not in shown
    assert "client.address" not in shown


def test_resource_says_which_process_it_is(server: ServerProcess, collector: Collector) -> None:
    ask(server, "/api/notifications")
    resource = collector.wait_for("GET /api/notifications")[0].resource
    assert resource["service.name"] == "tornado_rt"
    assert resource["service.version"]
    assert resource["service.instance.id"]


def test_span_of_a_request_is_named_by_the_template_of_its_address(
    server: ServerProcess, collector: Collector
) -> None:
    task_id = submit(server, "traced.quick")
    wait_for_end(server, task_id)
    path = f"/api/tasks/{task_id}"
    found = wait_until(
        lambda: [one for one in collector.spans if one.attributes.get("url.path") == path],
        what="the span",
    )[0]
    assert found.name == "GET /api/tasks/{task_id}"
    assert found.attributes["http.route"] == "/api/tasks/{task_id}"
    with pytest.raises(urllib.error.HTTPError):
        ask(server, "/nowhere/at/all")
    nowhere = collector.wait_for("GET")[0]
    assert "http.route" not in nowhere.attributes
    assert nowhere.attributes["http.response.status_code"] == 404
    assert not nowhere.has_failed


def test_probes_have_no_span(server: ServerProcess, collector: Collector) -> None:
    with urllib.request.urlopen(server.url + "/healthz"):
        pass
    ask(server, "/api/notifications/types")
    collector.wait_for("GET /api/notifications/types")
    assert collector.named("GET /healthz") == []


def test_tasks_of_a_batch_begin_traces_that_are_linked_to_its_request(
    server: ServerProcess, collector: Collector
) -> None:
    items = [{"params": {}} for _ in range(3)]
    made = ask(
        server, "/api/batches", {"kind": "traced.quick", "items": items}, traceparent=TRACEPARENT
    )
    sent = one_of(
        [
            one
            for one in collector.wait_for("send traced.quick", TRACE)
            if one.attributes.get("messaging.message.conversation_id") == made["batch_id"]
        ]
    )
    assert sent.attributes["messaging.batch.message_count"] == 3

    def attempts() -> list[Span]:
        return [one for one in collector.named("process traced.quick") if sent.span_id in one.links]

    found = wait_until(lambda: len(attempts()) == 3 and attempts(), what="three attempts")
    assert {one.parent_id for one in found} == {""}
    assert len({one.trace_id for one in found} - {TRACE}) == 3


def test_firing_of_a_schedule_begins_a_trace(server: ServerProcess, collector: Collector) -> None:
    often = {"name": "often", "every": 1, "kind": "traced.fired", "params": {}}
    ask(server, "/api/schedules", often, traceparent=TRACEPARENT)
    sent = collector.wait_for("send traced.fired", count=2)[:2]
    delete(server, "/api/schedules/often")
    # Not in that of the request that has made the schedule, nor one for all.
    assert [one.parent_id for one in sent] == ["", ""]
    assert len({TRACE, *(one.trace_id for one in sent)}) == 3
    attempt = one_of(collector.wait_for("process traced.fired", sent[0].trace_id))
    assert (attempt.parent_id, attempt.links) == (sent[0].span_id, [sent[0].span_id])
    assert attempt.attributes["messaging.message.id"].startswith("often-")


def test_task_of_a_schedule_that_is_run_by_hand_is_in_the_trace_of_that_request(
    server: ServerProcess, collector: Collector
) -> None:
    ask(
        server,
        "/api/schedules",
        {"name": "seldom", "every": 3600, "kind": "traced.quick", "params": {}},
    )
    task_id = ask(server, "/api/schedules/seldom/run", {}, traceparent=TRACEPARENT)["task_id"]
    wait_for_end(server, task_id)
    attempt = wait_until(
        lambda: [
            one
            for one in collector.named("process traced.quick")
            if one.attributes["messaging.message.id"] == task_id
        ],
        what="the attempt",
    )[0]
    assert attempt.trace_id == TRACE


def test_log_lines_name_the_trace(server: ServerProcess, collector: Collector) -> None:
    own = "11111111111111111111111111111111"
    ask(server, "/api/notifications/preferences", traceparent=f"00-{own}-{PARENT}-01")
    served = collector.wait_for("GET /api/notifications/preferences", own)[0]
    line = line_of_request(server, own)
    assert (line["trace_id"], line["span_id"]) == (own, served.span_id)
    assert served.attributes["tornado_rt.request_id"] == line["request_id"]


def test_trace_that_is_left_out_is_named_by_its_request_alone(
    server: ServerProcess, collector: Collector
) -> None:
    own = "22222222222222222222222222222222"
    task_id = submit(server, "traced.inside", {"traceparent": f"00-{own}-{PARENT}-00"})
    found = wait_for_end(server, task_id)["result"]
    line = line_of_request(server, own)
    assert line["span_id"] != PARENT
    assert found["traceparent"] == f"00-{own}-{line['span_id']}-00"
    # The handler's own span was begun, and left out too.
    ask(server, "/api/notifications/unread_count", traceparent=f"00-{own}-{PARENT}-01")
    last = one_of(collector.wait_for("GET /api/notifications/unread_count", own))
    assert [one for one in collector.spans if one.trace_id == own] == [last]


def test_tasks_of_a_batch_are_recorded_though_its_request_is_left_out(
    server: ServerProcess, collector: Collector
) -> None:
    own = "33333333333333333333333333333333"
    items = [{"params": {}} for _ in range(2)]
    body = {"kind": "traced.quick", "items": items}
    ask(server, "/api/batches", body, traceparent=f"00-{own}-{PARENT}-00")
    line = line_of_request(server, own)

    def attempts() -> list[Span]:
        return [
            one
            for one in collector.named("process traced.quick")
            if line["span_id"] in one.links and one.trace_id != own
        ]

    wait_until(lambda: len(attempts()) == 2, what="two attempts")


class MessagesAlone(Sampler):
    """Records spans of messages, whatever was decided for their parents."""

    def should_sample(
        self, parent_context: Any, trace_id: int, name: str, *_: Any, **__: Any
    ) -> SamplingResult:
        named = name.startswith(("send", "process"))
        return SamplingResult(Decision.RECORD_AND_SAMPLE if named else Decision.DROP)

    def get_description(self) -> str:
        return "MessagesAlone"


@pytest.mark.parametrize("follows_parents", [False, True])
def test_sampler_of_a_host_is_asked_for_each_span(follows_parents: bool) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(sampler=MessagesAlone(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    recorder = SpanRecorder(
        provider.get_tracer("x"), names_users=False, follows_parents=follows_parents
    )
    with recorder.calling("GET", "http://x") as call, recorder.sending("quick", "1", "", 0) as sent:
        assert (sent == call.headers) == follows_parents
    names = [one.name for one in exporter.get_finished_spans()]
    assert names == ([] if follows_parents else ["send quick"])


def test_off_nothing_is_imported_and_no_header_is_sent(start: Callable[..., ServerProcess]) -> None:
    server = start(RT_CALLBACK_ALLOW_PRIVATE="true")
    with receiving() as receiver:
        task_id = submit(
            server, "traced.modules", {"traceparent": TRACEPARENT}, callback_url=receiver.url
        )
        posted = receiver.next()
        posted.answer(200)
    imported = wait_for_end(server, task_id)["result"]
    assert not [one for one in imported if one.startswith("opentelemetry.exporter")]
    # The client of Redis imports a part by itself, where it is installed.
    assert set(imported) <= set(imported_by_redis())
    assert posted.headers["traceparent"] is None
    assert "trace_id" not in server.log.read_text()


@pytest.mark.parametrize("processes", ["false", "true"])
def test_dead_collector_loses_spans_and_nothing_else(
    start: Callable[..., ServerProcess], processes: str
) -> None:
    dead = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_BSP_SCHEDULE_DELAY": "20",
        "OTEL_TRACES_SAMPLER": "always_on",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "1",
    }
    server = start(RT_TRACES="otlp", RT_WORKER_PROCESSES=processes, **dead)

    def warnings() -> int:
        return server.log.read_text().count('"event": "traces_lost"')

    for kind in ("traced.quick", "traced.quick", "traced.inside"):
        assert wait_for_end(server, submit(server, kind))["status"] == "completed"
    wait_until(warnings, what="the warning")
    assert wait_for_end(server, submit(server, "traced.quick"))["status"] == "completed"
    assert stop_server(server) == 0
    # For all processes.
    assert server.log.read_text().count("traces_lost") == 1
    assert "Failed to export" not in server.log.read_text()


def test_collector_that_refuses_is_told_of_once_until_it_takes_spans_again(
    start: Callable[..., ServerProcess],
) -> None:
    with collecting() as collector:
        collector.status = 400
        server = start(**collector.environment)

        def refused() -> bool:
            ask(server, "/api/notifications")
            return collector.refused >= 3

        wait_until(refused, what="three refusals")
        assert server.log.read_text().count("traces_lost") == 1
        collector.status = 200
        ask(server, "/api/kinds")
        collector.wait_for("GET /api/kinds")
        wait_until(lambda: "traces_arrive_again" in server.log.read_text(), what="it is told")


def test_what_is_left_is_exported_at_a_stop(
    start: Callable[..., ServerProcess],
) -> None:
    with collecting() as collector:
        server = start(**collector.environment | {"OTEL_BSP_SCHEDULE_DELAY": "3600000"})
        wait_for_end(server, submit(server, "traced.quick"))
        assert not collector.spans
        assert stop_server(server) == 0
        assert collector.named("process traced.quick")


@pytest.fixture
def without_library(tmp_path: Path) -> dict[str, str]:
    """The environment of a program in which OpenTelemetry is not installed."""
    hidden = tmp_path / "hidden" / "opentelemetry"
    hidden.mkdir(parents=True)
    raises = "raise ModuleNotFoundError('No module named opentelemetry', name='opentelemetry')"
    (hidden / "__init__.py").write_text(raises)
    return {"PYTHONPATH": str(hidden.parent)}


def test_off_it_need_not_be_installed(
    start: Callable[..., ServerProcess], without_library: dict[str, str]
) -> None:
    server = start(**without_library)
    assert wait_for_end(server, submit(server, "traced.modules"))["result"] == []


@pytest.mark.parametrize("command", [["serve"], ["worker", "--kinds", "tests.traced_kinds"]])
def test_asked_for_without_the_library_is_one_line(
    command: list[str], without_library: dict[str, str], tmp_path: Path
) -> None:
    failed = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *command],
        cwd=ROOT,
        env=os.environ | without_library | {"RT_TRACES": "otlp", "RT_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert failed.returncode == 2
    assert failed.stderr.strip().endswith(
        "traces: opentelemetry is not installed: pip install 'tornado-rt[traces]'"
    )


def test_collector_that_does_not_answer_delays_a_stop_for_the_flush_alone(
    start: Callable[..., ServerProcess],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        server = start(
            RT_TRACES="otlp",
            RT_TRACES_FLUSH_SECONDS="0.5",
            OTEL_TRACES_SAMPLER="always_on",
            OTEL_EXPORTER_OTLP_ENDPOINT=url,
            OTEL_EXPORTER_OTLP_TIMEOUT="600",
        )
        assert wait_for_end(server, submit(server, "traced.quick"))["status"] == "completed"
        # Far below the time of an export.
        assert stop_server(server) == 0
    assert '"event": "traces_not_flushed"' in server.log.read_text()


def test_users_are_named_where_a_setting_asks_for_it(start: Callable[..., ServerProcess]) -> None:
    with collecting() as collector:
        server = start(RT_TRACES_USERS="true", **collector.environment)
        wait_for_end(server, submit(server, "traced.quick"))
        served = collector.wait_for("POST /api/tasks")[0]
        assert served.attributes["user.id"] == "alice"
        assert served.attributes["client.address"] == "127.0.0.1"
        assert collector.wait_for("process traced.quick")[0].attributes["user.id"] == "alice"


def test_standard_variables_say_sampler_resource_and_headers(
    start: Callable[..., ServerProcess],
) -> None:
    with collecting() as collector:
        server = start(
            OTEL_SERVICE_NAME="shop",
            OTEL_RESOURCE_ATTRIBUTES="service.version=7,team=a",
            OTEL_EXPORTER_OTLP_HEADERS="x-key=open",
            **collector.environment | {"OTEL_TRACES_SAMPLER": "parentbased_always_off"},
        )
        wait_for_end(server, submit(server, "traced.quick"))
        wait_for_end(server, submit(server, "traced.quick", {"traceparent": TRACEPARENT}))
        attempt = one_of(collector.wait_for("process traced.quick"))
        assert attempt.trace_id == TRACE
        told = attempt.resource
        assert (told["service.name"], told["service.version"], told["team"]) == ("shop", "7", "a")
        assert collector.headers[0]["x-key"] == "open"


def test_spans_of_a_handler_in_its_process_are_children_of_its_attempt(
    start: Callable[..., ServerProcess],
) -> None:
    with collecting() as collector:
        server = start(RT_WORKER_PROCESSES="true", **collector.environment)
        task = wait_for_end(server, submit(server, "traced.inside", {"traceparent": TRACEPARENT}))
        attempt = collector.wait_for("process traced.inside", TRACE)[0]
        own = one_of(collector.wait_for("own work", TRACE))
        assert own.parent_id == attempt.span_id
        assert task["result"]["environment"] == attempt.headers
        assert task["result"]["traceparent"] == collector.named("send traced.inside")[0].headers


def test_spans_of_a_handler_in_a_thread_are_children_of_its_attempt(
    server: ServerProcess, collector: Collector
) -> None:
    wait_for_end(server, submit(server, "traced.inside", {"traceparent": TRACEPARENT}))
    attempt = collector.wait_for("process traced.inside", TRACE)[0]
    assert collector.wait_for("own work", TRACE)[0].parent_id == attempt.span_id


def test_worker_elsewhere_records_its_attempts_in_the_trace_of_the_task(
    start: Callable[..., ServerProcess],
) -> None:
    with collecting() as collector:
        server = start(RT_WORKER_CONCURRENCY="0", **collector.environment)
        own = {"OTEL_SERVICE_NAME": "elsewhere", "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        command = ["--traces"]
        with worker_program(server.url, *command, kinds="tests.traced_elsewhere", **own):
            task = wait_for_end(
                server, submit(server, "traced.inside", {"traceparent": TRACEPARENT})
            )
            attempt = collector.wait_for("process traced.inside", TRACE)[0]
            own_work = collector.wait_for("own work", TRACE)[0]
        sent = one_of(collector.named("send traced.inside"))
        assert (attempt.parent_id, attempt.links) == (sent.span_id, [sent.span_id])
        assert attempt.resource["service.name"] == "elsewhere"
        assert own_work.parent_id == attempt.span_id
        assert task["result"]["traceparent"] == sent.headers


def test_handshake_of_a_socket_and_head_of_a_stream_have_spans_that_end(
    server: ServerProcess, collector: Collector
) -> None:
    address = server.url.removeprefix("http://").split(":")
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13"
    asks = (
        f"GET /api/ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}",
        "GET /api/notifications/stream HTTP/1.1\r\nHost: x",
    )
    with contextlib.ExitStack() as stack:
        for head in asks:
            opened = stack.enter_context(socket.create_connection((address[0], int(address[1]))))
            opened.sendall(f"{head}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n".encode())
        # While both connections are open.
        handshake = collector.wait_for("GET /api/ws")[0]
        stream = collector.wait_for("GET /api/notifications/stream")[0]
    assert handshake.attributes["http.response.status_code"] == 101
    assert stream.attributes["http.response.status_code"] == 200


# A version that is not known, ids of zeros, letters in capitals, what is too long or too short.
GOOD = st.builds(
    "00-{}-{}-{}".format,
    st.text("0123456789abcdef", min_size=32, max_size=32),
    st.text("0123456789abcdef", min_size=16, max_size=16),
    st.text("0123456789abcdef", min_size=2, max_size=2),
)
TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=600)
EDITED = st.builds(
    lambda good, at, put: good[:at] + put + good[at + 1 :], GOOD, st.integers(0, 54), TEXT
)
NAMED = re.compile(
    r"(00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
    r"|(?!00|ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?)"
)


@given(parent=GOOD | EDITED | TEXT, state=TEXT)
def test_header_that_is_not_valid_names_no_span(parent: str, state: str) -> None:
    found = trace.get_current_span(remote_context({"traceparent": parent, "tracestate": state}))
    taken = headers_of(found.get_span_context())
    is_valid = len(parent) <= 512 and NAMED.fullmatch(parent.strip(" \t"))
    assert bool(taken) == bool(is_valid)
    if is_valid:
        # The version that is spoken here, and the ids that came.
        assert taken["traceparent"] == "00" + parent.strip(" \t")[2:55]
    assert len(taken.get("tracestate", "")) <= 512


@given(
    carried=st.recursive(
        st.none() | st.booleans() | TEXT,
        lambda one: (
            st.lists(one)
            | st.dictionaries(st.sampled_from(["traceparent", "tracestate", "x"]), one)
        ),
    )
)
def test_job_of_a_task_has_no_other_trace_than_two_short_texts(carried: Any) -> None:
    job = unpack_job(orjson.dumps({"label": "x", "trace": carried}))
    assert job.trace.keys() <= {"traceparent", "tracestate"}
    assert all(isinstance(one, str) and 0 < len(one) <= 512 for one in job.trace.values())


def test_job_without_a_trace_is_packed_as_ever() -> None:
    assert pack_job(Job(label="x")) == b'{"label":"x"}'
    assert unpack_job(b'{"label":"x"}').trace == {}


def test_long_headers_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Else any client fills the log."""
    long = TRACEPARENT + "-" + "x" * 1000
    assert remote_context({"traceparent": long}) == {}
    found = remote_context({"traceparent": TRACEPARENT, "tracestate": "a=" + "x" * 1000})
    assert headers_of(trace.get_current_span(found).get_span_context()) == {
        "traceparent": TRACEPARENT
    }
    assert caplog.records == []


def test_invalid_header_begins_a_trace(server: ServerProcess, collector: Collector) -> None:
    ask(server, "/api/kinds", traceparent="00-00000000000000000000000000000000-0000000000000000-01")
    served = collector.wait_for("GET /api/kinds")[0]
    assert served.parent_id == ""
    assert set(served.trace_id) != {"0"}
