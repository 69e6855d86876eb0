"""Callbacks, to real receivers on this machine."""

import asyncio
import contextlib
import ipaddress
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tornado.httputil import HTTPServerRequest
from tornado.web import Application, RequestHandler

from services.callbacks import (
    ATTEMPTS,
    TIMEOUT_SECONDS,
    WAITING,
    CallbackSender,
    CheckedResolver,
    NotPublic,
    is_public,
    validate_callback_url,
)
from tests.waiting import until


@attrs.define
class Received:
    """What a callback address got; it answers with `statuses`, the last one again and again."""

    statuses: list[int]
    requests: list[HTTPServerRequest] = attrs.field(factory=list)

    def application(self) -> Application:
        received = self

        class Receiver(RequestHandler):
            def post(self) -> None:
                received.requests.append(self.request)
                rest = received.statuses
                self.set_status(rest.pop(0) if len(rest) > 1 else rest[0])

        return Application([("/hook", Receiver)], log_function=lambda _: None)


@pytest.fixture
def received() -> Received:
    return Received([503, 200])


@pytest.fixture
def app(received: Received) -> Application:
    return received.application()


@contextlib.asynccontextmanager
async def sending(**options: Any) -> AsyncIterator[CallbackSender]:
    """Run a sender until the block ends."""
    sender = CallbackSender(**{"allow_private": True, **options})
    job = asyncio.create_task(sender.run())
    try:
        yield sender
        assert not job.done()
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def receiver(answer: Answer) -> AsyncIterator[str]:
    """Run a receiver that answers as it likes; yield its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, EOFError):
            await reader.readuntil(b"\r\n\r\n")
            await answer(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@pytest.mark.gen_test
async def test_callback_is_tried_again(received: Received, http_server: Any, base_url: str) -> None:
    """A failure is repeated; the event's id tells the receiver that it is the same."""
    async with sending() as sender:
        sender.send("alice", f"{base_url}/hook", "e1", {"status": "completed"})
        await until(lambda: len(received.requests) >= 2)
    assert [r.headers["X-Event-Id"] for r in received.requests] == ["e1", "e1"]
    assert received.requests[0].body == b'{"status":"completed"}'


@pytest.mark.gen_test
async def test_receiver_that_hangs_does_not_hold_up_others(
    received: Received, http_server: Any, base_url: str
) -> None:
    """However many events one user has for it; what is over that user's bound is dropped."""
    received.statuses = [200]
    with socket.create_server(("127.0.0.1", 0), backlog=200) as silent, capture_logs() as logged:
        async with sending(most_waiting_a_user=50) as sender:
            for number in range(100):
                address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
                sender.send("mallory", address, f"slow{number}", {})
            began = time.monotonic()
            sender.send("alice", f"{base_url}/hook", "quick", {})
            await until(lambda: received.requests)
            assert time.monotonic() - began < TIMEOUT_SECONDS
    dropped = [one["user_id"] for one in logged if one["event"] == "callback_dropped"]
    assert dropped == ["mallory"] * 50


@pytest.mark.gen_test
async def test_host_that_hangs_has_two_at_once_whoever_names_it(
    received: Received, http_server: Any, base_url: str
) -> None:
    received.statuses = [200]
    quick = base_url.replace("localhost", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0), backlog=200) as silent:
        async with sending() as sender:
            for number in range(30):
                address = f"http://localhost:{silent.getsockname()[1]}/"
                sender.send(f"user{number}", address, f"slow{number}", {})
            sender.send("alice", f"{quick}/hook", "quick", {})
            await until(lambda: received.requests, TIMEOUT_SECONDS)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "url",
    [
        *("http://h:" + "9" * 30, "", "http://[", "x", "http://" + "a" * 300 + "/", "ftp://h/"),
        *("http://h/\ud800", "http://xn--a.example/", "http://nowhere.invalid/"),
    ],
)
async def test_entry_that_is_bad_ends_no_sender(
    received: Received, http_server: Any, base_url: str, url: str
) -> None:
    """An older version has taken such addresses."""
    received.statuses = [200]
    async with sending() as sender:
        for number in range(12):
            sender.send("mallory", url, f"bad{number}", {})
        sender.send("alice", f"{base_url}/hook", "good", {"a": {1: object()}})
        sender.send("alice", f"{base_url}/hook", "good", {})
        await until(lambda: received.requests)


@pytest.mark.gen_test
async def test_host_that_hangs_fills_no_line_that_others_need(
    received: Received, http_server: Any, base_url: str
) -> None:
    """However many users have named it, and though hers wait for it too."""
    received.statuses = [200]
    quick = base_url.replace("localhost", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0), backlog=200) as silent, capture_logs() as logged:
        async with sending() as sender:
            hang = f"http://localhost:{silent.getsockname()[1]}/"
            for number in range(1100):
                sender.send(f"user{number % 20}", hang, f"slow{number}", {})
            sender.send("alice", f"{quick}/hook", "quick", {})
            await until(lambda: received.requests, TIMEOUT_SECONDS)
            await until(lambda: sender._in_all, equal=WAITING)
            for user_id in ("alice", "bob", "alice"):
                sender.send(user_id, hang, f"more of {user_id}", {})
            assert sender._in_all == WAITING + 2
    dropped = [one["event_id"] for one in logged if one["event"] == "callback_dropped"]
    assert dropped[:-1] == [f"slow{number}" for number in range(1000, 1100)]
    assert dropped[-1] == "more of alice"


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("{here}/hook", "not sent: the receiver is not at a public address"),
        ("http://nowhere.invalid/", "not sent: the receiver cannot be reached"),
        ("http://h:0/", "not sent: callback_url must have a valid host and port"),
    ],
)
async def test_submitter_is_told_why_a_callback_was_not_sent(
    received: Received, http_server: Any, base_url: str, url: str, reason: str
) -> None:
    told = []

    async def gave_up(*about: str) -> None:
        told.append(about)

    async with sending(allow_private=False, gave_up=gave_up) as sender:
        sender.send("alice", url.format(here=base_url), "e1", {})
        await until(lambda: told)
    assert told == [("alice", "e1", reason)]
    assert received.requests == []
    assert sender._sent.labels("failed")._value.get() == 1


@pytest.mark.gen_test
async def test_answer_that_refuses_is_told_by_its_number(
    received: Received, http_server: Any, base_url: str
) -> None:
    received.statuses = [410]
    told = []

    async def gave_up(*about: str) -> None:
        told.append(about)
        raise RuntimeError("cannot be told")

    async with sending(gave_up=gave_up) as sender:
        sender.send("alice", f"{base_url}/hook", "e1", {})
        sender.send("alice", f"{base_url}/hook", "e2", {})
        await until(lambda: len(told) == 2)
    assert told[0] == ("alice", "e1", "not sent: the receiver answered 410")


@pytest.mark.gen_test
async def test_colon_without_a_port_is_a_good_address() -> None:
    validate_callback_url("http://h:/x")
    async with sending() as sender:
        with capture_logs() as logged:
            sender.send("alice", "http://127.0.0.1:/x", "e1", {})
            await until(lambda: logged or not sender._waiting_of)
    # Nobody listens there; the name was understood.
    assert not [one for one in logged if "gaierror" in one["error"]]


@pytest.mark.gen_test
@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 410, 422])
async def test_receiver_that_refuses_is_not_asked_again_nor_followed(
    received: Received, http_server: Any, base_url: str, status: int
) -> None:
    received.statuses = [status]
    async with sending() as sender:
        with capture_logs() as logged:
            sender.send("alice", f"{base_url}/hook", "e1", {})
            await until(lambda: logged)
    assert (logged[0]["event"], logged[0]["final"]) == ("callback_failed", True)
    assert len(received.requests) == 1


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

    async with receiver(endless) as address, sending() as sender:
        with capture_logs() as logged:
            sender.send("alice", address, "e1", {})
            await until(lambda: sent)
            await until(lambda: not sender._waiting_of)
    assert logged == []
    # What the kernel's buffers on both sides take is on the way.
    assert sent < 20_000_000


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize(
    "piece", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: ", b"x"]
)
async def test_answer_that_drips_is_given_up(piece: bytes) -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)

    async with receiver(drip) as address, sending() as sender:
        with capture_logs() as logged:
            sender.send("alice", address, "e1", {})
            await until(lambda: logged, 3 * TIMEOUT_SECONDS)
    assert logged[0]["event"] == "callback_failed"


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "::1", "ff02::1"),
        *("::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2130706433", "0x7f.1", "0177.1"),
        *("127.1", "localhost", "localhost.", "0", "100.64.0.1", "::7f00:1", "fec0::1", "fc00::1"),
        *("64:ff9b:1::7f00:1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "192.88.99.1", "240.0.0.1"),
        *("198.18.0.1", "192.0.2.1", "2001:db8::1", "255.255.255.255", "::", "3fff::1", "5f00::1"),
        *("192.0.0.192", "168.63.129.16", "100.100.100.200", "fd00:ec2::254", "::ffff:169.254.1.1"),
        *("::ffff:0:127.0.0.1", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "fe80::1%lo"),
    ],
)
async def test_address_that_is_not_public_is_refused_in_every_spelling(host: str) -> None:
    resolver = CheckedResolver(False)
    with pytest.raises((NotPublic, OSError)) as refused:
        await resolver.resolve(host, 80)
    # A name server may not be there: then the spelling of an address would be no name either.
    assert refused.type is NotPublic or not host[0].isdigit(), refused.value
    resolver.close()


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "2606:4700::1", "::ffff:8.8.8.8", "192.0.1.1", "168.63.129.17", "100.128.0.1"],
)
def test_public_address_is_one(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.gen_test
async def test_callback_does_not_reach_this_machine_unless_it_may(
    received: Received, http_server: Any, base_url: str
) -> None:
    async with sending(allow_private=False) as sender:
        with capture_logs() as logged:
            sender.send("mallory", f"{base_url}/hook", "e1", {})
            await until(lambda: logged)
    assert logged[0]["error"] == "NotPublic: the receiver is not at a public address"
    assert logged[0]["final"]
    assert received.requests == []
    assert ATTEMPTS > 1


@pytest.mark.parametrize(
    "url",
    [
        *("", "x", "ftp://a/b", "http://", "//host/x", "http://u:p@host/", "http://u@h/"),
        *("http://h/" + "x" * 2000, "http://h/\r\nX: y", "http://h:" + "9" * 30, "http://h:0/"),
        *("http://h:70000/", "http://h:-1/", "http://[::1", "http://[::1%25lo]/", "http://a..b/"),
        *(
            "http://h/\ud800",
            "http://h/ x",
            "http://h\\@evil/",
            "http://\u00e4.example/",
            "http://h:x/",
        ),
        *("http://" + "a" * 64 + "/", "http://" + "a." * 150 + "b/", "javascript:alert(1)"),
    ],
)
def test_bad_callback_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="callback_url"):
        validate_callback_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://h",
        "https://a.example:8443/x?y=%20#z",
        "http://[2606:4700::1]:80/",
        "http://1.2.3.4/",
    ],
)
def test_good_callback_address_is_taken(url: str) -> None:
    validate_callback_url(url)


@given(st.text() | st.text(st.sampled_from("htp:/[]@.%1a\\")).map(lambda text: "http://" + text))
def test_any_text_is_a_callback_address_or_a_clear_refusal(url: str) -> None:
    with contextlib.suppress(ValueError):
        validate_callback_url(url)
