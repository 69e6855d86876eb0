"""Where credentials come from, several at once, and that none of them is told to anybody."""

import asyncio
import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from redis.asyncio import Redis

from settings import Settings
from tests.api import Client, frame, serving
from tests.conftest import SECRET, start_server, stop_server

Token = Callable[..., str]

BASIC = "Basic " + base64.b64encode(b"alice:secret").decode()


@pytest.fixture
def idle(settings: Settings, redis: Redis, database: Any) -> Settings:
    return settings


async def who(nobody: Client, query: str = "", **headers: str) -> str | int:
    """Return whom the server takes for the sender, or the status of its refusal."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    title = {"user_id": "alice", "type": "alert", "title": "x"}
    answer = await nobody.send("POST", f"/api/notifications{query}", title, named)
    # A notification to oneself needs no scope.
    if answer.status in (201, 403):
        return "alice" if answer.status == 201 else "another"
    return answer.status


@pytest.mark.gen_test
async def test_first_place_that_has_a_credential_counts(idle: Settings, make_token: Token) -> None:
    """A bad one there is refused, whatever stands behind it."""
    alice, bob = make_token("alice"), make_token("bob")
    async with serving(idle, "") as nobody:

        async def ticket() -> str:
            answer = await nobody.as_user(alice).post("/api/auth/ticket")
            return f"?ticket={answer.body['ticket']}"

        bearer, other = f"Bearer {alice}", f"Bearer {bob}"
        proto, bad = f"rt.v1, auth.{alice}", "rt.v1, auth.x"
        assert await who(nobody) == 401
        assert await who(nobody, await ticket(), Authorization=other) == "alice"
        assert await who(nobody, "?ticket=" + "x" * 43, Authorization=bearer) == 401
        assert await who(nobody, "?ticket=x", Authorization=bearer) == 401
        assert await who(nobody, f"?token={bob}", Authorization=bearer) == "alice"
        assert await who(nobody, f"?token={alice}", Authorization=other) == "another"
        assert await who(nobody, f"?token={alice}", Authorization="Bearer x") == 401
        assert await who(nobody, f"?token={bob}", Sec_WebSocket_Protocol=proto) == "alice"
        assert await who(nobody, f"?token={alice}", Sec_WebSocket_Protocol=bad) == 401
        assert await who(nobody, f"?token={alice}", Sec_WebSocket_Protocol="rt.v1") == "alice"


@pytest.mark.gen_test
async def test_authorization_that_is_not_ours_is_passed_over(
    idle: Settings, make_token: Token
) -> None:
    """A proxy may ask for a password of its own. An empty bearer is a mistake, and refused."""
    alice = make_token("alice")
    query = f"?token={alice}"
    async with serving(idle, "") as nobody:
        for header in (BASIC, "", "Digest x", "bearerx y", "Negotiate"):
            assert (header, await who(nobody, query, Authorization=header)) == (header, "alice")
            assert (header, await who(nobody, Authorization=header)) == (header, 401)
        for header in ("Bearer", "Bearer ", "bearer   "):
            assert (header, await who(nobody, query, Authorization=header)) == (header, 401)


@pytest.mark.gen_test
async def test_token_is_taken_as_a_whole(idle: Settings, make_token: Token) -> None:
    alice, bob = make_token("alice"), make_token("bob")
    async with serving(idle, "") as nobody:
        assert await who(nobody, Authorization=f"bEARER   {alice}  ") == "alice"
        for header in (
            f"Bearer {alice} {bob}",
            f"Bearer {alice} x",
            f"Bearer {alice},Bearer {bob}",
            f"Bearer {alice[:20]} {alice[20:]}",
            f"Bearer Bearer {alice}",
            f'Bearer "{alice}"',
        ):
            assert await who(nobody, Authorization=header) == 401
        for query in (
            f"?token={alice}&token={alice}",
            f"?token={alice}&token=",
            f"?token=&token={alice}",
            "?ticket=x&ticket=y",
            f"?ticket=x&ticket=y&token={alice}",
        ):
            assert (query, await who(nobody, query)) == (query, 401)
        for offered in (f"auth.{alice}, auth.{bob}", f"auth.{alice},auth.{alice}", "auth., auth.x"):
            assert (offered, await who(nobody, Sec_WebSocket_Protocol=offered)) == (offered, 401)
        assert await who(nobody, f"?ticket=&token={alice}") == "alice"
        assert await who(nobody, "?ticket=&token=") == 401


@pytest.mark.gen_test
async def test_refusal_says_why_as_rfc_6750_has_it(idle: Settings, make_token: Token) -> None:
    async with serving(idle, "") as nobody:
        missing = await nobody.get("/api/tasks")
        assert missing.headers["WWW-Authenticate"] == 'Bearer realm="tornado_rt"'
        for client, path in (
            (nobody.as_user("garbage"), "/api/tasks"),
            (nobody.as_user(make_token("alice", ttl=-1)), "/api/tasks"),
            (nobody, "/api/tasks?ticket=" + "x" * 43),
            (nobody, "/api/tasks?token=%C3%A9%22%0D"),
        ):
            refused = await client.get(path)
            assert refused.status == 401
            challenge = refused.headers["WWW-Authenticate"]
            assert re.fullmatch(
                r'Bearer realm="tornado_rt", error="invalid_token", error_description="[ -~]+"',
                challenge,
            )


@pytest.mark.gen_test
async def test_bad_credentials_close_nothing_that_nobody_may_see(
    idle: Settings, make_token: Token
) -> None:
    """An address that reads no credentials answers the same with them."""
    async with serving(idle, "") as nobody:
        for client in (nobody.as_user("garbage"), nobody.as_user(make_token("a", ttl=-1))):
            for path in ("/healthz", "/readyz", "/metrics", "/", "/api/auth/demo"):
                assert (path, (await client.get(path)).status) == (path, 200)


@pytest.mark.gen_test
async def test_socket_is_not_opened_for_nobody(idle: Settings, make_token: Token) -> None:
    async with serving(idle, "") as nobody:
        for query in ("", "?ticket=x", "?token=x", "?token=a&token=b", "?ticket=" + "x" * 43):
            socket = await nobody.socket(f"/api/ws/notifications{query}")
            assert (await frame(socket))["data"]["code"] == "bad_token"
            assert await socket.read_message() is None
            assert socket.close_code == 4401


@pytest.mark.gen_test
async def test_far_expiry_breaks_nothing(idle: Settings) -> None:
    """A socket with a token that is valid for ever opens, beats and gives a ticket."""
    beating = idle.changed(ws_heartbeat_seconds=0.05, sse_heartbeat_seconds=0.05)
    async with serving(beating, "") as nobody:
        for expiry in (10**12, 10**300, 1e300, 253402300800):
            token = jwt.encode({"sub": "alice", "exp": expiry}, SECRET, algorithm="HS256")
            client = nobody.as_user(token)
            socket = await client.socket("/api/ws/notifications")
            assert (await frame(socket))["type"] == "connected"
            assert (await frame(socket))["type"] == "heartbeat"
            ticket = (await client.post("/api/auth/ticket")).body["ticket"]
            assert (await nobody.get(f"/api/tasks?ticket={ticket}")).status == 200


@pytest.mark.gen_test
async def test_socket_of_an_expired_token_stays_for_the_leeway(
    idle: Settings, make_token: Token
) -> None:
    lenient = idle.changed(jwt_leeway_seconds=4.0)
    async with serving(lenient, "") as nobody:
        alice = nobody.as_user(make_token("alice", ttl=-1))
        socket = await alice.socket("/api/ws/notifications")
        assert (await frame(socket))["type"] == "connected"
        # A heartbeat may come before it.
        while (last := await frame(socket))["type"] == "heartbeat":
            pass
        assert last["data"]["code"] == "token_expired"
        assert await socket.read_message() is None
        assert socket.close_code == 4401


def requests_with(secret: str, port: int) -> list[bytes]:
    """Return requests that carry it in every place, most of them refused."""
    host = f"Host: 127.0.0.1:{port}\r\n"
    ws = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    )
    paths = ("/api/tasks", "/api/notifications/stream", "/nothing", "/", "/healthz", "/static/x")
    socket = f"GET /api/ws/notifications HTTP/1.1\r\n{host}"
    lines = [f"GET {path}?{name}={secret}" for path in paths for name in ("token", "ticket")]
    heads = [
        *(f"{line} HTTP/1.1\r\n{host}\r\n" for line in lines),
        *(f"GET {path} HTTP/1.1\r\n{host}Authorization: Bearer {secret}\r\n\r\n" for path in paths),
        f"POST /api/tasks HTTP/1.1\r\n{host}Authorization: {secret}\r\nContent-Length: x\r\n\r\n",
        f"GET /api/tasks HTTP/1.1\r\n{host}Cookie: token={secret}; session={secret}\r\n\r\n",
        f"GET /api/ws/notifications?token={secret} HTTP/1.1\r\n{host}{ws}\r\n",
        f"GET /api/ws/notifications?ticket={secret} HTTP/1.1\r\n{host}{ws}\r\n",
        f"{socket}{ws}Sec-WebSocket-Protocol: auth.{secret}\r\n\r\n",
        f"{socket}Authorization: Bearer {secret}\r\n\r\n",
        f"GET /api/tasks?last_id=%FF&token={secret} HTTP/1.1\r\n{host}\r\n",
        f"GET /api/tasks?token={secret}&%ZZ=%FF HTTP/1.1\r\n{host}Origin: http://[::1\r\n\r\n",
        f"POST /api/tasks?token={secret} HTTP/1.1\r\n{host}Content-Length: 5\r\n\r\nxxxxx",
        f"GET /api/tasks?token={secret} HTTP/1.1\r\n{host}bad header line {secret}\r\n\r\n",
        f"GET /api/tasks?token={secret} NONSENSE\r\n{host}\r\n",
        f"NONSENSE /api/tasks?token={secret} HTTP/1.1\r\n{host}\r\n",
    ]
    return [head.encode() for head in heads]


async def send(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        async with asyncio.timeout(0.3):
            return await reader.read(-1)
    except (TimeoutError, OSError):
        return b""
    finally:
        writer.close()


@pytest.mark.gen_test
async def test_no_credential_reaches_a_log_or_an_answer(tmp_path: Path, make_token: Token) -> None:
    """Good, expired, foreign and broken ones, in the query, headers, subprotocol and cookies."""
    good, expired = make_token("alice"), make_token("alice", ttl=-5)
    foreign = jwt.encode({"sub": "a", "exp": 2**40}, "x" * 40, algorithm="HS256")
    secrets = [good, expired, foreign, "NotATokenButSecret", "T" * 43]
    start = asyncio.get_running_loop().run_in_executor
    server = await start(
        None, lambda: start_server(tmp_path / "data", RT_JWT_SECRET=SECRET, RT_LOG_LEVEL="DEBUG")
    )
    try:
        port = int(server.url.rpartition(":")[2])
        requests = [one for secret in secrets for one in requests_with(secret, port)]
        answers: list[bytes] = []
        for begin in range(0, len(requests), 25):
            some = requests[begin : begin + 25]
            answers += await asyncio.gather(*(send(port, one) for one in some))
    finally:
        assert await start(None, lambda: stop_server(server)) == 0
    logged = server.log.read_text()
    assert '"path": "/api/tasks"' in logged
    for secret in secrets:
        assert secret not in logged
        assert not [answer for answer in answers if secret.encode() in answer]
        # Nor its signature alone.
        assert secret.rpartition(".")[2] not in logged
    assert SECRET not in logged
