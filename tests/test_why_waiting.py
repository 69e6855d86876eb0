"""Why a task waits: each fault is made for real, and has its own code and sentence."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from settings import QueueOrder, Settings
from tests.remote_worker import RemoteWorker
from tests.whys import Token, asked, codes, fact
from tornado_rt.protocol import iso_time

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def _emptied(redis: Redis, database: Any) -> None:
    """Each test begins without tasks and notifications."""


@pytest.mark.gen_test
async def test_paused_kind(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token) as site:
        await site.admin.post("/api/queue/pause", {"kind": "why.quick"})
        task_id = await site.submit("quick")
        found = await site.why(task_id)
        assert found["status"] == "queued"
        assert found["cause"] == {
            "code": "paused",
            "text": "why.quick is paused: no task of it starts until an admin resumes it",
        }
        assert found["heard"] is None
        assert codes(found) == ["submitted", "waits"]
        assert fact(found, "submitted")["text"] == "alice submitted it as a task of why.quick"
        await site.admin.post("/api/queue/resume", {"kind": "why.quick"})
        await site.heard(task_id, "nobody_connected")


@pytest.mark.gen_test
async def test_all_kinds_paused(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token) as site:
        await site.admin.post("/api/queue/pause")
        found = await site.why(await site.submit("quick"))
        assert found["cause"]["code"] == "all_paused"


@pytest.mark.gen_test
async def test_full_key(settings: Settings, make_token: Token) -> None:
    """Of the tasks that hold it those of others are only counted, but for an admin."""
    async with asked(settings, make_token) as site:
        await site.limit("gated", key_limit=2)
        first = await site.hold(key="acme")
        second = await site.hold(user=site.bob, key="acme")
        waits = await site.submit("gated", key="acme", params=site.params)
        found = await site.told(waits, "key_limit")
        assert found["cause"]["text"] == (
            f"2 of at most 2 tasks of why.gated with the key acme run: {first}, 1 of other users"
        )
        seen = (await site.why(waits, site.admin))["cause"]["text"]
        assert first in seen
        assert second in seen


@pytest.mark.gen_test
async def test_full_user_limit(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token, queue_user_limit=1) as site:
        runs = await site.hold()
        found = await site.told(await site.submit("quick"), "user_limit")
        assert found["cause"]["text"] == f"1 of at most 1 tasks of alice run: {runs}"


@pytest.mark.gen_test
async def test_full_user_limit_of_a_kind(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token) as site:
        await site.limit("gated", user_limit=1)
        runs = await site.hold()
        waits = await site.submit("gated", params=site.params)
        found = await site.told(waits, "kind_user_limit")
        assert found["cause"]["text"] == f"1 of at most 1 tasks of why.gated of alice run: {runs}"


@pytest.mark.gen_test
async def test_full_kind_limit(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token) as site:
        await site.limit("gated", limit=1)
        await site.hold(user=site.bob)
        waits = await site.submit("gated", params=site.params)
        found = await site.told(waits, "kind_limit")
        assert found["cause"]["text"] == ("1 of at most 1 tasks of why.gated run: 1 of other users")


@pytest.mark.gen_test
async def test_full_global_limit(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token, queue_global_limit=1) as site:
        runs = await site.hold()
        found = await site.told(await site.submit("quick"), "global_limit")
        assert found["cause"]["text"] == f"1 of at most 1 tasks run: {runs}"


@pytest.mark.gen_test
async def test_rate(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token) as site:
        await site.heard(await site.submit("rated"), "nobody_connected")
        found = await site.told(await site.submit("rated"), "rate")
        assert found["cause"]["text"].startswith("why.rated may start 1/h: the next one in 3")


@pytest.mark.gen_test
async def test_no_worker_of_the_kind(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token, worker_concurrency=0) as site:
        found = await site.why(await site.submit("quick"))
        assert found["cause"]["code"] == "no_worker"
        assert found["cause"]["text"] == "no worker that lives runs why.quick"


@pytest.mark.gen_test
async def test_full_worker(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token, worker_concurrency=1) as site:
        runs = await site.hold("other")
        found = await site.told(await site.submit("quick"), "workers_full")
        assert found["cause"]["text"].endswith(f"(1 of 1 places); they run {runs}")


@pytest.mark.gen_test
async def test_draining_worker(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token, worker_concurrency=0) as site:
        worker = RemoteWorker(await site.worker.socket("/api/ws/worker"), "w7")
        await worker.work(["why.quick"])
        await worker.ask("drain")
        found = await site.told(await site.submit("quick"), "workers_drain")
        assert "w7" in found["cause"]["text"]


@pytest.mark.gen_test
async def test_full_worker_elsewhere(settings: Settings, make_token: Token) -> None:
    """It tells at intervals which tasks it has."""
    async with asked(settings, make_token, worker_concurrency=0) as site:
        worker = RemoteWorker(await site.worker.socket("/api/ws/worker"), "w7")
        await worker.work(["why.quick"])
        runs = await site.submit("quick")
        await worker.task()
        found = await site.told(await site.submit("quick"), "workers_full")
        assert found["cause"]["text"] == (
            "all workers that run why.quick are full: "
            f"remote:crew:w7 (1 of 1 places); they run {runs}"
        )
        assert "remote:crew:w7 runs" in (await site.why(runs))["cause"]["text"]


@pytest.mark.gen_test
async def test_task_behind_users_whose_turn_it_is(settings: Settings, make_token: Token) -> None:
    """A worker that tells no number of places is not known to be full."""
    async with asked(
        settings, make_token, worker_concurrency=0, queue_order=QueueOrder.FAIR
    ) as site:
        worker = RemoteWorker(await site.worker.socket("/api/ws/worker"), "w7")
        await worker.work(["why.quick"], slots=0)
        await site.submit("quick", site.bob)
        found = await site.told(await site.submit("quick"), "turns")
        assert found["cause"]["text"] == "users take turns, and 1 of them come before alice"
        second = await site.submit("quick", site.bob)
        assert (await site.why(second, site.bob))["cause"]["code"] in ("turns", "own_line")


@pytest.mark.gen_test
async def test_task_behind_others_in_line(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token, worker_concurrency=0) as site:
        worker = RemoteWorker(await site.worker.socket("/api/ws/worker"), "w7")
        await worker.work(["why.quick"], slots=0)
        await site.submit("quick", site.bob)
        found = await site.told(await site.submit("quick"), "line")
        assert found["cause"]["text"] == "1 tasks of why.quick are before it"


@pytest.mark.gen_test
async def test_delayed_task(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token) as site:
        run_at = iso_time(datetime.now(UTC) + timedelta(days=3))
        found = await site.why(await site.submit("quick", run_at=run_at))
        assert found["status"] == "delayed"
        assert found["cause"] == {
            "code": "scheduled",
            "text": f"it is set aside until {run_at}",
        }
        assert codes(found) == ["submitted", "set_aside", "waits"]


@pytest.mark.gen_test
async def test_error_that_is_tried_again(settings: Settings, make_token: Token) -> None:
    async with asked(settings, make_token) as site:
        found = await site.told(await site.submit("fails"), "backoff")
        assert found["cause"]["text"].startswith(
            "attempt 1 of 3 ended with: ValueError: the film has no end; the next one may start at "
        )
        assert codes(found) == ["submitted", "claimed", "attempt_error", "waits"]
        assert fact(found, "claimed")["worker"] in fact(found, "claimed")["text"]
