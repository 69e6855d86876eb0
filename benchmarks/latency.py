"""From an enqueue to the handler's first line, with a worker that waits."""

import asyncio
import statistics
import time
from typing import Any

from redis.asyncio import Redis

from services.progress import RedisProgressTracker, TaskParams, plan_fragment
from services.queue import QueueService, Task
from services.worker import Worker
from tornado_rt.backplane import Backplane
from tornado_rt.heartbeat import Heartbeats
from tornado_rt.hub import Hub
from tornado_rt.limits import Limits, SystemSettings
from tornado_rt.metrics import Metrics
from tornado_rt.protocol import WORKERS
from tornado_rt.redis import open_redis

SAMPLES = 500
NO_LIMITS = Limits(
    SystemSettings(
        sse_heartbeat_interval_seconds=0,
        ws_heartbeat_interval_seconds=0,
        ws_max_connections_per_user=0,
    )
)


async def measure(url: str) -> list[float]:
    """Return the waits [s] of some tasks, one after another, through the real backplane."""
    async with open_redis(url) as redis:
        await redis.flushall()
        return await _measure(redis)


async def _measure(redis: Redis) -> list[float]:
    started: asyncio.Queue[float] = asyncio.Queue()

    async def stamp(task: Task, progress: RedisProgressTracker) -> dict[str, Any]:
        started.put_nowait(time.perf_counter())
        return {}

    queue = QueueService(redis, user_limit=0, global_limit=0)
    metrics = Metrics()
    hub = Hub(NO_LIMITS, Heartbeats(), metrics)
    backplane = Backplane(redis, hub, metrics)
    hub.attach(backplane)
    worker = Worker(queue, stamp, concurrency=4, worker_id="bench", grace_seconds=5)
    waits, plan = [], plan_fragment(TaskParams())
    async with backplane.running():
        await hub.subscribe(WORKERS, worker)
        running = asyncio.create_task(worker.run())
        for _ in range(SAMPLES):
            asked = time.perf_counter()
            await queue.enqueue_task("a", "A", {}, plan=plan)
            waits.append(await started.get() - asked)
        worker.stop()
        await running
    return waits


def describe(waits: list[float]) -> list[str]:
    """Return the lines of the report."""
    cuts = statistics.quantiles(waits, n=100)
    return [
        "From the enqueue to the handler's first line, an idle worker in the same process: "
        f"p50 {cuts[49] * 1000:.1f} ms, p95 {cuts[94] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms "
        f"({len(waits)} tasks)."
    ]
