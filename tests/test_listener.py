"""The TCP side of HTTP: bounds of connections, heads and bodies, and an answer to everything."""

import asyncio
import contextlib
import http.client
import json
import logging
import os
import resource
import socket
import struct
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from settings import Settings
from tests.api import Client, serving
from tests.certificates import make_certificate
from tests.conftest import ServerProcess, start_server, stop_server
from tests.timing import slowness
from tests.waiting import until, wait_until
from tornado_rt.http1 import whole_chunks
from tornado_rt.limits import network_of

pytestmark = pytest.mark.long

Token = Callable[..., str]
SILENT = b"GET / HT"
# Processor time that one step of the loop may take [s].
LONGEST_STEP = 0.12


@pytest.fixture
def idle(settings: Settings, redis: Any, database: Any) -> Settings:
    """Settings of a server that runs no task, on empty stores."""
    return settings


def port_of(client: Client) -> int:
    return int(client.url.rpartition(":")[2])


async def exchange(client: Client, *pieces: bytes, end: bool = False) -> bytes:
    """Send pieces on a connection of their own; return all that comes until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(client))
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if end:
            writer.write_eof()
        return await asyncio.wait_for(reader.read(), 20)
    finally:
        writer.close()


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return the status, the headers with small names, and the body of an answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin1").split("\r\n")
    pairs = [line.partition(": ") for line in lines]
    return int(first.split()[1]), {name.lower(): value for name, _, value in pairs}, body


GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /api/tasks HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\nAuthorization: Bearer %(token)s\r\n\r\n"
# A stream, its headers alone, and a file of many pieces.
LEFT = [
    b"GET /api/stream?topics=me",
    b"HEAD /api/stream?topics=me",
    b"GET /static/rt-elements.js",
]
MALFORMED = [
    b"GET\r\n\r\n",
    b"\x16\x03\x01\x02\x00\r\n\r\n",
    b"GET /healthz\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\n\r\n",
    b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n",
    b"GET /health z HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://[/healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http:///healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://u@y/healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    GET + b"Host: y\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: a b\r\n\r\n",
    GET + b"No colon\r\n\r\n",
    GET + b"B\xe4d: x\r\n\r\n",
    GET + b"Sp ace: x\r\n\r\n",
    GET + b"Null: \x00\r\n\r\n",
    GET + b" folded\r\n\r\n",
    POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n",
    POST + b"Content-Length: +5\r\n\r\n",
    POST + b"Content-Length: -1\r\n\r\n",
    POST + b"Content-Length: 1, 2\r\n\r\n",
    POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    POST + b"Content-Length:\r\n\r\n",
    POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    POST + b"Transfer-Encoding: gzip\r\n\r\n",
    POST.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n",
    GET + b"Content-Length: \xb2\r\n\r\n",
    b"GET /healthz?limit=" + b"&a" * 2000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    CHUNKED + b"x\r\n",
    CHUNKED + b"-5\r\nabcde\r\n0\r\n\r\n",
    CHUNKED + b"5\r\nabcdefgh\r\n0\r\n\r\n",
    # A proxy may read on where only one of CR and LF stands.
    CHUNKED + b"2\n{}\r\n0\r\n\r\n",
    CHUNKED + b"2;a=b\n{}\r\n0\r\n\r\n",
    CHUNKED + b"2;a\0b\r\n{}\r\n0\r\n\r\n",
    CHUNKED + b"2\r\n{}\n0\r\n\r\n",
    CHUNKED + b"2\r\n{}\r\r\n0\r\n\r\n",
    CHUNKED + b" 2\r\n{}\r\n0\r\n\r\n",
    CHUNKED + b"2\r\n{}\r\n0\n\n",
    CHUNKED + b"2\r\n{}\r\n0\r\n\n",
    CHUNKED + b"2\r\n{}\r\n0\r\nX-Trailer: y\n\r\n",
    CHUNKED + b"5" * 20 + b"\r\n",
    CHUNKED + b"5;" + b"x" * 9999 + b"\r\n",
    CHUNKED + b"0\r\n" + b"X-Trailer: y\r\n" * 2000,
]


@pytest.mark.gen_test
async def test_malformed_request_is_400_with_a_problem_document(
    idle: Settings, make_token: Token
) -> None:
    token = make_token("alice").encode()
    async with serving(idle, "") as nobody:
        for data in MALFORMED:
            answer = await exchange(nobody, data.replace(b"%(token)s", token), end=True)
            status, headers, body = parsed(answer)
            assert (status, data[:99]) == (400, data[:99])
            assert headers["content-type"] == "application/problem+json"
            assert headers["connection"] == "close"
            assert json.loads(body)["status"] == 400


@pytest.mark.gen_test
@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("line", LEFT)
async def test_client_that_leaves_is_no_fault(
    idle: Settings,
    make_token: Token,
    caplog: pytest.LogCaptureFixture,
    line: bytes,
    resets: bool,
    at_once: bool,
) -> None:
    """Nobody is told anything, and nothing is logged but the request."""
    head = b"%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n"
    async with serving(idle, "") as nobody:
        whole = head % (line, make_token("alice").encode())
        with capture_logs() as logged:
            leaver = socket.create_connection(("127.0.0.1", port_of(nobody)))
            leaver.sendall(whole[:-2])
            if not at_once:
                await nobody.get("/healthz")
            leaver.sendall(whole[-2:])
            if resets:
                leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            leaver.close()
            path = line.split()[1].decode().partition("?")[0]
            await until(lambda: any(one.get("path") == path for one in logged))
    assert {one["event"] for one in logged} == {"request"}
    assert not [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


WELL_FORMED = [
    (GET + b"Connection: close\r\n\r\n", 200),
    (b"\r\n\r\n" + GET + b"Connection: close\r\n\r\n", 200),
    (b"GET http://y/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
    (b"GET http://y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
    (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
    (b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 204),
    (GET + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings , Close\r\n\r\n", 200),
    (GET + b"Content-Length: 0, 0\r\nConnection: close\r\n\r\n", 200),
    (GET + b"Content-Length: 5\r\nConnection: close\r\n\r\nhello", 200),
    (
        GET + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n5;a=b\r\nhello\r\n0\r\n"
        b"X-Trailer: y\r\n\r\n",
        200,
    ),
    (b"TRACE /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
    (b"PROPFIND /api/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
    (b"A" * 999 + b" /api/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 405),
    (b"GET /api/tasks/%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    (b"GET /static/%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    (b"GET /static/js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 403),
    (b"GET /static/../run.py HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 403),
    (b"GET /static/%2e%2e/run.py HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 403),
    (b"GET /static//etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 403),
    (b"GET /static/%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400),
    (b"GET /static/" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
    (b"GET /api/notifications?limit=%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 401),
    (POST + b"Origin: http://[\r\nConnection: close\r\n\r\n", 403),
]


@pytest.mark.gen_test
async def test_odd_request_is_answered_as_it_should_be(idle: Settings) -> None:
    async with serving(idle, "") as nobody:
        for data, expected in WELL_FORMED:
            status, headers, _ = parsed(await exchange(nobody, data))
            assert (status, data[:99]) == (expected, data[:99])
            assert (status == 405) == ("allow" in headers and status != 204)


@pytest.mark.gen_test
@pytest.mark.parametrize("size", [16385, 20_000, 1 << 20])
async def test_headers_too_large_are_answered(idle: Settings, size: int) -> None:
    """431, and 414 for the address; a client that still writes reads it too."""
    trusting = idle.changed(trusted_origins=["https://app.example"])
    async with serving(trusting, "") as nobody:
        long = b"a" * size
        origin = b"Origin: https://app.example\r\n"
        answer = await exchange(nobody, GET + origin + b"Cookie: " + long + b"\r\n\r\n")
        status, headers, body = parsed(answer)
        assert (status, json.loads(body)["status"]) == (431, 431)
        assert headers["access-control-allow-origin"] == "https://app.example"
        answer = await exchange(nobody, b"GET /?" + long + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        assert parsed(answer)[0] == 414


@pytest.mark.gen_test
async def test_bound_of_headers_is_a_setting_and_exact(idle: Settings) -> None:
    async with serving(idle.changed(max_header_bytes=1000), "") as nobody:
        head = GET + b"Connection: close\r\nX: %s\r\n\r\n"
        fits = head % (b"x" * (1000 - len(head) + 2))
        assert len(fits) == 1000
        assert parsed(await exchange(nobody, fits))[0] == 200
        assert parsed(await exchange(nobody, fits.replace(b"X: ", b"X: x")))[0] == 431
    async with serving(idle.changed(max_header_bytes=0), "") as nobody:
        assert parsed(await exchange(nobody, head % (b"x" * 100_000)))[0] == 200
        chunked = head.replace(b"X: %s", b"Transfer-Encoding: chunked")
        trailers = b"0\r\n" + b"X-Trailer: y\r\n" * 2000 + b"\r\n"
        assert parsed(await exchange(nobody, chunked + trailers))[0] == 200


@pytest.mark.gen_test
async def test_refused_body_is_announced_to_close_and_its_sender_reads_the_answer(
    idle: Settings, make_token: Token
) -> None:
    """Before the body, without `100 Continue`: 401, 403, 404, 405, 413, 415."""
    token = b"Authorization: Bearer " + make_token("alice").encode() + b"\r\n"
    large = b"Content-Length: 9000000\r\nExpect: 100-continue\r\n\r\n"
    small = b"Content-Length: 900000\r\nExpect: 100-continue\r\n\r\n"
    cases = [
        (POST + small, 401),
        (POST + token + large, 413),
        (POST + token + b"Content-Encoding: gzip\r\n" + small, 415),
        (POST + token + b"Content-Encoding: identity, gzip\r\n" + small, 415),
        (POST + token + b"Origin: https://evil.example\r\n" + small, 403),
        (POST.replace(b"/api/tasks", b"/nothing") + small, 404),
        (POST.replace(b"/api/tasks", b"/nothing") + large, 413),
        (POST.replace(b"/api/tasks", b"/metrics") + small, 405),
        (POST.replace(b"/api/tasks", b"/static/index.html") + small, 405),
        (POST.replace(b"POST /api/tasks", b"GET /api/ws/notifications") + large, 413),
        (POST.replace(b"POST /api/tasks", b"GET /healthz") + large, 413),
    ]
    async with serving(idle, "") as nobody:
        for data, expected in cases:
            body = b"x" * (9_000_000 if data.endswith(large) else 900_000)
            status, headers, _ = parsed(await exchange(nobody, data, body))
            assert (status, data[:60]) == (expected, data[:60])
            assert headers["connection"] == "close"
        old = POST.replace(b"1.1", b"1.0") + b"Connection: keep-alive\r\n"
        status, headers, _ = parsed(await exchange(nobody, old + b"Content-Length: 9\r\n\r\n"))
        assert (status, headers["connection"]) == (401, "close")


@pytest.mark.gen_test
async def test_rate_is_limited_before_the_body_and_everywhere_but_for_supervisors(
    idle: Settings,
) -> None:
    async with serving(idle.changed(requests_per_second=0.001), "") as nobody:
        assert (await nobody.get("/nothing")).status == 404
        for path in ("/nothing", "/api/tasks", "/static/index.html", "/"):
            data = POST.replace(b"/api/tasks", path.encode()) + b"Content-Length: 9\r\n\r\n"
            status, headers, _ = parsed(await exchange(nobody, data))
            assert (status, headers["connection"]) == (429, "close")
            assert int(headers["retry-after"]) >= 1
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await nobody.get(path)).status == 200


@pytest.mark.gen_test
async def test_malformed_requests_count_towards_the_rate(idle: Settings) -> None:
    """Of their address, like any other; a page of a trusted origin reads when to come again."""
    bounded = idle.changed(requests_per_second=0.001, trusted_origins=["https://app.example"])
    get = GET + b"Origin: https://app.example\r\n"
    async with serving(bounded, "") as nobody:
        assert parsed(await exchange(nobody, get + b"Sp ace: x\r\n\r\n"))[0] == 400
        for line in (b"Sp ace: x", b"Cookie: " + b"x" * 20_000):
            status, headers, body = parsed(await exchange(nobody, get + line + b"\r\n\r\n"))
            assert (status, json.loads(body)["status"]) == (429, 429)
            assert int(headers["retry-after"]) >= 1
            assert headers["access-control-allow-origin"] == "https://app.example"
            assert "Retry-After" in headers["access-control-expose-headers"]
        assert (await nobody.get("/nothing")).status == 429
        assert (await nobody.get("/healthz")).status == 200


@pytest.mark.gen_test
async def test_chunks_beyond_the_bound_are_answered_at_once(
    idle: Settings, make_token: Token
) -> None:
    """With 413, wherever they go to; not when the sender has said it all."""
    small = idle.changed(max_body_bytes=1024)
    token = make_token("alice").encode()
    async with serving(small, "") as nobody:
        for path in (b"/api/tasks", b"/healthz", b"/static/index.html"):
            data = CHUNKED.replace(b"%(token)s", token).replace(b"/api/tasks", path)
            data = data if path == b"/api/tasks" else data.replace(b"POST", b"GET")
            answer = await exchange(nobody, data, b"400\r\n" + b"x" * 1024 + b"\r\n1\r\nx\r\n")
            status, headers, _ = parsed(answer)
            assert (status, path, headers["connection"]) == (413, path, "close")


@pytest.mark.gen_test
@pytest.mark.parametrize("size", [1, 7, 5000])
@pytest.mark.parametrize("piece", [3, 1000, 1 << 20])
async def test_body_in_chunks_is_read_however_it_is_cut(
    idle: Settings, make_token: Token, size: int, piece: int
) -> None:
    """Into chunks by its sender, and those into pieces on the way."""
    text = json.dumps({"symbol": "AAPL", "params": {"llm_provider": "x" * 64}}).encode()
    text += b" " * (0 if piece == 3 else 20_000)
    head = CHUNKED.replace(b"%(token)s", make_token("alice").encode())
    head = head.replace(b"Host", b"Connection: close\r\nHost")
    cut = [text[at : at + size] for at in range(0, len(text), size)]
    body = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in cut) + b"0\r\n\r\n"
    pieces = [body[at : at + piece] for at in range(0, len(body), piece)]
    async with serving(idle, "") as nobody:
        status, _, answer = parsed(await exchange(nobody, head, *pieces))
        assert status == 202, answer


def test_small_chunks_are_taken_together() -> None:
    """Up to one that is not whole, or ends the body, or is no chunk."""
    assert whole_chunks(b"1\r\na\r\n2\r\nbc\r\n3\r\nde") == (13, b"abc")
    assert whole_chunks(b"1\r\na\r\n0\r\n\r\n") == (6, b"a")
    for other in (b"", b"1", b"1\r\na", b"1\r\nab\r\n", b"x\r\n", b"1;a=b\r\na\r\n"):
        assert whole_chunks(other) == (0, b"")


@pytest.mark.gen_test
async def test_others_have_their_turn_among_many_small_chunks(idle: Settings) -> None:
    """No step of the loop takes long, also when all of them are there at once."""
    head = GET + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    worst = 0.0
    async with serving(idle, "") as nobody:
        with socket.create_connection(("127.0.0.1", port_of(nobody))) as sock:
            body = b"1\r\nx\r\n" * 500_000 + b"0\r\n\r\n"
            sending = asyncio.create_task(asyncio.to_thread(sock.sendall, head + body))
            answer = asyncio.create_task(asyncio.to_thread(read_to_end, sock))
            while not answer.done():
                began = time.thread_time()
                await asyncio.sleep(0)
                worst = max(worst, time.thread_time() - began)
            await sending
            assert parsed(await answer)[0] == 200
    assert worst / slowness() < LONGEST_STEP


@pytest.mark.gen_test
async def test_keep_alive_goes_on_after_bodies_that_nobody_takes(
    idle: Settings, make_token: Token
) -> None:
    token = make_token("alice").encode()
    async with serving(idle, "") as nobody:
        get = GET + b"Content-Length: 5\r\n\r\nhello"
        mark = POST.replace(b"/api/tasks", b"/api/notifications/read_all")
        mark += b"Authorization: Bearer " + token + b"\r\nContent-Length: 2\r\n\r\n{}"
        last = GET + b"Connection: close\r\n\r\n"
        answers = await exchange(nobody, get + mark + get + last)
        assert answers.count(b"HTTP/1.1 200") == 4


def requests_of(session: http.client.HTTPConnection, token: str, count: int) -> list[int]:
    """Send requests on one connection as clients do that keep it, and return their statuses."""
    statuses = []
    for number in range(count):
        size = 2_000_000 if number % 2 else 10
        session.request("POST", "/api/tasks", b"x" * size, {"Authorization": f"Bearer {token}"})
        with session.getresponse() as response:
            response.read()
            statuses.append(response.status)
    return statuses


@pytest.mark.gen_test
async def test_client_that_keeps_its_connection_sees_every_answer(
    idle: Settings, make_token: Token
) -> None:
    """Large bodies that are refused among small ones: none is a failed request."""
    async with serving(idle, "") as nobody:
        session = http.client.HTTPConnection("127.0.0.1", port_of(nobody), timeout=20)
        token = make_token("alice")
        statuses = await asyncio.to_thread(requests_of, session, token, 10)
        assert statuses == [400, 413] * 5
        assert await asyncio.to_thread(requests_of, session, "bad", 4) == [401, 413, 401, 413]
        session.close()


@pytest.mark.gen_test
async def test_slow_head_is_408_and_silence_is_closed(idle: Settings, tmp_path: Path) -> None:
    """Also before TLS was agreed on; a connection between two requests may rest longer."""
    hurried = idle.changed(header_timeout_seconds=1.0)
    async with serving(hurried, "") as nobody:
        assert await exchange(nobody) == b""
        assert parsed(await exchange(nobody, SILENT))[0] == 408
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(nobody))
        for _ in range(2):
            writer.write(GET + b"\r\n")
            await reader.readuntil(b'"ok"}')
            # Begins later than the rest, and takes the whole time of a head.
            assert await exchange(nobody) == b""
        writer.close()
    certificate = make_certificate(tmp_path)
    secure = hurried.changed(tls_certificate=str(certificate.path))
    async with serving(secure, "") as nobody:
        assert await exchange(nobody) == b""
        assert await exchange(nobody, b"\x16\x03\x01\x02") == b""


@pytest.mark.gen_test
async def test_resting_connection_is_closed_after_its_time(idle: Settings) -> None:
    async with serving(idle.changed(idle_timeout_seconds=0.3), "") as nobody:
        assert parsed(await exchange(nobody, GET + b"\r\n"))[0] == 200


@pytest.mark.gen_test
async def test_slow_body_is_408(idle: Settings, make_token: Token) -> None:
    hurried = idle.changed(body_timeout_seconds=0.3)
    async with serving(hurried, "") as nobody:
        token = b"Authorization: Bearer " + make_token("alice").encode()
        answer = await exchange(nobody, POST + token + b"\r\nContent-Length: 99\r\n\r\n{")
        assert parsed(answer)[0] == 408


async def silent(client: Client, count: int) -> list[socket.socket]:
    """Open connections that begin a request and say no more."""
    opened = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port_of(client)))
        sock.sendall(SILENT)
        opened.append(sock)
        await asyncio.sleep(0)
    return opened


def is_closed(sock: socket.socket) -> bool:
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@pytest.mark.gen_test
@pytest.mark.parametrize("limit", ["max_sockets", "max_sockets_per_address"])
async def test_connection_that_said_nothing_makes_room_for_one_that_asks(
    idle: Settings, make_token: Token, limit: str
) -> None:
    """The oldest first; a stream and a request that is being answered stay."""
    bounded = attrs.evolve(idle, **{limit: 5})
    async with serving(bounded, make_token("alice")) as alice:
        stream = await alice.stream("/api/notifications/stream")
        await stream.event()
        opened = await silent(alice, 8)
        await until(lambda: sum(map(is_closed, opened)), equal=3)
        assert [is_closed(one) for one in opened] == [True] * 3 + [False] * 5
        assert (await alice.get("/healthz")).status == 200
        assert is_closed(opened[3])
        assert (await alice.get("/api/ws/stats")).body["total_connections"] == 1
        await stream.close()
        for one in opened:
            one.close()


@pytest.mark.gen_test
async def test_connection_that_rests_makes_room_for_one_that_asks(idle: Settings) -> None:
    async with serving(idle.changed(max_sockets=2), "") as nobody:
        resting = [await asyncio.open_connection("127.0.0.1", port_of(nobody)) for _ in range(2)]
        for reader, writer in resting:
            writer.write(GET + b"\r\n")
            await reader.readuntil(b'"ok"}')
        assert (await nobody.get("/healthz")).status == 200
        assert await resting[0][0].read() == b""
        resting[1][1].write(GET + b"\r\n")
        assert await resting[1][0].readuntil(b'"ok"}')
        for _, writer in resting:
            writer.close()


@pytest.mark.gen_test
async def test_connection_that_waits_for_its_answer_makes_no_room(
    idle: Settings, redis: Redis, make_token: Token
) -> None:
    """A further one is told to come again, whether it has asked before it was accepted or not."""
    async with serving(idle.changed(max_sockets=1), make_token("alice")) as alice:
        await redis.client_pause(60_000, all=False)
        waiting = asyncio.create_task(alice.submit())
        await until(is_at_work)
        for said in (b"", GET + b"\r\n"):
            with socket.create_connection(("127.0.0.1", port_of(alice))) as sock:
                sock.sendall(said)
                answer = await asyncio.to_thread(read_to_end, sock)
            status, headers, _ = parsed(answer)
            assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        await redis.client_unpause()
        assert await waiting


def is_at_work() -> bool:
    """Say whether a handler of a server of this process answers a request."""
    return any("_execute" in repr(task.get_coro()) for task in asyncio.all_tasks())


def read_to_end(sock: socket.socket) -> bytes:
    """Return all that comes until the peer has closed. Raise ConnectionResetError for a reset."""
    with sock.makefile("rb") as file:
        return file.read()


@pytest.mark.gen_test
async def test_bound_of_an_address_is_not_that_of_a_proxy(idle: Settings) -> None:
    """Behind a trusted proxy all connections are its own."""
    behind = idle.changed(max_sockets_per_address=2, trust_proxy_headers=True)
    async with serving(behind, "") as nobody:
        opened = await silent(nobody, 5)
        assert (await nobody.get("/healthz")).status == 200
        assert not any(map(is_closed, opened))
        for one in opened:
            one.close()


def test_addresses_are_counted_by_what_one_host_has() -> None:
    assert network_of("192.0.2.1") == network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert network_of("2001:db8:0:1::1") == network_of("2001:db8:0:1:ffff::2")
    assert network_of("2001:db8:0:1::1") != network_of("2001:db8:0:2::1")
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("local:") == "local:"


FEW = 256
WITH_FEW = (
    f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, ({FEW}, {FEW}));"
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def connected(server: ServerProcess, count: int) -> list[socket.socket]:
    """Open connections to a server that begin a request and say no more."""
    port = int(server.url.rpartition(":")[2])
    opened = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(count)]
    for sock in opened:
        sock.sendall(SILENT)
    return opened


def health(server: ServerProcess) -> int:
    with urllib.request.urlopen(server.url + "/healthz", timeout=5) as answer:
        return int(answer.status)


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def started(tmp_path: Path, **more: Any) -> Iterator[ServerProcess]:
    """A server as users start it; it ends well, or is ended with the test."""
    server = start_server(tmp_path / "data", RT_DRAIN_SECONDS="0", **more)
    try:
        yield server
        assert stop_server(server) == 0
    finally:
        server.process.kill()


@pytest.mark.parametrize("processes", ["1", "2"])
def test_silent_connections_of_one_address_shut_nobody_out(tmp_path: Path, processes: str) -> None:
    """Some of the descriptors that a process may have stay free."""
    prefix = [sys.executable, "-c", WITH_FEW]
    with started(tmp_path, prefix=prefix, RT_PROCESSES=processes) as server:
        opened = connected(server, 3 * FEW)
        assert [health(server) for _ in range(8)] == [200] * 8
        if processes == "1":
            assert len(os.listdir(f"/proc/{server.process.pid}/fd")) < FEW * 3 // 4 + 8
        for sock in opened:
            sock.close()


def test_accepting_pauses_without_a_descriptor_and_goes_on_by_itself(tmp_path: Path) -> None:
    """It takes no processor time meanwhile, and is logged once."""
    with started(tmp_path, RT_WORKER_CONCURRENCY="0") as server:
        pid = server.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
        opened = connected(server, 20)
        wait_until(lambda: "accept_paused" in server.log.read_text())
        began, used = time.monotonic(), processor_seconds(pid)
        wait_until(lambda: time.monotonic() - began > 2)
        assert processor_seconds(pid) - used < 1
        assert server.log.read_text().count("accept_paused") == 1
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        assert health(server) == 200
        assert server.log.read_text().count("accept_resumed") == 1
        for sock in opened:
            sock.close()
