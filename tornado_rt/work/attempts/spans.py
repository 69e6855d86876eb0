"""Spans of attempts, by OpenTelemetry's conventions for messaging. This imports its API.

An attempt is a `process` span of kind CONSUMER. It is a child of the span that has sent the task,
and linked to it; one of a batch, which a single span has sent, begins a trace and is linked. See
https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/.
"""

import contextlib
import functools
import os
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tornado_rt.work.attempts.models import Claim
from tornado_rt.work.attempts.tracing import HEADER_LENGTH, NO_FAULTS

SYSTEM = "tornado_rt"
# The contexts of this many headers are kept: a process needs that of a task for its attempt, and
# again for the notification of its end.
KEPT_CONTEXTS = 256
# A span that was begun elsewhere, by the headers that name it.
_propagator = TraceContextTextMapPropagator()


class ProcessSpans:
    """Records a span of each attempt of a worker; the user's id is in it with `names_users`.

    `follows_parents`: see `is_left_out`.
    """

    def __init__(
        self,
        tracer: Tracer,
        worker_id: str,
        *,
        names_users: bool = False,
        follows_parents: bool = False,
    ) -> None:
        self._tracer = tracer
        self._worker_id = worker_id
        self._names_users = names_users
        self._follows_parents = follows_parents
        # By the tasks and the tokens of the attempts.
        self._open: dict[tuple[str, str], Span] = {}

    @contextlib.contextmanager
    def begun(self, claim: Claim) -> Iterator[None]:
        """Begin the span of an attempt; tasks and threads that the block starts belong to it."""
        token = context.attach(self._begin(claim))
        try:
            yield
        finally:
            context.detach(token)

    def _begin(self, claim: Claim) -> Context:
        """Begin the span, if one is recorded; return the context of the attempt."""
        sent = remote_context(claim.task.job.trace)
        sender = trace.get_current_span(sent)
        parent = Context() if claim.task.batch_id else sent
        if parent and self._follows_parents and is_left_out(sender):
            return parent
        creation = sender.get_span_context()
        span = self._tracer.start_span(
            f"process {claim.task.kind}",
            parent,
            SpanKind.CONSUMER,
            self._attributes(claim),
            [Link(creation)] if creation.is_valid else None,
        )
        self._open[claim.task.task_id, claim.token] = span
        return trace.set_span_in_context(span, Context())

    def ended(self, claim: Claim, outcome: str) -> None:
        """End it; nothing for one that was not begun."""
        span = self._open.pop((claim.task.task_id, claim.token), None)
        if span is None:
            return
        span.set_attribute("tornado_rt.outcome", outcome)
        if outcome not in NO_FAULTS:
            mark_failed(span, outcome)
        span.end()

    def _attributes(self, claim: Claim) -> dict[str, Any]:
        task = claim.task
        attributes: dict[str, Any] = {
            **messaging("process", task.kind),
            "messaging.message.id": task.task_id,
            "messaging.client.id": self._worker_id,
            "tornado_rt.attempt": task.attempt,
        }
        if task.batch_id:
            attributes["messaging.message.conversation_id"] = task.batch_id
        if self._names_users:
            attributes["user.id"] = task.user_id
        return attributes


def messaging(operation: str, destination: str) -> dict[str, Any]:
    """Return the attributes of an operation whose name is that of its type."""
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": destination,
    }


def mark_failed(span: Span, error_type: str) -> None:
    """Say that what a span is of has failed. No message is kept: it may name persons."""
    span.set_attribute("error.type", error_type)
    span.set_status(Status(StatusCode.ERROR))


def is_left_out(span: Span) -> bool:
    """Say whether a span is of a trace that is not recorded.

    A sampler that follows its parents would leave out each child of it too, and to ask it for each
    costs more than all else. So these children are not begun: the span stands for them.
    """
    named = span.get_span_context()
    return named.is_valid and not named.trace_flags.sampled and not span.is_recording()


def remote_context(headers: Mapping[str, str]) -> Context:
    """Return the context that headers name; an empty one where they name none."""
    parent = headers.get("traceparent", "")
    if not 0 < len(parent) <= HEADER_LENGTH:
        # A longer one would be logged each time.
        return Context()
    state = headers.get("tracestate", "")
    return _context_of(parent, state if len(state) <= HEADER_LENGTH else "")


@functools.lru_cache(KEPT_CONTEXTS)
def _context_of(parent: str, state: str) -> Context:
    """Return the context of headers that are not too long. It cannot be changed, nor its span."""
    told = {"traceparent": parent} | ({"tracestate": state} if state else {})
    return _propagator.extract(told, Context())


def headers_of(span: SpanContext) -> dict[str, str]:
    """Return the headers that name a span; {} for none."""
    if not span.is_valid:
        return {}
    headers = {"traceparent": f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"}
    if span.trace_state and len(state := span.trace_state.to_header()) <= HEADER_LENGTH:
        headers["tracestate"] = state
    return headers


def carry() -> "CarriedTrace | None":
    """Return what makes the trace of this moment that of another process; None outside of any."""
    headers = headers_of(trace.get_current_span().get_span_context())
    return CarriedTrace(headers) if headers else None


@attrs.define(eq=False)
class CarriedTrace:
    """Enters a trace in a process of a task. Programs that it starts find it in the environment.

    TRACEPARENT and TRACESTATE are the names of OpenTelemetry's conventions for the environment.
    """

    headers: Mapping[str, str]
    _token: Any = attrs.field(default=None, init=False, kw_only=True)

    def __enter__(self) -> None:
        os.environ.update({name.upper(): value for name, value in self.headers.items()})
        self._token = context.attach(remote_context(self.headers))

    def __exit__(self, *_: object) -> None:
        context.detach(self._token)
