"""Kinds for the tests of the Python client. A gate is a file: while it is there, a task waits."""

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Any

import attrs

from tests.waiting import until
from tornado_rt.work import Kind, Run, Step, TaskError

POLL_SECONDS = 0.02
MOST_SECONDS = 300.0


@attrs.frozen
class Echo:
    """The value to return, and how many steps to show first."""

    value: Any = None
    steps: int = 3


@attrs.frozen
class Gated:
    """The number of counts, and the file that holds the last one back."""

    gate: str
    counts: int = 5


@attrs.frozen
class Timed:
    """The files `GATE.N` that hold back step N."""

    gate: str


@attrs.frozen
class Nothing:
    """No parameters."""


echo = Kind("client.echo", Echo)
gated = Kind("client.gated", Gated)
fails = Kind("client.fails", Nothing)
STEPS = [Step("Decode", 2), Step("Encode", 6), Step("Upload", 2)]
# From tasks that end well the next ones learn; of these two kinds none does.
stepped = Kind("client.stepped", Timed, steps=STEPS)
timed = Kind("client.timed", Timed, steps=STEPS, expected_seconds=600.0, user_limit=1)
brief = Kind("client.brief", Timed, steps=STEPS, expected_seconds=1.0)


@echo.handler
async def run_echo(params: Echo, run: Run) -> Any:
    """Show some steps and return the value."""
    for number in range(params.steps):
        run.update((number + 1) / params.steps, f"step {number}")
    return params.value


@gated.handler
async def run_gated(params: Gated, run: Run) -> int:
    """Count one for each `COUNT.N` that appears beside the gate, and end with the gate."""
    told = 0
    gate = Path(params.gate)
    while gate.exists():
        wanted = len(list(gate.parent.glob(f"{gate.name}.*")))
        if wanted > told:
            told = wanted
            run.update(min(0.9, told / params.counts), f"count {told}")
        await asyncio.sleep(POLL_SECONDS)
    return told


@fails.handler
async def run_fails(_: Nothing, __: Run) -> None:
    """Fail for good."""
    raise TaskError("it was not meant to be")


@stepped.handler
@timed.handler
@brief.handler
async def run_timed(params: Timed, run: Run) -> None:
    """Go through the steps, as the gates let it."""
    for number, step in enumerate(STEPS):
        async with run.step(step.name):
            gate = Path(f"{params.gate}.{number}")
            await until(gate.exists, MOST_SECONDS, f"{gate} is gone", equal=False)


class Colour(StrEnum):
    """A colour of a form."""

    RED = "red"
    BLUE = "blue"


@attrs.frozen
class Size:
    """The size."""

    width: int = 3
    tall: bool = False


@attrs.frozen
class Order:
    """One of each sort of field."""

    name: str
    colour: Colour = attrs.field(metadata={"titles": {Colour.BLUE: "Sky blue"}})
    size: Size = attrs.Factory(Size)
    share: float = 0.5
    again: bool = True
    colours: list[Colour] = attrs.field(
        factory=list, metadata={"titles": {Colour.RED: "Fiery red"}}
    )
    words: list[str] = attrs.Factory(list)
    limits: list[int] = attrs.Factory(list)
    more: dict[str, Any] = attrs.Factory(dict)
    note: str | None = None


order = Kind("client.order", Order, title="Order")
asks = Kind("client.asks", Nothing)


@order.handler
async def run_order(params: Order, _: Run) -> Any:
    """Return the parameters."""
    return attrs.asdict(params)


@asks.handler
async def run_asks(_: Nothing, run: Run) -> str:
    """Ask, and return the answer."""
    return str(await run.ask("go", "Go on?", {"yes": "Yes, go on", "no": "No"}, timeout=600))
