"""Background jobs that die, and that are run again."""

import asyncio

import pytest

from tests.waiting import until
from tornado_rt.jobs import Jobs


@pytest.mark.gen_test
async def test_job_that_dies_is_noted() -> None:
    async def die() -> None:
        raise KeyError("x")

    owner = Jobs()
    await owner.start(die(), "a job")
    assert owner.died == {"a job"}
    await owner.close()


@pytest.mark.gen_test
async def test_kept_job_is_run_again_until_it_returns() -> None:
    """It is among the dead while it waits, and no longer when it runs."""
    owner = Jobs(again_seconds=0.01)
    seen: list[set[str]] = []

    async def die_twice() -> None:
        seen.append(set(owner.died))
        if len(seen) < 3:
            raise KeyError("x")

    running = owner.keep(die_twice, "a job")
    await until(lambda: owner.died, pause=0)
    await running
    assert seen == [set(), set(), set()]
    assert owner.died == set()


@pytest.mark.gen_test
async def test_kept_job_ends_with_its_owner() -> None:
    """Running, or waiting to be run again."""

    async def wait() -> None:
        await asyncio.Event().wait()

    async def die() -> None:
        raise KeyError("x")

    owner = Jobs()
    running, waiting = owner.keep(wait, "one"), owner.keep(die, "another")
    await until(lambda: owner.died, pause=0)
    await owner.close()
    assert running.cancelled()
    assert waiting.cancelled()
