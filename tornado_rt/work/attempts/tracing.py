"""The traces of attempts. OpenTelemetry is imported only on demand.

A task carries the trace that it was submitted in: the headers `traceparent` and `tracestate` of W3C
Trace Context, as `Job.trace`.
"""

import contextlib
import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from tornado_rt.work.attempts.endings import Ending
from tornado_rt.work.attempts.models import Claim, Outcome

HEADERS = ("traceparent", "tracestate")
# The most characters of each that are taken over (W3C Trace Context section 3.3.1.5).
HEADER_LENGTH = 512
# Outcomes of an attempt that is none of the handler's faults.
NO_FAULTS = {Outcome.COMPLETED.value, "cancelled", "released", "lost"}

# Enters the trace of a caller in another process; it can be pickled.
Carried = AbstractContextManager[None]
# Makes one of the trace of this moment; None outside of any.
Carry = Callable[[], Carried | None]


class AttemptSpans(Protocol):
    """Records a span of each attempt."""

    def begun(self, claim: Claim) -> AbstractContextManager[None]:
        """Begin the span of an attempt; tasks and threads that the block starts belong to it."""
        ...

    def ended(self, claim: Claim, outcome: str) -> None:
        """End it; nothing for one that was not begun."""
        ...


class NoSpans:
    """Records nothing."""

    def __init__(self) -> None:
        self._block = contextlib.nullcontext()

    def begun(self, _: Claim) -> AbstractContextManager[None]:
        """Do nothing."""
        return self._block

    def ended(self, _: Claim, __: str) -> None:
        """Do nothing."""


def attempt_spans(worker_id: str) -> AttemptSpans:
    """Return what records spans with the provider that this process has set.

    Raise ModuleNotFoundError where OpenTelemetry's API is not installed.
    """
    trace: Any = importlib.import_module("opentelemetry.trace")
    spans: Any = importlib.import_module(f"{__package__}.spans")
    made: AttemptSpans = spans.ProcessSpans(trace.get_tracer(spans.SYSTEM), worker_id)
    return made


def carry() -> Carried | None:
    """Return what makes the trace of this moment that of a process; None outside of any.

    Raise ModuleNotFoundError where OpenTelemetry's API is not installed.
    """
    spans: Any = importlib.import_module(f"{__package__}.spans")
    carried: Carried | None = spans.carry()
    return carried


def carry_nothing() -> None:
    """Return that a process has no trace."""


def outcome_name(ending: Ending, was_cancelled: bool, *, handed_back: bool) -> str:
    """Return how an attempt ended, in a word: of `Outcome`, released, cancelled, or lost."""
    if handed_back:
        return "released"
    if was_cancelled:
        return "cancelled"
    return "lost" if ending.outcome is None else ending.outcome.value


def trace_of(carried: Any) -> dict[str, str]:
    """Return the headers of a trace that came from elsewhere; {} for what are none."""
    if not isinstance(carried, Mapping):
        return {}
    found = {name: carried.get(name) for name in HEADERS}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, str) and 0 < len(value) <= HEADER_LENGTH
    }
