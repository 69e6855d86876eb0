"""Workers elsewhere on a WebSocket: they are sent tasks, report, and end them."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from settings import Settings
from tests.api import frame_of
from tests.queueing import expire_leases
from tests.remote_worker import FILM, connect, lease, office, read, submit
from tests.waiting import stopwatch, until

pytestmark = pytest.mark.long

Token = Callable[..., str]


@pytest.fixture
def quiet(settings: Settings, redis: Redis, database: Any) -> Settings:
    """Settings of a server without a worker of its own, and without limits over all kinds."""
    return settings.changed(queue_user_limit=0, queue_global_limit=0)


@pytest.mark.gen_test
async def test_worker_is_sent_a_task_reports_and_ends_it(
    quiet: Settings, make_token: Token
) -> None:
    """All that a user sees of it is as if the worker was inside."""
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        working = await worker.work(slots=2)
        assert working["kinds"] == ["film"]
        task_id = await submit(alice, "b.mkv", tags=["x"])
        task = await worker.task()
        assert task["task_id"] == task_id
        assert (task["kind"], task["label"], task["user_id"]) == ("film", "b.mkv", "alice")
        assert task["params"] == {"path": "b.mkv", "size": 1}
        assert (task["attempt"], task["timeout"], task["budget_left"]) == (1, 600, None)
        assert [step["name"] for step in task["plan"]] == ["decode", "encode"]
        assert (task["kept"], task["state"], task["tags"]) == ({}, {}, ["x"])

        watching = await alice.socket(f"/api/ws/tasks/{task_id}")
        [told] = await worker.items(
            "report", lease(task, step="encode", fraction=0.5, message="half of it")
        )
        assert told == lease(task, state="yours")
        progress: dict[str, Any] = {}
        while progress.get("message") != "half of it":
            progress = (await frame_of(watching, "progress"))["data"]
        assert progress["progress"] == pytest.approx(25 + 75 / 2)
        assert [step["status"] for step in progress["steps"]] == ["completed", "current"]
        assert progress["current_step_name"] == "Encoding"

        [ended] = await worker.items("ack", lease(task, outcome="completed", result={"frames": 3}))
        assert ended == lease(task, became="completed")
        finished = (await frame_of(watching, "finished"))["data"]
        assert finished["final_status"] == "completed"
        shown = await read(alice, task_id)
        assert shown["result"] == {"frames": 3}
        assert (shown["progress"], shown["message"]) == (100, "Done")
        assert [step["status"] for step in shown["steps"]] == ["completed", "completed"]


@pytest.mark.gen_test
async def test_declared_kind_is_shown_and_submissions_are_checked_by_its_schema(
    quiet: Settings, make_token: Token
) -> None:
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work()
        [kind] = [
            one for one in (await alice.get("/api/kinds")).body["items"] if one["kind"] == "film"
        ]
        assert (kind["title"], kind["label"], kind["workers"]) == ("Cut a film", "{path}", 1)
        assert kind["params_schema"] == FILM["params_schema"]
        assert (kind["timeout"], kind["max_attempts"], kind["limits"]["limit"]) == (600, 3, 50)
        answer = await alice.post("/api/tasks", {"kind": "film", "params": {"size": "big", "x": 1}})
        assert answer.status == 422
        told = " ".join(answer.body["errors"])
        for part in ("params.path", "params.size must be an integer", "x"):
            assert part in told


@pytest.mark.gen_test
async def test_waiting_worker_is_woken_at_once(quiet: Settings, make_token: Token) -> None:
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work()
        for _ in range(3):
            async with stopwatch() as seconds:
                await submit(alice)
                task = await worker.task()
                assert seconds() < 0.5
            await worker.items("ack", lease(task, outcome="completed"))


@pytest.mark.gen_test
async def test_slots_are_never_exceeded_and_freed_by_acks(
    quiet: Settings, make_token: Token
) -> None:
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work(slots=3)
        for number in range(10):
            await submit(alice, f"{number}.mkv")
        running = await worker.tasks(3)
        done = []
        while running:
            assert len(running) <= 3
            one = running.pop(0)
            done.append(one["params"]["path"])
            await worker.items("ack", lease(one, outcome="completed"))
            if len(done) + len(running) < 10:
                running += await worker.tasks()
            stats = (await alice.get("/api/queue/stats")).body
            assert stats["processing"] <= 3
        assert done == [f"{number}.mkv" for number in range(10)]


@pytest.mark.gen_test
async def test_stale_token_changes_nothing_and_is_told_so_item_by_item(
    quiet: Settings, redis: Redis, make_token: Token
) -> None:
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work(slots=2)
        ids = [await submit(alice, name) for name in ("a", "b")]
        first, second = sorted(await worker.tasks(2), key=lambda one: ids.index(one["task_id"]))
        await redis.zadd("{rtq}:processing", {first["task_id"]: 1})
        other = await connect(machine, "w2")
        await other.work()
        again = await other.task()
        assert again["task_id"] == first["task_id"]
        assert again["attempt"] == 2
        event = await worker.event()
        assert event == lease(first, event="lost")
        told = await worker.items(
            "report",
            lease(first, progress=90),
            lease(second, progress=50),
            lease(second, progress=200),
        )
        assert told[0] == lease(first, state="lost")
        assert told[1] == lease(second, state="yours")
        assert told[2]["error"]["code"] == "bad_request"
        assert "items[2].progress must be from 0 to 100" in told[2]["error"]["message"]
        told = await worker.items("extend", lease(first), lease(second))
        assert [one["state"] for one in told] == ["lost", "yours"]
        told = await worker.items(
            "ack", lease(first, outcome="completed", result=1), lease(second, outcome="completed")
        )
        assert [one["became"] for one in told] == ["lost", "completed"]
        shown = await read(alice, first["task_id"])
        assert (shown["status"], shown["progress"], shown["result"]) == ("processing", 0, None)


@pytest.mark.gen_test
async def test_ack_that_is_repeated_has_the_same_answer(quiet: Settings, make_token: Token) -> None:
    """Also one that another attempt follows, and one of a result that cannot be kept."""
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work(slots=4)
        for name in "abc":
            await submit(alice, name)
        a, b, c = sorted(await worker.tasks(3), key=lambda one: str(one["label"]))
        ends = [
            lease(a, outcome="completed", result=[1]),
            lease(b, outcome="retry", delay=60, error="later"),
            lease(c, outcome="failed", error="broken"),
        ]
        for _ in range(2):
            told = await worker.items("ack", *ends)
            assert [one["became"] for one in told] == ["completed", "retry", "failed"]
        assert (await read(alice, b["task_id"]))["status"] == "delayed"
        assert (await read(alice, c["task_id"]))["error"] == "broken"


@pytest.mark.gen_test
async def test_result_that_is_too_large_fails_the_task_and_says_so(
    quiet: Settings, make_token: Token
) -> None:
    async with office(quiet.changed(task_result_bytes=100), make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work()
        task_id = await submit(alice)
        [told] = await worker.items(
            "ack", lease(await worker.task(), outcome="completed", result="x" * 200)
        )
        assert told["became"] == "failed"
        assert "at most 100 are allowed" in told["error"]["message"]
        assert "at most 100 are allowed" in (await read(alice, task_id))["error"]


@pytest.mark.gen_test
async def test_worker_is_told_of_a_cancellation_at_once(quiet: Settings, make_token: Token) -> None:
    """It keeps its place until the worker says that the handler has stopped."""
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work()
        task_id = await submit(alice)
        task = await worker.task()
        await submit(alice, "next")
        async with stopwatch() as seconds:
            await alice.delete(f"/api/tasks/{task_id}")
            assert await worker.event() == lease(task, event="cancelled")
            assert seconds() < 0.5
        [told] = await worker.items("report", lease(task, progress=5))
        assert told == lease(task, state="cancelled")
        assert not worker.waiting
        [told] = await worker.items("ack", lease(task, outcome="released"))
        assert told == lease(task, became="cancelled")
        assert (await worker.task())["label"] == "next"


@pytest.mark.gen_test
async def test_later_attempt_has_what_an_earlier_one_kept(
    quiet: Settings, make_token: Token
) -> None:
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work()
        await submit(alice)
        task = await worker.task()
        await worker.items(
            "report", lease(task, keep={"decoded": {"frames": 12}}, state={"page": 3}, progress=10)
        )
        [told] = await worker.items("ack", lease(task, outcome="error", error="oops", delay=0))
        assert told["became"] == "error"
        again = await worker.task()
        assert again["attempt"] == 2
        assert again["kept"] == {"decoded": {"frames": 12}}
        assert again["state"] == {"page": 3}


@pytest.mark.gen_test
async def test_worker_notifies_and_asks_the_user_and_hears_the_answer(
    quiet: Settings, make_token: Token
) -> None:
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work()
        await submit(alice)
        task = await worker.task()
        question = {
            "name": "go",
            "title": "Go on?",
            "options": {"yes": "Yes", "no": "No"},
            "id": "q1",
        }
        note = {"title": "Half way", "severity": "success", "id": "n1"}
        [told] = await worker.items("report", lease(task, notify=note, ask=question))
        assert told["asked"]["answer"] is None

        async def asked() -> Any:
            items = (await alice.get("/api/notifications")).body["items"]
            assert len(items) < 3
            return {one["title"]: one for one in items} if len(items) == 2 else None

        found = await until(asked)
        assert found["Half way"]["severity"] == "success"
        id_ = found["Go on?"]["id"]
        assert (await alice.post(f"/api/notifications/{id_}/actions/yes")).status == 200
        assert await worker.event() == lease(task, event="answer")
        [told] = await worker.items("report", lease(task, ask=question, notify=note))
        assert told["asked"]["answer"] == "yes"
        assert await asked() is not None


@pytest.mark.gen_test
async def test_draining_worker_is_sent_nothing_and_hands_back(
    quiet: Settings, make_token: Token
) -> None:
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work(slots=2)
        await submit(alice, "a")
        task = await worker.task()
        assert (await worker.ask("drain"))["data"]["running"] == 1
        await submit(alice, "b")
        [told] = await worker.items("ack", lease(task, outcome="released"))
        assert told == lease(task, became="released")
        shown = await read(alice, task["task_id"])
        assert (shown["status"], shown["attempt"]) == ("queued", 0)
        assert not worker.waiting
        await worker.work(slots=2)
        assert {one["label"] for one in await worker.tasks(2)} == {"a", "b"}


@pytest.mark.gen_test
async def test_two_workers_are_sent_tasks_of_their_own_kinds(
    quiet: Settings, make_token: Token
) -> None:
    song = {"kind": "song", "params_schema": {"type": "object"}}
    async with office(quiet, make_token) as (alice, machine):
        films, songs = await connect(machine, "films"), await connect(machine, "songs")
        await films.work(slots=5)
        await songs.work([song], slots=5)
        for number in range(4):
            await submit(alice, f"{number}")
            await alice.post("/api/tasks", {"kind": "song"})
        assert {one["kind"] for one in await films.tasks(4)} == {"film"}
        assert {one["kind"] for one in await songs.tasks(4)} == {"song"}
        assert not films.waiting
        assert not songs.waiting


@pytest.mark.gen_test
async def test_pauses_and_limits_of_a_kind_hold(quiet: Settings, make_token: Token) -> None:
    async with office(quiet, make_token) as (alice, machine):
        admin = alice.as_user(make_token("root", scope="rt:admin"))
        worker = await connect(machine)
        await worker.work([{**FILM, "limits": {"limit": 2}}], slots=5)
        await admin.post("/api/queue/pause", {"kind": "film"})
        for number in range(3):
            await submit(alice, f"{number}")
        await admin.post("/api/queue/resume", {"kind": "film"})
        first, _ = await worker.tasks(2)
        assert (await alice.get("/api/queue/stats")).body["queued"] == 1
        await worker.items("ack", lease(first, outcome="completed"))
        assert (await worker.task())["label"] == "2"


@pytest.mark.gen_test
async def test_expired_lease_is_told_when_the_worker_extends(
    quiet: Settings, redis: Redis, make_token: Token
) -> None:
    settings = quiet.changed(queue_visibility_seconds=300.0)
    async with office(settings, make_token) as (alice, machine):
        worker = await connect(machine)
        working = await worker.work()
        assert (working["lease_seconds"], working["extend_seconds"]) == (300, 100)
        task_id = await submit(alice)
        task = await worker.task()
        before = await redis.zscore("{rtq}:processing", task_id)
        await asyncio.sleep(0.01)
        assert (await worker.items("extend", lease(task)))[0]["state"] == "yours"
        assert await redis.zscore("{rtq}:processing", task_id) > before
        await expire_leases(redis)
        await worker.socket.write_message('{"type": "ping"}')

        async def is_lost() -> bool:
            return (await worker.items("extend", lease(task)))[0]["state"] == "lost"

        # The worker's own places are taken by it: another attempt is sent here, in another place.
        other = await connect(machine, "w2")
        await other.work()
        assert (await other.task())["attempt"] == 2
        assert await is_lost()


@pytest.mark.gen_test
async def test_task_that_reports_nothing_has_its_time_left_told_with_its_lease(
    quiet: Settings, make_token: Token
) -> None:
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work([FILM | {"expected_seconds": 60}], slots=2)
        task_id = await submit(alice, "a.mkv")
        task = await worker.task()

        async def left() -> float | None:
            await worker.items("extend", lease(task))
            seconds: float | None = (await read(alice, task_id))["elapsed_time"]
            return seconds

        await until(left)
        shown = await read(alice, task_id)
        assert 50 < shown["remaining_time"] < 60
        assert shown["remaining_low"] < shown["remaining_time"] < shown["remaining_high"]


@pytest.mark.gen_test
async def test_tasks_that_run_elsewhere_teach_those_that_come(
    quiet: Settings, make_token: Token, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.estimates.estimates.FRESH_SECONDS", 0.0)
    async with office(quiet, make_token) as (alice, machine):
        worker = await connect(machine)
        await worker.work(slots=2)
        for number in range(2):
            task_id = await submit(alice, f"{number}.mkv")
            task = await worker.task()
            await worker.items("report", lease(task, step="encode"))
            shown = await read(alice, task_id)
            assert ["usual_duration" in step for step in shown["steps"]] == [bool(number)] * 2
            await worker.items("ack", lease(task, outcome="completed", result={"frames": 3}))
        [key] = await redis.keys("{rtq}:history:*")
        assert await redis.llen(key) >= 1
