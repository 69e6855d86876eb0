"""The parts of the Python client that do no I/O, without a server."""

import ast
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import attrs
import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.client_forms import block
from tests.conftest import ROOT, SECRET
from tornado_rt_client import Backoff, Client, Mint, Progress, Resync, verbs
from tornado_rt_client.async_client import AsyncClient
from tornado_rt_client.errors import (
    ApiError,
    ConnectionLost,
    Invalid,
    ProtocolError,
    ServerFault,
    Unavailable,
    error_of,
    error_of_answer,
    read_retry_after,
)
from tornado_rt_client.event_stream import Block, EventStreamParser
from tornado_rt_client.following import Following
from tornado_rt_client.inbox import AsyncInbox, Inbox
from tornado_rt_client.request import Attempts, Request
from tornado_rt_client.schedules import AsyncSchedules, Schedules
from tornado_rt_client.task import AsyncBatch, AsyncTask, Batch, Task

SOURCES = ROOT / "clients" / "python" / "src" / "tornado_rt_client"
LINE_ENDS = ("\n", "\r", "\r\n")
TEXTS = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=9)
BLOCKS = st.builds(
    Block, TEXTS.filter(bool), st.lists(TEXTS, min_size=1).map("\n".join), st.none() | TEXTS
)
CONNECTED = block("connected", '{"heartbeat_interval": 10}', retry=2000)


def pieces_of(content: bytes, places: list[int]) -> Iterator[bytes]:
    """Yield the content, split at these places."""
    bounds = [0, *sorted(place % (len(content) + 1) for place in places), len(content)]
    for begin, end in pairwise(bounds):
        yield content[begin:end]


def written(one: Block, end: str) -> str:
    lines = [f"event: {one.event}", *(f"data: {line}" for line in one.data.split("\n"))]
    lines += [] if one.id is None else [f"id: {one.id}"]
    return end.join([":a comment", *lines, "unknown: field", "", ""])


@given(st.lists(BLOCKS), st.sampled_from(LINE_ENDS), st.lists(st.integers(0, 9999)), st.booleans())
def test_stream_is_read_however_it_is_cut_into_pieces(
    blocks: list[Block], end: str, places: list[int], has_mark: bool
) -> None:
    """Pieces may end within a line end or a character; a mark at the beginning is left out."""
    text = ("\ufeff" if has_mark else "") + "".join(written(one, end) for one in blocks)
    parser = EventStreamParser()
    read = [one for piece in pieces_of(text.encode(), places) for one in parser.feed(piece)]
    assert read == blocks


@pytest.mark.parametrize("end", LINE_ENDS)
def test_stream_may_be_cut_at_every_place(end: str) -> None:
    """Between CR and LF too, which are one end of a line."""
    blocks = [Block("e", "one\ntwo", "7"), Block("ö", "€")]
    content = "".join(written(one, end) for one in blocks).encode()
    for place in range(len(content) + 1):
        parser = EventStreamParser()
        read = parser.feed(content[:place]) + parser.feed(content[place:])
        assert read == blocks


@given(st.binary(max_size=200), st.lists(st.integers(0, 200)))
def test_any_bytes_are_read_as_in_one_piece(content: bytes, places: list[int]) -> None:
    """Nothing breaks the parser, and pieces change nothing."""
    parser = EventStreamParser()
    read = [one for piece in pieces_of(content, places) for one in parser.feed(piece)]
    assert read == EventStreamParser().feed(content)


def test_odd_lines_are_read_as_the_standard_says() -> None:
    """One space after the colon goes; a bad `retry` or `id` is ignored; no data is no event."""
    parser = EventStreamParser()
    assert parser.feed(b"data\n\ndata:  two\nid: a\0b\nretry: 1x\n\n") == [
        Block("message", ""),
        Block("message", " two"),
    ]
    assert parser.retry_seconds is None
    assert parser.feed(b"retry: 2500\nid: 7\nevent: e\n\ndata: x\n\n") == [
        Block("message", "x", "7")
    ]
    assert parser.retry_seconds == 2.5


@pytest.mark.parametrize("content", [b"data: 1234567890", b"data: 12345\ndata: 67890\n"])
def test_event_without_end_is_refused(content: bytes) -> None:
    """The memory of the reader is bounded, for one long line and for many."""
    with pytest.raises(ProtocolError, match="more than 15"):
        EventStreamParser(15).feed(content)


@attrs.define
class Log:
    """A server's log, and a stream of it after an id, cut somewhere."""

    length: int

    def stream(self, last_id: str, cut_at: int) -> bytes:
        """Return what comes after the id, or from the one before, up to a cut."""
        after = int(last_id.removeprefix("e-") or 0)
        # At least once: the one that was seen last comes again.
        numbers = range(max(after, 1), self.length + 1)
        events = [
            block("progress", json.dumps({"task_id": "t", "progress": n}), f"e-{n}")
            for n in numbers
        ]
        content = "".join([CONNECTED, *events]).encode()
        return content[: cut_at % (len(content) + 1)]


@given(st.integers(1, 12), st.lists(st.tuples(st.integers(0, 9999), st.lists(st.integers(0, 999)))))
def test_reader_gets_each_event_once_whatever_is_cut(
    length: int, cuts: list[tuple[int, list[int]]]
) -> None:
    """None is left out and none comes twice, wherever connections are cut."""
    following, log = verbs.watch_task("t"), Log(length)
    following.begin(0.0, None, Backoff(), 30.0)
    shown: list[Any] = []
    for cut_at, places in [*cuts, (-1, [])]:
        content = log.stream(following.headers().get("Last-Event-ID", ""), cut_at)
        following.opened(200, "text/event-stream; charset=utf-8")
        for piece in pieces_of(content, places):
            shown += following.receive(piece, 0.0)
        following.pause(0.0, ConnectionLost("cut"))
    assert [one.percent for one in shown] == list(range(1, length + 1))


def test_waits_follow_the_server_and_double() -> None:
    """`retry:` is the first wait, `Retry-After` the least one, and a connection that works a new
    beginning."""
    following = verbs.watch_task("t")
    following.begin(0.0, None, Backoff(first=1, most=30, random=lambda: 1.0), 30.0)

    def connect() -> None:
        following.opened(200, "text/event-stream")
        following.receive(CONNECTED.encode(), 0.0)

    connect()
    assert [following.pause(0.0) for _ in range(6)] == [2, 4, 8, 16, 30, 30]
    following.refused(Unavailable(503, {}, retry_after=60))
    assert following.pause(0.0) == 61
    connect()
    assert following.pause(0.0) == 2


def test_stream_that_never_begins_is_given_up() -> None:
    """A proxy may answer for a server that is not there; one that was there is waited for."""
    following = verbs.watch_task("t")
    following.begin(0.0, None, Backoff(), 30.0)
    following.opened(200, "text/event-stream")
    assert following.pause(1.0) > 0
    with pytest.raises(ConnectionLost, match="before it began"):
        following.pause(30.0)
    following.receive(CONNECTED.encode(), 30.0)
    assert following.pause(10_000.0, ConnectionLost("cut")) > 0


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_waits_are_bounded_and_jittered(failures: int, chance: float) -> None:
    """Each is between half of what it would be and all of it."""
    wait = Backoff(first=1, most=8, random=lambda: chance).seconds(failures)
    whole = min(8, 2 ** min(max(failures - 1, 0), 4))
    assert whole / 2 <= wait <= whole


def test_silence_is_measured_by_the_heartbeat() -> None:
    """Before it is known the server has 30 s; without one nothing is known; a deadline wins."""
    following = verbs.watch_task("t")
    following.begin(0.0, None, Backoff(), 30.0)
    following.opened(200, "text/event-stream")
    assert following.read_until(100.0) == 130
    following.receive(CONNECTED.encode(), 0.0)
    assert following.read_until(100.0) == 130
    following.receive(block("connected", '{"heartbeat_interval": 2.5}').encode(), 0.0)
    assert following.read_until(100.0) == 107.5
    following.receive(block("connected", '{"heartbeat_interval": 0}').encode(), 0.0)
    assert following.read_until(100.0) is None
    following.deadline = 101
    assert following.read_until(100.0) == 101


def test_resync_of_one_topic_leaves_the_others() -> None:
    """Ids are remembered by topic."""
    following = verbs.subscribe(["a", "b"])

    def message(type_: str, topic: str, id_: str) -> str:
        envelope = {"type": type_, "topic": topic, "data": {"reason": "epoch"}, "id": id_}
        return block(type_, json.dumps(envelope), "places")

    first = [message("message", "a", "e-1"), message("message", "b", "e-1")]
    stream = "".join(
        [*first, message("resync", "a", "f-0"), *first, message("message", "b", "e-2")]
    )
    shown = following.receive(stream.encode(), 0.0)
    assert [one.topic for one in shown] == ["a", "b", "a", "a", "b"]
    assert isinstance(shown[2], Resync)
    assert following.last_id == "places"


def test_data_that_look_like_a_message_are_data() -> None:
    """A kind may show parameters of any name."""
    following = verbs.watch_task("t")
    data = {"task_id": "t", "type": "progress", "topic": "a", "data": {"task_id": "x"}}
    [event] = following.receive(block("progress", json.dumps(data), "e-1").encode(), 0.0)
    assert isinstance(event, Progress)
    assert (event.snapshot.task_id, event.topic, event.id) == ("t", None, "e-1")


def test_event_that_is_no_json_is_an_error() -> None:
    """It is not passed over: the reader would miss it."""
    following: Following[Any] = verbs.watch_task("t")
    for data in ("nonsense", "[]"):
        with pytest.raises(ProtocolError):
            following.receive(block("progress", data, "e-1").encode(), 0.0)


def test_unknown_events_and_fields_are_passed_over() -> None:
    """A newer server may say more; its fields are in `data`."""
    following = verbs.watch_task("t")
    stream = block("news", "{}", "e-1") + block("progress", '{"task_id": "t", "new": 1}', "e-2")
    [event] = following.receive(stream.encode(), 0.0)
    assert isinstance(event, Progress)
    assert event.snapshot.data["new"] == 1


def test_token_is_renewed_before_it_expires() -> None:
    """The same one is given while most of its life is left."""
    now = time.time()
    mint = Mint(SECRET, "alice", ["rt:publish"], ["room:*"], ttl=100, clock=lambda: now)
    first = mint()
    now += 74
    assert mint() == first
    now += 2
    assert mint() != first
    claims = jwt.decode(mint(), SECRET, algorithms=["HS256"])
    assert claims["exp"] - now > 90
    # A server whose clock is behind would refuse it.
    assert "iat" not in claims
    assert SECRET not in repr(mint)
    assert first not in repr(mint)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(None, None), ("3", 3), ("-1", 0), ("nan", None), ("soon", None), ("", None)],
)
def test_retry_after_is_read(text: str | None, seconds: float | None) -> None:
    """It is a number or a date; anything else is none."""
    assert read_retry_after(text) == seconds


def test_retry_after_may_be_a_date() -> None:
    """One that has passed is no wait."""
    assert read_retry_after(format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True)) == 0


def test_problem_documents_become_attributes() -> None:
    """An answer that has none is told by its status."""
    document = {"title": "T", "status": 422, "detail": "D", "errors": ["e", "f"], "more": 1}
    error = error_of_answer(422, {"retry-after": "5"}, json.dumps(document).encode())
    assert isinstance(error, Invalid)
    assert (error.title, error.detail, error.errors, error.retry_after) == ("T", "D", ["e", "f"], 5)
    assert error.document["more"] == 1
    assert str(error) == "422 D; e; f"
    for content in (b"<html>", b"[]", b"", b"\xff"):
        assert str(error_of_answer(502, {}, content)) == "502"
    assert type(error_of(500, {})) is ServerFault
    assert type(error_of(418, {})) is ApiError


def test_only_what_does_no_harm_is_repeated() -> None:
    """After a fault, by method and key; what was never sent in any case; not for ever."""
    fault, never = ConnectionLost("cut"), ConnectionLost("refused", was_sent=False)
    get, post = (Request(method, "/", lambda data: data) for method in ("GET", "POST"))
    keyed, harmless = attrs.evolve(post, key="k"), attrs.evolve(post, is_harmless=True)

    def is_repeated(request: Request[Any], error: Any, now: float = 0.0) -> bool:
        try:
            return Attempts(request, 0.0).pause(error, now) > 0
        except type(error):
            return False

    assert all(is_repeated(one, fault) for one in (get, keyed, harmless))
    assert not is_repeated(post, fault)
    assert is_repeated(post, never)
    assert not is_repeated(get, fault, 30.0)
    assert not is_repeated(get, error_of(500, {}))
    assert not is_repeated(get, error_of(404, {}))


def test_names_are_quoted_and_checked() -> None:
    """A name cannot leave its folder."""
    assert verbs.read_schedule("kind:a/b?c").path == "/api/schedules/kind:a%2Fb%3Fc"
    for name in ("", ".", ".."):
        with pytest.raises(ValueError, match="not a name"):
            verbs.read_task(name)


def test_params_may_be_objects_of_classes() -> None:
    """An instance of a kind's class of parameters is sent as it is."""

    @attrs.frozen
    class Params:
        path: str
        at: datetime

    at = datetime(2030, 1, 2, tzinfo=UTC)
    content = verbs.submit("k", Params("a", at), {}, None).content()
    assert json.loads(content or b"")["params"] == {"path": "a", "at": "2030-01-02T00:00:00+00:00"}
    for wrong in (float("nan"), datetime(2030, 1, 2)):
        with pytest.raises(ValueError, match=r"."):
            verbs.submit("k", {"x": wrong}, {}, None).content()
    with pytest.raises(TypeError):
        verbs.submit("k", {"x": object()}, {}, None).content()


@pytest.mark.parametrize(
    ("sync", "asynchronous"),
    [
        (Client, AsyncClient),
        (Task, AsyncTask),
        (Batch, AsyncBatch),
        (Inbox, AsyncInbox),
        (Schedules, AsyncSchedules),
    ],
)
def test_both_forms_have_the_same_verbs(sync: type, asynchronous: type) -> None:
    """Nobody has to look up what one of them lacks."""

    def verbs_of(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert verbs_of(sync) == verbs_of(asynchronous)


def test_client_imports_nothing_of_the_server() -> None:
    """It stands on its own distribution's requirements and the standard library."""
    allowed = {"tornado_rt_client", "anyio", "attrs", "httpx", "jwt", *sys.stdlib_module_names}
    more = {"orjson", "structlog", "websockets"}
    # These take the API for authors from where it is.
    shared = {SOURCES / "work.py", SOURCES / "worker" / "parts.py"}
    assert imported_by({*SOURCES.glob("*.py")} - shared) - allowed == set()
    assert imported_by({*SOURCES.rglob("*.py")} - shared) - allowed == more
    assert imported_by(shared) == {"tornado_rt", "tornado_rt_client"}


def imported_by(paths: set[Path]) -> set[str]:
    return {name for path in paths for name in imports_of(path)}


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module).split(".")[0]
