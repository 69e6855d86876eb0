"""A worker's upkeep by itself, over the real queue: each thing when it is due."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis

from services.queue import Claim, KindEntry, QueueService, TaskState
from services.worker import Roster
from services.worker.upkeep import WorkerUpkeep
from tests.waiting import until
from tests.working import ANALYSIS, analysis, enqueue
from tornado_rt.redis import is_outage
from tornado_rt.work.attempts.outages import Outages


@pytest.fixture
def queue(redis: Redis) -> QueueService:
    return QueueService(redis, user_limit=0, global_limit=0, visibility_seconds=2.0)


@attrs.define(eq=False)
class Held:
    """A claim that is held until its lease is lost."""

    claim: Claim
    dropped: bool = False

    def drop(self) -> None:
        self.dropped = True


@contextlib.asynccontextmanager
async def kept_up(
    queue: QueueService, kinds: Sequence[str] = (ANALYSIS,), roster: Roster | None = None
) -> AsyncIterator[WorkerUpkeep]:
    """Let the upkeep run until the block ends."""
    announce = partial(queue.announce_worker, "w", list(kinds))
    upkeep = WorkerUpkeep(queue, announce, roster=roster, outages=Outages(is_outage))
    running = asyncio.create_task(upkeep.run())
    try:
        yield upkeep
    finally:
        upkeep.finish()
        await running


async def claim(queue: QueueService, worker_id: str = "w") -> Held:
    task_id = await enqueue(queue)
    claimed = await queue.claim(worker_id, 1, kinds=[ANALYSIS])
    assert claimed.claims[0].task.task_id == task_id
    return Held(claimed.claims[0])


async def lease_end(redis: Redis, held: Held) -> float:
    return await redis.zscore("{rtq}:processing", held.claim.task.task_id) or 0.0


@pytest.mark.gen_test
async def test_lease_is_extended_until_it_is_let_go(redis: Redis, queue: QueueService) -> None:
    held = await claim(queue)
    begin = await lease_end(redis, held)
    async with kept_up(queue) as upkeep:
        upkeep.hold(held)

        async def is_extended() -> bool:
            return await lease_end(redis, held) > begin + 1800

        await until(is_extended)
        upkeep.let_go(held)
        await until(lambda: is_queued(queue, held))
    assert not held.dropped


async def is_queued(queue: QueueService, held: Held) -> bool:
    task = await queue.get_task(held.claim.task.task_id)
    return task is not None and task.status == TaskState.QUEUED


@pytest.mark.gen_test
async def test_what_is_held_is_dropped_when_its_lease_is_lost(
    redis: Redis, queue: QueueService
) -> None:
    held = await claim(queue)
    async with kept_up(queue) as upkeep:
        await queue.cancel_task(held.claim.task.task_id)
        upkeep.hold(held)
        await until(lambda: held.dropped)


class AwayQueue(QueueService):
    """Is away when a lease must be extended for the first time."""

    away = True
    extended = 0

    async def extend_task(self, task_id: str, token: str) -> bool:
        if self.away:
            self.away = False
            raise ConnectionError("away")
        self.extended += 1
        return await super().extend_task(task_id, token)


@pytest.mark.gen_test
async def test_lease_that_could_not_be_extended_is_extended_as_soon_as_it_can_be(
    redis: Redis,
) -> None:
    """Not a third of a lease later."""
    queue = AwayQueue(redis, visibility_seconds=2.0)
    held = await claim(queue)
    async with kept_up(queue) as upkeep:
        upkeep.hold(held)
        queue.visibility_seconds = 3000
        await until(lambda: queue.extended)
    assert not held.dropped


@pytest.mark.gen_test
async def test_delayed_task_is_put_into_the_line_when_it_is_due(queue: QueueService) -> None:
    """The announcement tells its time."""
    async with kept_up(queue) as upkeep:
        await until(lambda: upkeep.due_at > 0)
        delayed = await queue.enqueue_task("alice", analysis(), delay=0.05)
        upkeep.expect_due(0.05)

        async def is_in_line() -> bool:
            task = await queue.get_task(delayed.task_id)
            return task is not None and task.status == TaskState.QUEUED

        await until(is_in_line)


@pytest.mark.gen_test
async def test_worker_is_announced_with_its_kinds(queue: QueueService) -> None:
    await queue.register_kinds([KindEntry(kind="one"), KindEntry(kind="other")])
    async with kept_up(queue, ["one"]):

        async def serving() -> dict[str, int]:
            return {state.entry.kind: state.workers for state in await queue.read_kinds()}

        await until(lambda: serves(serving, "one"))
        assert (await serving())["other"] == 0


async def serves(serving: Any, kind: str) -> bool:
    return bool((await serving())[kind] == 1)


@pytest.mark.gen_test
async def test_those_who_wait_are_told_where_they_stand_when_the_line_may_have_moved(
    redis: Redis,
) -> None:
    """Once for many moves."""
    told = 0

    class Telling(QueueService):
        async def publish_positions(self) -> int:
            nonlocal told
            told += 1
            return await super().publish_positions()

    queue = Telling(redis, user_limit=0, global_limit=0)
    async with kept_up(queue) as upkeep:
        for _ in range(10):
            upkeep.expect_move()
        await until(lambda: told)
    assert told == 1


@pytest.mark.gen_test
async def test_leases_of_workers_that_are_gone_end(redis: Redis, tmp_path: Path) -> None:
    """Without waiting for their time, and each is struck out."""
    queue = QueueService(redis, user_limit=0, global_limit=0)
    roster = Roster(tmp_path)
    with roster.entered("gone"):
        held = await claim(queue, "gone")
    async with kept_up(queue, roster=roster):
        await until(lambda: is_queued(queue, held))
    assert roster.lost() == []
