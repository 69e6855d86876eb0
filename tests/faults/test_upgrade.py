"""The version before is stopped, and this one started in its place on the same stores."""

import asyncio
import itertools
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.queue import QueueService
from tests.conftest import ROOT
from tests.faults.conftest import Play
from tests.faults.crowd import Crowd
from tests.faults.fleet import Fleet
from tests.faults.system import FAILED, Server, System, Worker, open_client
from tests.fixtures.make import COMMITS, checked_out
from tests.waiting import until

BEFORE = COMMITS["symbols"]
BATCH = ["0.05", "0.10", "0.05"]
# Documented: an answer, a refusal for now.
EXPECTED = {200, 201, 202, 429, 503}


@pytest.fixture(scope="module")
def before() -> Iterator[Path]:
    """The folder of the version before."""
    with checked_out(BEFORE) as tree:
        yield tree


@pytest.fixture(scope="module")
def system(runner: asyncio.Runner, before: Path, js_package: Path) -> Iterator[System]:
    """Two servers and a worker of the version before."""
    system = System(servers=0, workers=0)
    fleet = Fleet(system, js_package)
    runner.run(system.__aenter__())
    runner.run(fleet.__aenter__())
    for _ in range(2):
        system.add_server(before).start()
    system.add_worker(before)
    system.is_current = False
    runner.run(_ready(system))
    yield system
    runner.run(fleet.__aexit__())
    complaints = system.complaints()
    runner.run(system.__aexit__())
    assert not complaints, "\n".join(complaints)


async def _ready(system: System) -> None:
    await asyncio.gather(*(server.ready() for server in system.servers))


def test_upgrade_loses_nothing(play: Play, before: Path) -> None:
    """Waiting, running and owed tasks: none is missed, doubled or lost. There is no way back."""

    async def scenario(system: System, rng: random.Random) -> None:
        async with Crowd(system, rng, users=4) as crowd:
            crowd.flow()
            batches = [await _submit_batch(crowd)]
            await until(lambda: crowd.news_to_all(0), what="there is something for everybody")
            for _ in range(20):
                await crowd.submit(rng.uniform(0.1, 0.5))
            await crowd.pause()
            await _replace(system)
            crowd.flow()
            batches.append(await _submit_batch(crowd))
            await crowd.submit()
            await crowd.settle()
            await crowd.stored_once()
            for user, batch_id in batches:
                await until(
                    lambda at=(user, batch_id): _has_ended(crowd, *at), 20, "the batch ends"
                )
        # Status 0 was a connection that was refused while nobody listened.
        assert set(system.statuses) <= EXPECTED, system.statuses
        async with open_client(system.redis_server.url) as redis:
            assert await QueueService(redis).check_invariants() == []
        await _is_refused(system, before)

    play(scenario)


async def _replace(system: System) -> None:
    """Stop all of the version before, then start all of this one."""
    children: list[Server | Worker] = [*system.workers, *system.servers]
    for child in children:
        assert await child.stop() == 0
    for child in children:
        child.tree = ROOT
        child.start()
    await _ready(system)
    system.is_current = True
    for child in children:
        assert Path(f"/proc/{child.pid}/cwd").resolve() == ROOT


async def _is_refused(system: System, before: Path) -> None:
    """Raise AssertionError unless the version before says that it cannot read the data any more."""
    old = system.add_server(before)
    old.start()
    assert await old.ended() == FAILED
    assert "reads versions 1 to 3" in old.log.read_text()
    system.servers.remove(old)


_numbers = itertools.count()


async def _submit_batch(crowd: Crowd) -> tuple[str, str]:
    """Submit a batch until it is acknowledged; return its user and id."""
    user, key = crowd.users[0], {"Idempotency-Key": f"batch-{next(_numbers)}"}
    while True:
        answer = await crowd.system.ask(
            crowd.server(), "POST", "/api/batches", user, {"symbols": BATCH}, headers=key
        )
        if answer.status == 202:
            return user, str(answer.body["batch_id"])
        await asyncio.sleep(0.05)


async def _has_ended(crowd: Crowd, user: str, batch_id: str) -> bool:
    answer = await crowd.system.ask(crowd.server(), "GET", f"/api/batches/{batch_id}", user)
    return answer.status == 200 and answer.body["completed"] == len(BATCH)
