"""WebSockets over real connections."""

import asyncio
import json
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from tornado.httpclient import HTTPClientError
from tornado.websocket import WebSocketClientConnection

from tests.peers import upgrade
from tests.realtime import EPOCH, realtime
from tests.waiting import until
from tornado_rt.auth import Identity
from tornado_rt.protocol import CLOSE_CODES, MessageType
from tornado_rt.tickets import Tickets

Token = Callable[..., str]


async def frame(socket: WebSocketClientConnection) -> dict[str, Any]:
    """Return the next frame."""
    text = await socket.read_message()
    assert isinstance(text, str)
    decoded: dict[str, Any] = json.loads(text)
    return decoded


async def close_code(socket: WebSocketClientConnection) -> int | None:
    """Read until the server closes; return its code."""
    while await socket.read_message() is not None:
        pass
    return socket.close_code


@pytest.mark.gen_test
async def test_first_frame_is_connected(redis: Redis, make_token: Token) -> None:
    """`connected` says who, when, how often, and what the close codes mean."""
    async with realtime(redis, ws_heartbeat=30) as core:
        socket = await core.socket(make_token("alice"))
        connected = await frame(socket)
        assert connected["type"] == "connected"
        assert connected["id"] == f"{EPOCH}-0"
        data = connected["data"]
        assert (data["user_id"], data["heartbeat_interval"]) == ("alice", 30)
        assert data["recovered"] is False
        assert data["close_codes"] == CLOSE_CODES
        assert data["timestamp"].endswith("Z")


@pytest.mark.gen_test
@pytest.mark.parametrize("ping", ["ping", '{"type": "ping"}'])
async def test_ping_is_answered_by_a_heartbeat(redis: Redis, make_token: Token, ping: str) -> None:
    """Both forms of ping are answered at once."""
    async with realtime(redis) as core:
        socket = await core.socket(make_token("alice"))
        await frame(socket)
        await socket.write_message(ping)
        assert (await frame(socket))["type"] == "heartbeat"


@pytest.mark.gen_test
async def test_finished_closes_with_1000(redis: Redis, make_token: Token) -> None:
    """After the end there is nothing to come back for."""
    async with realtime(redis) as core:
        socket = await core.socket(make_token("alice"))
        await frame(socket)
        await core.publish(progress=50)
        await core.publish(MessageType.FINISHED, final_status="completed")
        assert (await frame(socket))["data"] == {"progress": 50}
        assert (await frame(socket))["type"] == "finished"
        assert await close_code(socket) == 1000


@pytest.mark.gen_test
async def test_resume_after_the_end_closes_with_1000(redis: Redis, make_token: Token) -> None:
    """A socket that comes back with the cursor of `finished` is told that this was all."""
    async with realtime(redis) as core:
        core.log.append(MessageType.FINISHED)
        socket = await core.socket(make_token("alice"), f"?last_id={EPOCH}-1")
        assert (await frame(socket))["data"]["recovered"] is True
        assert await close_code(socket) == 1000


@pytest.mark.gen_test
async def test_resume_replays(redis: Redis, make_token: Token) -> None:
    """`?last_id=` brings what came after it."""
    async with realtime(redis) as core:
        for number in range(3):
            core.log.append(progress=number)
        socket = await core.socket(make_token("alice"), f"?last_id={EPOCH}-1")
        assert (await frame(socket))["data"]["recovered"] is True
        assert [(await frame(socket))["id"] for _ in range(2)] == [f"{EPOCH}-2", f"{EPOCH}-3"]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("{", "bad_message"),
        ("[]", "bad_message"),
        ('"x"', "bad_message"),
        ("{}", "bad_message"),
        ('{"type": "dance"}', "unknown_type"),
        ('{"type": 5}', "unknown_type"),
        ('{"type": ["ping"]}', "unknown_type"),
        ('{"type": "auth"}', "bad_token"),
        ('{"type": "auth", "data": {"token": "garbage"}}', "bad_token"),
        ('{"type": "auth", "data": {"token": 5}}', "bad_token"),
        ('{"type": "auth", "data": 5}', "bad_token"),
    ],
)
async def test_bad_message_gets_an_error_and_the_socket_stays_open(
    redis: Redis, make_token: Token, sent: str, code: str
) -> None:
    """Garbage is answered and forgotten."""
    async with realtime(redis) as core:
        socket = await core.socket(make_token("alice"))
        await frame(socket)
        await socket.write_message(sent)
        answer = await frame(socket)
        assert (answer["type"], answer["data"]["code"]) == ("error", code)
        await socket.write_message("ping")
        assert (await frame(socket))["type"] == "heartbeat"


@pytest.mark.gen_test
async def test_binary_frame_closes_with_1003(redis: Redis, make_token: Token) -> None:
    async with realtime(redis) as core:
        socket = await core.socket(make_token("alice"))
        await socket.write_message(b"\x00\x01", binary=True)
        assert await close_code(socket) == 1003


@pytest.mark.gen_test
async def test_oversized_frame_closes_with_1009(redis: Redis, make_token: Token) -> None:
    async with realtime(redis) as core:
        socket = await core.socket(make_token("alice"))
        await socket.write_message("x" * 5000)
        assert await close_code(socket) == 1009


@pytest.mark.gen_test
@pytest.mark.parametrize("token", ["", "garbage"])
async def test_bad_credentials_close_with_4401(redis: Redis, token: str) -> None:
    async with realtime(redis) as core:
        socket = await core.socket(token)
        assert (await frame(socket))["data"]["code"] == "bad_token"
        assert await close_code(socket) == 4401
        assert core.hub.stats().total_connections == 0


@pytest.mark.gen_test
async def test_expired_token_closes_with_4401(redis: Redis, make_token: Token) -> None:
    async with realtime(redis) as core:
        socket = await core.socket(make_token("alice", ttl=-1))
        assert await close_code(socket) == 4401


@pytest.mark.gen_test
async def test_malformed_cursor_closes_with_4400(redis: Redis, make_token: Token) -> None:
    async with realtime(redis) as core:
        socket = await core.socket(make_token("alice"), "?last_id=nonsense")
        assert await close_code(socket) == 4400


@pytest.mark.gen_test
async def test_too_many_connections_close_with_4429(redis: Redis, make_token: Token) -> None:
    async with realtime(redis, per_user=1) as core:
        first = await core.socket(make_token("alice"))
        second = await core.socket(make_token("alice"))
        assert await close_code(second) == 4429
        assert (await frame(first))["type"] == "connected"
        assert core.hub.stats().users == {"alice": 1}


@pytest.mark.gen_test
async def test_socket_without_an_answering_redis_closes_with_1013(
    redis: Redis, make_token: Token
) -> None:
    """It may come back: nothing is wrong with it."""
    async with realtime(redis) as core:
        await redis.client_pause(4000)
        try:
            socket = await core.socket(make_token("alice"))
            assert (await frame(socket))["data"]["code"] == "degraded"
            assert await close_code(socket) == 1013
            assert core.hub.stats().total_connections == 0
        finally:
            await redis.client_unpause()


@pytest.mark.gen_test
async def test_token_may_come_as_a_subprotocol(redis: Redis, make_token: Token) -> None:
    """A browser cannot set headers; ours is chosen and the token is not echoed."""
    async with realtime(redis) as core:
        protocols = {"Sec-WebSocket-Protocol": f"rt.v1, auth.{make_token('bob')}"}
        socket = await core.socket("", headers={"Authorization": "", **protocols})
        assert (await frame(socket))["data"]["user_id"] == "bob"
        assert socket.headers["Sec-WebSocket-Protocol"] == "rt.v1"


@pytest.mark.gen_test
async def test_ticket_works_once(redis: Redis) -> None:
    async with realtime(redis) as core:
        identity = Identity("carol", frozenset(), time.time() + 60)
        ticket = await Tickets(redis, 30).issue(identity)
        first = await core.socket("", f"?ticket={ticket}")
        assert (await frame(first))["data"]["user_id"] == "carol"
        second = await core.socket("", f"?ticket={ticket}")
        assert await close_code(second) == 4401


@pytest.mark.gen_test
async def test_renewed_token_keeps_the_socket(redis: Redis, make_token: Token) -> None:
    """`auth` before the expiry goes on under the new token; without it the socket ends."""
    async with realtime(redis) as core:
        tickets = Tickets(redis, 30)
        soon = Identity("alice", frozenset(), time.time() + 0.5)
        renewed = await core.socket("", f"?ticket={await tickets.issue(soon)}")
        forgotten = await core.socket("", f"?ticket={await tickets.issue(soon)}")
        token = make_token("alice")
        await renewed.write_message(json.dumps({"type": "auth", "data": {"token": token}}))
        assert await close_code(forgotten) == 4401
        await frame(renewed)
        await renewed.write_message("ping")
        assert (await frame(renewed))["type"] == "heartbeat"


@pytest.mark.gen_test
async def test_token_of_another_user_does_not_renew(redis: Redis, make_token: Token) -> None:
    async with realtime(redis) as core:
        socket = await core.socket(make_token("alice"))
        await frame(socket)
        token = make_token("bob")
        await socket.write_message(json.dumps({"type": "auth", "data": {"token": token}}))
        assert (await frame(socket))["data"]["code"] == "bad_token"


@pytest.mark.gen_test
async def test_foreign_origin_is_refused(redis: Redis, make_token: Token) -> None:
    """Another site's page may not open a socket; a trusted one may."""
    async with realtime(redis) as core:
        foreign = {"Origin": "https://evil.example"}
        with pytest.raises(HTTPClientError) as refused:
            await core.socket(make_token("alice"), headers=foreign)
        assert refused.value.code == 403
        socket = await core.socket(
            make_token("alice"), headers={"Origin": "https://trusted.example"}
        )
        assert (await frame(socket))["type"] == "connected"


@pytest.mark.gen_test
async def test_silent_peer_is_closed_with_4510(redis: Redis, make_token: Token) -> None:
    """A peer that answers no ping for a whole interval is gone."""
    async with realtime(redis, ws_heartbeat=0.1) as core:
        reader, writer = await asyncio.open_connection("127.0.0.1", core.port)
        writer.write(upgrade("/ws", make_token("alice")))
        received = await reader.readuntil(b"\r\n\r\n")
        close = b"\x88" + bytes([2 + len(b"pong_timeout")]) + struct.pack("!H", 4510)
        while close not in received:
            piece = await reader.read(4096)
            assert piece, "the connection ended without a close frame"
            received += piece
        assert core.hub.stats().total_connections == 0
        writer.close()


@pytest.mark.gen_test
async def test_answering_peer_stays(redis: Redis, make_token: Token) -> None:
    """Pongs count as life."""
    async with realtime(redis, ws_heartbeat=0.05) as core:
        socket = await core.socket(make_token("alice"))
        await frame(socket)
        for _ in range(6):
            assert (await frame(socket))["type"] == "heartbeat"


@pytest.mark.gen_test
async def test_slow_reader_of_news_is_closed_with_4508(redis: Redis, make_token: Token) -> None:
    """A socket that stops reading is let go at the bound, and only it."""
    async with realtime(redis, pending_bytes=20_000) as core:
        core.log.ordered = False
        reader, writer = await asyncio.open_connection("127.0.0.1", core.port, limit=1024)
        writer.write(upgrade("/ws", make_token("slow")))
        await reader.readuntil(b"\r\n\r\n")
        quick = await core.socket(make_token("quick"))
        await frame(quick)
        await until(lambda: "slow" in core.hub.stats().users)
        while "slow" in core.hub.stats().users:
            await core.publish(text="x" * 10_000)
            assert (await frame(quick))["type"] == "progress"
        received = await reader.read(-1)
        assert struct.pack("!H", 4508) + b"too_slow" in received
        assert core.hub.stats().closed_slow == 1
        writer.close()


@pytest.mark.gen_test
async def test_slow_reader_of_progress_gets_the_newest_and_the_end(
    redis: Redis, make_token: Token
) -> None:
    """What a newer snapshot replaced is left out; nothing grows past the bound."""
    async with realtime(redis, pending_bytes=20_000) as core:
        reader, writer = await asyncio.open_connection("127.0.0.1", core.port, limit=1024)
        writer.write(upgrade("/ws", make_token("slow")))
        await reader.readuntil(b"\r\n\r\n")
        await until(lambda: core.hub.stats().by_topic)
        while core.hub.stats().messages_conflated < 50:
            last = await core.publish(text="x" * 10_000)
        await core.publish("finished", final_status="completed")
        received = await reader.read(-1)
        assert received.count(b'"progress"') < len(core.log.messages) - 50
        assert received.index(f'"id":"{last.id}"'.encode()) < received.index(b'"type":"finished"')
        assert struct.pack("!H", 1000) + b"finished" in received
        writer.close()


@pytest.mark.gen_test
async def test_drain_closes_with_1001(redis: Redis, make_token: Token) -> None:
    async with realtime(redis) as core:
        socket = await core.socket(make_token("alice"))
        await frame(socket)
        await core.hub.drain(0)
        assert await close_code(socket) == 1001
        late = await core.socket(make_token("alice"))
        assert await close_code(late) == 1001


@pytest.mark.gen_test
@pytest.mark.parametrize("garbage", [b"\xff" * 64, b"\x88\x01x", b"\x83\x80" + bytes(4)])
async def test_garbage_after_the_handshake_ends_only_itself(
    redis: Redis, make_token: Token, garbage: bytes
) -> None:
    """Frames that are none (RFC 6455 section 5) close their connection and nothing else."""
    async with realtime(redis) as core:
        other = await core.socket(make_token("bob"))
        await frame(other)
        reader, writer = await asyncio.open_connection("127.0.0.1", core.port)
        writer.write(upgrade("/ws", make_token("alice")) + garbage)
        await asyncio.wait_for(reader.read(-1), 10)
        writer.close()
        await other.write_message("ping")
        assert (await frame(other))["type"] == "heartbeat"
        await until(lambda: core.hub.stats().users, equal={"bob": 1})
