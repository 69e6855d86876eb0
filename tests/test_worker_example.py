"""`examples/worker.mjs`, a worker in JavaScript: runs, cancellation, kill -9, and a stop."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from settings import Settings
from tests.api import Client
from tests.conftest import ROOT, program
from tests.queueing import expire_leases
from tests.remote_worker import office, read
from tests.waiting import until

Token = Callable[..., str]


@contextmanager
def node_worker(client: Client, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the example until the block ends."""
    env = {**os.environ, "RT_URL": client.url, "RT_TOKEN": client.token}
    command = [program("node"), str(ROOT / "examples" / "worker.mjs")]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.kill()
            process.wait()
    assert log.read_bytes() == b""


async def is_known(client: Client) -> bool:
    # None while a busy machine keeps Redis from answering in time.
    kinds = (await client.get("/api/kinds")).body.get("items", [])
    return any(one["kind"] == "count" and one["workers"] for one in kinds)


async def submit(client: Client, **params: Any) -> str:
    answer = await client.post("/api/tasks", {"kind": "count", "params": params})
    assert answer.status == 202, answer.body
    task_id: str = answer.body["task_id"]
    return task_id


async def has(client: Client, task_id: str, **fields: Any) -> bool:
    """Say whether a task has these fields."""
    task = await read(client, task_id)
    return all(task.get(name) == value for name, value in fields.items())


@pytest.mark.gen_test
async def test_example_runs_is_cancelled_killed_and_stopped(
    settings: Settings, redis: Redis, database: Any, tmp_path: Path, make_token: Token
) -> None:
    quiet = settings.changed(queue_user_limit=0, queue_global_limit=0)
    async with office(quiet, make_token) as (alice, machine):
        with node_worker(machine, tmp_path / "first.log") as first:
            await until(lambda: is_known(alice))
            wrong = await alice.post("/api/tasks", {"kind": "count", "params": {"to": "ten"}})
            assert wrong.status == 422
            quick = await submit(alice, to=3, pause=0)
            await until(lambda: has(alice, quick, status="completed", result={"counted": 3}))
            assert (await read(alice, quick))["label"] == "to 3"

            slow = [await submit(alice, to=1000, pause=0.05) for _ in range(4)]
            for task_id in slow:
                await until(lambda one=task_id: has(alice, one, unit="numbers", total=1000))
            kept = await submit(alice, to=20, pause=0.05)
            # It has no more room until it has heard of the cancellation.
            await alice.delete(f"/api/tasks/{slow[0]}")
            await until(lambda: has(alice, kept, done=3))
            for task_id in slow[1:]:
                await alice.delete(f"/api/tasks/{task_id}")
            # Messages of progress are kept too.
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
        await expire_leases(redis)
        # As the end of the lease would do.
        await redis.publish("rt:workers", '{"type":"wake","data":{"due_in":0}}')
        with node_worker(machine, tmp_path / "second.log") as second:
            await until(lambda: has(alice, kept, status="completed", attempt=2))
            last = await submit(alice, to=1000, pause=0.05)
            await until(lambda: has(alice, last, done=2))
            second.send_signal(signal.SIGTERM)
            await until(lambda: second.poll() is not None)
            assert second.returncode == 0
            # Handed back: the attempt does not count.
            await until(lambda: has(alice, last, status="queued", attempt=0))
