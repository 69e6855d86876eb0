"""A worker on a hub, and what its tests ask of the queue."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import Redis

from services.progress import TaskParams, plan_fragment
from services.queue import QueueService, Task, TaskState
from services.worker import Handler, Worker
from tests.realtime import open_hub
from tests.waiting import until
from tornado_rt.protocol import WORKERS

PLAN = plan_fragment(TaskParams())
ENDED = ("completed", "failed", "cancelled", "dead")


@contextlib.asynccontextmanager
async def working(
    redis: Redis, queue: QueueService, handler: Handler, grace: float = 0.0, **more: Any
) -> AsyncIterator[Worker]:
    """Run a worker on a hub."""
    hub, backplane, _ = open_hub(redis)
    worker = Worker(
        queue, handler, **{"concurrency": 2, "worker_id": "w", "grace_seconds": grace, **more}
    )
    async with backplane.running():
        await hub.subscribe(WORKERS, worker)
        running = asyncio.create_task(worker.run())
        yield worker
        worker.stop()
        await running


async def enqueue(queue: QueueService, symbol: str = "AAPL", user: str = "alice") -> str:
    return (await queue.enqueue_task(user, symbol, {}, plan=PLAN)).task_id


async def ended(queue: QueueService, task_id: str) -> Task:
    """Wait until a task has ended."""

    async def ended_one() -> Task | None:
        task = await queue.get_task(task_id)
        assert task is not None
        return task if task.status in ENDED else None

    task = await until(ended_one)
    assert task is not None
    return task


async def outcomes(queue: QueueService, *symbols: str) -> list[Task]:
    """Run tasks one after the other; return their ends."""
    return [await ended(queue, await enqueue(queue, symbol)) for symbol in symbols]


async def outcomes_beside_another(queue: QueueService, *symbols: str) -> dict[str, Task]:
    """Run tasks of one user, and behind them one of another, which must complete."""
    ids = [await enqueue(queue, symbol) for symbol in symbols]
    behind = await ended(queue, await enqueue(queue, "GOOD", user="bob"))
    assert behind.status == TaskState.COMPLETED
    found = [await ended(queue, task_id) for task_id in ids]
    assert await queue.check_invariants() == []
    return dict(zip(symbols, found, strict=True))
