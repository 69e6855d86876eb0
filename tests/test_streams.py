"""Event streams, byte by byte."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from settings import Settings
from tests.blocks import CarelessReader, read_block
from tests.realtime import EPOCH, EventStream, realtime
from tests.waiting import until
from tornado_rt.auth import Identity
from tornado_rt.hub import DEGRADED
from tornado_rt.protocol import Message, MessageType
from tornado_rt.streams import StreamConnection
from tornado_rt.tickets import Tickets

Token = Callable[..., str]


@pytest.mark.gen_test
async def test_stream_begins_with_connected_and_retry(redis: Redis, make_token: Token) -> None:
    """The first block says who it is and when to come back; the headers forbid buffering."""
    async with realtime(redis, sse_heartbeat=10) as core:
        stream = await core.stream(make_token("alice"))
        assert stream.status == 200
        assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["Cache-Control"] == "no-cache, no-transform"
        assert stream.headers["X-Accel-Buffering"] == "no"
        connected = await stream.event()
        assert 1000 <= int(connected["retry"]) <= 4000
        assert connected["event"] == "connected"
        assert connected["id"] == f"{EPOCH}-0"
        data = json.loads(connected["data"])
        assert (data["user_id"], data["heartbeat_interval"]) == ("alice", 10)
        assert data["recovered"] is False


@pytest.mark.gen_test
async def test_stream_ends_after_finished(redis: Redis, make_token: Token) -> None:
    """Published messages arrive in order with their ids; `finished` ends the stream."""
    async with realtime(redis) as core:
        stream = await core.stream(make_token("alice"))
        await stream.event()
        await core.publish(progress=1)
        await core.publish(MessageType.FINISHED, final_status="completed")
        assert (await stream.event())["id"] == f"{EPOCH}-1"
        assert (await stream.event())["event"] == "finished"
        with pytest.raises(EOFError):
            await stream.event()
        assert core.hub.stats().total_connections == 0


@pytest.mark.gen_test
async def test_http_1_0_client_gets_the_stream_unchunked(redis: Redis, make_token: Token) -> None:
    """An old client reads until the connection ends."""
    async with realtime(redis) as core:
        stream = await core.stream(make_token("alice"), version="1.0")
        assert "Transfer-Encoding" not in stream.headers
        assert (await stream.event())["event"] == "connected"
        await core.publish(MessageType.FINISHED)
        assert (await stream.event())["event"] == "finished"
        with pytest.raises(EOFError):
            await stream.event()


@pytest.mark.gen_test
async def test_resume_replays_what_came_after_the_cursor(redis: Redis, make_token: Token) -> None:
    """A client that comes back with an id gets what it missed, once, and goes on."""
    async with realtime(redis) as core:
        for number in range(3):
            core.log.append(progress=number)
        stream = await core.stream(make_token("alice"), last_id=f"{EPOCH}-1")
        connected = await stream.event()
        assert json.loads(connected["data"])["recovered"] is True
        assert connected["id"] == f"{EPOCH}-1"
        assert [(await stream.event())["id"] for _ in range(2)] == [f"{EPOCH}-2", f"{EPOCH}-3"]
        await core.publish(progress=4)
        assert (await stream.event())["id"] == f"{EPOCH}-4"


@pytest.mark.gen_test
async def test_cursor_of_another_epoch_is_resynced(redis: Redis, make_token: Token) -> None:
    """A log that was lost is not replayed in part: the reason, then the snapshot."""
    async with realtime(redis) as core:
        core.log.append(progress=1)
        stream = await core.stream(make_token("alice"), last_id="old-1")
        await stream.event()
        resync = await stream.event()
        assert (resync["event"], json.loads(resync["data"])) == ("resync", {"reason": "epoch"})
        assert (await stream.event())["id"] == f"{EPOCH}-1"


@pytest.mark.gen_test
async def test_client_that_saw_the_end_gets_204(redis: Redis, make_token: Token) -> None:
    """204 is what stops an EventSource from coming again."""
    async with realtime(redis) as core:
        finished = core.log.append(MessageType.FINISHED)
        stream = await core.stream(make_token("alice"), last_id=str(finished.id))
        assert stream.status == 204
        assert core.hub.stats().total_connections == 0


@pytest.mark.gen_test
async def test_messages_during_the_read_come_once_and_in_order(
    redis: Redis, make_token: Token
) -> None:
    """A message between the subscription and the end of the read is not repeated."""
    async with realtime(redis) as core:
        core.log.append(progress=1)
        core.log.may_read.clear()
        opening = asyncio.create_task(core.stream(make_token("alice"), f"{EPOCH}-0"))
        await core.log.reading.wait()
        await core.backplane.publish(core.log.topic, core.log.messages[0])
        await core.publish(progress=2)
        core.log.may_read.set()
        stream = await opening
        await stream.event()
        await core.publish(progress=3)
        ids = [(await stream.event())["id"] for _ in range(3)]
        assert ids == [f"{EPOCH}-1", f"{EPOCH}-2", f"{EPOCH}-3"]


@pytest.mark.gen_test
async def test_client_that_left_is_noticed(redis: Redis, make_token: Token) -> None:
    """A closed socket leaves the hub and the topic without any message being sent."""
    async with realtime(redis) as core:
        stream = await core.stream(make_token("alice"))
        await stream.event()
        assert core.hub.stats().total_connections == 1
        await stream.close()
        await until(lambda: not core.hub.stats().total_connections)
        assert core.hub.stats().by_topic == {}


@pytest.mark.gen_test
async def test_heartbeats_come_at_the_interval(redis: Redis, make_token: Token) -> None:
    """A quiet stream carries heartbeats."""
    async with realtime(redis, sse_heartbeat=0.05) as core:
        stream = await core.stream(make_token("alice"))
        await stream.event()
        beat = await stream.event()
        assert beat["event"] == "heartbeat"
        assert "id" not in beat


@pytest.mark.gen_test
async def test_nothing_comes_before_connected(redis: Redis, make_token: Token) -> None:
    """However long the log takes to read, and however short the heartbeats are."""
    async with realtime(redis, sse_heartbeat=0.02, ws_heartbeat=0.02) as core:
        core.log.may_read.clear()
        opening = asyncio.create_task(core.stream(make_token("alice")))
        socket = await core.socket(make_token("bob"))
        await until(lambda: core.hub.stats().total_connections >= 2)
        begun = time.monotonic()
        await until(lambda: time.monotonic() >= begun + 0.3)
        core.log.may_read.set()
        stream = await opening
        assert (await stream.event())["event"] == "connected"
        assert '"type":"connected"' in str(await socket.read_message())


@pytest.mark.gen_test
async def test_stop_refuses_a_stream_that_is_still_opening(redis: Redis, make_token: Token) -> None:
    async with realtime(redis) as core:
        core.log.may_read.clear()
        opening = asyncio.create_task(core.stream(make_token("alice")))
        await core.log.reading.wait()
        await core.hub.drain(0)
        core.log.may_read.set()
        stream = await opening
        assert stream.status == 503


@pytest.mark.gen_test
async def test_idle_stream_ends_with_an_error(redis: Redis, make_token: Token) -> None:
    """Nothing for too long: our error with code `idle`, and the end."""
    async with realtime(redis) as core:
        core.log.idle = 0.05
        stream = await core.stream(make_token("alice"))
        await stream.event()
        ending = await stream.event()
        assert (ending["event"], json.loads(ending["data"])["code"]) == ("problem", "idle")
        with pytest.raises(EOFError):
            await stream.event()


@pytest.mark.gen_test
async def test_stream_ends_when_its_token_expires(redis: Redis) -> None:
    """It does not go on as somebody else or nobody."""
    async with realtime(redis) as core:
        identity = Identity("alice", frozenset(), time.time() + 1.5)
        ticket = await Tickets(redis, 30).issue(identity)
        stream = await EventStream.open(core.port, f"/stream?ticket={ticket}", {})
        await stream.event()
        ending = await stream.event()
        assert json.loads(ending["data"])["code"] == "token_expired"
        with pytest.raises(EOFError):
            await stream.event()
        await stream.close()


@pytest.mark.gen_test
async def test_slow_reader_is_closed(redis: Redis, make_token: Token) -> None:
    """A reader that stops costs at most the bound; the others go on."""
    async with realtime(redis, pending_bytes=20_000) as core:
        core.log.contiguous = True
        await core.stream(make_token("slow"))
        quick = await core.stream(make_token("quick"))
        await quick.event()
        number = 0
        while core.hub.stats().total_connections == 2:
            number += 1
            await core.publish(text="x" * 10_000)
            assert (await quick.event())["id"] == f"{EPOCH}-{number}"
        assert core.hub.stats().users == {"quick": 1}


@pytest.mark.gen_test
async def test_slow_reader_of_progress_gets_the_newest_and_the_end(
    redis: Redis, make_token: Token
) -> None:
    """Snapshots that a newer one replaced are left out; the end never is."""
    async with realtime(redis, pending_bytes=20_000) as core:
        slow = await core.stream(make_token("alice"))
        await slow.event()
        while core.hub.stats().messages_conflated < 50:
            last = await core.publish(text="x" * 10_000)
        await core.publish("finished", final_status="completed")
        ids = [event["id"] async for event in slow.events()][1:]
        assert len(ids) <= len(core.log.messages) - 50
        assert ids[-2:] == [last.id, core.log.messages[-1].id]


@pytest.mark.gen_test
@pytest.mark.parametrize("query", ["", "?ticket=unknown", "?token=garbage"])
async def test_stream_without_valid_credentials_is_401(redis: Redis, query: str) -> None:
    """No, unknown or bad credentials: a problem document and nothing else."""
    async with realtime(redis) as core:
        stream = await EventStream.open(core.port, f"/stream{query}", {})
        assert stream.status == 401
        assert stream.headers["Content-Type"] == "application/problem+json"
        await stream.close()


@pytest.mark.gen_test
async def test_limit_of_connections_a_user_is_429(redis: Redis, make_token: Token) -> None:
    """The one past the limit is refused; another user is not."""
    async with realtime(redis, per_user=1) as core:
        first = await core.stream(make_token("alice"))
        second = await core.stream(make_token("alice"))
        other = await core.stream(make_token("bob"))
        assert [s.status for s in (first, second, other)] == [200, 429, 200]


@pytest.mark.gen_test
async def test_drain_says_goodbye(redis: Redis, make_token: Token) -> None:
    """A server that stops tells its streams to come back."""
    async with realtime(redis) as core:
        stream = await core.stream(make_token("alice"))
        await stream.event()
        await core.hub.drain(0)
        assert json.loads((await stream.event())["data"])["code"] == "going_away"


async def everything(stream: EventStream) -> str:
    """Return the body up to its end."""
    body = stream.raw
    with contextlib.suppress(EOFError):
        while True:
            body += await stream.piece()
    return body.decode()


@pytest.mark.gen_test
@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_careless_reader_finds_data_in_every_event(
    redis: Redis, make_token: Token, version: str
) -> None:
    """Any content may be sent, and its pieces may be cut anywhere."""
    async with realtime(redis, sse_heartbeat=0.02) as core:
        core.log.append(text="\u0085\u2028\u2029 é\r\n\0")
        stream = await core.stream(make_token("alice"), last_id="old-1", version=version)
        stream.raw = b"".join([await stream.piece() for _ in range(6)])
        core.hub.outage(True)
        await core.publish(text="news")
        await core.publish(MessageType.FINISHED, final_status="completed")
        body = await everything(stream)
    assert body.endswith("\n\n")
    reader = CarelessReader()
    events = [event for one in body for event in reader.feed(one)]
    assert len(events) == body.count("\n\n")
    found = [event.event for event in events if event.event != "heartbeat"]
    assert found == ["connected", "resync", "progress", "problem", "progress", "finished"]
    assert "heartbeat" in [event.event for event in events]
    assert [event.retry for event in events if event.retry] == [events[0].retry]
    assert events[2].fields() == {"text": "\u0085\u2028\u2029 é\r\n\0"}
    assert all(isinstance(event.fields(), dict) for event in events)
    for block in body.removesuffix("\n\n").split("\n\n"):
        read_block(block.encode())


@pytest.mark.gen_test
async def test_ends_of_streams_hold_no_empty_block(redis: Redis, make_token: Token) -> None:
    """Nothing follows the last block, whichever side ends the stream and why."""
    async with realtime(redis) as core:
        tickets, soon = Tickets(redis, 30), time.time() + 1.5
        ticket = await tickets.issue(Identity("alice", frozenset(), soon))
        expiring = await EventStream.open(core.port, f"/stream?ticket={ticket}", {})
        core.opened.push_async_callback(expiring.close)
        going = await core.stream(make_token("bob"))
        body = await everything(expiring)
        assert [read_block(one.encode())["event"] for one in body[:-2].split("\n\n")] == [
            "connected",
            "problem",
        ]
        await core.hub.drain(0)
        body = await everything(going)
        assert body.endswith(
            '"code":"going_away","message":"the server is going away: come back"}\n\n'
        )


@pytest.mark.gen_test
async def test_name_of_errors_is_a_setting(redis: Redis, make_token: Token) -> None:
    """Clients that rely on `error` get it; on WebSocket the type is `error` in any case."""
    async with realtime(redis, error_event="error") as core:
        stream = await core.stream(make_token("alice"))
        socket = await core.socket(make_token("bob"))
        assert (await stream.event())["event"] == "connected"
        assert '"type":"connected"' in str(await socket.read_message())
        core.hub.outage(True)
        assert (await stream.event())["event"] == "error"
        assert str(await socket.read_message()).startswith('{"type":"error"')


@pytest.mark.gen_test
async def test_error_for_everybody_is_encoded_once(redis: Redis, make_token: Token) -> None:
    async with realtime(redis) as core:
        named = [
            StreamConnection(core.hub, Identity(user, frozenset(), 0), "", {})
            for user in ("alice", "bob")
        ]
        assert named[0].named(DEGRADED) is named[1].named(DEGRADED)


@pytest.mark.gen_test
async def test_reader_that_is_behind_is_told_why_its_stream_ends(
    redis: Redis, make_token: Token
) -> None:
    """Its waiting messages are dropped, the reason is sent."""
    async with realtime(redis, pending_bytes=50_000_000) as core:
        identity = Identity("alice", frozenset(), time.time() + 2.5)
        ticket = await Tickets(redis, 30).issue(identity)
        stream = await EventStream.open(core.port, f"/stream?ticket={ticket}", {})
        core.opened.push_async_callback(stream.close)
        for _ in range(100):
            await core.publish(text="x" * 100_000)
        await until(lambda: core.hub.stats().total_connections, equal=0)
        body = await everything(stream)
        last = read_block(body.removesuffix("\n\n").rpartition("\n\n")[2].encode())
        assert (last["event"], json.loads(last["data"])["code"]) == ("problem", "token_expired")


NAMES = (
    *("last_id", "lastEventId", "lastEventID", "last_event_id", "evs_last_event_id"),
    *("Last-Event-ID", "last-event-id", "Last-Event-Id"),
)


@pytest.mark.gen_test
async def test_last_id_is_taken_from_the_query(redis: Redis, make_token: Token) -> None:
    """By the names that polyfills use; the header wins, and an empty one is none."""
    async with realtime(redis) as core:
        for number in range(3):
            core.log.append(progress=number)

        async def begins(query: str, **headers: str) -> str:
            headers["Authorization"] = f"Bearer {make_token('alice')}"
            stream = await EventStream.open(core.port, f"/stream?{query}", headers)
            while stream.status == 503:
                # A busy machine: Redis did not answer in time.
                await stream.close()
                stream = await EventStream.open(core.port, f"/stream?{query}", headers)
            connected = await stream.event()
            await stream.close()
            return connected["id"]

        for name in NAMES:
            assert (await begins(f"{name}={EPOCH}-1"), name) == (f"{EPOCH}-1", name)
            assert await begins(f"{name}=") == f"{EPOCH}-2"
            header = {"Last-Event-ID": f"{EPOCH}-0"}
            assert await begins(f"{name}={EPOCH}-1", **header) == f"{EPOCH}-0"
            # The id that the polyfill adds is newer than the one in its address.
            assert await begins(f"last_id={EPOCH}-1&{name}={EPOCH}-0") == f"{EPOCH}-0"
            assert await begins(f"{name}={EPOCH}-1&{name}={EPOCH}-0") == f"{EPOCH}-0"
            assert await begins(f"{name}={EPOCH}-1", **{"Last-Event-ID": ""}) == f"{EPOCH}-1"


BAD_CURSORS = (
    *("x", "-", "-1", "e1", "e1-", "e1--1", "e1-1.5", "e1-1e3", "e1- 1", "é-1", "e1-\u0661"),
    *(f"e1-{2**63}", "e1-" + "9" * 5000, "e" * 5000 + "-1", "e" * 65 + "-1", "e_1-1"),
)


@pytest.mark.gen_test
@pytest.mark.parametrize("cursor", BAD_CURSORS, ids=lambda text: repr(text[:12]))
async def test_bad_cursor_is_400(redis: Redis, make_token: Token, cursor: str) -> None:
    """However long it is; on a WebSocket it is 4400."""
    async with realtime(redis) as core:
        path = f"/stream?last_id={quote(cursor)}"
        headers = {"Authorization": f"Bearer {make_token('alice')}"}
        stream = await EventStream.open(core.port, path, headers)
        assert stream.status == 400
        await stream.close()
        socket = await core.socket(make_token("alice"), f"?last_id={quote(cursor)}")
        text = str(await socket.read_message())
        assert '"bad_request"' in text
        assert len(text) < 300
        assert await socket.read_message() is None
        assert socket.close_code == 4400


@pytest.mark.gen_test
@pytest.mark.parametrize("offset", [2**63 - 1, 2**53])
async def test_largest_cursor_is_one_of_another_log(
    redis: Redis, make_token: Token, offset: int
) -> None:
    async with realtime(redis) as core:
        core.log.append(progress=1)
        stream = await core.stream(make_token("alice"), last_id=f"old-{offset}")
        assert (stream.status, (await stream.event())["id"]) == (200, f"old-{offset}")
        assert (await stream.event())["event"] == "resync"


@pytest.mark.parametrize("type_", ["a\nid: 9", "a\r", "a\0", "", "é", "x" * 65, " a", "a:b"])
def test_envelope_cannot_write_fields_of_an_event(type_: str) -> None:
    """A publisher in Redis makes messages, not lines of the stream."""
    with pytest.raises(ValueError, match="type"):
        Message.decode(json.dumps({"type": type_, "data": {}}))
    with pytest.raises(ValueError, match="cursor"):
        Message.decode(json.dumps({"type": "progress", "data": {}, "id": f"e1-1{type_}x"}))


def test_event_is_one_line_of_data() -> None:
    """Also of JSON that was written over several lines, and of a text with ends of lines."""
    message = Message("progress", '{\r\n"a": "\u2028\\n"\n}'.encode(), "e1-1")
    assert message.sse_event == b'id: e1-1\nevent: progress\ndata: {  "a": "\\u2028\\n" }\n\n'
    assert read_block(message.sse_event[:-2])["data"] == '{  "a": "\\u2028\\n" }'


@pytest.mark.parametrize("name", ["", "A", "a\n", "a b", "é", "x" * 65, "pro\nblem", "a\0"])
def test_setting_of_the_error_event_is_a_plain_name(name: str) -> None:
    with pytest.raises(ValueError, match="sse_error_event"):
        Settings(sse_error_event=name)
