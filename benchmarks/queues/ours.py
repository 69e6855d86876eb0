"""No-op jobs through this queue.

    python -m benchmarks.queues.ours REDIS_URL JOBS CONCURRENCY [full]

One kind without a limit; `full`: four kinds with steps, five priorities, keys, and limits and rates
of each that hold nothing back.
"""

import asyncio
import sys
import time
from typing import Any

import attrs

from benchmarks.queues import report, spread
from services.estimates import Estimates
from services.kinds import KindRegistry
from services.queue import Job, NewTask, Priority, QueueService
from services.worker import Worker, load_targets
from settings import Settings
from tornado_rt.garbage import collect_seldom
from tornado_rt.redis import open_redis
from tornado_rt.work import Kind, Run, Step, first_fragment

PRIORITIES = tuple(Priority)
USERS, KEYS = 10, 7
GENEROUS: dict[str, Any] = {"limit": 10**5, "user_limit": 10**5, "key_limit": 10**5}


@attrs.frozen
class Nothing:
    """The parameters of a job that does nothing."""


def make_kinds(full: bool) -> list[Kind]:
    """Return the kinds, each with a handler that does nothing."""
    if not full:
        return [_handled(Kind("no-op", Nothing))]
    steps = [Step("one"), Step("two", 2), Step("three")]
    names = ("no-op", "no-op.b", "no-op.c", "no-op.d")
    rates: dict[str, Any] = {"rate": "1000000/1s", "key_rate": "1000000/1s"}
    return [_handled(Kind(name, Nothing, steps=steps, **GENEROUS, **rates)) for name in names]


def _handled(kind: Kind) -> Kind:
    @kind.handler
    async def no_op(params: Nothing, run: Run) -> None:
        return None

    return kind


async def main(url: str, jobs: int, concurrency: int, full: bool) -> None:
    """Enqueue all, then process all."""
    # As in our processes.
    collect_seldom()
    kinds = {kind.name: kind for kind in make_kinds(full)}
    async with open_redis(url) as redis:
        queue = QueueService(redis, user_limit=0, global_limit=0, max_waiting_per_user=0)
        registry = KindRegistry(kinds)
        await queue.register_kinds(registry.entries())
        news = [await _new(registry, queue, name, full) for name in kinds]
        if full:
            # Each kind in each priority with each key.
            news = [
                attrs.evolve(
                    news[number % len(kinds)],
                    priority=PRIORITIES[number % len(PRIORITIES)],
                    key=f"key{number % KEYS}",
                )
                for number in range(len(kinds) * len(PRIORITIES) * KEYS)
            ]

        async def enqueue(number: int) -> None:
            await queue.enqueue_task(f"user{number % USERS}", news[number % len(news)])

        began = time.perf_counter()
        await spread(enqueue, jobs, concurrency)
        enqueued = time.perf_counter()
        targets = load_targets(kinds, Settings())
        worker = Worker(
            queue,
            targets,
            concurrency=concurrency,
            worker_id="bench",
            grace_seconds=10,
            forecasts=Estimates(queue),
        )
        running = asyncio.create_task(worker.run())
        while (await queue.stats()).completed < jobs:
            await asyncio.sleep(0.005)
        processed = time.perf_counter()
        worker.stop()
        await running
    report(jobs, enqueued - began, processed - enqueued)


async def _new(registry: KindRegistry, queue: QueueService, name: str, full: bool) -> NewTask:
    kind = await registry.find(name, queue)
    return NewTask(
        kind=name,
        job=Job(label=name),
        first=first_fragment(kind.plan({}), kind.expected({})),
        plan=kind.plan({}) if full else None,
    )


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] == ["full"]))
