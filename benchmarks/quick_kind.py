"""The kind of the benchmark of traces: a task that does nothing."""

import attrs

from tornado_rt.work import Kind, Run


@attrs.frozen
class Nothing:
    """No parameters."""


quick = Kind("bench.quick", Nothing)


@quick.handler
async def run_quick(_: Nothing, __: Run) -> None:
    """Do nothing."""
