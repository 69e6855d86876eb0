"""Kinds for the tests of why. A gate is a file: while it is there, a task runs."""

import asyncio
from pathlib import Path

import attrs

from tests.waiting import until
from tornado_rt.work import Kind, Retry, Run, Step, TaskError

# Longer than any test.
SECONDS = 600.0


@attrs.frozen
class Gate:
    """The path of a file."""

    gate: str = ""


@attrs.frozen
class Nothing:
    """No parameters."""


gated = Kind("why.gated", Gate, steps=[Step("wait", 1), Step("rest", 1)], max_attempts=2)
other = Kind("why.other", Gate)
rated = Kind("why.rated", Nothing, rate="1/h")
fails = Kind("why.fails", Nothing, max_attempts=3, backoff=(600, 600))
breaks = Kind("why.breaks", Nothing, max_attempts=1)
again = Kind("why.again", Nothing, max_attempts=1)
refuses = Kind("why.refuses", Nothing)
slow = Kind("why.slow", Nothing, timeout=0.2, max_attempts=1)
asks = Kind("why.asks", Nothing)
quick = Kind("why.quick", Nothing)


@gated.handler
async def run_gated(params: Gate, run: Run) -> None:
    """Wait until the gate is gone."""
    async with run.step("wait"):
        await pass_gate(params)


@other.handler
async def run_other(params: Gate, _: Run) -> None:
    """Do the same without steps."""
    await pass_gate(params)


async def pass_gate(params: Gate) -> None:
    """Wait until the gate is gone."""
    await until(lambda: not Path(params.gate).is_file(), SECONDS)


@rated.handler
async def run_rated(_: Nothing, __: Run) -> None:
    """Do nothing."""


@fails.handler
async def run_fails(_: Nothing, __: Run) -> None:
    """Fail, and be tried again much later."""
    raise ValueError("the film has no end")


@breaks.handler
async def run_breaks(_: Nothing, __: Run) -> None:
    """Fail for good."""
    raise ValueError("the film has no end")


@again.handler
async def run_again(_: Nothing, __: Run) -> None:
    """Ask for another attempt, which there is not."""
    raise Retry("the disk is full")


@refuses.handler
async def run_refuses(_: Nothing, __: Run) -> None:
    """Say that it cannot be done."""
    raise TaskError("there is no such film")


@slow.handler
async def run_slow(_: Nothing, __: Run) -> None:
    """Take longer than it may."""
    await asyncio.sleep(SECONDS)


@asks.handler
async def run_asks(_: Nothing, run: Run) -> None:
    """Ask the user."""
    await run.ask("cut", "Which cut?", {"long": "Long", "short": "Short"}, timeout=SECONDS)


@quick.handler
async def run_quick(_: Nothing, __: Run) -> None:
    """Do nothing."""
