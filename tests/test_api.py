"""The whole server over HTTP: every endpoint, and what it answers to bad input."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.asyncio import Redis

from services.queue import Ack, Outcome
from settings import Settings
from tests.api import count_processing, event_of, frame, frame_of, notified, serving
from tests.waiting import has_job, until

pytestmark = pytest.mark.long

Token = Callable[..., str]


@pytest.fixture
def working(settings: Settings, redis: Redis, database: Any) -> Settings:
    """Settings of a server with a worker, on empty stores."""
    return settings.changed(worker_concurrency=3)


@pytest.fixture
def idle(settings: Settings, redis: Redis, database: Any) -> Settings:
    """Settings of a server that runs no task, on empty stores."""
    return settings


@pytest.mark.gen_test
async def test_main_job_over_an_event_stream(working: Settings, make_token: Token) -> None:
    """Submit, watch to the end, find the result and the notification."""
    async with serving(working, make_token("alice")) as alice:
        submitted = await alice.post("/api/tasks", {"symbol": "AAPL"})
        assert submitted.status == 202
        links = submitted.body["links"]
        assert submitted.headers["Location"] == links["self"]
        stream = await alice.stream(links["events"])
        finished = await event_of(stream, "finished")
        assert finished["final_status"] == "completed"
        assert finished["result"]["decision"] in ("buy", "hold", "sell")
        with pytest.raises(EOFError):
            await stream.event()
        await stream.close()
        snapshot = (await alice.get(links["self"])).body
        assert (snapshot["status"], snapshot["progress"]) == ("completed", 100)
        assert {step["status"] for step in snapshot["steps"]} == {"completed"}
        page = await until(lambda: notified(alice))
        [notification] = page["items"]
        assert notification["metadata"]["task_id"] == submitted.body["task_id"]
        assert notification["metadata"]["result"] == finished["result"]
        assert (page["unread"], notification["severity"]) == (1, "success")
        assert (await alice.get("/api/queue/stats")).body["completed"] == 1


@pytest.mark.gen_test
async def test_main_job_over_sockets(working: Settings, make_token: Token) -> None:
    """Progress never goes back, `finished` closes with 1000, the notification is pushed."""
    async with serving(working, make_token("alice")) as alice:
        news = await alice.socket("/api/ws/notifications")
        assert (await frame(news))["data"]["unread_count"] == 0
        task_id = await alice.submit("IBM", params={"analysts": ["market", "news", "social"]})
        socket = await alice.socket(f"/api/ws/tasks/{task_id}")
        connected = await frame(socket)
        assert connected["data"]["snapshot"]["task_id"] == task_id
        shown = [connected["data"]["snapshot"]["progress"]]
        while (one := await frame(socket))["type"] != "finished":
            shown.append(one["data"]["progress"])
        assert shown == sorted(shown)
        assert shown[-1] == 100
        assert await socket.read_message() is None
        assert socket.close_code == 1000
        assert (await frame_of(news, "notification"))["data"]["metadata"]["task_id"] == task_id
        assert (await frame_of(news, "unread_count"))["data"]["unread"] == 1


@pytest.mark.gen_test
async def test_unknown_symbol_fails_and_says_which_are_known(
    working: Settings, make_token: Token
) -> None:
    async with serving(working, make_token("alice")) as alice:
        stream = await alice.stream(f"/api/tasks/{await alice.submit('ZZZ')}")
        finished = await event_of(stream, "finished")
        assert finished["final_status"] == "failed"
        assert "AAPL, AMZN, GOOG, IBM, MSFT" in finished["error"]
        await stream.close()


@pytest.mark.gen_test
async def test_batch_is_watched_to_its_end(working: Settings, make_token: Token) -> None:
    """One stream and one notification for all its tasks."""
    async with serving(working, make_token("alice")) as alice:
        made = await alice.post("/api/batches", {"symbols": ["AAPL", "IBM", "ZZZ"]})
        assert (made.status, made.body["submitted"]) == (202, 3)
        assert len(made.body["task_ids"]) == 3
        stream = await alice.stream(made.body["links"]["events"])
        finished = await event_of(stream, "finished")
        assert finished["final_status"] == "partial"
        assert (finished["completed"], finished["failed"]) == (2, 1)
        await stream.close()
        page = await until(lambda: notified(alice))
        assert [item["metadata"]["batch_id"] for item in page["items"]] == [made.body["batch_id"]]
        assert (await alice.get(made.body["links"]["self"])).body["status"] == "partial"


@pytest.mark.gen_test
async def test_late_stream_gets_the_end_and_the_cursor_of_the_end_gets_204(
    working: Settings, make_token: Token
) -> None:
    """Cut off at any event before `finished`, a client still gets to it."""
    async with serving(working, make_token("alice")) as alice:
        path = f"/api/tasks/{await alice.submit()}"
        first = await alice.stream(path)
        await event_of(first, "finished")
        await first.close()
        late = await alice.stream(path)
        events = [await late.event() for _ in range(3)]
        assert [event["event"] for event in events] == ["connected", "progress", "finished"]
        assert len({event["id"] for event in events}) == 3
        await late.close()
        for event in events[:2]:
            again = await alice.stream(path, **{"Last-Event-ID": event["id"]})
            assert (await event_of(again, "finished"))["final_status"] == "completed"
            await again.close()
        over = await alice.stream(path, **{"Last-Event-ID": events[2]["id"]})
        assert over.status == 204
        await over.close()


@pytest.mark.gen_test
@pytest.mark.parametrize("over", ["http", "socket"])
async def test_running_task_is_cancelled(working: Settings, make_token: Token, over: str) -> None:
    """The handler is stopped and the slot is free again."""
    slow = working.changed(step_seconds=60.0)
    async with serving(slow, make_token("alice")) as alice:
        task_id = await alice.submit()
        socket = await alice.socket(f"/api/ws/tasks/{task_id}")
        await until(lambda: count_processing(alice))
        if over == "http":
            assert (await alice.delete(f"/api/tasks/{task_id}")).body["status"] == "cancelled"
        else:
            await socket.write_message('{"type": "cancel"}')
        assert (await frame_of(socket, "finished"))["data"]["final_status"] == "cancelled"
        stats = (await alice.get("/api/queue/stats")).body
        assert (stats["processing"], stats["cancelled"]) == (0, 1)
        await until(lambda: not has_job(f"task-{task_id}"))


@pytest.mark.gen_test
async def test_waiting_task_has_a_position_and_is_found_after_a_reload(
    idle: Settings, make_token: Token
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        first = await alice.post("/api/tasks", {"symbol": "AAPL"})
        second = await alice.post("/api/tasks", {"symbol": "IBM"})
        assert [first.body["position"], second.body["position"]] == [1, 2]
        items = (await alice.get("/api/tasks")).body["items"]
        assert [(item["symbol"], item["position"]) for item in items] == [("IBM", 2), ("AAPL", 1)]


@pytest.mark.gen_test
async def test_what_is_anothers_is_not_there(idle: Settings, make_token: Token) -> None:
    """404, on every way to it."""
    async with serving(idle, make_token("alice")) as alice:
        bob = alice.as_user(make_token("bob"))
        task_id = await alice.submit()
        batch = (await alice.post("/api/batches", {"symbols": ["IBM"]})).body["batch_id"]
        note = {"user_id": "alice", "type": "alert", "title": "x"}
        id_ = (await alice.post("/api/notifications", note)).body["id"]
        for method, path in (
            ("GET", f"/api/tasks/{task_id}"),
            ("DELETE", f"/api/tasks/{task_id}"),
            ("GET", f"/api/batches/{batch}"),
            ("DELETE", f"/api/batches/{batch}"),
            ("POST", f"/api/notifications/{id_}/read"),
            ("DELETE", f"/api/notifications/{id_}"),
        ):
            answer = await bob.send(method, path)
            assert (answer.status, method, path) == (404, method, path)
            assert answer.headers["Content-Type"] == "application/problem+json"
        socket = await bob.socket(f"/api/ws/tasks/{task_id}")
        assert (await frame(socket))["data"]["code"] == "not_found"
        assert await socket.read_message() is None
        assert socket.close_code == 4404


BAD_BODIES: list[tuple[str, Any, int]] = [
    ("/api/tasks", b"{", 400),
    ("/api/tasks", b"", 400),
    ("/api/tasks", [], 422),
    ("/api/tasks", {}, 422),
    ("/api/tasks", {"symbol": 5}, 422),
    ("/api/tasks", {"symbol": ""}, 422),
    ("/api/tasks", {"symbol": "x" * 65}, 422),
    ("/api/tasks", {"symbol": "A\u0000B"}, 422),
    ("/api/tasks", {"symbol": "A", "extra": 1}, 422),
    ("/api/tasks", {"symbol": "A", "delay": -1}, 422),
    ("/api/tasks", {"symbol": "A", "delay": "1"}, 422),
    ("/api/tasks", {"symbol": "A", "run_at": "tomorrow"}, 422),
    ("/api/tasks", {"symbol": "A", "run_at": "2030-01-01T00:00:00"}, 422),
    ("/api/tasks", {"symbol": "A", "callback_url": "ftp://x"}, 422),
    ("/api/tasks", {"symbol": "A", "params": {"research_depth": 6}}, 422),
    ("/api/tasks", {"symbol": "A", "params": {"research_depth": True}}, 422),
    ("/api/tasks", {"symbol": "A", "params": {"analysts": ["weather"]}}, 422),
    ("/api/tasks", {"symbol": "A", "params": {"analysts": []}}, 422),
    ("/api/tasks", {"symbol": "A", "params": {"llm_provider": 1}}, 422),
    ("/api/batches", {"symbols": []}, 422),
    ("/api/batches", {"symbols": "AAPL"}, 422),
    ("/api/batches", {"symbols": ["A"] * 101}, 422),
    ("/api/batches", {"symbols": [1]}, 422),
    ("/api/notifications", {"user_id": "alice", "type": "alert"}, 422),
    ("/api/notifications", {"user_id": "alice", "type": "Gossip!", "title": "x"}, 422),
    ("/api/notifications", {"user_id": "alice", "type": "alert", "title": "x" * 201}, 422),
    (
        "/api/notifications",
        {"user_id": "alice", "type": "alert", "title": "x", "link": "javascript:alert(1)"},
        422,
    ),
    (
        "/api/notifications",
        {"user_id": "alice", "type": "alert", "title": "x", "metadata": {"n": 2**63}},
        422,
    ),
    (
        "/api/notifications",
        {"user_id": "alice", "type": "alert", "title": "x", "metadata": {"n": 2**64}},
        422,
    ),
    (
        "/api/notifications",
        {"user_id": "alice", "type": "alert", "title": "x", "metadata": {"$set": 1}},
        422,
    ),
    ("/api/notifications", {"user_id": "bob", "type": "alert", "title": "x"}, 403),
    ("/api/broadcast", {"type": "alert", "title": "x"}, 403),
]


@pytest.mark.gen_test
async def test_bad_body_gets_a_problem_document(idle: Settings, make_token: Token) -> None:
    """Each names its fault, and the server goes on."""
    async with serving(idle, make_token("alice")) as alice:
        for path, body, status in BAD_BODIES:
            answer = await alice.post(path, body)
            assert (answer.status, path, body) == (status, path, body)
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.body["status"] == status
            assert answer.body["detail"]
        assert (await alice.get("/api/queue/stats")).body["queued"] == 0
        assert (await alice.get("/api/notifications")).body["items"] == []


@pytest.mark.gen_test
async def test_faults_of_a_body_are_all_named(idle: Settings, make_token: Token) -> None:
    async with serving(idle, make_token("alice")) as alice:
        body = {"symbol": 5, "surprise": 1, "params": {"research_depth": 9}}
        errors = " ".join((await alice.post("/api/tasks", body)).body["errors"])
        assert "symbol" in errors
        assert "surprise" in errors
        assert "research_depth" in errors


@pytest.mark.gen_test
async def test_oversized_body_is_413(idle: Settings, make_token: Token) -> None:
    """Announced or not, and the connection's other end gets the answer."""
    async with serving(idle, make_token("alice")) as alice:
        answer = await alice.post("/api/tasks", b"x" * (1 << 20) + b"x")
        assert (answer.status, answer.body["status"]) == (413, 413)
        port = int(alice.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /api/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Connection: close\r\nAuthorization: Bearer " + alice.token.encode() + b"\r\n\r\n"
        )
        for _ in range(20):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 413")
        writer.close()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/api/tasks/unknown", 404),
        ("GET", "/api/batches/unknown", 404),
        ("DELETE", "/api/notifications/unknown", 404),
        ("DELETE", "/api/notifications/6b04ce76ea1428790223c487", 404),
        ("PUT", "/api/tasks", 405),
        ("GET", "/api/notifications?limit=0", 400),
        ("GET", "/api/notifications?limit=x", 400),
        ("GET", "/api/notifications?status=gone", 400),
        ("GET", "/api/notifications?before=nonsense", 404),
        ("GET", "/api/settings", 403),
        ("GET", "/static/../settings.py", 403),
        ("GET", "/static/nothing.js", 404),
    ],
)
async def test_bad_request_gets_a_problem_document(
    idle: Settings, make_token: Token, method: str, path: str, status: int
) -> None:
    async with serving(idle, make_token("alice")) as alice:
        answer = await alice.send(method, path)
        assert (answer.status, answer.body["status"]) == (status, status)
        assert "%" not in answer.body["detail"]
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert ("Allow" in answer.headers) == (status == 405)


@pytest.mark.gen_test
async def test_nobody_gets_nothing(idle: Settings, make_token: Token) -> None:
    """No, bad, expired and foreign tokens are 401 everywhere but where nobody is asked."""
    async with serving(idle, "") as nobody:
        paths = ("/api/tasks", "/api/notifications", "/api/queue/stats", "/api/ws/stats")
        for token in ("", "garbage", make_token("a", ttl=-1), make_token("")):
            for path in paths:
                answer = await nobody.as_user(token).get(path)
                assert (answer.status, path, token) == (401, path, token)
                assert "WWW-Authenticate" in answer.headers
        for path in ("/healthz", "/readyz", "/metrics", "/", "/static/js/app.js"):
            assert (await nobody.get(path)).status == 200


@pytest.mark.gen_test
async def test_foreign_origin_changes_nothing(idle: Settings, make_token: Token) -> None:
    async with serving(idle, make_token("alice")) as alice:
        origin = {"Origin": "https://evil.example"}
        answer = await alice.send("POST", "/api/tasks", {"symbol": "AAPL"}, origin)
        assert (answer.status, answer.body["status"]) == (403, 403)
        assert (await alice.get("/api/queue/stats")).body["queued"] == 0


@pytest.mark.gen_test
async def test_trusted_origin_may_ask(idle: Settings, make_token: Token) -> None:
    """It gets the CORS headers, another does not."""
    trusting = idle.changed(trusted_origins=["https://app.example"])
    async with serving(trusting, make_token("alice")) as alice:
        origin = {"Origin": "https://app.example"}
        answer = await alice.send("POST", "/api/tasks", {"symbol": "AAPL"}, origin)
        assert answer.status == 202
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example"
        preflight = await alice.send("OPTIONS", "/api/tasks", headers=origin)
        assert preflight.status == 204
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
        other = await alice.get("/api/tasks", Origin="https://evil.example")
        assert "Access-Control-Allow-Origin" not in other.headers


@pytest.mark.gen_test
async def test_rate_is_limited(idle: Settings, make_token: Token) -> None:
    """Past the rate: 429 with a time to come back."""
    async with serving(idle.changed(requests_per_second=2.0), make_token("a")) as client:
        answers = [await client.get("/api/queue/stats") for _ in range(4)]
        assert [a.status for a in answers][:2] == [200, 200]
        assert answers[-1].status == 429
        assert int(answers[-1].headers["Retry-After"]) >= 1
        assert (await client.get("/healthz")).status == 200


@pytest.mark.gen_test
async def test_full_queue_is_429(idle: Settings, make_token: Token) -> None:
    limited = idle.changed(queue_max_waiting_per_user=1)
    async with serving(limited, make_token("alice")) as alice:
        await alice.submit()
        answer = await alice.post("/api/tasks", {"symbol": "IBM"})
        assert (answer.status, answer.headers["Retry-After"]) == (429, "5")


@pytest.mark.gen_test
async def test_idempotency_key_makes_a_request_repeatable(
    idle: Settings, make_token: Token
) -> None:
    """The same body gives the same ids, another one 422."""
    async with serving(idle, make_token("alice")) as alice:
        for path, body in (
            ("/api/tasks", {"symbol": "AAPL"}),
            ("/api/batches", {"symbols": ["AAPL", "IBM"]}),
        ):
            key = {"Idempotency-Key": path}
            first, again = [await alice.send("POST", path, body, key) for _ in range(2)]
            assert (first.status, again.status) == (202, 202)
            for name in ("task_id", "batch_id", "task_ids"):
                assert first.body.get(name) == again.body.get(name)
            other = await alice.send("POST", path, body | {"params": {"research_depth": 1}}, key)
            assert (other.status, other.body["status"]) == (422, 422)
        long = {"Idempotency-Key": "x" * 256}
        assert (await alice.send("POST", "/api/tasks", {"symbol": "A"}, long)).status == 400
        assert (await alice.get("/api/queue/stats")).body["queued"] == 3


@pytest.mark.gen_test
async def test_task_is_scheduled(working: Settings, make_token: Token) -> None:
    """`delay` and `run_at` put it aside; when its time comes it runs without being asked for."""
    async with serving(working, make_token("alice")) as alice:
        far = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        for body in ({"delay": 3600}, {"run_at": far}):
            made = await alice.post("/api/tasks", {"symbol": "AAPL", **body})
            assert (made.status, made.body["status"]) == (202, "delayed")
            assert made.body["position"] is None
        stream = await alice.stream(f"/api/tasks/{await alice.submit('IBM', delay=0.2)}")
        assert (await event_of(stream, "finished"))["final_status"] == "completed"
        await stream.close()


@pytest.mark.gen_test
async def test_admin_sees_to_dead_tasks(idle: Settings, make_token: Token) -> None:
    async with serving(idle, make_token("alice")) as alice:
        admin = alice.as_user(make_token("root", scope="rt:admin"))
        ids = [await alice.submit() for _ in range(2)]
        queue = alice.core.queue
        for _ in range(idle.queue.queue_max_attempts):
            for claim in (await queue.claim("w", 2, kinds=["analysis"])).claims:
                again = Ack(claim.task.task_id, claim.token, Outcome.RETRY, error="broken")
                await queue.end_attempt(again)
        dead = (await admin.get("/api/queue/dead?limit=10")).body["items"]
        assert {item["task_id"] for item in dead} == set(ids)
        assert {(item["error"], item["user_id"]) for item in dead} == {("broken", "alice")}
        assert (await admin.get("/api/queue/check")).body == {"violations": []}
        retried = await admin.post(f"/api/queue/dead/{ids[0]}/retry")
        assert (retried.status, retried.body["status"]) == (200, "queued")
        # It is dead no more.
        assert (await admin.post(f"/api/queue/dead/{ids[0]}/retry")).status == 404
        assert (await admin.delete(f"/api/queue/dead/{ids[1]}")).status == 204
        assert (await admin.delete(f"/api/queue/dead/{ids[1]}")).status == 404
        for method, path in (
            ("GET", "/api/queue/check"),
            ("GET", "/api/queue/dead"),
            ("POST", f"/api/queue/dead/{ids[0]}/retry"),
            ("DELETE", f"/api/queue/dead/{ids[0]}"),
        ):
            assert (await alice.send(method, path)).status == 403


@pytest.mark.gen_test
async def test_waiting_task_is_told_when_it_moves_up(working: Settings, make_token: Token) -> None:
    """The position and the expected start move on the open socket as the line does."""
    slow = working.changed(worker_concurrency=1, step_seconds=0.02)
    async with serving(slow, make_token("alice")) as alice:
        last = [await alice.submit() for _ in range(5)][-1]
        socket = await alice.socket(f"/api/ws/tasks/{last}")
        shown = [(await frame(socket))["data"]["snapshot"]]
        while shown[-1]["status"] == "queued":
            shown.append((await frame_of(socket, "progress"))["data"])
        places = [one["position"] for one in shown[:-1]]
        assert places == sorted(places, reverse=True)
        assert len(set(places)) > 1
        assert all(one["starts_in"] >= 0 for one in shown[:-1])


@pytest.mark.gen_test
async def test_ticket_opens_one_stream(idle: Settings, make_token: Token) -> None:
    """The same one again, as an EventSource does after a cut, and nothing else."""
    async with serving(idle, make_token("alice")) as alice:
        issued = (await alice.post("/api/auth/ticket")).body
        assert issued["expires_in"] == 30
        nobody = alice.as_user("")
        path = f"/api/notifications/stream?ticket={issued['ticket']}"
        first = await nobody.stream(path)
        assert (await event_of(first, "connected"))["user_id"] == "alice"
        await first.close()
        second = await nobody.stream(path)
        assert (await event_of(second, "connected"))["user_id"] == "alice"
        await second.close()
        other = await nobody.stream(f"/api/stream?topics=me&ticket={issued['ticket']}")
        await other.close()
        assert other.status == 401


@pytest.mark.gen_test
async def test_tokens_reach_no_log(
    idle: Settings, make_token: Token, capsys: pytest.CaptureFixture[str]
) -> None:
    token = make_token("alice")
    async with serving(idle, "") as nobody:
        assert (await nobody.get(f"/api/tasks?token={token}")).status == 200
        await nobody.get("/api/tasks?ticket=secretticket")
        await nobody.get(f"/nothing?token={token}")
    printed = "".join(capsys.readouterr())
    assert "/api/tasks" in printed
    assert token not in printed
    assert "secretticket" not in printed


@pytest.mark.gen_test
async def test_start_waits_for_a_slow_redis(
    idle: Settings, redis: Redis, make_token: Token
) -> None:
    """For longer than a request would wait for a connection."""
    await redis.client_pause(1500)
    async with serving(idle, make_token("alice")) as alice:
        assert (await alice.get("/readyz")).status == 200
