"""One system for all scenarios, repaired between them; one loop, since clients outlive a test."""

import asyncio
import os
import random
import secrets
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.fleet import Fleet
from tests.faults.system import System
from tests.waiting import until

SEED = os.environ.get("RT_FAULT_SEED") or secrets.token_hex(4)
SCENARIO_SECONDS = float(os.environ.get("RT_FAULT_SECONDS", "240"))
QUIET_SECONDS = 60.0
MOST_SHOWN = 10

Scenario = Callable[[System, random.Random], Awaitable[None]]
Play = Callable[[Scenario], None]


@pytest.fixture(scope="package")
def runner() -> Iterator[asyncio.Runner]:
    """The loop of all scenarios."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="package")
def system(runner: asyncio.Runner, js_package: Path) -> Iterator[System]:
    """Two servers and a worker on two stores, and clients of theirs."""
    system = System()
    fleet = Fleet(system, js_package)
    runner.run(system.__aenter__())
    runner.run(fleet.__aenter__())
    yield system
    runner.run(fleet.__aexit__())
    complaints = system.complaints()
    runner.run(system.__aexit__())
    assert not complaints, "\n".join(complaints[:MOST_SHOWN])


@pytest.fixture
def play(runner: asyncio.Runner, system: System, request: pytest.FixtureRequest) -> Iterator[Play]:
    """Run a scenario with choices that RT_FAULT_SEED repeats."""

    def play(scenario: Scenario) -> None:
        try:
            runner.run(_play(scenario, system, random.Random(f"{SEED}:{request.node.name}")))
        except BaseException as error:
            error.add_note(f"repeat it with RT_FAULT_SEED={SEED}")
            raise

    yield play
    runner.run(system.repair())


async def _play(scenario: Scenario, system: System, rng: random.Random) -> None:
    async with asyncio.timeout(SCENARIO_SECONDS):
        await scenario(system, rng)
        await until(lambda: _is_quiet(system), QUIET_SECONDS, "nobody is connected")


async def _is_quiet(system: System) -> bool:
    return not await system.connections()
