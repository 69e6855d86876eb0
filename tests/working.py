"""A worker on a hub, and what its tests ask of the queue."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from redis.asyncio import Redis

from services.analysis import TaskParams, plan_fragment
from services.queue import Job, NewTask, QueueService, Task, TaskState
from services.worker import LegacyTarget, Rules, Target, Worker, kind_target
from services.worker.legacy import handler_of
from settings import Settings
from tests.realtime import open_hub
from tests.waiting import until
from tornado_rt.protocol import WORKERS
from tornado_rt.work import Kind

ANALYSIS = "analysis"
PLAN = plan_fragment(TaskParams())
ENDED = ("completed", "failed", "cancelled", "dead")

Work = Target | Kind | Callable[..., Any]


def target_of(work: Work, settings: Settings | None = None, **rules: Any) -> Target:
    """Return a target: of a kind, or of a handler of (task, progress) under these rules."""
    if isinstance(work, Kind):
        return kind_target(work, settings or Settings())
    if hasattr(work, "prepare"):
        return work
    made = Rules(**rules)
    return LegacyTarget(handler_of(work, made), made)


def targets_of(work: Work | Mapping[str, Target], **more: Any) -> Mapping[str, Target]:
    """Return targets; what has no name of a kind is an analysis."""
    if isinstance(work, Mapping):
        return work
    return {work.name if isinstance(work, Kind) else ANALYSIS: target_of(work, **more)}


@contextlib.asynccontextmanager
async def working(
    redis: Redis,
    queue: QueueService,
    work: Work | Mapping[str, Target],
    grace: float = 0.0,
    *,
    settings: Settings | None = None,
    rules: Mapping[str, Any] | None = None,
    **more: Any,
) -> AsyncIterator[Worker]:
    """Run a worker on a hub."""
    hub, backplane, _ = open_hub(redis)
    targets = targets_of(work, settings=settings, **(rules or {}))
    worker = Worker(
        queue, targets, **{"concurrency": 2, "worker_id": "w", "grace_seconds": grace, **more}
    )
    async with backplane.running(hub):
        await hub.subscribe(WORKERS, worker)
        running = asyncio.create_task(worker.run())
        yield worker
        worker.stop()
        await running


def analysis(symbol: str = "AAPL", **more: Any) -> NewTask:
    """Return a new task of the kind analysis; tests name by the symbol what its handler does."""
    job = Job(label=symbol, params={"symbol": symbol})
    return NewTask(**{"kind": ANALYSIS, "job": job, "first": PLAN, **more})


async def enqueue(
    queue: QueueService, symbol: str = "AAPL", user: str = "alice", **more: Any
) -> str:
    """Submit an analysis; return its id."""
    return (await queue.enqueue_task(user, analysis(symbol, **more))).task_id


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
