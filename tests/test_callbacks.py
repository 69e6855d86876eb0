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
from redis.asyncio import Redis
from services.callbacks import (
    ATTEMPTS,
    TIMEOUT_SECONDS,
    WAITING,
    CallbackSender,
    CheckedResolver,
    NotPublic,
    is_public,
    seconds_of,
    validate_callback_url,
)
from structlog.testing import capture_logs
from tornado.httputil import HTTPServerRequest
from tornado.web import Application, RequestHandler

from settings import Settings
from tests.api import Client, serving
from tests.waiting import until


@attrs.define
class Received:
    """A receiver: its requests; it answers with `statuses`, the last one again and again."""

    statuses: list[int]
    requests: list[HTTPServerRequest] = attrs.field(factory=list)
    retry_after: str | None = None

    def application(self) -> Application:
        received = self

        class Receiver(RequestHandler):
            def post(self) -> None:
                received.requests.append(self.request)
                rest = received.statuses
                self.set_status(rest.pop(0) if len(rest) > 1 else rest[0])
                if received.retry_after is not None:
                    self.set_header("Retry-After", received.retry_after)

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
    """When the receiver says; the event's id tells it that it is the same."""
    received.retry_after = "2"
    async with sending() as sender:
        sender.send("alice", f"{base_url}/hook", "e1", {"status": "completed"})
        await until(lambda: len(received.requests) >= 2)
    assert [r.headers["X-Event-Id"] for r in received.requests] == ["e1", "e1"]
    first, second = received.requests
    assert first.body == second.body == b'{"status":"completed"}'
    assert second._start_time - first._start_time >= 2.0


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        *(("5", 5, 5), ("0", 0, 0), ("007", 7, 7), ("61", 60, 60), ("9" * 5000, 60, 60)),
        *(
            ("", 0, 0),
            ("-1", 0, 0),
            ("1.5", 0, 0),
            ("1, 2", 0, 0),
            ("\u0665", 0, 0),
            ("soon", 0, 0),
        ),
        ("Fri, 31 Dec 2100 23:59:59 GMT", 60, 60),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0, 0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 0, 60),
        ("Fri, 01 Jan 0001 00:00:00 +2359", 0, 0),
    ],
)
def test_wait_that_a_receiver_asks_for_is_bounded(text: str, least: float, most: float) -> None:
    assert least <= seconds_of(text) <= most


@given(st.text() | st.text(st.sampled_from("0123456789:-+, MonJanGMT")))
def test_wait_may_be_asked_for_in_any_text(text: str) -> None:
    assert 0.0 <= seconds_of(text) <= 60.0


@pytest.mark.gen_test
async def test_callbacks_that_wait_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the bound each user still has one."""
    monkeypatch.setattr("services.callbacks.WAITING_BYTES", 2000)
    with socket.create_server(("127.0.0.1", 0), backlog=200) as silent, capture_logs() as logged:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        async with sending() as sender:
            for number in range(4):
                sender.send("mallory", address, f"large{number}", {"result": "x" * 1000})
            sender.send("alice", address, "hers", {"result": "x" * 1000})
    assert [one["event_id"] for one in logged] == ["large2", "large3"]


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
    received: Received,
    http_server: Any,
    base_url: str,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    reason: str,
) -> None:
    monkeypatch.setattr("services.callbacks.BACKOFF_SECONDS", 0.01)
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
    reason = "not sent: the receiver answered 410"
    assert sorted(told) == [("alice", "e1", reason), ("alice", "e2", reason)]


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
    # The rest is in the kernel's buffers on both sides.
    assert sent < 20_000_000


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize(
    "piece", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: ", b"x"]
)
async def test_answer_that_drips_is_given_up(piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.callbacks.TIMEOUT_SECONDS", 0.5)

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)

    async with receiver(drip) as address, sending() as sender:
        with capture_logs() as logged:
            sender.send("alice", address, "e1", {})
            await until(lambda: logged)
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
        *(
            "http://a.example[::1]/",
            "http://[::1]a.example/",
            "http://[::1]x:80/",
            "http://[v1.a]/",
        ),
        *("http://[1.2.3.4]/", "http://[]/", "http://[::1]:+80/", "http://h:80:80/"),
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


async def end(user: Client, url: str) -> None:
    """Submit a task and cancel it: its end is posted."""
    task_id = await user.submit(delay=999, callback_url=url)
    assert (await user.delete(f"/api/tasks/{task_id}")).status == 200


async def callback_noted(user: Client) -> str | None:
    """Return what the newest notification says of its callback."""
    items = (await user.get("/api/notifications")).body["items"]
    return items[0]["metadata"].get("callback") if items else None


@pytest.mark.gen_test(timeout=60)
async def test_server_posts_one_users_ends_whatever_anothers_receivers_do(
    settings: Settings,
    database: Any,
    redis: Redis,
    make_token: Callable[..., str],
    received: Received,
    http_server: Any,
    base_url: str,
) -> None:
    """From the end of the task on, with the setting that lets callbacks reach this machine."""
    received.statuses = [200]
    open_ = attrs.evolve(settings, callback_allow_private=True)
    with socket.create_server(("127.0.0.1", 0), backlog=200) as silent:
        async with serving(open_, make_token("mallory")) as mallory:
            for _ in range(30):
                await end(mallory, f"http://localhost:{silent.getsockname()[1]}/hang")
            began = time.monotonic()
            alice = mallory.as_user(make_token("alice"))
            await end(alice, f"{base_url}/hook")
            await until(lambda: received.requests)
            # A turn at the same host is free when one of hers has timed out.
            assert time.monotonic() - began < 2 * TIMEOUT_SECONDS
            assert await callback_noted(alice) is None


@pytest.mark.gen_test
async def test_server_tells_its_submitter_that_a_private_address_is_not_posted_to(
    settings: Settings,
    database: Any,
    redis: Redis,
    make_token: Callable[..., str],
    received: Received,
    http_server: Any,
    base_url: str,
) -> None:
    """Whatever it listens on: the setting is off unless it is named."""
    assert settings.host == "127.0.0.1"
    async with serving(settings, make_token("alice")) as alice:
        await end(alice, f"{base_url}/hook")
        noted = await until(lambda: callback_noted(alice))
        assert noted == "not sent: the receiver is not at a public address"
    assert received.requests == []
