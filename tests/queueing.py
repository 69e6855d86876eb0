"""Tasks of a kind of no meaning, and what tests of the queue do with them."""

from collections.abc import Sequence
from typing import Any

import orjson
from redis.asyncio import Redis

from services.queue import (
    Ack,
    Claim,
    Job,
    KindEntry,
    KindLimits,
    NewTask,
    Outcome,
    QueueService,
    Task,
)

KIND = "fast"
FIRST = b'"progress":0.0,"message":"Waiting"'
PLACE = {"current_step": 0, "current_step_name": "", "total_steps": 0, "steps": list[Any]()}
TIMES = ("remaining_time", "remaining_low", "remaining_high", "estimated_total_time")


def fragment(percent: float) -> bytes:
    """Return a report as a worker makes it of a task that has no steps."""
    at = {"elapsed_time": 0.0, "updated_at": "2030-01-02T03:04:05.000Z"}
    place = {"progress": percent, "message": "", **PLACE, **at}
    return orjson.dumps({**place, **dict.fromkeys(TIMES)})[1:-1]


def new(
    label: str = "A",
    params: dict[str, Any] | None = None,
    *,
    kind: str = KIND,
    tags: Sequence[str] = (),
    **more: Any,
) -> NewTask:
    """Return a task to submit."""
    job = Job(label=label, params=params or {}, tags=tuple(tags))
    return NewTask(**{"kind": kind, "job": job, "first": FIRST, **more})


def several(*labels: str, **more: Any) -> list[NewTask]:
    """Return the tasks of a batch."""
    return [new(label, **more) for label in labels]


OF_ENQUEUE = ("delay", "run_at", "task_id", "once")


async def enqueue(queue: QueueService, user: str = "a", label: str = "A", **more: Any) -> str:
    """Submit a task; return its id. `more` is of the task or of the request."""
    asked = {name: more.pop(name) for name in OF_ENQUEUE if name in more}
    return (await queue.enqueue_task(user, new(label, **more), **asked)).task_id


async def register(queue: QueueService, kind: str = KIND, **limits: Any) -> None:
    """Make a kind and its limits known."""
    await queue.register_kinds([KindEntry(kind=kind, limits=KindLimits(**limits))])


async def claim(queue: QueueService, count: int = 10, *kinds: str) -> list[Claim]:
    """Claim tasks, of KIND if no kinds are named."""
    return (await queue.claim("w1", count, kinds=kinds or (KIND,))).claims


async def started(queue: QueueService, count: int = 10, *kinds: str) -> list[str]:
    """Claim tasks; return their ids."""
    return [one.task.task_id for one in await claim(queue, count, *kinds)]


async def end(queue: QueueService, *claims: Claim, success: bool = True) -> None:
    """End claimed tasks."""
    for one in claims:
        assert await queue.ack_task(one.task.task_id, success, token=one.token)


async def give_up(
    queue: QueueService,
    claim: Claim,
    outcome: Outcome = Outcome.RETRY,
    error: str = "busy",
    delay: float = 0.0,
) -> bool:
    """End an attempt that wants another."""
    return await queue.end_attempt(
        Ack(claim.task.task_id, claim.token, outcome, error=error, delay=delay)
    )


async def read(queue: QueueService, task_id: str) -> Task:
    """Read a task that there is."""
    task = await queue.get_task(task_id)
    assert task is not None
    return task


async def ids_of(queue: QueueService, user: str, **filters: Any) -> list[str]:
    """List a user's tasks; return their ids."""
    return [task.task_id for task in (await queue.list_tasks(user, **filters)).items]


async def expire_leases(redis: Redis) -> None:
    """Let every lease run out now, by its score."""
    await _make_due(redis, "{rtq}:processing")


async def end_delays(redis: Redis) -> None:
    """Let every delay be over now, by its score."""
    await _make_due(redis, "{rtq}:delayed")


async def _make_due(redis: Redis, key: str) -> None:
    for task_id in await redis.zrange(key, 0, -1):
        await redis.zadd(key, {task_id: 1})
