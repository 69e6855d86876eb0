"""A collector of spans: it speaks OTLP over HTTP on a real socket."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

from tests.waiting import wait_until

ERROR = 2


@attrs.frozen
class Span:
    """A span as it came."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    links: list[str]
    has_failed: bool
    status_message: str
    is_sampled: bool

    @property
    def headers(self) -> str:
        """The header that names it."""
        return f"00-{self.trace_id}-{self.span_id}-01"


@attrs.define
class Collector:
    """The requests that came. `status`: the status of each answer. `status`: what it answers."""

    url: str = ""
    status: int = 200
    spans: list[Span] = attrs.field(factory=list)
    headers: list[Any] = attrs.field(factory=list)
    refused: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """Settings of a process that exports all spans here, at once."""
        return {
            "RT_TRACES": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.url,
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_TRACES_SAMPLER": "parentbased_always_on",
        }

    def named(self, name: str, trace_id: str = "") -> list[Span]:
        """Return the spans of a name, and of a trace if one is given."""
        return [
            one for one in tuple(self.spans) if one.name == name and trace_id in ("", one.trace_id)
        ]

    def wait_for(self, name: str, trace_id: str = "", count: int = 1) -> list[Span]:
        """Return the spans of a name once there are this many; the first first."""
        wait_until(lambda: len(self.named(name, trace_id)) >= count, what=f"{count} x {name}")
        return self.named(name, trace_id)

    def take(self, body: bytes) -> None:
        """Read a request."""
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _attributes(group.resource.attributes)
            for scope in group.scope_spans:
                self.spans += [_span(one, resource) for one in scope.spans]


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector until the block ends."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces" and collector.status == 200:
                collector.headers.append(self.headers)
                collector.take(body)
            else:
                collector.refused += 1
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _span(one: Any, resource: dict[str, Any]) -> Span:
    return Span(
        name=one.name,
        kind=WireSpan.SpanKind.Name(one.kind).removeprefix("SPAN_KIND_"),
        trace_id=one.trace_id.hex(),
        span_id=one.span_id.hex(),
        parent_id=one.parent_span_id.hex(),
        attributes=_attributes(one.attributes),
        resource=resource,
        links=[link.span_id.hex() for link in one.links],
        has_failed=one.status.code == ERROR,
        status_message=one.status.message,
        is_sampled=bool(one.flags & 1),
    )


def _attributes(given: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in given}
