"""No-op jobs through this queue: `python -m benchmarks.queues.ours REDIS_URL JOBS CONCURRENCY`."""

import asyncio
import sys
import time
from typing import Any

from benchmarks.queues import report, spread
from services.progress import RedisProgressTracker, TaskParams, plan_fragment
from services.queue import QueueService, Task
from services.worker import Worker
from tornado_rt.redis import open_redis


async def main(url: str, jobs: int, concurrency: int) -> None:
    """Enqueue all, then process all."""
    handled = 0

    async def no_op(task: Task, progress: RedisProgressTracker) -> dict[str, Any]:
        nonlocal handled
        handled += 1
        return {}

    async with open_redis(url) as redis:
        queue = QueueService(redis, user_limit=0, global_limit=0, max_waiting_per_user=0)
        plan, params = plan_fragment(TaskParams()), {}

        async def enqueue(number: int) -> None:
            await queue.enqueue_task(f"user{number % 10}", "A", params, plan=plan)

        began = time.perf_counter()
        await spread(enqueue, jobs, concurrency)
        enqueued = time.perf_counter()
        worker = Worker(queue, no_op, concurrency=concurrency, worker_id="bench", grace_seconds=10)
        running = asyncio.create_task(worker.run())
        while (await queue.stats()).completed < jobs:
            await asyncio.sleep(0.005)
        processed = time.perf_counter()
        worker.stop()
        await running
    assert handled == jobs
    report(jobs, enqueued - began, processed - enqueued)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
