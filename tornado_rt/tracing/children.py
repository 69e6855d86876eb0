"""The trace of a task whose handler runs in a process of its own.

The spans that the handler makes there are exported there, before the process says how it ended. A
handler that makes none costs no export.
"""

import attrs
from opentelemetry import trace

from tornado_rt.tracing.export import Exports
from tornado_rt.work.attempts.spans import CarriedTrace, headers_of

# An export that was refused would be repeated after 0.8 s or more: the end of a task does not wait
# for a collector that is away.
MOST_SECONDS = 0.75


@attrs.frozen
class ContextCarrier:
    """Carries the trace of a moment; its process exports for `flush_seconds` at most."""

    flush_seconds: float

    def __call__(self) -> "ChildTrace | None":
        """Return what enters the trace there; None outside of any."""
        headers = headers_of(trace.get_current_span().get_span_context())
        return ChildTrace(headers, self.flush_seconds) if headers else None


@attrs.define(eq=False)
class ChildTrace(CarriedTrace):
    """Enters a trace, and exports what the handler records."""

    flush_seconds: float
    _exports: Exports | None = attrs.field(default=None, init=False)

    def __enter__(self) -> None:
        CarriedTrace.__enter__(self)
        # The worker tells it for all of its tasks.
        self._exports = Exports(min(self.flush_seconds, MOST_SECONDS), tells=False)

    def __exit__(self, *_: object) -> None:
        CarriedTrace.__exit__(self)
        if self._exports is not None:
            self._exports.close(self.flush_seconds)
