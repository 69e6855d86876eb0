"""The Python client in both forms beside a peer that cuts, refuses, repeats and says nothing."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest

from tests.client_forms import (
    SECONDS,
    AsyncForm,
    FaultyPeer,
    Form,
    block,
    cut,
    header,
    http_answer,
    stream_answer,
)
from tests.client_forms import form as form
from tests.conftest import SECRET
from tests.ports import free_port
from tornado_rt_client import (
    Client,
    ConnectionLost,
    Counts,
    Finished,
    NotFound,
    Progress,
    ProtocolError,
    Resync,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)

Peers = Callable[..., FaultyPeer]
ACCEPTED = http_answer(202, json.dumps({"task_id": "t"}))
BUSY = http_answer(503, json.dumps({"status": 503, "detail": "busy"}), "Retry-After: 0")
FULL = http_answer(429, json.dumps({"status": 429, "detail": "full"}), "Retry-After: 0")
# The heartbeat of a connection that nothing is expected of, and of one that is soon found silent.
CALM = block("connected", '{"heartbeat_interval": 60}', "e-0", retry=1)
BRISK = block("connected", '{"heartbeat_interval": 0.1}', "e-0", retry=1)
END = block("finished", '{"task_id": "t", "final_status": "completed", "result": 7}', "e-9")


@pytest.fixture
def make_peer() -> Iterator[Peers]:
    """A factory of peers that answer one connection after another."""
    with contextlib.ExitStack() as stack:
        yield lambda *answers: stack.enter_context(FaultyPeer([*answers]))


def progress(number: int) -> str:
    return block("progress", json.dumps({"task_id": "t", "progress": number}), f"e-{number}")


def watch(form: Form, peer: FaultyPeer, timeout: float = SECONDS, **more: Any) -> Iterator[Any]:
    who = more or {"user": "u"}
    return form.each(form.client(peer.url, **who).task("t").watch(timeout))


def mute(opened: Any, _: str) -> None:
    """Answer nothing, and stay."""
    opened.recv(1)


def percents(events: list[Any]) -> list[float]:
    return [one.percent for one in events if isinstance(one, Progress)]


def test_stream_comes_back_with_its_last_id(form: Form, make_peer: Peers) -> None:
    """A repeated event is dropped; one that was cut in its middle is not."""
    peer = make_peer(
        stream_answer(CALM, progress(1), progress(2), progress(3)[:-1]),
        stream_answer(CALM, progress(2), progress(3), END),
    )
    events = list(watch(form, peer))
    assert percents(events) == [1, 2, 3]
    assert isinstance(events[-1], Finished)
    assert [header(one, "Last-Event-ID") for one in peer.heads] == [None, "e-2"]
    assert header(peer.heads[0], "Accept") == "text/event-stream"


def test_refusal_that_passes_is_waited_for(form: Form, make_peer: Peers) -> None:
    """429 and 503 are no end, before the first event and after it."""
    first = stream_answer(CALM, progress(1))
    peer = make_peer(BUSY, FULL, first, BUSY, stream_answer(CALM, progress(2), END))
    assert percents(list(watch(form, peer))) == [1, 2]


def test_retry_after_is_the_least_wait(form: Form, make_peer: Peers) -> None:
    """The client comes no earlier than it was told to."""
    waits = http_answer(503, "", "Retry-After: 1")
    peer = make_peer(waits, stream_answer(CALM, END))
    began = time.monotonic()
    assert len(list(watch(form, peer))) == 1
    assert time.monotonic() - began >= 1


def test_refusal_in_the_middle_is_told_at_once(form: Form, make_peer: Peers) -> None:
    """A task that was deleted meanwhile ends its stream."""
    peer = make_peer(stream_answer(CALM, progress(1)), http_answer(404, '{"detail": "gone"}'))
    events = watch(form, peer)
    assert percents([next(events)]) == [1]
    with pytest.raises(NotFound, match="gone"):
        next(events)
    assert len(peer.heads) == 2


def test_end_that_was_seen_is_confirmed_by_204(form: Form, make_peer: Peers) -> None:
    """A stream without an end of its own stops at 204."""
    client = form.client(make_peer(stream_answer(CALM, END), http_answer(204, "")).url, user="u")
    assert len(list(form.each(client.subscribe("task:t", timeout=SECONDS)))) == 1


def test_silent_connection_is_given_up(form: Form, make_peer: Peers) -> None:
    """Nothing comes for three heartbeats: the connection is lost, though nobody closed it."""
    silent = stream_answer(BRISK, progress(1), stays=True)
    peer = make_peer(silent, silent, stream_answer(CALM, progress(2), END))
    assert percents(list(watch(form, peer))) == [1, 2]
    assert len(peer.heads) == 3


def test_slow_reader_is_no_silence(form: Form, make_peer: Peers) -> None:
    """The time that the reader takes over an event does not count."""
    asked, released, sent = (threading.Event() for _ in range(3))
    brisk = block("connected", '{"heartbeat_interval": 0.3}', "e-0")
    ended: list[bytes] = []

    def answer(opened: Any, head: str) -> None:
        stream_answer(brisk, progress(1))(opened, head)
        asked.wait(SECONDS)
        opened.sendall(progress(2).encode())
        released.wait(SECONDS)
        with contextlib.suppress(BlockingIOError):
            # Nothing comes unless the client has ended its side.
            ended.append(opened.recv(1, socket.MSG_DONTWAIT))
        opened.sendall(END.encode())
        sent.set()

    events = watch(form, make_peer(answer))
    next(events)
    # The next read knows the heartbeat.
    asked.set()
    next(events)
    # Longer than the silence that is allowed: what is tested is that time passes.
    time.sleep(1.2)
    released.set()
    assert sent.wait(SECONDS)
    assert isinstance(next(events), Finished)
    assert ended == []


def test_timeout_is_kept_on_a_silent_connection(form: Form, make_peer: Peers) -> None:
    """The deadline ends a wait for the next event, for the first one, and between attempts."""
    silent = stream_answer(CALM, progress(1), stays=True)
    for answer in (silent, mute, http_answer(503, "", "Retry-After: 1000")):
        client = form.client(make_peer(answer).url, user="u", patience=10_000)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            form.call(client.task("t").result(0.3))
        assert time.monotonic() - began < SECONDS / 2


def test_problem_that_passes_brings_the_client_back(form: Form, make_peer: Peers) -> None:
    """The token is asked for anew: the one before has expired."""
    expired = block("problem", '{"code": "token_expired", "message": "…"}')
    going = block("problem", '{"code": "going_away", "message": "…"}')
    peer = make_peer(
        *(stream_answer(CALM, one, stays=True) for one in (expired, going)),
        stream_answer(CALM, END),
    )
    tokens = iter("abc")
    assert len(list(watch(form, peer, token=lambda: next(tokens)))) == 1
    assert [header(one, "Authorization") for one in peer.heads] == [
        f"Bearer {one}" for one in "abc"
    ]


def test_store_that_is_away_does_not_end_the_stream(form: Form, make_peer: Peers) -> None:
    """The server goes on with what it has; another stream would be refused."""
    for name in ("problem", "error"):
        degraded = block(name, '{"code": "degraded", "message": "…"}')
        peer = make_peer(stream_answer(CALM, degraded, progress(1), END), cut)
        assert percents(list(watch(form, peer))) == [1]
        assert len(peer.heads) == 1


def test_topic_that_cannot_be_read_brings_the_client_back(form: Form, make_peer: Peers) -> None:
    """Only another connection follows it again."""
    degraded = '{"topic": "me", "data": {"code": "degraded", "message": "…"}}'
    peer = make_peer(
        stream_answer(CALM, block("problem", degraded), stays=True), stream_answer(CALM, END)
    )
    client = form.client(peer.url, user="u")
    assert isinstance(next(form.each(client.subscribe("me", timeout=SECONDS))), Finished)
    assert len(peer.heads) == 2


def test_problem_that_stays_is_told(form: Form, make_peer: Peers) -> None:
    """The error is that of the same status; the events before it come first."""
    problem = block("problem", '{"code": "not_found", "message": "no such task"}')
    peer = make_peer(stream_answer(CALM, progress(1), problem))
    events = watch(form, peer)
    assert percents([next(events)]) == [1]
    with pytest.raises(NotFound, match="no such task"):
        next(events)
    assert len(peer.heads) == 1


def test_resync_begins_anew(form: Form, make_peer: Peers) -> None:
    """Ids and counts from before it say nothing about the log after it."""
    counts = '{"unread": %d, "unseen": 0, "version": %d}'
    peer = make_peer(
        stream_answer(
            CALM,
            block("unread_count", counts % (5, 9)),
            block("unread_count", counts % (4, 8)),
            block("resync", '{"reason": "epoch"}', "f-0"),
            block("unread_count", counts % (1, 1)),
            stays=True,
        )
    )
    events = form.each(form.client(peer.url, user="u").inbox().watch(SECONDS))
    first, resync, last = (next(events) for _ in range(3))
    assert isinstance(first, Counts)
    assert first.counts.unread == 5
    assert isinstance(resync, Resync)
    assert resync.reason == "epoch"
    assert last.counts.unread == 1


def test_server_that_was_never_there_is_told(form: Form) -> None:
    """A wrong address is an error, and no wait without end."""
    client = form.client(f"http://127.0.0.1:{free_port()}", user="u", patience=0.2)
    with pytest.raises(ConnectionLost):
        form.call(client.submit("k"))
    with pytest.raises(ConnectionLost):
        list(form.each(client.task("t").watch()))


def test_foreign_server_is_told(form: Form, make_peer: Peers) -> None:
    """A page in place of an API is no tornado_rt."""
    client = form.client(make_peer(http_answer(200, "<html>")).url, user="u")
    with pytest.raises(ProtocolError):
        form.call(client.task("t").read())
    with pytest.raises(ProtocolError):
        list(form.each(client.task("t").watch()))


def test_keyed_request_is_repeated_as_it_was(form: Form, make_peer: Peers) -> None:
    """A submission that got lost is sent again with its key."""
    peer = make_peer(cut, BUSY, FULL, ACCEPTED)
    assert form.call(form.client(peer.url, user="u").submit("k")).id == "t"
    assert len(peer.heads) == 4
    assert len({header(one, "Idempotency-Key") for one in peer.heads}) == 1
    assert header(peer.heads[0], "Idempotency-Key")


def test_request_without_a_key_is_not_repeated(form: Form, make_peer: Peers) -> None:
    """Nobody knows whether it was done; a limit says that it was not."""
    for answer, error in ((cut, ConnectionLost), (BUSY, Unavailable)):
        peer = make_peer(answer, http_answer(202, '{"id": "e-1"}'))
        with pytest.raises(error):
            form.call(form.client(peer.url, user="u").publish("room:1"))
        assert len(peer.heads) == 1
    peer = make_peer(FULL, http_answer(202, '{"id": "e-1"}'))
    assert form.call(form.client(peer.url, user="u").publish("room:1")) == "e-1"


def test_refusal_outlasts_the_patience(form: Form, make_peer: Peers) -> None:
    """Then the last answer is told."""
    peer = make_peer(http_answer(429, '{"detail": "full", "errors": ["e"]}', "Retry-After: 99"))
    with pytest.raises(TooManyRequests, match="full; e") as told:
        form.call(form.client(peer.url, user="u").submit("k"))
    assert told.value.retry_after == 99
    assert len(peer.heads) == 1


def test_token_is_minted_with_what_was_asked_for(form: Form, make_peer: Peers) -> None:
    """It has the user, the scopes and the topics, and soon expires."""
    peer = make_peer(ACCEPTED)
    client = form.client(peer.url, user="u", scopes=["rt:publish"], topics=["room:*"])
    form.call(client.submit("k"))
    token = str(header(peer.heads[0], "Authorization")).removeprefix("Bearer ")
    claims = jwt.decode(token, SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["scope"], claims["topics"]) == ("u", "rt:publish", ["room:*"])
    assert claims["exp"] - time.time() <= 300


def test_async_function_may_give_the_token(make_peer: Peers) -> None:
    """It is awaited for each request."""

    async def token() -> str:
        return "late"

    form, peer = AsyncForm(), make_peer(ACCEPTED)
    form.call(form.client(peer.url, token=token).submit("k"))
    form.close()
    assert header(peer.heads[0], "Authorization") == "Bearer late"


def test_stream_that_is_left_closes_its_connection(form: Form, make_peer: Peers) -> None:
    """Nothing of it stays, in the process or at the server."""
    left = threading.Event()

    def answer(opened: Any, head: str) -> None:
        stream_answer(CALM, progress(1), stays=True)(opened, head)
        left.set()

    events = watch(form, make_peer(answer))
    next(events)
    events.close()  # type: ignore[attr-defined]
    assert left.wait(SECONDS)
    assert not [one for one in threading.enumerate() if one.name == "tornado_rt_client"]


def test_wrong_arguments_are_told_before_anything_is_sent() -> None:
    """An address, a token and a secret are checked; one of the latter two is needed."""
    url = "http://127.0.0.1"
    for wrong in (
        {"url": "127.0.0.1:1", "token": "t"},
        {"url": url},
        {"url": url, "token": "t", "secret": SECRET},
        {"url": url, "token": "t", "scopes": ["rt:admin"]},
        {"url": url, "secret": SECRET},
        {"url": url, "secret": "short", "user": "u"},
    ):
        with pytest.raises(ValueError, match=r"."):
            Client(**wrong)
    with Client(url, token="t") as client:
        for topics in ((), ("a,b",), ("",)):
            with pytest.raises(ValueError, match="topic"):
                client.subscribe(*topics)
        with pytest.raises(ValueError, match="name"):
            client.task("").read()
    with Client(url, token="from a file\n") as client, pytest.raises(ValueError, match="line ends"):
        client.task("t").read()


def test_wrong_token_is_not_tried_again(form: Form, make_peer: Peers) -> None:
    """By a stream neither."""
    peer = make_peer(http_answer(401, ""))
    client = form.client(peer.url, user="u")
    with pytest.raises(Unauthorized):
        form.call(client.task("t").read())
    with pytest.raises(Unauthorized):
        list(form.each(client.task("t").watch()))
    assert len(peer.heads) == 2
