"""Why a task runs no further, or ended as it did: each fault is made for real."""

import os
import signal
from pathlib import Path
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis

from settings import Settings
from tests.api import frame_of
from tests.forks import Fork, start_script
from tests.realtime import start_redis
from tests.remote_worker import RemoteWorker
from tests.waiting import has_job, until
from tests.whys import Site, Token, asked, codes, fact

pytestmark = pytest.mark.long

VISIBILITY_SECONDS = 16.0


@pytest.fixture(autouse=True)
def _emptied(redis: Redis, database: Any) -> None:
    """Each test begins without tasks and notifications."""


def start_worker(settings: Settings, folder: Path) -> Fork:
    """Start a worker in a process and on a data folder of its own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RT_")}
    env |= {
        "RT_DATA_DIR": str(folder / "worker"),
        "RT_REDIS_URL": settings.stores.redis_url,
        "RT_QUEUE_VISIBILITY_SECONDS": str(VISIBILITY_SECONDS),
        "RT_KINDS": "tests.why_kinds",
        "RT_WORKER_GRACE_SECONDS": "0.2",
        "RT_LOG_LEVEL": "ERROR",
    }
    return start_script(env, folder / "worker.log", "worker", "--concurrency", "1")


@pytest.mark.gen_test
async def test_dead_worker(settings: Settings, make_token: Token, tmp_path: Path) -> None:
    """Killed by SIGKILL: first its lease lasts, then it runs out and nobody is there to look."""
    more: dict[str, Any] = {
        "worker_concurrency": 0,
        "queue_visibility_seconds": VISIBILITY_SECONDS,
    }
    worker = start_worker(settings, tmp_path)
    try:
        async with asked(settings, make_token, **more) as site:
            task_id = await site.hold()
            worker.kill()
            worker.wait(30)
            silent = await site.told(task_id, "worker_silent")
            assert silent["status"] == "processing"
            assert f":{worker.pid}:" in silent["cause"]["text"]
            over = await site.told(task_id, "lease_over")
            assert "ran out at" in over["cause"]["text"]
    finally:
        worker.kill()
        worker.wait(30)


@pytest.mark.gen_test
async def test_worker_elsewhere_whose_connection_is_lost(
    settings: Settings, make_token: Token
) -> None:
    async with asked(settings, make_token, worker_concurrency=0) as site:
        worker = RemoteWorker(await site.worker.socket("/api/ws/worker"), "w7")
        await worker.work(["why.quick"])
        task_id = await site.submit("quick")
        await worker.task()
        worker.socket.close()
        found = await site.told(task_id, "worker_gone")
        assert found["cause"]["text"].startswith("remote:crew:w7 had it and is gone")
        assert "connection_lost" in codes(found)


@pytest.mark.gen_test
async def test_lost_attempt_is_told_with_its_worker(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token) as site:
        task_id = await site.hold()
        worker_id = fact(await site.why(task_id), "claimed")["worker"]
        queue = site.alice.core.queue
        await queue.expire_claims([worker_id])
        await queue.keep_up()
        # The worker is not known until it says again that it lives.
        found = await site.told(task_id, "running_step", "worker_gone")
        lost = fact(found, "attempt_lost")
        assert (lost["worker"], lost["attempt"]) == (worker_id, 1)
        assert found["chain"][-1]["code"] == "runs"


@pytest.mark.gen_test
async def test_task_that_a_stopping_worker_hands_back(
    settings: Settings, make_token: Token, tmp_path: Path
) -> None:
    worker = start_worker(settings, tmp_path)
    try:
        async with asked(settings, make_token, worker_concurrency=0) as site:
            task_id = await site.hold()
            worker.send_signal(signal.SIGTERM)
            found = await site.told(task_id, "no_worker")
            assert f":{worker.pid}:" in fact(found, "handed_back")["text"]
    finally:
        worker.kill()
        worker.wait(30)


@pytest.mark.gen_test
async def test_running_task_is_told_step_by_step(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token) as site:
        task_id = await site.hold()
        found = await site.told(task_id, "running_step")
        assert found["cause"]["text"].endswith("runs attempt 1 of 2: 0 % done, at the step wait")
        site.let_go()
        ended = await site.heard(task_id, "nobody_connected")
        assert fact(ended, "step")["step"] == "wait"
        assert fact(ended, "ended")["status"] == "completed"
        times = [one["at"] for one in ended["chain"]]
        assert times == sorted(times)


@pytest.mark.gen_test
async def test_redis_away_at_the_ack(
    settings: Settings, make_token: Token, tmp_path: Path, database: Any
) -> None:
    """It hangs when the handler ends, and answers again later."""
    address = tmp_path / "redis.sock"
    process = await start_redis(address)
    try:
        async with asked(settings, make_token, redis_url=f"unix://{address}") as site:
            task_id = await site.hold("other")
            process.send_signal(signal.SIGSTOP)
            site.let_go()
            await until(lambda: not has_job(f"task-{task_id}"))
            await _late()
            process.send_signal(signal.SIGCONT)
            found = await site.told(task_id, "late")
            assert found["status"] == "completed"
            assert found["cause"]["text"].endswith("s later: it was away or slow")
            assert fact(found, "told_late")["seconds"] > 2
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        await process.wait()


async def _late() -> None:
    """Wait until an end that is not told by now is told late."""
    begun = os.times().elapsed
    await until(lambda: os.times().elapsed - begun > 2.5)


@attrs.frozen
class End:
    """A handler's deed, the end of its task, and the sentence that says so."""

    kind: str
    status: str
    code: str
    text: str


ENDS = [
    End(
        "breaks",
        "failed",
        "attempts_used",
        "attempt 1 of 1 failed, and there is no other: ValueError: the film has no end",
    ),
    End(
        "again",
        "dead",
        "retries_used",
        "attempt 1 of 1 asked for another, and there is none: the disk is full",
    ),
    End("refuses", "failed", "failed", "its handler ended it as failed: there is no such film"),
    End(
        "slow",
        "failed",
        "timeout",
        "it was stopped: attempt 1 of 1 took longer than 0.2 s",
    ),
]


@pytest.mark.gen_test
@pytest.mark.parametrize("end", ENDS, ids=lambda one: one.code)
async def test_end_of_a_handler(settings: Settings, make_token: Token, end: End) -> None:
    async with asked(settings, make_token) as site:
        found = await site.told(await site.submit(end.kind), end.code)
        assert found["status"] == end.status
        assert found["cause"] == {"code": end.code, "text": end.text}
        assert fact(found, "ended")["cause"] == end.text


@pytest.mark.gen_test
async def test_budget_that_is_used_up(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token) as site:
        task_id = await site.submit("gated", params=site.params, budget_seconds=0.2)
        found = await site.told(task_id, "budget")
        assert found["cause"]["text"] == (
            "its time is used up: it took longer than 0.2 s in all attempts"
        )


@pytest.mark.gen_test
async def test_lease_that_was_lost_too_often(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token) as site:
        task_id = await site.hold("gated", max_attempts=1)
        worker_id = fact(await site.why(task_id), "claimed")["worker"]
        queue = site.alice.core.queue
        await queue.expire_claims([worker_id])
        await queue.keep_up()
        found = await site.told(task_id, "lost_too_often")
        assert found["status"] == "dead"


@pytest.mark.gen_test
async def test_cancelled_task(settings: Settings, make_token: Token) -> None:
    """By its user, by an admin, on its socket, with its batch, by an operator."""
    async with asked(settings, make_token, worker_concurrency=0) as site:
        ids = [await site.submit("quick") for _ in range(4)]
        await site.alice.delete(f"/api/tasks/{ids[0]}")
        await site.admin.delete(f"/api/tasks/{ids[1]}")
        socket = await site.alice.socket(f"/api/ws/tasks/{ids[2]}")
        await frame_of(socket, "connected")
        await socket.write_message('{"type": "cancel"}')
        await frame_of(socket, "finished")
        await site.alice.core.queue.cancel_task(ids[3])
        body = {"kind": "why.quick", "items": [{}]}
        batch = (await site.alice.post("/api/batches", body)).body
        await site.admin.delete(f"/api/batches/{batch['batch_id']}")
        causes = [(await site.why(one))["cause"]["text"] for one in [*ids, *batch["task_ids"]]]
        assert causes == [
            "alice cancelled it",
            "the admin root cancelled it",
            "alice cancelled it",
            "the operator of the server cancelled it",
            "the admin root cancelled its batch",
        ]
        [in_batch] = batch["task_ids"]
        found = await site.why(in_batch)
        assert fact(found, "submitted_batch")["batch_id"] == batch["batch_id"]
        assert found["heard"]["code"] == "told_by_batch"


@pytest.mark.gen_test
async def test_purged_task(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token, worker_concurrency=0) as site:
        task_id = await site.submit("quick")
        await site.admin.post("/api/queue/purge", {"status": "queued"})
        assert (await site.why(task_id))["cause"]["code"] == "cancelled_purge"


@pytest.mark.gen_test
async def test_task_that_another_replaced(settings: Settings, make_token: Token) -> None:
    """And one that was submitted again under its unique key."""
    async with asked(settings, make_token, worker_concurrency=0) as site:
        first = await site.submit("quick", unique={"key": "k"})
        for _ in range(2):
            assert await site.submit("quick", unique={"key": "k"}) == first
        second = await site.submit("quick", unique={"key": "k", "on_conflict": "replace"})
        found = await site.why(first)
        assert found["cause"] == {
            "code": "cancelled_replaced",
            "text": f"the task {second} was submitted under its unique key and took its place",
        }
        assert fact(found, "asked_again")["times"] == 2
        assert fact(await site.why(second), "replaces")["who"] == first


@pytest.mark.gen_test
async def test_task_that_waits_for_an_answer(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token) as site:
        found = await site.told(await site.submit("asks"), "asked")
        assert found["cause"]["text"] == "it waits for alice to answer: cut"


@pytest.mark.gen_test
async def test_task_that_is_run_again(settings: Settings, make_token: Token) -> None:
    """The cause is that of now; the chain has what was before."""
    async with asked(settings, make_token) as site:
        task_id = await site.submit("breaks")
        await site.told(task_id, "attempts_used")
        await site.admin.post("/api/queue/pause", {"kind": "why.breaks"})
        assert (await site.alice.post(f"/api/tasks/{task_id}/retry")).status == 202
        found = await site.told(task_id, "paused")
        assert fact(found, "rerun_user")["who"] == "alice"
        assert fact(found, "attempt_ended")["outcome"] == "failed"
        await _ends_again(site, task_id)


async def _ends_again(site: Site, task_id: str) -> None:
    await site.admin.post("/api/queue/resume", {"kind": "why.breaks"})
    await site.told(task_id, "attempts_used")
    # Each end has a notification of its own.
    await site.heard(task_id, "nobody_connected")
