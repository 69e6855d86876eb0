"""Whether a claim costs more when more waits."""

import statistics
import time
from typing import Any

from services.queue import Ack, Job, NewTask, Outcome, QueueService
from tornado_rt.redis import open_redis

SMALL, LARGE, USERS = 1_000, 1_000_000, 10_000
SIZE = LARGE // USERS
CLAIMED, BATCH, ROUNDS = 1_000, 50, 9
KIND = "no-op"
NEW = NewTask(kind=KIND, job=Job(label="A"), first=b'"progress":0.0')


async def measure(url: str) -> dict[int, float]:
    """Return the rate of claims and acks [1/s] with each number of waiting tasks.

    Two queues on one server, in turn, so that whatever else the machine does slows both.
    """
    async with open_redis(url) as redis:
        await redis.flushall(asynchronous=True)
        rates: dict[int, list[float]] = {SMALL: [], LARGE: []}
        bounds: dict[str, Any] = {"user_limit": 0, "global_limit": 0, "max_waiting_per_user": 0}
        queues = {waiting: QueueService(redis, name=f"q{waiting}", **bounds) for waiting in rates}
        for waiting, queue in queues.items():
            await _fill(queue, waiting)
        for _ in range(ROUNDS):
            for waiting, queue in queues.items():
                rates[waiting].append(await _claim(queue, waiting))
        return {waiting: statistics.median(found) for waiting, found in rates.items()}


async def _fill(queue: QueueService, wanted: int) -> None:
    """Enqueue batches until this many tasks wait."""
    number = 0
    while (missing := wanted - (await queue.stats()).queued) > 0:
        await queue.create_batch(f"user{number % USERS}", [NEW] * min(SIZE, missing))
        number += 1


async def _claim(queue: QueueService, waiting: int) -> float:
    acks: list[Ack] = []
    began = time.perf_counter()
    for _ in range(0, CLAIMED, BATCH):
        claims = (await queue.claim("bench", BATCH, acks, kinds=[KIND])).claims
        acks = [Ack(c.task.task_id, c.token, Outcome.COMPLETED) for c in claims]
    await queue.claim("bench", 0, acks, kinds=[KIND])
    rate = CLAIMED / (time.perf_counter() - began)
    await _fill(queue, waiting)
    return rate


def describe(rates: dict[int, float]) -> list[str]:
    """Return the lines of the report."""
    return [
        f"Claims with acks, {BATCH} at a time: {rates[SMALL]:.0f}/s with {SMALL:,} tasks waiting, "
        f"{rates[LARGE]:.0f}/s with {LARGE:,} of {USERS:,} users: "
        f"{rates[LARGE] / rates[SMALL]:.2f} of it (medians of {ROUNDS})."
    ]
