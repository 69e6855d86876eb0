"""Workers elsewhere over plain HTTP: claim, report, extend, ack."""

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from handlers.worker import ClaimHandler
from services.remote import RemoteWork
from settings import Settings
from tests.api import Client
from tests.realtime import start_redis
from tests.remote_worker import FILM, Frame, lease, office, read, submit
from tests.waiting import has_job, stopwatch, until

Token = Callable[..., str]


@pytest.fixture
def quiet(settings: Settings, redis: Redis, database: Any) -> Settings:
    """Settings of a server without a worker of its own, and without limits over all kinds."""
    return settings.changed(queue_user_limit=0, queue_global_limit=0)


async def claim(client: Client, count: int = 1, **more: Any) -> Frame:
    """Claim tasks; return the answer."""
    body = {"worker_id": "h1", "kinds": [FILM], "count": count, **more}
    answer = await client.post("/api/worker/claim", body)
    assert answer.status == 200, answer.body
    found: Frame = answer.body
    return found


def claim_of_one_that_leaves(client: Client) -> tuple[bytes, bytes]:
    """Return the head and the body of a claim that waits."""
    body = b'{"worker_id": "gone", "kinds": ["film"], "wait": 30}'
    head = [
        "POST /api/worker/claim HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {client.token}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*head, "", ""]).encode(), body


async def say(client: Client, verb: str, *items: Frame, **more: Any) -> list[Frame]:
    """Say something of tasks; return the answer to each."""
    answer = await client.post(f"/api/worker/{verb}", {"items": list(items), **more})
    assert answer.status == 200, answer.body
    told: list[Frame] = answer.body["items"]
    return told


@pytest.mark.gen_test
async def test_whole_life_of_a_task(quiet: Settings, make_token: Token) -> None:
    async with office(quiet, make_token) as (alice, machine):
        found = await claim(machine)
        assert found == {
            "tasks": [],
            "events": [],
            "lease_seconds": 300,
            "extend_seconds": 100,
        }
        for name in ("a", "b", "c"):
            await submit(alice, name)
        tasks = (await claim(machine, 2))["tasks"]
        assert [task["label"] for task in tasks] == ["a", "b"]
        first, second = tasks
        told = await say(machine, "report", lease(first, progress=40, message="on it"))
        assert told == [lease(first, state="yours")]
        shown = await read(alice, first["task_id"])
        assert (shown["progress"], shown["message"]) == (40, "on it")
        assert await say(machine, "extend", lease(first)) == [lease(first, state="yours")]
        told = await say(
            machine,
            "ack",
            lease(first, outcome="completed", result=[1, 2]),
            lease(second, outcome="error", error="no film", delay=60),
        )
        assert [one["became"] for one in told] == ["completed", "error"]
        assert (await read(alice, first["task_id"]))["result"] == [1, 2]
        shown = await read(alice, second["task_id"])
        assert (shown["status"], shown["error"]) == ("delayed", "no film")


@pytest.mark.gen_test
async def test_claim_waits_for_the_first_task(quiet: Settings, make_token: Token) -> None:
    """It is answered at once when one is submitted, and empty after its time."""
    async with office(quiet, make_token) as (alice, machine):
        waiting = asyncio.create_task(claim(machine, wait=20))
        await until(lambda: has_job("claim-waits"))
        async with stopwatch() as seconds:
            task_id = await submit(alice)
            found = await waiting
            assert seconds() < 0.5
        assert [task["task_id"] for task in found["tasks"]] == [task_id]
        began = time.monotonic()
        async with stopwatch() as seconds:
            assert (await claim(machine, wait=0.3))["tasks"] == []
            assert time.monotonic() - began > 0.25
            assert seconds() < 3


@pytest.mark.gen_test
async def test_claim_is_answered_when_a_running_task_is_cancelled_or_answered(
    quiet: Settings, make_token: Token
) -> None:
    """Also when that happened before it came."""
    async with office(quiet, make_token) as (alice, machine):
        await claim(machine)
        await submit(alice, "a")
        await submit(alice, "b")
        first, second = (await claim(machine, 2))["tasks"]
        running = [lease(first), lease(second)]
        waiting = asyncio.create_task(claim(machine, 0, wait=20, running=running))
        await until(lambda: has_job("claim-waits"))
        await alice.delete(f"/api/tasks/{first['task_id']}")
        cancelled = lease(first, event="cancelled")
        assert (await waiting)["events"] == [cancelled]
        assert (await claim(machine, 0, wait=20, running=running))["events"] == [cancelled]
        [told] = await say(machine, "ack", lease(first, outcome="released"))
        assert told["became"] == "cancelled"


@pytest.mark.gen_test
async def test_two_claims_that_wait_share_what_comes(quiet: Settings, make_token: Token) -> None:
    async with office(quiet, make_token) as (alice, machine):
        waiting = [
            asyncio.create_task(claim(machine, 5, wait=20, worker_id=f"h{n}")) for n in range(2)
        ]
        await until(lambda: has_job("claim-waits"))
        ids = {await submit(alice, str(number)) for number in range(2)}
        found = [await one for one in waiting]
        got = [task["task_id"] for one in found for task in one["tasks"]]
        assert sorted(got) == sorted(ids)
        assert (await alice.get("/api/queue/stats")).body["processing"] == 2


@pytest.mark.gen_test
async def test_client_that_leaves_while_it_waits_takes_no_task(
    quiet: Settings, make_token: Token
) -> None:
    async with office(quiet, make_token) as (alice, machine):
        _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(machine.url).port)
        writer.writelines(claim_of_one_that_leaves(machine))
        await until(lambda: has_job("claim-waits"))
        writer.close()
        await writer.wait_closed()
        await until(lambda: not has_job("claim-waits"))
        await claim(machine)
        task_id = await submit(alice)
        shown = await read(alice, task_id)
        assert (shown["status"], shown["attempt"]) == ("queued", 0)


@pytest.mark.gen_test
@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("connects_before", [False, True])
@pytest.mark.parametrize("in_two_pieces", [False, True])
async def test_client_that_leaves_as_it_asks_takes_no_task(
    quiet: Settings,
    make_token: Token,
    resets: bool,
    connects_before: bool,
    in_two_pieces: bool,
) -> None:
    """The server reads the end of the connection together with the request, or a turn later."""
    async with office(quiet, make_token) as (alice, machine):
        head, body = claim_of_one_that_leaves(machine)
        leaver = socket.create_connection(("127.0.0.1", urlsplit(machine.url).port))
        if connects_before:
            await claim(machine)
        if in_two_pieces:
            leaver.sendall(head)
            await claim(machine)
            leaver.sendall(body)
        else:
            leaver.sendall(head + body)
        if resets:
            leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        leaver.close()
        await until(lambda: has_job("claim"), equal=False)
        await claim(machine, wait=0.1)
        task_id = await submit(alice)
        assert (await claim(machine))["tasks"][0]["task_id"] == task_id


@pytest.mark.gen_test
async def test_handler_learns_that_its_client_left_as_it_asked(
    quiet: Settings, make_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that does not look."""
    left: list[ClaimHandler] = []

    def note(handler: ClaimHandler) -> None:
        left.append(handler)
        learn(handler)

    learn = ClaimHandler.on_connection_close
    monkeypatch.setattr(ClaimHandler, "on_connection_close", note)
    monkeypatch.setattr(ClaimHandler, "is_left", False)
    async with office(quiet, make_token) as (_, machine):
        head, body = claim_of_one_that_leaves(machine)
        with socket.create_connection(("127.0.0.1", urlsplit(machine.url).port)) as leaver:
            leaver.sendall(head)
            await claim(machine)
            leaver.sendall(body)
        await until(lambda: left)
        await until(lambda: has_job("claim"), equal=False)


@pytest.mark.gen_test
async def test_task_for_a_client_that_leaves_in_that_moment_is_handed_back(
    quiet: Settings, make_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server finds the task before it reads that the connection has ended."""
    async with office(quiet, make_token) as (alice, machine):
        await claim(machine)
        with socket.create_connection(("127.0.0.1", urlsplit(machine.url).port)) as leaver:
            find = RemoteWork.claim

            async def find_and_leave(work: RemoteWork, *given: Any) -> Any:
                found = await find(work, *given)
                leaver.shutdown(socket.SHUT_RDWR)
                return found

            monkeypatch.setattr(RemoteWork, "claim", find_and_leave)
            leaver.sendall(b"".join(claim_of_one_that_leaves(machine)))
            await until(lambda: has_job("claim-waits"))
            task_id = await submit(alice)
            await until(lambda: has_job("claim"), equal=False)
            monkeypatch.undo()
        again = await claim(machine, wait=5)
        assert again["tasks"][0]["task_id"] == task_id


@pytest.mark.gen_test
async def test_lease_may_be_shorter(quiet: Settings, redis: Redis, make_token: Token) -> None:
    async with office(quiet, make_token) as (alice, machine):
        await claim(machine)
        task_id = await submit(alice)
        found = await claim(machine, lease=30)
        assert (found["lease_seconds"], found["extend_seconds"]) == (30, 10)
        ends = await redis.zscore("{rtq}:processing", task_id)
        seconds, _ = await redis.time()
        assert ends is not None
        assert 25 < ends / 1000 - seconds <= 31
        await say(machine, "extend", lease(found["tasks"][0]), lease=100)
        ends = await redis.zscore("{rtq}:processing", task_id)
        assert 95 < ends / 1000 - seconds <= 102


@pytest.mark.gen_test
async def test_bad_requests_say_what_is_wrong_and_where(quiet: Settings, make_token: Token) -> None:
    async with office(quiet, make_token) as (alice, machine):
        wrong: list[tuple[str, Any, int, str]] = [
            ("claim", {"worker_id": "a b", "kinds": ["x"]}, 422, "worker_id must be 1 to 100"),
            ("claim", {"worker_id": "a", "kinds": []}, 422, "kinds must name one or more"),
            ("claim", {"worker_id": "a", "kinds": ["X!"]}, 422, "kinds[0] must be 1 to 64"),
            ("claim", {"worker_id": "a", "kinds": ["rt.push"]}, 422, "run by the server alone"),
            (
                "claim",
                {"worker_id": "a", "kinds": [{"kind": "x", "title": "X"}]},
                422,
                "params_schema",
            ),
            (
                "claim",
                {"worker_id": "a", "kinds": [{"kind": "x", "params_schema": {"type": "nothing"}}]},
                422,
                "kinds[0]",
            ),
            (
                "claim",
                {"worker_id": "a", "kinds": [{**FILM, "limits": {"limit": -1}}]},
                422,
                "limit must be an integer",
            ),
            (
                "claim",
                {"worker_id": "a", "kinds": [{**FILM, "plan": [{"title": "x"}]}]},
                422,
                "kinds[0]: a step is a name",
            ),
            (
                "claim",
                {"worker_id": "a", "kinds": ["x"], "count": 10**5},
                422,
                "count must be at most",
            ),
            ("claim", {"worker_id": "a", "kinds": ["x"] * 101}, 422, "at most 100 items"),
            ("claim", {"worker_id": "a", "kinds": ["x"], "lease": 1}, 422, "lease must be 5"),
            ("report", {"items": 1}, 422, "items must be a list"),
            ("ack", [], 422, "items must be a list"),
            ("extend", {"items": [{}] * 1001}, 422, "at most 1000 items"),
            ("ack", b"{", 400, "not JSON"),
        ]
        for verb, body, status, told in wrong:
            answer = await machine.post(f"/api/worker/{verb}", body)
            assert answer.status == status, (verb, body, answer.body)
            assert told in str(answer.body), (verb, body, answer.body)
        for verb in ("claim", "report", "extend", "ack"):
            assert (await alice.post(f"/api/worker/{verb}", {})).status == 403
        [told] = await say(machine, "ack", {"task_id": "x", "token": "1"})  # type: ignore[assignment]
        assert "items[0].outcome is required" in told["error"]["message"]  # type: ignore[index]
        [told] = await say(machine, "report", 7)  # type: ignore[assignment, arg-type]
        assert "items[0] must be a JSON object" in told["error"]["message"]  # type: ignore[index]


@pytest.mark.gen_test
async def test_claim_of_a_token_bounds_the_kinds(quiet: Settings, make_token: Token) -> None:
    """Also what may be said of tasks, that another process may have handed out."""
    async with office(quiet, make_token) as (alice, machine):
        bound = machine.as_user(make_token("narrow", scope="rt:work", kinds=["song", "film.*"]))
        answer = await bound.post("/api/worker/claim", {"worker_id": "n", "kinds": ["film"]})
        assert answer.status == 403
        assert "no pattern for kind film" in answer.body["detail"]
        await claim(bound, kinds=["song", "film.short"])
        await claim(machine)
        await submit(alice)
        [task] = (await claim(machine))["tasks"]
        for verb, item in (
            ("report", {"progress": 1}),
            ("extend", {}),
            ("ack", {"outcome": "failed"}),
        ):
            [told] = await say(bound, verb, lease(task, **item))
            assert told["error"]["code"] == "forbidden"
        assert (await read(alice, task["task_id"]))["status"] == "processing"


@pytest.mark.gen_test
async def test_another_process_takes_reports_and_ends(quiet: Settings, make_token: Token) -> None:
    """The other server goes on with tasks that one has handed out, with their reported steps."""
    async with (
        office(quiet, make_token) as (alice, machine),
        office(quiet, make_token) as (_, other),
    ):
        await claim(machine)
        await submit(alice)
        [task] = (await claim(machine))["tasks"]
        await say(machine, "report", lease(task, step="encode", fraction=0.2))
        before = await read(alice, task["task_id"])
        await say(other, "report", lease(task, message="elsewhere"))
        shown = await read(alice, task["task_id"])
        assert shown["message"] == "elsewhere"
        assert shown["progress"] == pytest.approx(before["progress"])
        assert [one["status"] for one in shown["steps"]] == ["completed", "current"]
        [told] = await say(other, "ack", lease(task, outcome="completed", result=1))
        assert told["became"] == "completed"
        shown = await read(alice, task["task_id"])
        assert (shown["status"], shown["progress"]) == ("completed", 100)
        [told] = await say(machine, "report", lease(task, progress=50))
        assert told["state"] == "lost"


@pytest.mark.gen_test
async def test_redis_away_is_503_and_an_ack_is_kept(
    quiet: Settings, tmp_path: Any, make_token: Token
) -> None:
    address = tmp_path / "redis.sock"
    server = await start_redis(address)
    settings = quiet.changed(redis_url=f"unix://{address}")
    try:
        async with office(settings, make_token) as (alice, machine):
            await claim(machine)
            task_id = await submit(alice)
            [task] = (await claim(machine))["tasks"]
            server.send_signal(19)
            # A request that waits for Redis takes as long as Redis may take.
            answer = await machine.post(
                "/api/worker/ack", {"items": [lease(task, outcome="completed", result=7)]}
            )
            assert answer.status == 503
            assert int(answer.headers["Retry-After"]) >= 1
            server.send_signal(18)

            async def is_completed() -> bool:
                return (await alice.get(f"/api/tasks/{task_id}")).body.get("status") == "completed"

            await until(is_completed)

            async def is_told() -> Any:
                body = {"items": [lease(task, outcome="completed", result=7)]}
                answer = await machine.post("/api/worker/ack", body)
                return answer.status == 200 and answer.body["items"][0]["became"]

            await until(is_told, equal="completed")
    finally:
        server.send_signal(18)
        server.terminate()
        await server.wait()
