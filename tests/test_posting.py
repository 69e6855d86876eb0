"""Posts, to real receivers on this machine."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.webhooks.posting import Poster, Reply, seconds_of
from tests.receiving import Received, answering, receiving
from tests.waiting import until


@contextlib.asynccontextmanager
async def poster(**options: Any) -> AsyncIterator[Poster]:
    """Give a poster that may reach this machine."""
    made = Poster(**{"allow_private": True, "timeout_seconds": 5.0, "at_once": 4, **options})
    try:
        yield made
    finally:
        made.close()


async def post(url: str, body: bytes = b"{}", **options: Any) -> Reply:
    async with poster(**options) as made:
        return await made.post(url, {"X-Event-Id": "e1"}, body)


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        *(("5", 5, 5), ("0", 0, 0), ("007", 7, 7), ("3601", 3600, 3600), ("9" * 5000, 3600, 3600)),
        *(("", 0, 0), ("-1", 0, 0), ("1.5", 0, 0), ("1, 2", 0, 0), ("\u0665", 0, 0)),
        ("soon", 0, 0),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 3600, 3600),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0, 0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 0, 3600),
        ("Fri, 01 Jan 0001 00:00:00 +2359", 0, 0),
    ],
)
def test_wait_that_a_receiver_asks_for_is_bounded(text: str, least: float, most: float) -> None:
    assert least <= seconds_of(text) <= most


@given(st.text() | st.text(st.sampled_from("0123456789:-+, MonJanGMT")))
def test_wait_may_be_asked_for_in_any_text(text: str) -> None:
    assert 0.0 <= seconds_of(text) <= 3600.0


@pytest.mark.gen_test
async def test_post_brings_its_body_and_headers() -> None:
    received = Received([204])
    async with receiving(received) as url:
        reply = await post(url, b'{"a":1}')
    assert (reply.status, reply.error) == (204, "")
    [request] = received.requests
    assert (request.body, request.headers["Content-Type"]) == (b'{"a":1}', "application/json")


@pytest.mark.gen_test
@pytest.mark.parametrize("status", [301, 307, 308, 400, 404, 410, 429, 500, 503])
async def test_answer_that_is_no_success_is_told_by_its_number(status: int) -> None:
    """A redirect is one: it is not followed."""
    elsewhere = Received()
    async with receiving(elsewhere, "127.0.0.2") as other:
        received = Received([status], headers={"Location": other, "Retry-After": "7"})
        async with receiving(received) as url:
            reply = await post(url)
    assert (reply.status, reply.error) == (status, f"the receiver answered {status}")
    assert (reply.is_gone, reply.is_refused) == (status == 410, False)
    assert reply.retry_after == 7
    assert (len(received.requests), elsewhere.requests) == (1, [])


@pytest.mark.gen_test
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.1"])
async def test_post_does_not_reach_this_machine_unless_it_may(host: str) -> None:
    received = Received()
    async with receiving(received) as url:
        reply = await post(url.replace("127.0.0.1", host), allow_private=False)
    assert reply.is_refused
    assert reply.error == "the receiver is not at a public address"
    assert received.requests == []


@pytest.mark.gen_test
async def test_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would connect where we may not, and would look names up where we do not see it."""
    proxy, received = Received(), Received()
    async with receiving(proxy, "127.0.0.2") as other, receiving(received) as url:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, other)
        assert (await post(url)).status == 200
        assert (await post(url, allow_private=False)).is_refused
    assert (len(received.requests), proxy.requests) == (1, [])


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("url", "error", "refused"),
    [
        ("http://h:" + "9" * 30, "url must have a valid host and port", True),
        ("", "url must have 1 to 2000 characters", True),
        ("ftp://h/", "url must be an http(s) address", True),
        ("http://h/\ud800", "url must be ASCII, without spaces, backslashes and line breaks", True),
        ("http://xn--a.example/", "the receiver cannot be reached", False),
        ("http://nowhere.invalid/", "the receiver cannot be reached", False),
        # Nobody listens there; the name was understood.
        ("http://127.0.0.1:/x", "the receiver cannot be reached", False),
    ],
)
async def test_address_that_leads_nowhere_raises_nothing(
    url: str, error: str, refused: bool
) -> None:
    """An older version has taken such addresses."""
    reply = await post(url)
    assert (reply.status, reply.error, reply.is_refused) == (0, error, refused)


@pytest.mark.gen_test
async def test_answer_is_read_up_to_a_bound() -> None:
    """One that is endless is a good answer all the same: the event has come."""
    sent = 0

    async def endless(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(1000):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            sent += 65536

    async with answering(endless) as url:
        reply = await post(url)
        await until(lambda: sent)
    assert (reply.status, reply.error) == (200, "")
    # The rest is in the kernel's buffers on both sides.
    assert sent < 20_000_000


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "piece", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: ", b"x"]
)
async def test_answer_that_drips_is_given_up(piece: bytes) -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)

    async with answering(drip) as url:
        reply = await post(url, timeout_seconds=0.5)
    assert reply.error


@pytest.mark.gen_test
async def test_receiver_that_never_answers_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=8) as silent:
        reply = await post(f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout_seconds=0.3)
    assert reply.error == "the receiver did not answer in time"
    assert 0.25 <= reply.seconds < 5
