"""Kinds for the tests of traces."""

import os
import sys

import attrs

from tornado_rt.work import Kind, Retry, Run


@attrs.frozen
class Nothing:
    """No parameters."""


@attrs.frozen
class Secret:
    """A parameter that no span may have."""

    secret: str = "sesame"


flaky = Kind("traced.flaky", Secret, backoff=(0.01, 0.01))
modules = Kind("traced.modules", Nothing)
inside = Kind("traced.inside", Nothing)
quick = Kind("traced.quick", Nothing)
fired = Kind("traced.fired", Nothing)


@flaky.handler
async def run_flaky(params: Secret, run: Run) -> None:
    """Fail the first time, for a reason that holds the parameter."""
    if run.attempt == 1:
        raise Retry(f"not yet: {params.secret}", 0.01)


@modules.handler
async def run_modules(_: Nothing, __: Run) -> list[str]:
    """Return what of OpenTelemetry this process has imported."""
    return sorted(name for name in sys.modules if name.split(".")[0] == "opentelemetry")


@inside.handler
def run_inside(_: Nothing, run: Run) -> dict[str, str]:
    """Make a span of its own, and return what the process knows of its trace."""
    from opentelemetry import trace

    with trace.get_tracer("kinds of tests").start_as_current_span("own work"):
        return {"environment": os.environ.get("TRACEPARENT", ""), **run.trace}


@quick.handler
@fired.handler
async def run_quick(_: Nothing, __: Run) -> None:
    """Do nothing."""
