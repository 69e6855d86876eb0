"""WebSockets over real connections."""

import asyncio
import json
import re
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs
from tornado.httpclient import HTTPClientError
from tornado.websocket import WebSocketClientConnection

from tests.peers import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    client_frame,
    handshake_headers,
    upgrade,
)
from tests.realtime import EPOCH, realtime
from tests.waiting import stopwatch, until
from tornado_rt.auth import Identity
from tornado_rt.protocol import CLOSE_CODES, MessageType
from tornado_rt.sockets import MORE
from tornado_rt.tickets import Tickets
from tornado_rt.wire import LINGER_SECONDS, READ_BYTES

pytestmark = pytest.mark.long

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
        pytest.param('{"type": ' + "[" * 1000 + "]" * 1000 + "}", "unknown_type", id="deep type"),
        pytest.param('{"type": "ping", "x": ' + "[" * 2000, "bad_message", id="too deep"),
        ('{"type": "\\ud800"}', "bad_message"),
        ('{"type": "auth", "data": {"token": "\\u0000ä.b.c"}}', "bad_token"),
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
    redis: Redis, make_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may come back: nothing is wrong with it."""
    monkeypatch.setattr("tornado_rt.backplane.SUBSCRIBE_SECONDS", 0.2)
    async with realtime(redis) as core:
        await redis.client_pause(1500)
        try:
            socket = await core.socket(make_token("alice"))
            assert (await frame(socket))["data"]["code"] == "degraded"
            assert await close_code(socket) == 1013
            assert core.hub.stats().total_connections == 0
        finally:
            await redis.client_unpause()


@pytest.mark.gen_test
@pytest.mark.skipif(not MORE, reason="Linux alone has MSG_MORE")
async def test_answer_comes_with_the_first_frame_and_waits_no_longer_than_a_moment(
    redis: Redis, make_token: Token
) -> None:
    """In one segment; alone while a store makes the frame wait."""
    request = upgrade("/ws", make_token("alice"))
    async with realtime(redis) as core:
        pieces = [await first_piece(core.port, request) for _ in range(20)]
        assert all(one.startswith(b"HTTP/1.1 101 ") for one in pieces)
        # The first one may have to wait for what is made once.
        assert sum(b'"type":"connected"' in one for one in pieces) > 10
        await redis.client_pause(900)
        began = time.monotonic()
        assert (await first_piece(core.port, request)).endswith(b"\r\n\r\n")
        assert time.monotonic() - began < 0.8
        await redis.client_unpause()


async def first_piece(port: int, request: bytes) -> bytes:
    """Return what comes first after a request, as the kernel has it."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(request)
        return await asyncio.to_thread(sock.recv, 65536)


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
        soon = Identity("alice", frozenset(), time.time() + 2.0)
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
    async with realtime(redis, ws_heartbeat=0.5) as core:
        socket = await core.socket(make_token("alice"))
        await frame(socket)
        for _ in range(3):
            assert (await frame(socket))["type"] == "heartbeat"


@pytest.mark.gen_test
async def test_slow_reader_of_news_is_closed_with_4508(redis: Redis, make_token: Token) -> None:
    """A socket that stops reading is let go at the bound, and only it."""
    async with realtime(redis, pending_bytes=20_000) as core:
        core.log.contiguous = True
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
    """Snapshots that a newer one replaced are left out; nothing grows past the bound."""
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


async def handshake(
    port: int, *lines: str, version: str = "1.1", method: str = "GET"
) -> tuple[int, str, bytes]:
    """Ask for a path, with these header lines; return the status, the head, and the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = [f"{method} {lines[0]} HTTP/{version}", "Host: 127.0.0.1", *lines[1:], "", ""]
    writer.write("\r\n".join(head).encode("latin-1"))
    answer = (await reader.readuntil(b"\r\n\r\n")).decode()
    size = re.search(r"Content-Length: (\d+)", answer)
    body = await reader.readexactly(int(size[1])) if size and method != "HEAD" else b""
    writer.close()
    return int(answer.split()[1]), answer, body


UPGRADE, CONNECTION, KEY, VERSION = handshake_headers()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("status", "lines", "version"),
    [
        (400, [UPGRADE, CONNECTION, KEY, VERSION], "1.0"),
        (426, [CONNECTION, KEY, VERSION], "1.1"),
        (426, ["Upgrade: websockets", CONNECTION, KEY, VERSION], "1.1"),
        (400, [UPGRADE, KEY, VERSION], "1.1"),
        (400, [UPGRADE, "Connection: keep-alive", KEY, VERSION], "1.1"),
        (400, [UPGRADE, CONNECTION, VERSION], "1.1"),
        (400, [UPGRADE, CONNECTION, KEY, KEY, VERSION], "1.1"),
        (400, [UPGRADE, CONNECTION, "Sec-WebSocket-Key: abc", VERSION], "1.1"),
        (400, [UPGRADE, CONNECTION, "Sec-WebSocket-Key: " + "A" * 24, VERSION], "1.1"),
        (400, [UPGRADE, CONNECTION, "Sec-WebSocket-Key: " + "A" * 21 + "===", VERSION], "1.1"),
        (400, [UPGRADE, CONNECTION, "Sec-WebSocket-Key: " + "-" * 22 + "==", VERSION], "1.1"),
        (426, [UPGRADE, CONNECTION, KEY], "1.1"),
        (426, [UPGRADE, CONNECTION, KEY, "Sec-WebSocket-Version: 8"], "1.1"),
        (426, [UPGRADE, CONNECTION, KEY, "Sec-WebSocket-Version: 13, 8"], "1.1"),
        (426, [UPGRADE, CONNECTION, KEY, VERSION, VERSION], "1.1"),
        (400, [UPGRADE, CONNECTION, KEY, VERSION, "Sec-WebSocket-Extensions: a b"], "1.1"),
        (400, [UPGRADE, CONNECTION, KEY, VERSION, "Sec-WebSocket-Extensions: x; y=\xe4"], "1.1"),
        (403, [UPGRADE, CONNECTION, KEY, VERSION, "Origin: https://evil.example"], "1.1"),
        (403, [UPGRADE, CONNECTION, KEY, VERSION, "Origin: http://["], "1.1"),
        (403, [UPGRADE, CONNECTION, KEY, VERSION, "Sec-Fetch-Site: cross-site"], "1.1"),
    ],
)
async def test_handshake_that_is_none_is_refused_and_spends_no_ticket(
    redis: Redis, status: int, lines: list[str], version: str
) -> None:
    """With a problem document (RFC 6455 sections 4.2.1, 4.2.2 and 4.4)."""
    async with realtime(redis) as core:
        ticket = await Tickets(redis, 30).issue(Identity("carol", frozenset(), time.time() + 60))
        path = f"/ws?ticket={ticket}"
        got, head, body = await handshake(core.port, path, *lines, version=version)
        assert got == status
        assert json.loads(body)["status"] == status
        assert ("Sec-Websocket-Version: 13" in head) == (status == 426)
        socket = await core.socket("", f"?ticket={ticket}")
        assert (await frame(socket))["data"]["user_id"] == "carol"


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE"])
async def test_other_methods_spend_no_ticket(redis: Redis, method: str) -> None:
    async with realtime(redis) as core:
        ticket = await Tickets(redis, 30).issue(Identity("carol", frozenset(), time.time() + 60))
        path = f"/ws?ticket={ticket}"
        status, _, _ = await handshake(core.port, path, *handshake_headers(), method=method)
        assert status == (426 if method == "HEAD" else 405)
        socket = await core.socket("", f"?ticket={ticket}")
        assert (await frame(socket))["data"]["user_id"] == "carol"


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "lines",
    [
        ["upgrade: h2c, WebSocket", "connection: keep-alive, UPGRADE", KEY, VERSION],
        ["Upgrade: h2c", UPGRADE, "Connection: keep-alive", CONNECTION, KEY, VERSION],
        [UPGRADE, CONNECTION, KEY, VERSION, "Sec-WebSocket-Extensions: x, y", "Cookie: a"],
        [UPGRADE, CONNECTION, KEY, VERSION, "Sec-WebSocket-Extensions:"],
        [UPGRADE, CONNECTION, KEY, VERSION, "Sec-WebSocket-Extensions: x; y*0*=z'"],
        [
            UPGRADE,
            CONNECTION,
            KEY,
            VERSION,
            "Sec-WebSocket-Extensions: x",
            "Sec-WebSocket-Extensions: y",
        ],
        [UPGRADE, CONNECTION, KEY, VERSION, "Sec-WebSocket-Protocol: , ;, \xe4"],
        [UPGRADE, CONNECTION, KEY, VERSION, "Sec-WebSocket-Protocol: rt.v1, rt.v1"],
    ],
)
async def test_handshake_in_any_spelling_is_taken(
    redis: Redis, make_token: Token, lines: list[str]
) -> None:
    """Lists, in one header line or several, and any case of their words."""
    async with realtime(redis) as core:
        token = f"Authorization: Bearer {make_token('alice')}"
        assert (await handshake(core.port, "/ws", token, *lines))[0] == 101


@pytest.mark.gen_test
async def test_words_of_a_refused_client_are_passed_over(redis: Redis) -> None:
    """It has no token and sends messages all the same: no error of ours."""
    async with realtime(redis) as core:
        told = core.opened.enter_context(capture_logs())
        words = [client_frame(TEXT, b"ping"), client_frame(BINARY, b"x"), client_frame(PING)]
        peer = await core.peer("garbage", behind=b"".join(words))
        assert await peer.close_code() == 4401
        peer.send(*words, client_frame(CLOSE, struct.pack("!H", 4401)))
        await asyncio.wait_for(peer.reader.read(), 0.9 * LINGER_SECONDS)
        assert [one for one in told if one["log_level"] == "error"] == []


@pytest.mark.gen_test
async def test_one_action_of_a_socket_is_under_way_at_a_time(
    redis: Redis, make_token: Token
) -> None:
    """The next waits, and so does everything behind it; others' do not. Nothing is lost."""
    async with realtime(redis) as core:
        peer, other, third = [await core.peer(make_token(name)) for name in ("a", "b", "c")]
        acts = [client_frame(TEXT, b'{"type":"act","data":%d}' % n) for n in range(2000)]
        peer.send(*acts, client_frame(TEXT, b"ping"), client_frame(PING, b"x"))
        other.send(client_frame(TEXT, b'{"type":"act","data":"other"}'))
        await until(lambda: len(core.log.acts) == 2, what="an action of each")
        # The next action came in the same piece as the first: it would have begun by now.
        third.send(client_frame(PING, b"later"))
        assert await third.frame_of(PONG) == b"later"
        assert sorted(map(str, core.log.acts)) == ["0", "other"]
        core.log.may_act.set()
        assert await peer.frame_of(PONG) == b"x"
        assert [one for one in core.log.acts if one != "other"] == list(range(2000))


@pytest.mark.gen_test
async def test_socket_that_is_not_read_is_not_taken_for_silent(
    redis: Redis, make_token: Token
) -> None:
    """Its pongs wait behind an action that lasts for several heartbeats."""
    async with realtime(redis, ws_heartbeat=0.1) as core:
        peer = await core.peer(make_token("alice"))
        peer.send(client_frame(TEXT, b'{"type":"act"}'))
        beats = 0
        while beats < 5:
            first, payload = await peer.frame()
            if first & 15 == PING:
                peer.send(client_frame(PONG, payload))
            beats += b"heartbeat" in payload
        core.log.may_act.set()
        peer.send(client_frame(TEXT, b'{"type":"act"}'))
        await until(lambda: len(core.log.acts) == 2, what="the next action")


@pytest.mark.gen_test
async def test_socket_that_closes_during_its_action_is_answered(
    redis: Redis, make_token: Token
) -> None:
    """The server ends it meanwhile; the client's close frame, behind the action, is read."""
    async with realtime(redis) as core:
        peer = await core.peer(make_token("alice"))
        peer.send(client_frame(TEXT, b'{"type":"act"}'))
        await until(lambda: core.log.acts, what="the action")
        await core.publish(MessageType.FINISHED)
        assert await peer.close_code() == 1000
        peer.send(client_frame(CLOSE, struct.pack("!H", 1000)))
        assert await asyncio.wait_for(peer.reader.read(), 0.9 * LINGER_SECONDS) == b""


@pytest.mark.gen_test
@pytest.mark.parametrize("opcode", [TEXT, PING])
async def test_messages_over_the_rate_wait(redis: Redis, make_token: Token, opcode: int) -> None:
    """A second's worth at once, then as many as the rate; all are answered, in their order."""
    ping = client_frame(opcode, b"ping")
    async with realtime(redis, messages_per_second=50) as core:
        peer, other = [await core.peer(make_token(name)) for name in ("alice", "bob")]
        for one in (peer, other):
            await one.frame_of(TEXT, b"connected")
        began = time.monotonic()
        async with stopwatch() as seconds:
            peer.send(*[ping] * 100)
            for number in range(100):
                await peer.frame()
                if number == 48:
                    assert seconds() < 0.9
            assert time.monotonic() - began > 0.9
            assert seconds() < 5
        async with stopwatch() as seconds:
            other.send(ping)
            await other.frame()
            assert seconds() < 0.9


@pytest.mark.gen_test
async def test_fragments_over_the_rate_wait(redis: Redis, make_token: Token) -> None:
    """They cost less than messages, but not nothing."""
    async with realtime(redis, messages_per_second=50) as core:
        peer = await core.peer(make_token("alice"))
        await peer.frame()
        began = time.monotonic()
        empty = client_frame(CONTINUATION, bits=0)
        peer.send(client_frame(TEXT, b"pi", bits=0), empty * 256 * 75)
        peer.send(client_frame(CONTINUATION, b"ng"))
        assert b"heartbeat" in await peer.frame_of(TEXT)
        assert 0.4 < time.monotonic() - began < 10


@pytest.mark.gen_test
async def test_flood_of_one_socket_leaves_the_others_their_turn(
    redis: Redis, make_token: Token
) -> None:
    """Without a rate too: the loop turns after some milliseconds of frames."""
    async with realtime(redis) as core:
        peer, other = [await core.peer(make_token(name)) for name in ("alice", "bob")]
        for one in (peer, other):
            await one.frame_of(TEXT, b"connected")
        before = core.hub.stats().messages_delivered
        # All of it is read in one piece.
        flood = [client_frame(TEXT, b'{"type": "dance"}')] * 700
        assert len(b"".join(flood)) <= READ_BYTES
        peer.send(*flood)
        other.send(client_frame(PING, b"x"))
        await other.frame_of(PONG)
        assert core.hub.stats().messages_delivered - before < len(flood)
        for _ in flood:
            assert b"unknown_type" in (await peer.frame())[1]
