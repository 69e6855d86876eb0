"""A worker that frees a limit wakes others that have the waiting tasks' kinds."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis

from services.queue import Ack, Claimed, KindEntry, KindLimits, Outcome, QueueService
from services.worker.slots import LANES
from tests.queue_model import new_task
from tests.working import ended, enqueue, working

MakeQueue = Callable[..., QueueService]

# Each lane asks when it starts, and when the worker hears of wakes.
MOST_AT_START = 2 * LANES
TASKS = 10 * LANES


class Counting(QueueService):
    """A queue that counts how often it is asked for tasks."""

    claims = 0

    async def claim(self, *arguments: Any, **named: Any) -> Claimed:
        self.claims += 1
        return await super().claim(*arguments, **named)


@pytest.mark.gen_test
async def test_wake_of_another_queue_is_passed_over(redis: Redis) -> None:
    """For example that of deliveries, whose worker is in the same process.

    At the start it asks a few times, and again once it hears of wakes; then it is left alone.
    """
    ours, other = Counting(redis), Counting(redis, name="other")
    async with working(redis, ours, nothing), working(redis, other, nothing, worker_id="o"):
        for number in range(TASKS):
            await ended(ours, await enqueue(ours, f"T{number}"))
        assert other.claims <= MOST_AT_START
        await ended(other, await enqueue(other))


async def nothing(_task: object, _progress: object) -> None:
    """Do nothing."""


@asynccontextmanager
async def woken(redis: Redis) -> AsyncIterator[Callable[[], Any]]:
    """Yield a function that says how often workers were woken since it was last called."""
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe("rt:workers", "rt:marker")
        for _ in range(2):
            await pubsub.get_message(timeout=20)

        async def count() -> int:
            await redis.publish("rt:marker", "")
            wakes = 0
            while True:
                message = await pubsub.get_message(timeout=20)
                assert message is not None
                if message["channel"] == b"rt:marker":
                    return wakes
                wakes += b'"wake"' in message["data"]

        yield count


async def _run_one_of_each(queue: QueueService) -> str:
    """Have a user's task of one kind run while one of another kind waits; return its token."""
    await queue.enqueue_task("ann", new_task("fast"), task_id="runs")
    (claim,) = (await queue.claim("one", 5, kinds=["fast"])).claims
    await queue.enqueue_task("ann", new_task("slow"), task_id="waits")
    assert (await queue.claim("two", 5, kinds=["slow"])).claims == []
    return claim.token


@pytest.mark.gen_test
@pytest.mark.parametrize("limits", [{"user_limit": 1}, {"global_limit": 1}])
async def test_worker_of_another_kind_is_woken_when_a_limit_is_free_again(
    redis: Redis, make_queue: MakeQueue, limits: dict[str, int]
) -> None:
    queue = make_queue(**limits)
    token = await _run_one_of_each(queue)
    async with woken(redis) as wakes:
        await queue.claim("one", 5, [Ack("runs", token, Outcome.COMPLETED)], kinds=["fast"])
        assert await wakes() == 1
    assert len((await queue.claim("two", 5, kinds=["slow"])).claims) == 1


@pytest.mark.gen_test
async def test_cancelling_what_runs_wakes_who_waited_for_its_user(
    redis: Redis, make_queue: MakeQueue
) -> None:
    queue = make_queue(user_limit=1)
    await _run_one_of_each(queue)
    async with woken(redis) as wakes:
        await queue.cancel_task("runs")
        assert await wakes() == 1


@pytest.mark.gen_test
@pytest.mark.parametrize("limits", [{"user_limit": 1}, {"global_limit": 1}, {}])
async def test_last_attempt_that_is_lost_wakes_who_waited_for_its_place(
    redis: Redis, make_queue: MakeQueue, limits: dict[str, int]
) -> None:
    """It is dead then, and comes into no line; without any limit of users its kind has one."""
    queue = make_queue(**limits)
    if not limits:
        await queue.register_kinds([KindEntry(kind="slow", limits=KindLimits(limit=1))])
    for id_ in ("runs", "waits"):
        await queue.enqueue_task("ann", attrs.evolve(new_task("slow"), max_attempts=1), task_id=id_)
    (claim,) = (await queue.claim("one", 5, kinds=["slow"])).claims
    assert claim.task.task_id == "runs"
    async with woken(redis) as wakes:
        await queue.expire_claims(["one"])
        await queue.keep_up()
        assert await wakes() == 1
    assert len((await queue.claim("two", 5, kinds=["slow"])).claims) == 1


@pytest.mark.gen_test
async def test_unreadable_task_whose_lease_ran_out_wakes_who_waited_for_its_place(
    redis: Redis, make_queue: MakeQueue
) -> None:
    queue = make_queue(global_limit=1)
    for id_ in ("runs", "waits"):
        await queue.enqueue_task("ann", new_task("slow"), task_id=id_)
    await queue.claim("one", 5, kinds=["slow"])
    await redis.hdel("{rtq}:task:runs", "made")
    async with woken(redis) as wakes:
        await queue.expire_claims(["one"])
        await queue.keep_up()
        assert await wakes() == 1
    assert len((await queue.claim("two", 5, kinds=["slow"])).claims) == 1


@pytest.mark.gen_test
async def test_worker_that_stops_wakes_those_of_its_kind(
    redis: Redis, make_queue: MakeQueue
) -> None:
    """It hands in its end and claims nothing: the kind's limit is free for others."""
    queue = make_queue()
    await queue.register_kinds([KindEntry(kind="fast", limits=KindLimits(limit=1))])
    for number in range(2):
        await queue.enqueue_task("ann", new_task("fast"), task_id=f"t{number}")
    (claim,) = (await queue.claim("one", 5, kinds=["fast"])).claims
    async with woken(redis) as wakes:
        assert await queue.end_attempt(Ack("t0", claim.token, Outcome.COMPLETED))
        assert await wakes() == 1


@pytest.mark.gen_test
async def test_worker_that_takes_what_it_freed_wakes_nobody(
    redis: Redis, make_queue: MakeQueue
) -> None:
    queue = make_queue(user_limit=1)
    for number in range(3):
        await queue.enqueue_task("ann", new_task("fast"), task_id=f"t{number}")
    (claim,) = (await queue.claim("one", 5, kinds=["fast"])).claims
    async with woken(redis) as wakes:
        ack = Ack("t0", claim.token, Outcome.COMPLETED)
        assert len((await queue.claim("one", 5, [ack], kinds=["fast"])).claims) == 1
        assert await wakes() == 0
