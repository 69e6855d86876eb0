"""The forecast of a submission, and the time left of a batch."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from services.queue import (
    Band,
    Conflict,
    Idempotency,
    KeyReused,
    OnConflict,
    Priority,
    QueueFull,
    QueueService,
    Unique,
)
from tests.queueing import KIND, claim, end, enqueue, new, register, several
from tests.virtual_time import Shop
from tornado_rt.protocol import Cursor

pytestmark = pytest.mark.usefixtures("invariants")

MakeQueue = Callable[..., QueueService]
LEFT = ("remaining_low", "remaining_time", "remaining_high")


async def everything(redis: Redis) -> dict[bytes, bytes | None]:
    """All that Redis keeps, as it would dump it."""
    return {key: await redis.dump(key) for key in await redis.keys("*")}


async def time_left(queue: QueueService, batch_id: str) -> list[float | None]:
    batch = await queue.get_batch(batch_id)
    assert batch is not None
    return [json.loads(batch.snapshot)[name] for name in LEFT]


async def one_worker(queue: QueueService, redis: Redis, slots: int = 1, mean: float = 100) -> None:
    await register(queue)
    await queue.announce_worker("w1", [KIND], {"concurrency": slots})
    await redis.hset("{rtq}:pace", KIND, mean)


def middle(band: Band | None) -> float:
    assert band is not None
    assert band.low <= band.middle <= band.high
    return band.middle


@pytest.mark.gen_test
async def test_estimate_says_what_becomes_of_a_task_and_makes_none(
    make_queue: MakeQueue, redis: Redis
) -> None:
    queue = make_queue()
    await one_worker(queue, redis)
    await register(queue, rate="100/s", key_rate="100/s")
    free = await queue.estimate_task("a", new())
    assert (free.position, free.waiting_for, middle(free.starts)) == (1, "", 0)
    assert middle(free.ends) == pytest.approx(100, rel=0.2)
    for _ in range(5):
        await enqueue(queue)
    await claim(queue, 1)
    kept = await everything(redis)
    found = await queue.estimate_task("a", new(key="k"))
    assert await everything(redis) == kept
    assert (found.there, found.position, found.waiting_for) == ("", 5, "line")
    assert middle(found.starts) == pytest.approx(500, rel=0.2)
    assert middle(found.runs) == pytest.approx(100, rel=0.2)
    assert middle(found.ends) == pytest.approx(600, rel=0.2)
    urgent = await queue.estimate_task("a", new(priority=Priority.HIGH))
    assert urgent.position == 1
    assert middle(urgent.starts) < 200
    task = await queue.enqueue_task("a", new(key="k"))
    assert task.position == found.position


@pytest.mark.gen_test
async def test_estimate_of_what_nothing_starts_or_nobody_knows_is_none(
    make_queue: MakeQueue, redis: Redis
) -> None:
    queue = make_queue()
    await register(queue)
    found = await queue.estimate_task("a", new())
    assert (found.starts, found.runs, found.ends) == (None, None, None)
    await queue.announce_worker("w1", [KIND])
    found = await queue.estimate_task("a", new())
    assert (middle(found.starts), found.runs, found.ends) == (0, None, None)
    found = await queue.estimate_task("a", new(expected_seconds=20))
    assert middle(found.ends) == pytest.approx(20, rel=0.3)
    await queue.pause(KIND)
    found = await queue.estimate_task("a", new(expected_seconds=20))
    assert (found.starts, found.waiting_for, found.ends) == (None, "paused", None)


@pytest.mark.gen_test
async def test_estimate_of_a_delayed_task_begins_at_its_time(
    make_queue: MakeQueue, redis: Redis
) -> None:
    queue = make_queue()
    await one_worker(queue, redis)
    found = await queue.estimate_task("a", new(), delay=500)
    assert (middle(found.starts), found.position, found.waiting_for) == (500, None, "schedule")
    at = time.time() + 700
    found = await queue.estimate_task("a", new(), run_at=at)
    assert middle(found.starts) == pytest.approx(700, abs=5)
    assert middle(found.ends) == pytest.approx(800, rel=0.2)


@pytest.mark.gen_test
async def test_estimate_refuses_what_a_submission_would(
    make_queue: MakeQueue, redis: Redis
) -> None:
    queue = make_queue(max_waiting_per_user=3)
    await one_worker(queue, redis)
    held = Unique(key="u")
    first = await enqueue(queue, unique=held)
    with pytest.raises(Conflict, match=first):
        await queue.estimate_task("a", new(unique=Unique(key="u", on_conflict=OnConflict.REJECT)))
    await enqueue(queue, once=Idempotency("key", b"one"))
    with pytest.raises(KeyReused):
        await queue.estimate_task("a", new(), once=Idempotency("key", b"other"))
    with pytest.raises(KeyReused):
        await queue.estimate_batch("a", several("A"), once=Idempotency("key", b"other"))
    with pytest.raises(QueueFull):
        await queue.estimate_batch("a", several("A", "B"))
    await enqueue(queue)
    with pytest.raises(QueueFull):
        await queue.estimate_task("a", new())


@pytest.mark.gen_test
async def test_estimate_names_the_task_that_there_is_already(
    make_queue: MakeQueue, redis: Redis
) -> None:
    """By its unique key, or by the key of the request."""
    queue = make_queue()
    await one_worker(queue, redis)
    await enqueue(queue)
    held = new(unique=Unique(key="u"))
    there = (await queue.enqueue_task("a", held, once=Idempotency("key", b"one"))).task_id
    for again in (
        await queue.estimate_task("a", held),
        await queue.estimate_task("a", new(), once=Idempotency("key", b"one")),
    ):
        assert (again.there, again.position) == (there, 2)
        assert middle(again.ends) == pytest.approx(200, rel=0.2)
    [one, two] = await claim(queue, 2)
    running = await queue.estimate_task("a", held)
    assert (running.there, middle(running.starts)) == (there, 0)
    assert 0 < middle(running.ends) < 200
    replacing = new(unique=Unique(key="u", on_conflict=OnConflict.REPLACE))
    assert (await queue.estimate_task("a", replacing)).there == ""
    await end(queue, one, two)
    assert (
        middle((await queue.estimate_task("a", new(), once=Idempotency("key", b"one"))).ends) == 0
    )


@pytest.mark.gen_test
async def test_estimate_of_a_batch_ends_with_its_last_task(
    make_queue: MakeQueue, redis: Redis
) -> None:
    queue = make_queue()
    await one_worker(queue, redis, slots=2)
    found = await queue.estimate_batch("a", several(*"ABCDEFGHIJ"))
    assert (found.there, found.position, middle(found.starts)) == ("", 1, 0)
    assert middle(found.ends) == pytest.approx(550, rel=0.2)
    assert middle(found.runs) == pytest.approx(middle(found.ends), rel=0.01)
    once = Idempotency("key", b"batch")
    batch = await queue.create_batch("a", several(*"ABCDEFGHIJ"), once=once)
    again = await queue.estimate_batch("a", several("A"), once=once)
    assert again.there == batch.batch_id
    assert middle(again.ends) == pytest.approx(550, rel=0.2)


@pytest.mark.gen_test
async def test_time_left_of_a_batch_runs_down_to_its_end(
    make_queue: MakeQueue, redis: Redis
) -> None:
    """It is unknown until a task has ended, and 0 at the end."""
    queue = make_queue()
    await register(queue)
    shop = Shop(queue, redis, (KIND,), 3, lambda _: 60.0 if len(shop.started) % 2 else 100.0)
    await shop.open()
    batch = await queue.create_batch("a", several(*"A" * 30))
    assert await time_left(queue, batch.batch_id) == [None] * 3
    await shop.fill()
    told: list[tuple[float, list[Any]]] = []
    while shop.running:
        await shop.step()
        if shop.running:
            told.append((shop.now, await time_left(queue, batch.batch_id)))
    assert await time_left(queue, batch.batch_id) == [0, 0, 0]
    last = shop.now
    within = [low <= last - at <= high for at, (low, _, high) in told[3:]]
    assert sum(within) / len(within) > 0.7
    assert all(0 <= low <= at_half <= high for _, (low, at_half, high) in told)


@pytest.mark.gen_test
async def test_watchers_of_a_batch_are_told_its_time_left(
    make_queue: MakeQueue, redis: Redis
) -> None:
    """With each change; who comes back is told it with the last change that they missed."""
    queue = make_queue()
    await one_worker(queue, redis)
    batch = await queue.create_batch("a", several("A", "B", "C", "D"))
    [first] = await claim(queue, 1)
    cursor = (await queue.read_events("batch", batch.batch_id)).cursor
    await end(queue, first)
    missed = (await queue.read_events("batch", batch.batch_id, cursor)).messages
    assert json.loads(missed[-1].data)["remaining_time"] == pytest.approx(260, rel=0.3)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(f"rt:batch:{batch.batch_id}")
        await pubsub.get_message(timeout=20)
        await claim(queue, 1)
        told = json.loads((await pubsub.get_message(timeout=20))["data"])
        assert told["data"]["remaining_time"] == pytest.approx(280, rel=0.2)
        await queue.cancel_batch(batch.batch_id)
        await pubsub.get_message(timeout=20)
    assert await time_left(queue, batch.batch_id) == [0, 0, 0]
    after = (await queue.read_events("batch", batch.batch_id, Cursor(cursor.epoch, 3))).messages
    assert after[-1].type == "finished"
    assert json.loads(after[-2].data)["remaining_time"] == 0
