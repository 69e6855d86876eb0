"""A worker on the real backplane, for what measures how long tasks wait."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import attrs
from redis.asyncio import Redis

from services.queue import Job, NewTask, QueueService
from services.worker import Worker, load_targets
from settings import Settings
from tornado_rt.backplane import Backplane
from tornado_rt.census import Census
from tornado_rt.heartbeat import Heartbeats
from tornado_rt.hub import Hub
from tornado_rt.limits import Limits, SystemSettings
from tornado_rt.metrics import Metrics
from tornado_rt.protocol import WORKERS
from tornado_rt.work import Kind

NO_LIMITS = Limits(
    SystemSettings(
        sse_heartbeat_interval_seconds=0,
        ws_heartbeat_interval_seconds=0,
        ws_max_connections_per_user=0,
    )
)
FIRST = b'"progress":0.0'


@attrs.frozen
class Nothing:
    """No parameters."""


def task_of(kind: Kind, key: str = "") -> NewTask:
    """Return a new task of a kind that has no parameters."""
    return NewTask(kind=kind.name, job=Job(label=kind.name), first=FIRST, key=key)


@contextlib.asynccontextmanager
async def working(
    redis: Redis, queue: QueueService, kind: Kind, concurrency: int
) -> AsyncIterator[None]:
    """Run a worker of one kind."""
    metrics = Metrics()
    backplane = Backplane(redis, metrics)
    hub = Hub(Census(NO_LIMITS, metrics), Heartbeats(), backplane)
    targets = load_targets({kind.name: kind}, Settings())
    worker = Worker(queue, targets, concurrency=concurrency, worker_id="bench", grace_seconds=5)
    async with backplane.running(hub):
        await hub.subscribe(WORKERS, worker)
        running = asyncio.create_task(worker.run())
        yield
        worker.stop()
        await running
