"""Event streams, byte by byte."""

import asyncio
import json
import time
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from tests.realtime import EPOCH, EventStream, Realtime, realtime
from tests.waiting import until
from tornado_rt.auth import Identity
from tornado_rt.protocol import Bundle, MessageType
from tornado_rt.tickets import Tickets

Token = Callable[..., str]


@pytest.mark.gen_test
async def test_stream_begins_with_retry_and_connected(redis: Redis, make_token: Token) -> None:
    """The first event says who it is and when to come back; the headers forbid buffering."""
    async with realtime(redis, sse_heartbeat=10) as core:
        stream = await core.stream(make_token("alice"))
        assert stream.status == 200
        assert stream.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["Cache-Control"] == "no-cache, no-transform"
        assert stream.headers["X-Accel-Buffering"] == "no"
        assert 1000 <= int((await stream.event())["retry"]) <= 4000
        connected = await stream.event()
        assert connected["event"] == "connected"
        assert connected["id"] == f"{EPOCH}-0"
        data = json.loads(connected["data"])
        assert (data["user_id"], data["heartbeat_interval"]) == ("alice", 10)
        assert data["recovered"] is False


@pytest.mark.gen_test
async def test_stream_ends_after_finished(redis: Redis, make_token: Token) -> None:
    """What is published arrives in order with its id; `finished` ends the stream."""
    async with realtime(redis) as core:
        stream = await core.stream(make_token("alice"))
        await stream.event()
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
        await stream.event()
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
        await stream.event()
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
    """What is published between the subscription and the end of the read is not repeated."""
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
        assert "retry" in await stream.event()
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
    """Nothing for too long: `error` with code `idle`, and the end."""
    async with realtime(redis) as core:
        core.log.idle = 0.05
        stream = await core.stream(make_token("alice"))
        await stream.event()
        await stream.event()
        ending = await stream.event()
        assert (ending["event"], json.loads(ending["data"])["code"]) == ("error", "idle")
        with pytest.raises(EOFError):
            await stream.event()


@pytest.mark.gen_test
async def test_stream_ends_when_its_token_expires(redis: Redis) -> None:
    """It does not go on as somebody else or nobody."""
    async with realtime(redis) as core:
        identity = Identity("alice", frozenset(), time.time() + 0.2)
        ticket = await Tickets(redis, 30).issue(identity)
        stream = await EventStream.open(core.port, f"/stream?ticket={ticket}", {})
        await stream.event()
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
        core.log.ordered = False
        await core.stream(make_token("slow"))
        quick = await core.stream(make_token("quick"))
        for _ in range(2):
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
    """What a newer snapshot replaced is left out; the end never is."""
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
        await stream.event()
        await core.hub.drain(0)
        assert json.loads((await stream.event())["data"])["code"] == "going_away"


async def open_from_the_start(core: Realtime, token: str) -> EventStream:
    """Open a stream of all that the log has; return when it is connected."""
    stream = await core.stream(token, last_id=f"{EPOCH}-0")
    await stream.event()
    assert (await stream.event())["event"] == "connected"
    return stream


async def numbers(stream: EventStream, count: int) -> list[int]:
    """Return the numbers of the next events."""
    return [json.loads((await stream.event())["data"])["number"] for _ in range(count)]


@pytest.mark.gen_test
@pytest.mark.parametrize("ordered", [True, False])
async def test_what_is_published_after_it_was_read_is_sent_once(
    redis: Redis, make_token: Token, ordered: bool
) -> None:
    """Also when it was held meanwhile, and when it comes together with what is new."""
    async with realtime(redis) as core:
        core.log.ordered = ordered
        read = [core.log.append(number=number) for number in (1, 2)]
        stream = await open_from_the_start(core, make_token("alice"))
        assert await numbers(stream, 2) == [1, 2]
        for message in read:
            await core.backplane.publish(core.log.topic, message)
        new = core.log.append(number=3)
        core.hub.deliver(core.log.topic, Bundle.join([read[1], new]))
        await core.publish(number=4)
        assert await numbers(stream, 2) == [3, 4]


@pytest.mark.gen_test
@pytest.mark.parametrize("opening", [True, False])
async def test_gap_while_the_log_is_read_has_it_read_again(
    redis: Redis, make_token: Token, opening: bool
) -> None:
    """What was lost then came into the log after it was read."""
    async with realtime(redis) as core:
        if not opening:
            stream = await core.stream(make_token("alice"), last_id=f"{EPOCH}-0")
        core.log.reading.clear()
        core.log.may_read.clear()
        if opening:
            coming = asyncio.create_task(
                core.stream(make_token("alice"), last_id=f"{EPOCH}-0"), name="open"
            )
        else:
            core.hub.gap(core.log.topic)
        await core.log.reading.wait()
        core.log.append(number=1)
        core.hub.gap(core.log.topic)
        core.log.may_read.set()
        if opening:
            stream = await coming
        await stream.event()
        assert (await stream.event())["event"] == "connected"
        assert await numbers(stream, 1) == [1]


@pytest.mark.gen_test
@pytest.mark.parametrize(("ordered", "come"), [(True, [2, 3]), (False, [2, 1, 3])])
async def test_what_is_brought_while_the_log_cannot_be_read_is_not_brought_again(
    redis: Redis, make_token: Token, ordered: bool, come: list[int]
) -> None:
    """What was missed before it comes too, unless it was replaced."""
    async with realtime(redis) as core:
        core.log.ordered = ordered
        stream = await open_from_the_start(core, make_token("alice"))
        core.log.away = True
        core.log.reading.clear()
        core.log.append(number=1)
        core.hub.gap(core.log.topic)
        await core.log.reading.wait()
        await core.publish(number=2)
        found = await numbers(stream, 1)
        core.log.away = False
        core.log.append(number=3)
        assert found + await numbers(stream, len(come) - 1) == come
