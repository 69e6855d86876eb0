"""Slots and lanes by themselves, over the real queue: what is claimed, when, and how much."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from services.queue import Ack, Claim, KindEntry, KindLimits, Outcome, QueueService
from services.worker.claims import Claims
from services.worker.slots import LANES, FixedRoom, Slots
from tests.waiting import until
from tests.working import ANALYSIS, enqueue
from tornado_rt.redis import is_outage
from tornado_rt.work.attempts.outages import Outages


@pytest.fixture
def queue(redis: Redis) -> QueueService:
    return QueueService(redis, user_limit=0, global_limit=0)


class Bench:
    """Slots whose tasks run until they are told to end."""

    def __init__(self, queue: QueueService, count: int) -> None:
        self.running: dict[str, Claim] = {}
        self.most = 0
        self.moves = 0
        self.claims = Claims(queue, "w", [ANALYSIS])
        self.slots = Slots(
            self.claims,
            FixedRoom(count, self.running),
            start=self._start,
            moved=self._moved,
            outages=Outages(is_outage),
        )

    def end(self, task_id: str) -> None:
        """Let a task be completed."""
        claim = self.running.pop(task_id)
        self.claims.hand_in(Ack(task_id, claim.token, Outcome.COMPLETED))
        self.slots.look()

    def _start(self, claim: Claim) -> None:
        self.running[claim.task.task_id] = claim
        self.most = max(self.most, len(self.running))

    def _moved(self) -> None:
        self.moves += 1


@contextlib.asynccontextmanager
async def filling(queue: QueueService, count: int) -> AsyncIterator[Bench]:
    """Let the lanes work until the block ends."""
    bench = Bench(queue, count)
    lanes = [asyncio.create_task(bench.slots.lane()) for _ in range(LANES)]
    try:
        yield bench
    finally:
        bench.slots.stop()
        await asyncio.wait(lanes)


@pytest.mark.gen_test
async def test_as_many_are_claimed_as_slots_are_free(queue: QueueService) -> None:
    """And one more whenever one has ended, whose end goes with the same request."""
    ids = [await enqueue(queue) for _ in range(7)]
    async with filling(queue, 3) as bench:
        await until(lambda: set(bench.running), equal=set(ids[:3]))
        for task_id in ids[:4]:
            bench.end(task_id)
            await until(lambda: len(bench.running) == 3)
        assert set(bench.running) == set(ids[4:])
        await until(lambda: completed(queue), equal=4)
    assert bench.most == 3


async def completed(queue: QueueService) -> int:
    return (await queue.stats()).completed


@pytest.mark.gen_test
async def test_lanes_wait_until_they_are_to_look(redis: Redis, queue: QueueService) -> None:
    """They do not ask by themselves, also where there is something."""
    async with filling(queue, 2) as bench:
        await until(lambda: bench.moves == LANES)
        task_id = await enqueue(queue)
        assert not bench.running
        bench.slots.look()
        await until(lambda: list(bench.running), equal=[task_id])


@pytest.mark.gen_test
async def test_lanes_look_again_when_the_queue_says_that_more_may_start(
    queue: QueueService,
) -> None:
    """Nobody wakes them: the second task waits for a rate."""
    limits = KindLimits(rate="1/s")
    await queue.register_kinds([KindEntry(kind=ANALYSIS, limits=limits)])
    ids = [await enqueue(queue) for _ in range(2)]
    async with filling(queue, 2) as bench:
        await until(lambda: list(bench.running), equal=ids)
    first, second = (bench.running[task_id].task.started_at or 0.0 for task_id in ids)
    assert second - first >= 0.9


@pytest.mark.gen_test
async def test_stop_claims_nothing_more_and_keeps_what_still_came(queue: QueueService) -> None:
    """Claims that were requested before the stop are handed back."""
    answered = asyncio.Event()

    class SlowQueue(QueueService):
        async def claim(self, *arguments, **named):  # type: ignore[no-untyped-def]
            claimed = await super().claim(*arguments, **named)
            answered.set()
            await go_on.wait()
            return claimed

    go_on = asyncio.Event()
    slow = SlowQueue(queue._redis, user_limit=0, global_limit=0)
    task_id = await enqueue(queue)
    async with filling(slow, 2) as bench:
        await answered.wait()
        bench.slots.stop()
        go_on.set()
    assert [claim.task.task_id for claim in bench.slots.surplus] == [task_id]
    assert not bench.running


@pytest.mark.gen_test
async def test_the_line_may_have_moved_with_each_answer(queue: QueueService) -> None:
    async with filling(queue, 1) as bench:
        await until(lambda: bench.moves > 0)
