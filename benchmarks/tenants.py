"""The wait of a quiet tenant beside a noisy one, and alone.

    python -m benchmarks.tenants

One worker, two queues on one Redis, in turn: in one of them a noisy tenant has 100,000 tasks that
wait, half of them under one key. The order is fair, users and the key are limited, so that slots
are left. The quiet one submits a few tasks at once, more than may run, and then waits for them.
"""

import asyncio
import contextlib
import random
import statistics
import time

import attrs
from redis.asyncio import Redis

from benchmarks.workers import Nothing, task_of, working
from services.queue import KindEntry, KindLimits, QueueService
from settings import QueueOrder
from tornado_rt.redis import open_redis
from tornado_rt.work import Kind, Run

NOISY, PART = 100_000, 1_000
CONCURRENCY, USER_LIMIT, KEY_LIMIT = 8, 3, 2
SECONDS = 0.05
BURST, ROUNDS = 6, 150


@attrs.define
class Waits:
    """From enqueue to the handler's first line [s]."""

    alone: list[float] = attrs.field(factory=list)
    beside: list[float] = attrs.field(factory=list)


async def measure(url: str) -> Waits:
    """Return the waits of the quiet tenant's tasks."""
    async with open_redis(url) as redis:
        await redis.flushall(asynchronous=True)
        kind, started = _make_kind()
        waits = Waits()
        alone, beside = [_make_queue(redis, name) for name in ("alone", "beside")]
        for queue in (alone, beside):
            limits = KindLimits(key_limit=KEY_LIMIT)
            await queue.register_kinds([KindEntry(kind=kind.name, limits=limits)])
        for number in range(0, NOISY, PART):
            key = "noisy" if number % (2 * PART) else ""
            await beside.create_batch("noisy", [task_of(kind, key)] * PART)
        for _ in range(ROUNDS):
            # By turns, so that whatever else the machine does slows both.
            for queue, found in ((alone, waits.alone), (beside, waits.beside)):
                async with working(redis, queue, kind, CONCURRENCY):
                    found += await _waits_of_quiet(queue, kind, started)
        assert (await beside.stats()).queued > NOISY / 2
        assert (await beside.stats()).completed > len(waits.beside)
        return waits


def _make_kind() -> tuple[Kind, asyncio.Queue[float]]:
    started: asyncio.Queue[float] = asyncio.Queue()
    kind = Kind("work", Nothing)

    @kind.handler
    async def work(params: Nothing, run: Run) -> None:
        if run.user_id == "quiet":
            started.put_nowait(time.perf_counter())
        await asyncio.sleep(SECONDS)

    return kind, started


def _make_queue(redis: Redis, name: str) -> QueueService:
    return QueueService(
        redis,
        name=name,
        user_limit=USER_LIMIT,
        global_limit=0,
        max_waiting_per_user=0,
        order=QueueOrder.FAIR,
    )


async def _waits_of_quiet(
    queue: QueueService, kind: Kind, started: asyncio.Queue[float]
) -> list[float]:
    # The noisy one's tasks are at any point when the quiet one's come.
    await asyncio.sleep(random.uniform(0.5, 1.5) * SECONDS)
    asked = time.perf_counter()
    made = [queue.enqueue_task("quiet", task_of(kind)) for _ in range(BURST)]
    await asyncio.gather(*made)
    return [await started.get() - asked for _ in range(BURST)]


def describe(waits: Waits) -> list[str]:
    """Return the lines of the report."""
    alone, beside = [_percentiles(found) for found in (waits.alone, waits.beside)]
    return [
        f"A quiet tenant, {BURST} tasks of {SECONDS * 1000:.0f} ms at once of which "
        f"{USER_LIMIT} may run, fair order: waits p50 {alone[0]:.1f} ms, p99 {alone[1]:.1f} ms "
        f"alone; p50 {beside[0]:.1f} ms, p99 {beside[1]:.1f} ms beside one with {NOISY:,} waiting "
        f"tasks: p99 {beside[1] / alone[1]:.2f} times as long ({len(waits.alone)} tasks each)."
    ]


def _percentiles(waits: list[float]) -> tuple[float, float]:
    """Return p50 and p99 in milliseconds."""
    cuts = statistics.quantiles(waits, n=100)
    return cuts[49] * 1000, cuts[98] * 1000


def main() -> None:
    """Measure on a Redis of our own, and print."""
    from benchmarks.queue import redis_server

    with contextlib.ExitStack() as stack:
        url = stack.enter_context(redis_server())
        print("\n".join(describe(asyncio.run(measure(url)))))


if __name__ == "__main__":
    main()
