"""Records the spans of requests, messages and calls, by OpenTelemetry's semantic conventions.

HTTP: https://opentelemetry.io/docs/specs/semconv/http/http-spans/ (stable). Messages: see
`tornado_rt.work.attempts.spans`. A span has no parameter, query, header, or message of an error;
the user's id and the client's address are in it only with `names_users`.
"""

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Tracer
from tornado.httputil import HTTPServerRequest

from tornado_rt.metrics import METHODS
from tornado_rt.work.attempts.spans import (
    ProcessSpans,
    headers_of,
    is_left_out,
    mark_failed,
    messaging,
    remote_context,
)

# The most characters of a path and of a host that are kept.
PATH_LENGTH = 200
HOST_LENGTH = 255
OTHER = "_OTHER"
# In place of the path of an address of others, which may be a secret by itself.
REDACTED = "REDACTED"


class SpanRecorder:
    """Records with a tracer, whose sampler records no child of what it has left out.

    That is with `follows_parents`; without it the sampler is asked for each span.
    """

    def __init__(self, tracer: Tracer, *, names_users: bool, follows_parents: bool) -> None:
        self._tracer = tracer
        self._names_users = names_users
        self._follows_parents = follows_parents

    def serving(self, request: HTTPServerRequest, route: str, request_id: str) -> "ServedSpan":
        """Begin the span of a request for the rest of this task."""
        asked = request.method or ""
        method = asked if asked in METHODS else OTHER
        attributes: dict[str, Any] = {
            "http.request.method": method,
            "url.path": request.path[:PATH_LENGTH],
            "url.scheme": request.protocol,
            "server.address": request.host_name[:HOST_LENGTH],
            "network.protocol.version": request.version.removeprefix("HTTP/"),
            "tornado_rt.request_id": request_id,
        }
        if route:
            attributes["http.route"] = route
        if self._names_users and request.remote_ip:
            attributes["client.address"] = request.remote_ip
        named = "HTTP" if method == OTHER else method
        span = self._tracer.start_span(
            f"{named} {route}" if route else named,
            remote_context(request.headers),
            SpanKind.SERVER,
            attributes,
        )
        # Each request has a task of its own, and with it a context.
        context.attach(trace.set_span_in_context(span, Context()))
        return ServedSpan(span, names_user=self._names_users)

    def sending(
        self, destination: str, message_id: str, batch_id: str, count: int
    ) -> AbstractContextManager[Mapping[str, str]]:
        """Record that the block sends a message, or `count` of a batch."""
        parent = trace.get_current_span()
        if self._follows_parents and is_left_out(parent):
            return contextlib.nullcontext(headers_of(parent.get_span_context()))
        attributes = messaging("send", destination)
        if message_id:
            attributes["messaging.message.id"] = message_id
        if batch_id:
            attributes["messaging.message.conversation_id"] = batch_id
        if count:
            attributes["messaging.batch.message_count"] = count
        return SendSpan(
            self._tracer.start_span(f"send {destination}", None, SpanKind.PRODUCER, attributes)
        )

    def calling(self, method: str, url: str) -> AbstractContextManager["CallSpan"]:
        """Record that the block asks another server."""
        parts = urlsplit(url)
        host = (parts.hostname or "")[:HOST_LENGTH]
        port = parts.port or (443 if parts.scheme == "https" else 80)
        attributes: dict[str, Any] = {
            "http.request.method": method,
            "url.full": f"{parts.scheme}://{host}:{port}/{REDACTED}",
            "server.address": host,
            "server.port": port,
        }
        return CallSpan(self._tracer.start_span(method, None, SpanKind.CLIENT, attributes))

    def within(self, headers: Mapping[str, str]) -> AbstractContextManager[None]:
        """Let what the block records belong to the trace that these headers name."""
        return _Within(remote_context(headers))

    def attempt_spans(self, worker_id: str) -> ProcessSpans:
        """Return what records the attempts of a worker."""
        return ProcessSpans(
            self._tracer,
            worker_id,
            names_users=self._names_users,
            follows_parents=self._follows_parents,
        )

    def ids(self) -> dict[str, str]:
        """Return the ids of the trace and the span of this moment."""
        span = trace.get_current_span().get_span_context()
        if not span.is_valid:
            return {}
        return {"trace_id": f"{span.trace_id:032x}", "span_id": f"{span.span_id:016x}"}


class ServedSpan:
    """The span of a request."""

    __slots__ = ("_names_user", "_span")

    def __init__(self, span: Span, *, names_user: bool) -> None:
        self._span: Span | None = span
        self._names_user = names_user

    def name_user(self, user_id: str) -> None:
        """Keep whose request it is, if that is wanted."""
        if self._names_user and self._span is not None:
            self._span.set_attribute("user.id", user_id)

    def end(self, status: int) -> None:
        """End it with the status of the answer; only the first time counts."""
        span, self._span = self._span, None
        if span is None:
            return
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            mark_failed(span, str(status))
        span.end()


class _Within:
    __slots__ = ("_context", "_token")

    def __init__(self, entered: Context) -> None:
        self._context = entered
        self._token: Any = None

    def __enter__(self) -> None:
        self._token = context.attach(self._context)

    def __exit__(self, *_: object) -> None:
        context.detach(self._token)


class _Block:
    """The span of a block; what the block records are its children."""

    __slots__ = ("_span", "_token")

    def __init__(self, span: Span) -> None:
        self._span = span
        self._token: Any = None

    def _begin(self) -> dict[str, str]:
        """Begin the block; return the headers that name the span."""
        self._token = context.attach(trace.set_span_in_context(self._span))
        return headers_of(self._span.get_span_context())

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        context.detach(self._token)
        if kind is not None:
            mark_failed(self._span, kind.__name__)
        self._span.end()


class SendSpan(_Block):
    """The span of messages that are sent; its value is what they carry."""

    __slots__ = ()

    def __enter__(self) -> Mapping[str, str]:
        return self._begin()


class CallSpan(_Block):
    """The span of a request of ours to another server, which must be sent with its `headers`."""

    __slots__ = ("headers",)

    def __enter__(self) -> "CallSpan":
        self.headers: Mapping[str, str] = self._begin()
        return self

    def answered(self, status: int, error: str) -> None:
        """Keep the status of the answer, 0: none, and the type of the error, "": none."""
        if status:
            self._span.set_attribute("http.response.status_code", status)
        if error:
            mark_failed(self._span, error)
