"""The server inside an application: its sign-in, its life, and its calls."""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
from tornado.httputil import HTTPServerRequest
from tornado.web import HTTPError

from settings import Settings
from tests.api import Answer, Client, frame, frame_of
from tests.client_kinds import echo
from tests.conftest import ROOT, SECRET
from tests.embedded import (
    PAGE,
    Host,
    close_code,
    connect,
    cookie_of,
    embedded,
    hosting,
    outcome,
)
from tests.waiting import until
from tornado_rt.embedding import AuthError, Identity, NotRunning, Refused, Server
from tornado_rt.stores import StoreError
from tornado_rt_client import AsyncClient, Worker

pytestmark = pytest.mark.long

Token = Callable[..., str]
ALICE = cookie_of("alice")
NOTE = {"user_id": "alice", "type": "alert", "title": "hello"}
SOCKET = "/rt/api/ws"


@pytest.mark.gen_test
async def test_sign_in_of_the_application_counts(
    settings: Settings, redis: Any, database: Any
) -> None:
    """For requests, changes, event streams, sockets, and tickets of its pages."""
    async with embedded(settings) as host:
        page = host.client()
        assert (await page.get("/rt/api/notifications")).status == 401
        assert (await page.get("/rt/api/notifications", **ALICE)).status == 200
        made = await page.send("POST", "/rt/api/notifications", NOTE, ALICE | PAGE)
        assert made.status == 201
        stream = await page.stream("/rt/api/notifications/stream", **ALICE)
        assert json.loads((await stream.event())["data"])["user_id"] == "alice"
        await stream.close()
        socket = await connect(host, "/rt/api/ws/notifications", ALICE | {"Origin": host.url})
        assert (await frame(socket))["data"]["user_id"] == "alice"
        socket.close()
        ticket = await page.send("POST", "/rt/api/auth/ticket", b"", ALICE | PAGE)
        path = f"/rt/api/notifications/stream?ticket={ticket.body['ticket']}"
        for _ in range(2):
            # An EventSource comes back by the address that it has.
            stream = await page.stream(path)
            assert json.loads((await stream.event())["data"])["user_id"] == "alice"
            await stream.close()
        # Everything else is the application's own.
        assert (await page.get("/")).body == b"home"
        assert (await page.get("/rtx")).body == b"home"
        assert (await page.get("/rt/nothing")).status == 404


@pytest.mark.gen_test
async def test_token_counts_before_the_sign_in(
    settings: Settings, redis: Any, database: Any, make_token: Token
) -> None:
    """Also a bad one. A cookie of ours does not count: it may be of an earlier user."""
    async with embedded(settings) as host:
        await host.rt.notify("bob", type="alert", title="for bob")
        bob = host.client(make_token("bob"))
        assert len((await bob.get("/rt/api/notifications", **ALICE)).body["items"]) == 1
        bad = host.client("no.token.this")
        assert (await bad.get("/rt/api/notifications", **ALICE)).status == 401
        assert (await bob.post("/rt/api/auth/session")).status == 404
        ours = {"Cookie": f"rt_session={make_token('bob')}"}
        assert (await host.client().get("/rt/api/notifications", **ours)).status == 401
        both = {"Cookie": f"{ours['Cookie']}; {ALICE['Cookie']}"}
        assert (await host.client().get("/rt/api/notifications", **both)).body["items"] == []


@pytest.mark.gen_test
async def test_other_sites_change_nothing_by_the_sign_in(
    settings: Settings, redis: Any, database: Any
) -> None:
    """Nor does a request that does not say which page it comes from."""
    trusted = settings.changed(trusted_origins=["https://trusted.example"])
    async with embedded(trusted) as host:
        page = host.client()

        async def post(**headers: str) -> int:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            answer = await page.send("POST", "/rt/api/notifications", NOTE, ALICE | named)
            return answer.status

        evil = "https://evil.example"
        assert await post() == 403
        assert await post(Origin=evil) == 403
        assert await post(Sec_Fetch_Site="cross-site", Origin=evil) == 403
        # A page of another application on the same domain.
        assert await post(Sec_Fetch_Site="same-site", Origin="http://127.0.0.1:1") == 403
        assert (await page.get("/rt/api/notifications", **ALICE)).body["items"] == []
        assert await post(Origin=host.url) == 201
        assert await post(Sec_Fetch_Site="cross-site", Origin="https://trusted.example") == 201
        assert await outcome(host, SOCKET, ALICE) == 403
        assert await outcome(host, SOCKET, ALICE | {"Origin": evil}) == 403
        assert await outcome(host, SOCKET, ALICE | {"Origin": host.url}) == 101
        # A user who is not signed in is told so.
        assert await outcome(host, SOCKET, {"Origin": host.url}) == 4401


async def _statuses(host: Host) -> list[Any]:
    page = host.client()
    stream = await page.stream("/rt/api/stream?topics=me", **ALICE)
    await stream.close()
    return [
        (await page.get("/rt/api/notifications", **ALICE)).status,
        stream.status,
        await outcome(host, SOCKET, ALICE | {"Origin": host.url}),
    ]


async def _answer(settings: Settings, authenticate: Any) -> tuple[list[Any], Answer]:
    """Return how a sign-in is answered on all transports, and the last answer."""
    async with embedded(settings, authenticate) as host:
        statuses = await _statuses(host)
        assert (await host.client().get("/rt/healthz", **ALICE)).status == 200
        return statuses, await host.client().get("/rt/api/notifications", **ALICE)


@pytest.mark.gen_test
async def test_faults_of_a_sign_in_are_no_401(
    settings: Settings, redis: Any, database: Any
) -> None:
    """An error or a wrong answer of it signs nobody out."""

    def breaks(_: HTTPServerRequest) -> Identity:
        raise LookupError("secret words")

    async def is_away(_: HTTPServerRequest) -> Identity:
        await asyncio.sleep(0)
        raise HTTPError(503, "the sessions are away")

    def cannot_connect(_: HTTPServerRequest) -> Identity:
        raise ConnectionRefusedError

    statuses, answer = await _answer(settings, breaks)
    assert statuses == [500, 500, 500]
    assert "secret words" not in json.dumps(answer.body)
    assert (await _answer(settings, is_away))[0] == [503, 503, 503]
    assert (await _answer(settings, cannot_connect))[0] == [503, 503, 1013]
    wrong: list[Any] = ["alice", Identity("alice", "rt:admin"), Identity(""), Identity(7)]  # type: ignore[arg-type]
    for one in wrong:
        assert (await _answer(settings, lambda _, found=one: found))[0] == [500, 500, 500]


@pytest.mark.gen_test
async def test_sign_in_says_why_there_is_none(
    settings: Settings, redis: Any, database: Any
) -> None:
    """By AuthError; a sign-in that has expired is none."""

    async def refuses(_: HTTPServerRequest) -> Identity:
        raise AuthError("your account is locked")

    statuses, answer = await _answer(settings, refuses)
    assert (statuses, answer.body["detail"]) == ([401, 401, 4401], "your account is locked")
    statuses, answer = await _answer(settings, lambda _: Identity("alice", expires_at=1.0))
    assert (statuses, answer.body["detail"]) == ([401, 401, 4401], "the sign-in has expired")


@pytest.mark.gen_test
async def test_sign_in_gives_scopes_topics_and_an_end(
    settings: Settings, redis: Any, database: Any
) -> None:
    """An open socket ends with 4401 when the sign-in does, and is told by whom it is followed."""
    ends = time.time() + 2.0

    async def authenticate(_: HTTPServerRequest) -> Identity:
        return Identity("alice", frozenset({"rt:admin"}), ends, topics=("room:*",))

    async with embedded(settings, authenticate) as host:
        page = host.client()
        assert (await page.get("/rt/api/settings")).status == 200
        socket = await connect(host, SOCKET, PAGE)
        await frame(socket)
        await socket.write_message('{"type": "subscribe", "data": {"topic": "room:1"}}')
        await frame_of(socket, "subscribed")
        await host.rt.publish("room:1", {"said": "hello"})
        assert (await frame_of(socket, "message"))["data"] == {"said": "hello"}
        assert await close_code(socket) == 4401


@pytest.mark.gen_test
async def test_without_a_sign_in_tokens_and_our_cookie_count(
    settings: Settings, redis: Any, database: Any, make_token: Token
) -> None:
    """The cookie is sent to the prefix alone."""
    async with embedded(settings, None) as host:
        alice = host.client(make_token("alice"))
        answer = await alice.post("/rt/api/auth/session")
        [cookie] = answer.headers.get_list("Set-Cookie")
        assert "Path=/rt/" in cookie.split("; ")
        kept = {"Cookie": cookie.partition(";")[0]}
        assert (await host.client().get("/rt/api/notifications", **kept)).status == 200


@pytest.mark.gen_test
async def test_stops_and_starts_again_in_one_loop(
    settings: Settings, redis: Any, database: Any
) -> None:
    """Sockets and streams end as at a server's stop; the application's own handlers go on."""
    async with hosting(settings) as host:
        page = host.client()
        for number in range(2):
            assert (await page.get("/rt/healthz")).status == 503
            async with host.rt:
                await host.rt.notify("alice", type="alert", title=f"round {number}")
                socket = await connect(host, SOCKET, ALICE | PAGE)
                await frame(socket)
                stream = await page.stream("/rt/api/notifications/stream", **ALICE)
                await stream.event()
                found = (await page.get("/rt/api/notifications", **ALICE)).body["items"]
                assert len(found) == number + 1
                with pytest.raises(RuntimeError, match="runs already"):
                    await host.rt.start()
            assert await close_code(socket) == 1001
            assert [one["event"] async for one in stream.events()] == ["problem"]
            await stream.close()
            answer = await page.get("/rt/api/notifications", **ALICE)
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert (await page.get("/rt/")).status == 503
            assert await outcome(host, SOCKET, ALICE | PAGE) == 503
            assert (await page.get("/anything")).body == b"home"
        # Harmless when it does not run.
        await host.rt.stop()
        with pytest.raises(NotRunning):
            await host.rt.notify("alice", type="alert", title="late")


@pytest.mark.gen_test
async def test_stop_waits_for_a_start(settings: Settings, redis: Any, database: Any) -> None:
    """And a start for a stop: nothing is left half open."""
    before = asyncio.all_tasks()
    async with hosting(settings) as host:
        await asyncio.gather(host.rt.start(), host.rt.stop())
        assert (await host.client().get("/rt/healthz")).status == 503
        await host.rt.start()
        await asyncio.gather(host.rt.stop(), host.rt.start())
        assert (await host.client().get("/rt/healthz")).status == 200
    await until(lambda: asyncio.all_tasks() == before, what="no task is left")


@pytest.mark.gen_test
async def test_stop_answers_what_is_under_way(
    settings: Settings, redis: Any, database: Any
) -> None:
    """And refuses what comes meanwhile, and what takes too long."""
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(_: HTTPServerRequest) -> Identity:
        asked.set()
        await may_answer.wait()
        return Identity("alice")

    for seconds, status in ((30.0, 200), (0.05, 503)):
        asked.clear()
        may_answer.clear()
        patient = settings.changed(request_grace_seconds=seconds)
        async with hosting(patient, slow) as host:
            await host.rt.start()
            page = host.client()
            answer = asyncio.create_task(page.get("/rt/api/notifications"))
            await asked.wait()
            stopping = asyncio.create_task(host.rt.stop())
            await until(partial(_is_refused, page))
            if status == 200:
                assert not stopping.done()
                may_answer.set()
            assert (await answer).status == status
            await stopping


async def _is_refused(page: Client) -> bool:
    return (await page.get("/rt/healthz")).status == 503


@pytest.mark.gen_test
async def test_start_that_fails_raises_and_leaves_nothing(
    settings: Settings, redis: Any, database: Any, tmp_path: Path
) -> None:
    """The application goes on, and may start once the cause is gone."""
    before = asyncio.all_tasks()
    async with hosting(settings) as host:
        nowhere = settings.changed(redis_url="redis://127.0.0.1:1/0", prefix="/nowhere")
        for wrong, error in (
            (settings.changed(kinds=["no_such_module"]), "no_such_module"),
            (settings.changed(jwt_secret="short"), "32 bytes"),
            (nowhere, "6379|127.0.0.1|Redis|connect"),
        ):
            rt = Server(wrong)
            with pytest.raises(Exception, match=error) as raised:
                await rt.start()
            assert not isinstance(raised.value, SystemExit)
        assert (await host.client().get("/")).body == b"home"
        await host.rt.start()
        assert (await host.client().get("/rt/readyz")).status == 200
    await until(lambda: asyncio.all_tasks() == before, what="no task is left")


def test_settings_that_the_application_decides_are_refused(settings: Settings) -> None:
    """As are those without which something would not work."""
    for changes, word in (
        ({"processes": 2}, "processes"),
        ({"tls_certificate": "a.pem"}, "tls_certificate"),
        ({"demo_login": True}, "demo_login"),
        ({"smtp_url": "smtp://mail.example", "smtp_from": "a@b.example"}, "public_url"),
    ):
        more: Any = changes
        with pytest.raises(ValueError, match=word):
            Server(settings.changed(**more))


@pytest.mark.gen_test
async def test_two_servers_with_folders_of_their_own(
    settings: Settings, tmp_path: Path, make_token: Token
) -> None:
    """Each has stores of its own; a second one on a folder is refused."""
    alone = settings.changed(redis_url="", mongodb_url="", data_dir=tmp_path / "one")
    other = Server(alone.changed(data_dir=tmp_path / "two", prefix="/other"), None)
    async with hosting(alone, None, other) as host, host.rt, other:
        await host.rt.notify("alice", type="alert", title="one")
        await other.notify("alice", type="alert", title="two")
        with pytest.raises(StoreError):
            await Server(alone.changed(prefix="/third")).start()
        user = host.client(make_token("alice"))
        for prefix, title in (("/rt", "one"), ("/other", "two")):
            [item] = (await user.get(f"{prefix}/api/notifications")).body["items"]
            assert item["title"] == title


@pytest.mark.gen_test
async def test_application_calls_the_server_in_its_process(
    settings: Settings, redis: Any, database: Any
) -> None:
    """With the rules of the HTTP API, and a key of its own where a call may be repeated."""
    async with embedded(settings) as host:
        rt = host.rt
        first = await rt.notify("alice", type="alert", title="x", idempotency_key="k")
        again = await rt.notify("alice", type="alert", title="x", idempotency_key="k")
        assert first["id"] == again["id"]
        params = {"symbol": "AAPL"}
        task_id = await rt.submit("alice", "analysis", params, label="mine", idempotency_key="k")
        assert task_id == await rt.submit(
            "alice", "analysis", params, label="mine", idempotency_key="k"
        )
        task = await host.client().get(f"/rt/api/tasks/{task_id}", **ALICE)
        assert (task.body["label"], task.body["user_id"]) == ("mine", "alice")
        assert await rt.publish("room:1", {"said": "hello"})
        calls: list[tuple[Callable[[], Awaitable[Any]], str]] = [
            (lambda: rt.notify("alice", type="alert"), "title"),
            (lambda: rt.notify("alice", type="alert", title="y", idempotency_key="k"), "key"),
            (lambda: rt.notify("alice", all=True, type="alert", title="y"), "only one"),
            (lambda: rt.notify("", type="alert", title="y"), "user_id"),
            (lambda: rt.submit("alice", "no.such.kind"), "no.such.kind"),
            (lambda: rt.submit("alice", "analysis", {"symbol": object()}), "JSON"),
            (lambda: rt.submit("", "analysis", params), "user_id"),
            (lambda: rt.submit("alice", "analysis", params, strange=1), "strange"),
            (lambda: rt.publish("no topic"), "topic"),
            (lambda: rt.publish("room:1", "x" * 100_000), "data"),
        ]
        for call, word in calls:
            with pytest.raises(Refused, match=word) as refused:
                await call()
            assert refused.value.status == 422


@pytest.mark.gen_test
@pytest.mark.parametrize("transport", ["websocket", "http"])
async def test_workers_and_clients_elsewhere_take_the_prefix(
    settings: Settings, redis: Any, database: Any, transport: str
) -> None:
    """They show tokens, whatever the sign-in of the application is."""
    async with embedded(settings) as host, asyncio.timeout(60):
        url = f"{host.url}/rt"
        worker = Worker(url, [echo], secret=SECRET, transport=transport, grace_seconds=0.1)
        async with worker, AsyncClient(url, secret=SECRET, user="alice") as client:
            await until(partial(_knows, client, echo.name), what="the kind is known")
            task = await client.submit(echo.name, {"value": 7})
            assert await task.result(timeout=60) == 7
            assert [one.task_id async for one in client.tasks()] == [task.id]


async def _knows(client: AsyncClient, kind: str) -> bool:
    return kind in {one.kind for one in await client.kinds()}


SCRIPT = """
import asyncio, gc, json, logging, resource, signal, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog
from pymongo.synchronous import monitor

resource.setrlimit(resource.RLIMIT_NOFILE, (500, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def state():
    loop = asyncio.get_running_loop()
    executor = loop._default_executor
    return [
        [id(signal.getsignal(number)) for number in sorted(signal.valid_signals())],
        signal.set_wakeup_fd(-1),
        [gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()],
        resource.getrlimit(resource.RLIMIT_NOFILE),
        [repr(loop.get_task_factory()), repr(asyncio.get_event_loop_policy())],
        [repr(logging.getLogger().handlers), logging.getLogger().level, logging.raiseExceptions],
        repr(executor) if executor in (None, mine) else "another",
        repr(sys.excepthook),
    ]


async def main(folder):
    global mine
    loop = asyncio.get_running_loop()
    mine = ThreadPoolExecutor(1)
    assert not structlog.is_configured()
    loop.set_default_executor(mine)
    before = state()
    from tornado_rt.embedding import Server, Settings

    imported = state()
    async with Server(Settings(prefix="/rt", data_dir=Path(folder))) as rt:
        await rt.notify("alice", type="alert", title="hello")
        during = state()
    assert not structlog.is_configured()
    print(json.dumps([before, imported, during, state()]))


asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.gen_test
async def test_what_belongs_to_the_process_is_left_alone(tmp_path: Path) -> None:
    """Signals, the collector, limits, logging, the loop's factory, policy and executor."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SCRIPT, str(tmp_path / "data")),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    before, imported, during, after = json.loads(said.splitlines()[-1])
    assert imported == before
    assert during == before
    assert after == before


@pytest.mark.gen_test
async def test_log_lines_go_to_the_log_of_the_application(
    settings: Settings,
    redis: Any,
    database: Any,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without what a traceback's variables hold; to its structlog, if it has configured that."""

    # It counts as configured since a test before has captured what is logged.
    structlog.reset_defaults()

    def breaks(_: HTTPServerRequest) -> Identity:
        password = "hunter" + "2"
        raise LookupError(len(password))

    async def fail() -> None:
        async with embedded(settings, breaks) as host:
            await host.client().get("/rt/api/notifications")

    await fail()
    [record] = [one for one in caplog.records if one.levelname == "ERROR"]
    assert record.name == "tornado_rt"
    assert "request_failed" in record.message
    assert "LookupError: 7" in record.message
    assert "hunter2" not in record.message
    assert capsys.readouterr().out == ""
    caplog.clear()
    lines: list[Any] = []
    structlog.configure(processors=[structlog.testing.LogCapture()])
    capture = structlog.get_config()["processors"][0]
    try:
        await fail()
        lines += [one["event"] for one in capture.entries if one["log_level"] == "error"]
        assert structlog.get_config()["processors"] == [capture]
    finally:
        structlog.reset_defaults()
    assert lines == ["request_failed"]
    assert caplog.records == []
