"""Calls of the queue that share a round trip, of which a handler's is one."""

import asyncio
import contextvars
from typing import Any

import pytest
from redis.asyncio import Redis

from services.queue import QueueService, Task, TaskState
from tests.working import ended, enqueue, working
from tornado_rt.work.attempts.guarded_task import GuardedTask, guard_tasks, start_family


@pytest.mark.gen_test
async def test_handler_that_cancels_all_tasks_cancels_no_call_of_others(
    redis: Redis, queue: QueueService
) -> None:
    """Its report begins the round trip that another's call joins."""
    guard_tasks(asyncio.get_running_loop())
    other = await enqueue(queue, "OTHER", "bob")
    await queue.cancel_task(other)
    asked: list[asyncio.Task[Task | None]] = []

    async def handle(task: Task, progress: Any) -> dict[str, Any]:
        reporting = asyncio.create_task(progress.update_progress("begun"))
        loop = asyncio.get_running_loop()
        asked.append(contextvars.Context().run(loop.create_task, queue.get_task(other)))
        # Both have asked after the first turn; after the second they are being sent.
        for _ in range(2):
            await asyncio.sleep(0)
        for one in asyncio.all_tasks() - {asyncio.current_task()}:
            # The test's own began before its loop was as the server's.
            if isinstance(one, GuardedTask):
                one.cancel()
        await asyncio.wait([reporting])
        return {}

    async with working(redis, queue, handle, concurrency=1):
        task = await ended(queue, await enqueue(queue))
        async with asyncio.timeout(5):
            found = await asked[0]
    assert task.status == TaskState.COMPLETED
    assert found is not None
    assert found.task_id == other


@pytest.mark.gen_test
async def test_task_in_a_context_of_its_own_is_of_the_family_there() -> None:
    """A handler begins it, and serves others by it; it cannot cancel it."""
    loop = asyncio.get_running_loop()
    guard_tasks(loop)
    made: list[asyncio.Task[str]] = []

    async def handle() -> bool:
        for context in (contextvars.Context(), None):
            made.append(loop.create_task(asyncio.sleep(0, "served"), context=context))
        return made[0].cancel() or not made[1].cancel()

    assert await start_family(handle(), "handler") is False
    shared, own = await asyncio.gather(*made, return_exceptions=True)
    assert shared == "served"
    assert isinstance(own, asyncio.CancelledError)


@pytest.fixture
def queue(redis: Redis) -> QueueService:
    return QueueService(redis, user_limit=0, global_limit=0)
