"""Real processes that are killed, stopped and continued."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
from redis.asyncio import Redis

from services.queue import QueueService, Task, TaskState
from tests.conftest import start_server, stop_server
from tests.forks import Fork, start_script
from tests.long import crash_handler, crash_queue
from tests.queueing import enqueue, read
from tests.waiting import stopwatch, until
from tornado_rt.mongo import open_database
from tornado_rt.redis import open_redis
from tornado_rt.stores import running_addresses
from tornado_rt.work import Kind

pytestmark = pytest.mark.long


@pytest.mark.gen_test
async def test_crashes_lose_and_double_nothing() -> None:
    """The short form of `make crash-queue`."""
    outcome = await crash_queue.run(tasks=150, workers=2, kill_every=1.5, redis_kills=1)
    crash_queue.check(outcome)
    assert outcome.redis_kills == 1


@attrs.frozen
class Site:
    """A server without a worker, and the means to start workers."""

    data_dir: Path
    redis: Redis
    queue: QueueService

    def start_worker(self, visibility_seconds: int = 1) -> Fork:
        env = {name: value for name, value in os.environ.items() if not name.startswith("RT_")}
        env |= {
            "RT_DATA_DIR": str(self.data_dir),
            "RT_QUEUE_VISIBILITY_SECONDS": str(visibility_seconds),
            "RT_KINDS": "tests.long.crash_handler",
            "RT_LOG_LEVEL": "ERROR",
        }
        log = self.data_dir.parent / "workers.log"
        return start_script(env, log, "worker", "--concurrency", "1")

    async def submit(self, kind: Kind) -> str:
        """Submit a task; return its id."""
        return await enqueue(self.queue, kind=kind.name, max_attempts=kind.max_attempts)

    async def reported_by(self, task_id: str) -> str:
        """Return who reports the progress of a task now."""
        task = await self.queue.get_task(task_id)
        assert task is not None
        message: str = json.loads(task.snapshot)["message"]
        return message

    async def is_reported(self, task_id: str) -> bool:
        """Say whether a worker has reported the task."""
        return (await self.reported_by(task_id)).startswith("by")

    async def completed(self, task_id: str) -> Task | None:
        """Return the task when it has completed."""
        task = await self.queue.get_task(task_id)
        return task if task is not None and task.status is TaskState.COMPLETED else None

    async def runs_in(self, task_id: str, worker: Fork) -> None:
        """Wait until a worker runs the task."""
        await until(lambda: self.reported_by(task_id), equal=f"by {worker.pid}")

    async def moved(self) -> None:
        """Wait until the outbox is empty: what ended is in MongoDB."""
        await until(lambda: self.redis.xlen(self.queue.prefix + "outbox"), equal=0)


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[Site]:
    server = await asyncio.to_thread(
        start_server, folder / "data", RT_WORKER_CONCURRENCY="0", RT_DRAIN_SECONDS="0"
    )
    try:
        async with open_redis(running_addresses(server.data_dir).redis_url) as redis:
            yield Site(server.data_dir, redis, QueueService(redis, visibility_seconds=1))
    finally:
        await asyncio.to_thread(stop_server, server)


@pytest.mark.gen_test
async def test_stopped_worker_cannot_change_what_another_finished(tmp_path: Path) -> None:
    """SIGSTOP past the lease, another worker finishes, SIGCONT: nothing moves any more."""
    async with site(tmp_path) as here:
        task_id = await here.submit(crash_handler.slow)
        workers = [here.start_worker()]
        try:
            await here.runs_in(task_id, workers[0])
            workers[0].send_signal(signal.SIGSTOP)
            workers.append(here.start_worker())
            done = await until(lambda: here.completed(task_id))
            assert done is not None
            assert done.result == {"pid": workers[1].pid, "attempt": 2}
            before = await here.queue.read_events("task", task_id)
            workers[0].send_signal(signal.SIGCONT)
            workers[0].send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(workers[0].wait, 20) == 0
            # Killed with the entry in its hands, the other would leave it to the next start.
            await here.moved()
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        after = await here.queue.read_events("task", task_id)
        assert (after.cursor, after.snapshot) == (before.cursor, before.snapshot)
        assert await here.queue.check_invariants() == []
        url = running_addresses(here.data_dir).mongodb_url
        async with open_database(url, "tornado_rt") as database:
            assert await database["inbox"].count_documents({}) == 1


@pytest.mark.gen_test
async def test_task_of_a_killed_worker_does_not_wait_for_its_lease(tmp_path: Path) -> None:
    """The next worker of this machine sees that it is gone; one that lives keeps its tasks."""
    async with site(tmp_path) as here:
        tasks = [await here.submit(crash_handler.endless) for _ in range(2)]
        workers = [here.start_worker(300)]
        try:
            await here.runs_in(tasks[0], workers[0])
            workers.append(here.start_worker(300))
            await here.runs_in(tasks[1], workers[1])
            workers[0].kill()
            workers.append(here.start_worker(300))
            await here.runs_in(tasks[0], workers[2])
            again, kept = [await read(here.queue, task_id) for task_id in tasks]
            assert (again.attempt, kept.attempt) == (2, 1)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()


@pytest.mark.gen_test
async def test_cancel_reaches_a_handler_in_another_process_within_a_second(
    tmp_path: Path,
) -> None:
    """Told over the backplane: its worker takes the next task at once."""
    async with site(tmp_path) as here:
        first, second = [await here.submit(crash_handler.slow) for _ in range(2)]
        worker = here.start_worker()
        try:
            await until(lambda: here.is_reported(first))
            async with stopwatch() as seconds:
                await here.queue.cancel_task(first)
                await until(lambda: here.is_reported(second))
                assert seconds() < 1
        finally:
            worker.kill()
            worker.wait()
