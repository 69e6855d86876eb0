"""From an enqueue to the handler's first line, with a worker that waits."""

import asyncio
import statistics
import time

from redis.asyncio import Redis

from benchmarks.workers import Nothing, task_of, working
from services.queue import QueueService
from tornado_rt.redis import open_redis
from tornado_rt.work import Kind, Run

SAMPLES = 500


async def measure(url: str) -> list[float]:
    """Return the waits [s] of some tasks, one after another, through the real backplane."""
    async with open_redis(url) as redis:
        await redis.flushall(asynchronous=True)
        return await _measure(redis)


async def _measure(redis: Redis) -> list[float]:
    started: asyncio.Queue[float] = asyncio.Queue()
    kind = Kind("stamp", Nothing)

    @kind.handler
    async def stamp(params: Nothing, run: Run) -> None:
        started.put_nowait(time.perf_counter())

    queue, waits = QueueService(redis, user_limit=0, global_limit=0), []
    async with working(redis, queue, kind, concurrency=4):
        for _ in range(SAMPLES):
            asked = time.perf_counter()
            await queue.enqueue_task("a", task_of(kind))
            waits.append(await started.get() - asked)
    return waits


def describe(waits: list[float]) -> list[str]:
    """Return the lines of the report."""
    cuts = statistics.quantiles(waits, n=100)
    return [
        "From the enqueue to the handler's first line, an idle worker in the same process: "
        f"p50 {cuts[49] * 1000:.1f} ms, p95 {cuts[94] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms "
        f"({len(waits)} tasks)."
    ]
