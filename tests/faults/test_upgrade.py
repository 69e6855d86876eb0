"""The version before and this one, side by side on the same stores, replaced one by one."""

import asyncio
import itertools
import random
import subprocess
import sys
from pathlib import Path

from services.queue import QueueService
from tests.conftest import ROOT
from tests.faults.conftest import Play
from tests.faults.crowd import Crowd
from tests.faults.system import Server, System, Worker, open_client
from tests.faults.test_processes import _codes
from tests.fixtures.make import COMMITS, checked_out
from tests.waiting import until

BEFORE = COMMITS["made"]
BATCH = ["0.05", "0.10", "0.05"]
# Documented: an answer, a refusal for now, a connection that was refused.
EXPECTED = {200, 201, 202, 429, 503}


def test_rolling_upgrade_and_back_loses_nothing(play: Play) -> None:
    """Back to the version before and forward again, under load: nothing missed, doubled or lost."""

    async def scenario(system: System, rng: random.Random) -> None:
        system.statuses.clear()
        with checked_out(BEFORE) as before:
            async with Crowd(system, rng, users=4) as crowd:
                crowd.flow()
                batches = [await _submit_batch(crowd)]
                try:
                    for tree in (before, ROOT):
                        for child in (*system.servers, *system.workers):
                            await _move(system, child, tree)
                            batches.append(await _submit_batch(crowd))
                finally:
                    await _leave_no_other(system)
                await crowd.settle()
                await crowd.stored_once()
                assert _codes(crowd.clients) <= {1001}
                for user, batch_id in batches:
                    await until(
                        lambda at=(user, batch_id): _has_ended(crowd, *at), 10, "the batch ends"
                    )
            assert set(system.statuses) <= EXPECTED, system.statuses
            await _agrees(system, before)

    async def mixed(system: System, rng: random.Random) -> None:
        system.mixed = True
        try:
            await scenario(system, rng)
        finally:
            system.mixed = False

    play(mixed)


async def _move(system: System, child: Server | Worker, tree: Path) -> None:
    """Stop a process and start it from another folder."""
    assert await child.stop() == 0
    child.tree = tree
    child.start()
    await asyncio.gather(*(server.ready() for server in system.servers))
    assert Path(f"/proc/{child.pid}/cwd").resolve() == tree.resolve()


async def _leave_no_other(system: System) -> None:
    for child in (*system.servers, *system.workers):
        if child.tree != ROOT:
            await child.kill()
            child.tree = ROOT


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


async def _agrees(system: System, before: Path) -> None:
    """Raise AssertionError unless both versions find every task in its place."""
    async with open_client(system.redis_server.url) as redis:

        async def all_are_listed() -> bool:
            listed = int(await redis.get("{rtq}:listed") or 0)
            return listed == await redis.zcard("{rtq}:ended")

        # The upkeep of this version's worker lists what the other one ended.
        await until(all_are_listed, 15, "every ended task is listed")
        assert await QueueService(redis).check_invariants() == []
    checked = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "run.py", "queue", "check", "--redis-url", system.redis_server.url],
        cwd=before,
        capture_output=True,
        text=True,
    )
    assert (checked.returncode, checked.stdout) == (0, "every task is in its place\n"), checked
