"""When a waiting task starts: the band holds what it says, under each limit, and costs little."""

import asyncio
import json
import random
import statistics
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from services.queue import KindEntry, KindLimits, Priority, QueueService
from settings import QueueOrder
from tests.queueing import KIND, claim, enqueue, new, read, register
from tests.virtual_time import Shop, gamma

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("invariants")]

MakeQueue = Callable[..., QueueService]
BAND = ("starts_in_low", "starts_in", "starts_in_high")
# For each kind the mean length [s] and the coefficient of variation.
ONE = {KIND: (100.0, 0.6)}


async def band_of(queue: QueueService, task_id: str) -> list[float | None]:
    shown = json.loads((await read(queue, task_id)).snapshot)
    return [shown.get(name) for name in BAND]


# The load: number of slots, and other differences.
WORKLOADS: dict[str, dict[str, Any]] = {
    "one kind": {"slots": 3},
    "many slots": {"slots": 8},
    "like lengths": {"slots": 3, "lengths": {KIND: (100.0, 0.1)}},
    "limit of a user": {"slots": 8, "user_limit": 2, "users": "ab"},
    "noisy neighbour": {"slots": 4, "user_limit": 3, "users": "aaaaaaaaabc"},
    "limit of a key": {"slots": 6, "limits": {"key_limit": 1}, "keys": "xyz"},
    "rate": {"slots": 6, "limits": {"rate": "60/h"}},
    "mixed kinds": {"slots": 3, "lengths": {KIND: (30.0, 0.5), "slow": (300.0, 0.4)}},
    "fair order": {"slots": 3, "users": "aaaaabc", "order": QueueOrder.FAIR},
}


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("workload", WORKLOADS)
async def test_four_of_five_tasks_start_within_their_bands(
    make_queue: MakeQueue, redis: Redis, workload: str
) -> None:
    """Those at the head and in the depth of the line, once some have ended."""
    chosen = dict(WORKLOADS[workload])
    slots, lengths = chosen.pop("slots"), chosen.pop("lengths", ONE)
    users, keys = chosen.pop("users", "a"), chosen.pop("keys", ("",))
    limits = KindLimits(**chosen.pop("limits", {}))
    queue = make_queue(**chosen)
    await queue.register_kinds([KindEntry(kind=kind, limits=limits) for kind in lengths])
    chance = random.Random(2)
    shop = Shop(queue, redis, tuple(lengths), slots, lambda one: gamma(chance, *lengths[one.kind]))
    await shop.open()
    ids = []
    for _ in range(120):
        kind = chance.choice(list(lengths))
        more = {"kind": kind, "key": chance.choice(keys), "expected_seconds": lengths[kind][0]}
        ids.append(await enqueue(queue, chance.choice(users), **more))
    await shop.fill()
    while len(shop.started) < len(ids):
        waiting = [task_id for task_id in ids if task_id not in shop.started]
        if len(waiting) < 90:
            await shop.foresee(*waiting[:2], *chance.sample(waiting, min(3, len(waiting))))
        await shop.step()
    judged = list(shop.judged())
    within = [one.low <= took <= one.high for one, took in judged]
    assert len(within) > 300
    assert sum(within) / len(within) >= 0.7, f"{sum(within)} of {len(within)}"
    # A band that says nothing would hold everything.
    far = [one for one, _ in judged if one.position > 5]
    assert statistics.median((one.high - one.low) / one.middle for one in far) < 1


@pytest.mark.gen_test
async def test_start_is_unknown_while_no_worker_has_the_kind(make_queue: MakeQueue) -> None:
    queue = make_queue()
    await register(queue)
    await queue.announce_worker("w1", ["other"])
    task_id = await enqueue(queue)
    assert await band_of(queue, task_id) == [None] * 3
    await queue.announce_worker("w2", [KIND], {"concurrency": 2})
    low, middle, high = await band_of(queue, task_id)
    assert (low, middle) == (0, 0)
    assert high is not None
    assert high < 1
    await queue.withdraw_worker("w2")
    assert await band_of(queue, task_id) == [None] * 3


@pytest.mark.gen_test
async def test_running_task_counts_by_what_it_still_needs_itself(
    make_queue: MakeQueue, redis: Redis
) -> None:
    """By its own band, less the time since it was told; else by the usual length of its kind."""
    queue = make_queue()
    await register(queue)
    await queue.announce_worker("w1", [KIND])
    await redis.hset("{rtq}:pace", KIND, 1000)
    runs, waits = await enqueue(queue), await enqueue(queue)
    [one] = await claim(queue, 1)
    low, middle, high = await band_of(queue, waits)
    assert low is not None
    assert middle is not None
    assert high is not None
    assert 300 < low < 700 < middle < 1100 < high < 2500
    told = b'"elapsed_time":0.0,"remaining_time":50.0,"remaining_low":40.0,"remaining_high":60.0'
    assert await queue.report_progress(runs, one.token, told, 1.0)
    assert await band_of(queue, waits) == [
        pytest.approx(expected, abs=2) for expected in (40, 50, 60)
    ]
    await redis.hincrbyfloat(f"{{rtq}}:task:{runs}", "started_at", -30)
    assert await band_of(queue, waits) == [
        pytest.approx(expected, abs=2) for expected in (10, 20, 30)
    ]


@pytest.mark.gen_test
async def test_user_at_their_limit_holds_back_nobody_else(make_queue: MakeQueue) -> None:
    """However much they have waiting; theirs wait for themselves alone."""
    queue = make_queue(user_limit=2)
    await register(queue)
    await queue.announce_worker("w1", [KIND], {"concurrency": 4})
    noisy = [await enqueue(queue, "noisy") for _ in range(40)]
    await claim(queue, 4)
    quiet = await enqueue(queue, "quiet")
    assert (await band_of(queue, quiet))[1] == 0
    last = (await band_of(queue, noisy[-1]))[1]
    assert last == pytest.approx(38 / 2 * 60, rel=0.25)


@pytest.mark.gen_test
async def test_what_is_more_urgent_or_falls_due_before_counts(make_queue: MakeQueue) -> None:
    queue = make_queue()
    await register(queue)
    await queue.announce_worker("w1", [KIND])
    # These were submitted before, and wait for their time.
    for _ in range(5):
        await enqueue(queue, delay=30)
    await enqueue(queue)
    await claim(queue, 1)
    task_id = await enqueue(queue)
    low, alone, _ = await band_of(queue, task_id)
    assert low is not None
    assert alone is not None
    assert alone > 250
    for _ in range(5):
        await enqueue(queue, priority=Priority.HIGH)
    _, behind, _ = await band_of(queue, task_id)
    assert behind == pytest.approx(alone + 300, rel=0.25)


@pytest.mark.gen_test
async def test_pace_of_an_earlier_version_is_read(make_queue: MakeQueue, redis: Redis) -> None:
    """It has the mean alone; what is kept beside it is no obstacle to that version."""
    queue = make_queue()
    await register(queue)
    await redis.hset("{rtq}:pace", KIND, "80.0000")
    shop = Shop(queue, redis, (KIND,), 1, lambda _: 40.0)
    await shop.open()
    for _ in range(30):
        await enqueue(queue)
    await shop.fill()
    for _ in range(29):
        await shop.step()
    kept = await redis.hgetall("{rtq}:pace")
    assert float(kept[KIND.encode()]) == pytest.approx(40, abs=3)
    variance, number = kept[f"{KIND}\n".encode()].split()
    assert float(variance) < 20**2
    assert number == b"15"


async def _microseconds(redis: Redis) -> float:
    stats = (await redis.info("commandstats"))["cmdstat_evalsha"]
    return float(stats["usec"]) / float(stats["calls"])


LINES: dict[str, dict[str, Any]] = {
    "one user": {},
    "many users": {"users": 10**6},
    "fair order": {"users": 20, "order": QueueOrder.FAIR},
    "one key": {"users": 20, "keys": 1, "limits": {"key_limit": 1}},
    "many keys": {"keys": 10**6, "limits": {"key_limit": 1}},
}


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("line", LINES)
async def test_ten_times_as_many_waiting_cost_no_more(
    make_queue: MakeQueue, redis: Redis, line: str
) -> None:
    """Of the last one of 1,000 and of 10,000."""
    chosen = dict(LINES[line])
    users, keys = chosen.pop("users", 1), chosen.pop("keys", 0)
    limits = chosen.pop("limits", {})
    queue = make_queue(user_limit=2, **chosen)
    await register(queue, **limits)
    await queue.announce_worker("w1", [KIND], {"concurrency": 3})
    took, number, last = [], 0, ""
    for waiting in (1000, 10000):
        while number < waiting:
            tasks = [
                queue.enqueue_task(
                    f"user {one % users}", new(key=f"key {one % keys}" if keys else "")
                )
                for one in range(number, number + 500)
            ]
            last = (await asyncio.gather(*tasks))[-1].task_id
            number += len(tasks)
        await claim(queue, 3)
        least = float("inf")
        for _ in range(5):
            await redis.config_resetstat()
            for _ in range(4):
                await read(queue, last)
            least = min(least, await _microseconds(redis))
        took.append(least)
    assert took[1] < 3 * took[0] + 300
