"""Sockets that were taken over: plain and TLS, compressed or not, with slow and rude peers."""

import asyncio
import contextlib
import json
import os
import random
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis
from tornado.iostream import IOStream, StreamClosedError

from tests.certificates import Certificate, make_certificate
from tests.peers import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, RSV1, TEXT, client_frame
from tests.realtime import EPOCH, EventStream, Realtime, realtime
from tests.test_sockets import frame
from tests.waiting import until
from tornado_rt.deflate import SYNC_TAIL, deflate
from tornado_rt.http1 import DRAIN_SILENCE_SECONDS
from tornado_rt.protocol import CloseCode, Message, MessageType
from tornado_rt.sockets import RefusedSocket, answer_on
from tornado_rt.wire import LINGER_SECONDS, bound_silence, take_over

Token = Callable[..., str]
LARGE = 300_000
DEFLATE = "permessage-deflate; client_no_context_takeover; client_max_window_bits"


@pytest.fixture(params=["tcp", "tls"])
def certificate(request: pytest.FixtureRequest, tmp_path: Path) -> Certificate | None:
    """The server's certificate; None over plain TCP."""
    return make_certificate(tmp_path) if request.param == "tls" else None


async def open_stream(core: Realtime, token: str) -> EventStream:
    """Open an event stream; return when it has begun."""
    stream = await core.stream(token)
    assert (await stream.event())["event"] == "connected"
    return stream


def inflate_slowly(payload: bytes, bits: int) -> bytes:
    """Inflate with a window of this many bits, and with nothing to refer to but the window."""
    window, rest, text = zlib.decompressobj(-bits), payload + SYNC_TAIL, b""
    while rest:
        text += window.decompress(rest, 1)
        rest = window.unconsumed_tail
    return text


def noise(size: int) -> str:
    """Return a text that compression does not make small."""
    return "".join(random.choices("0123456789abcdef", k=size))


@pytest.mark.gen_test
async def test_large_messages_arrive_whole(
    redis: Redis, make_token: Token, certificate: Certificate | None
) -> None:
    """Larger than what the kernel, or TLS, takes at once; over both transports."""
    async with realtime(redis, certificate=certificate) as core:
        socket = await core.peer(make_token("alice"), receive_bytes=65536)
        await socket.frame_of(TEXT, b"connected")
        stream = await open_stream(core, make_token("bob"))
        texts = [noise(LARGE) for _ in range(30)]
        for text in texts:
            await core.publish(text=text)
        for text in texts:
            assert json.loads((await socket.frame())[1])["data"]["text"] == text
            assert json.loads((await stream.event())["data"])["text"] == text
        assert core.hub.stats().messages_delivered >= 2 * len(texts)


@pytest.mark.gen_test
async def test_slow_reader_is_bounded_and_delays_nobody(
    redis: Redis, make_token: Token, certificate: Certificate | None
) -> None:
    """News go on to the others while one socket and one stream wait, up to their bound."""
    async with realtime(redis, certificate=certificate, pending_bytes=50_000) as core:
        core.log.contiguous = True
        slow = await core.peer(make_token("slow"), receive_bytes=4096)
        await open_stream(core, make_token("slow"))
        quick = await core.peer(make_token("quick"))
        await quick.frame_of(TEXT, b"connected")
        while core.hub.stats().users != {"quick": 1}:
            message = await core.publish(text="x" * 10_000)
            await quick.frame_of(TEXT, str(message.id).encode())
        assert core.hub.stats().closed_slow == 2
        # The begun message is ended, then comes the reason; the client resumes by its last cursor.
        last = ""
        while told := await slow.message():
            last = told.get("id", last)
        assert slow.code == CloseCode.TOO_SLOW
        again = await core.socket(make_token("slow"), f"?last_id={last}")
        assert (await frame(again))["data"]["recovered"] is True
        offset = int(last.rpartition("-")[2])
        assert (await frame(again))["id"] == f"{EPOCH}-{offset + 1}"


@pytest.mark.gen_test
async def test_slow_reader_of_progress_gets_the_newest_and_the_end(
    redis: Redis, make_token: Token, certificate: Certificate | None
) -> None:
    """Over TLS as well, nothing but superseded snapshots is left out."""
    async with realtime(redis, certificate=certificate, pending_bytes=50_000) as core:
        slow = await core.peer(make_token("slow"), receive_bytes=4096)
        await slow.frame_of(TEXT, b"connected")
        while core.hub.stats().messages_conflated < 30:
            newest = await core.publish(text="x" * 10_000)
        await core.publish(MessageType.FINISHED, final_status="completed")
        ids = []
        while told := await slow.message():
            ids.append(told.get("id"))
        assert slow.code == CloseCode.FINISHED
        assert ids[-2:] == [newest.id, core.log.messages[-1].id]
        assert len(ids) <= len(core.log.messages) - 30


@pytest.mark.gen_test
async def test_compressed_frames_come_only_when_both_want_them(
    redis: Redis, make_token: Token, certificate: Certificate | None
) -> None:
    """Each by itself, so that the small window of a client that keeps nothing reads it."""
    text = "progress " * 500
    async with realtime(redis, certificate=certificate, compression=True) as core:
        token = make_token("alice")
        wants = await core.peer(token, extensions=DEFLATE)
        plain = await core.peer(token)
        assert "server_no_context_takeover" in wants.extensions
        assert "client_no_context_takeover" in wants.extensions
        assert plain.extensions == ""
        for peer in (wants, plain):
            await peer.frame()
        for _ in range(3):
            await core.publish(text=text)
            first, payload = await wants.frame()
            assert first == FIN | RSV1 | TEXT
            assert len(payload) < len(text) / 10
            inflated = zlib.decompressobj(-12).decompress(payload + SYNC_TAIL)
            assert (await plain.frame()) == (FIN | TEXT, inflated)
        wants.send(client_frame(TEXT, deflate(b'{"type": "ping"}'), bits=FIN | RSV1))
        inflated = zlib.decompressobj(-12).decompress((await wants.frame())[1] + SYNC_TAIL)
        assert inflated.startswith(b'{"type":"heartbeat"')


@pytest.mark.gen_test
async def test_compression_is_off_by_default(redis: Redis, make_token: Token) -> None:
    async with realtime(redis) as core:
        peer = await core.peer(make_token("alice"), extensions=DEFLATE)
        assert peer.extensions == ""
        assert (await peer.frame())[0] == FIN | TEXT
        peer.send(client_frame(TEXT, deflate(b"ping"), bits=FIN | RSV1))
        assert await peer.close_code() == CloseCode.PROTOCOL_ERROR


@pytest.mark.gen_test
async def test_tornados_client_reads_and_writes_compressed(
    redis: Redis, make_token: Token, certificate: Certificate | None
) -> None:
    """Another implementation of RFC 7692 agrees with ours, message after message."""
    async with realtime(redis, certificate=certificate, compression=True) as core:
        socket = await core.socket(make_token("alice"), compressed=True)
        assert (await frame(socket))["type"] == "connected"
        for number in range(5):
            await core.publish(text=noise(20_000), number=number)
            assert (await frame(socket))["data"]["number"] == number
            await socket.write_message('{"type": "ping"}')
            assert (await frame(socket))["type"] == "heartbeat"


@pytest.mark.gen_test
@pytest.mark.parametrize("bits", [8, 9, 11])
async def test_client_with_a_small_window_reads_what_is_sent(
    redis: Redis, make_token: Token, bits: int
) -> None:
    """Beside one that keeps more; each message is sent to either in its own form."""
    async with realtime(redis, compression=True) as core:
        offer = f"permessage-deflate; server_max_window_bits={bits}"
        small = await core.peer(make_token("alice"), extensions=offer)
        large = await core.peer(make_token("alice"), extensions="permessage-deflate")
        assert f"server_max_window_bits={bits}" in small.extensions
        for peer in (small, large):
            await peer.frame()
        text = noise(2**bits + 100) * 3
        await core.publish(text=text)
        payload, larger = (await small.frame())[1], (await large.frame())[1]
        assert json.loads(inflate_slowly(payload, bits))["data"]["text"] == text
        with pytest.raises(zlib.error, match="too far back"):
            inflate_slowly(larger, bits)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (client_frame(TEXT, b"ping", masked=False), 1002),
        (client_frame(CONTINUATION, b"x"), 1002),
        (client_frame(BINARY, b"x"), 1003),
        (client_frame(TEXT, b'{"type": "\xff"}'), 1007),
        (client_frame(TEXT, b"x" * 5000), 1009),
        (client_frame(TEXT, b"x" * 3000, bits=0) + client_frame(CONTINUATION, b"x" * 3000), 1009),
    ],
    ids=["unmasked", "continues nothing", "binary", "not UTF-8", "too large", "too large in all"],
)
async def test_broken_rule_closes_with_its_code(
    redis: Redis, make_token: Token, certificate: Certificate | None, sent: bytes, code: int
) -> None:
    """And the socket is gone when the client has answered the close frame."""
    async with realtime(redis, certificate=certificate) as core:
        peer = await core.peer(make_token("alice"))
        peer.send(sent)
        assert await peer.close_code() == code
        assert core.hub.stats().total_connections == 0
        peer.send(client_frame(CLOSE, struct.pack("!H", code)))


@pytest.mark.gen_test
async def test_fragments_and_pings_between_them_are_understood(
    redis: Redis, make_token: Token, certificate: Certificate | None
) -> None:
    """Also when they come in one piece with the handshake."""
    async with realtime(redis, certificate=certificate) as core:
        parts = [
            client_frame(TEXT, b'{"type":', bits=0),
            client_frame(PING, b"between"),
            client_frame(CONTINUATION, b' "ping"}'),
        ]
        peer = await core.peer(make_token("alice"), behind=b"".join(parts))
        assert (await peer.frame())[1].startswith(b'{"type":"connected"')
        assert await peer.frame() == (FIN | PONG, b"between")
        assert (await peer.frame())[1].startswith(b'{"type":"heartbeat"')


@pytest.mark.gen_test
async def test_close_of_the_client_is_answered_in_kind(
    redis: Redis, make_token: Token, certificate: Certificate | None
) -> None:
    """Its code comes back, and then the server closes the connection (RFC 6455 section 7.1.1)."""
    async with realtime(redis, certificate=certificate) as core:
        peer = await core.peer(make_token("alice"))
        await peer.frame()
        peer.send(client_frame(CLOSE, struct.pack("!H", 4999) + b"bye"), client_frame(TEXT, b"x"))
        assert await peer.frame() == (FIN | CLOSE, struct.pack("!H", 4999))
        assert await asyncio.wait_for(peer.reader.read(), 0.9 * LINGER_SECONDS) == b""
        assert core.hub.stats().total_connections == 0


@pytest.mark.gen_test
async def test_answered_close_frees_the_socket_at_once(
    redis: Redis, make_token: Token, certificate: Certificate | None
) -> None:
    """The server says 1000; the client answers; nobody waits for a time to pass."""
    async with realtime(redis, certificate=certificate) as core:
        peer = await core.peer(make_token("alice"))
        await peer.frame()
        await core.publish(MessageType.FINISHED, final_status="completed")
        assert await peer.close_code() == CloseCode.FINISHED
        peer.send(client_frame(CLOSE, struct.pack("!H", 1000)))
        assert await asyncio.wait_for(peer.reader.read(), 0.9 * LINGER_SECONDS) == b""


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "sent",
    [
        client_frame(TEXT, b"x", masked=False),
        client_frame(BINARY, b"x"),
        b"\x81\xff" + bytes(5) + b"\1",
    ],
    ids=["1002", "1003", "1009"],
)
async def test_failed_connection_ends_when_the_peer_ends_it(
    redis: Redis, make_token: Token, certificate: Certificate | None, sent: bytes
) -> None:
    """The server's end comes with the close frame, and what the peer still sends is taken."""
    async with realtime(redis, certificate=certificate) as core:
        peer = await core.peer(make_token("alice"))
        await peer.frame()
        before = open_sockets()
        peer.send(sent, bytes(2_000_000))
        assert await peer.close_code() is not None
        # Sooner than the end of a peer that is silent.
        seconds = 0.75 * DRAIN_SILENCE_SECONDS
        assert await asyncio.wait_for(peer.reader.read(), seconds) == b""
        await peer.close()
        # The peer's own, and the server's.
        await until(lambda: open_sockets() <= before - 2, seconds, "the server's socket is closed")


@pytest.mark.gen_test
async def test_failed_connection_of_a_peer_that_never_ends_is_closed_soon(
    redis: Redis, make_token: Token
) -> None:
    async with realtime(redis) as core:
        peer = await core.peer(make_token("alice"))
        await peer.frame()
        peer.send(client_frame(CONTINUATION, b"x"))
        assert await peer.close_code() == CloseCode.PROTOCOL_ERROR

        def is_reset() -> bool:
            peer.send(b"more")
            return peer.writer.transport.is_closing()

        assert await until(is_reset, what="the server has closed its socket") > 0.5


def open_sockets() -> int:
    """Return how many sockets this process has open; Linux."""
    links = []
    for one in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            links.append(os.readlink(f"/proc/self/fd/{one}"))
    return sum(link.startswith("socket:") for link in links)


@pytest.mark.gen_test
async def test_text_pings_of_a_peer_that_does_not_read_are_answered_together(
    redis: Redis, make_token: Token
) -> None:
    """Its backlog does not grow by its own pings."""
    async with realtime(redis) as core:
        core.log.contiguous = True
        peer = await core.peer(make_token("slow"), receive_bytes=4096)
        await peer.frame_of(TEXT, b"connected")
        for _ in range(500):
            await core.publish(text="x" * 10_000)
        peer.send(*[client_frame(TEXT, b"ping")] * 2000, client_frame(TEXT, b"dance"))
        beats = 0
        while (
            b"unknown_type" not in (payload := await peer.frame_of(TEXT))
            and b"bad_message" not in payload
        ):
            beats += b'"heartbeat"' in payload
        assert beats < 100


@pytest.mark.gen_test
async def test_pings_of_a_peer_that_does_not_read_cost_nothing(
    redis: Redis, make_token: Token
) -> None:
    """It gets no pongs on top of what waits already."""
    async with realtime(redis, pending_bytes=50_000) as core:
        peer = await core.peer(make_token("slow"), receive_bytes=4096)
        while core.hub.stats().messages_conflated < 3:
            await core.publish(text="x" * 10_000)
        before = core.hub.stats().bytes_delivered
        peer.send(*[client_frame(PING, b"x" * 125)] * 500, client_frame(TEXT, b"dance"))
        core.hub.deliver("task:t1", Message.of("progress", {"last": True}))
        # The answer to the last frame waits behind the news: all pings were read by then.
        while b"bad_message" not in (await peer.frame_of(TEXT)):
            pass
        assert core.hub.stats().bytes_delivered - before < 150_000


@pytest.mark.gen_test
async def test_outage_is_told_to_nobody_who_has_not_been_answered(
    redis: Redis, make_token: Token
) -> None:
    """`connected` comes first, also when Redis goes away while the log is read."""
    async with realtime(redis) as core:
        core.log.may_read.clear()
        opening = asyncio.create_task(core.stream(make_token("alice")))
        peer = await core.peer(make_token("bob"))
        await until(lambda: core.hub.stats().total_connections >= 2)
        told = await core.peer(make_token("carol"))
        core.hub.outage(True)
        core.log.may_read.set()
        stream = await opening
        assert (await stream.event())["event"] == "connected"
        assert (await peer.frame())[1].startswith(b'{"type":"connected"')
        assert (await told.frame())[1].startswith(b'{"type":"connected"')
        assert not core.hub._jobs.died


@pytest.mark.gen_test
async def test_stream_whose_peer_has_left_is_not_taken_over() -> None:
    """There is no socket any more; its subscriber leaves the hub again."""
    near, far = socket.socketpair()
    stream = IOStream(near)
    stream.close()
    with pytest.raises(StreamClosedError):
        take_over(stream, 0)
    far.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has it")
@pytest.mark.parametrize(
    ("seconds", "milliseconds"), [(0.0, 0), (1.5, 1500), (30 * 86400.0, 2**31 - 1)]
)
def test_silence_is_bounded_for_as_long_as_the_kernel_can_count(
    seconds: float, milliseconds: int
) -> None:
    """A month has more milliseconds than a socket option holds."""
    with socket.socket() as sock:
        bound_silence(sock, seconds)
        found = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert found == milliseconds


@pytest.mark.gen_test
async def test_answer_to_a_handshake_waits_for_a_client_that_does_not_read(redis: Redis) -> None:
    """It asked for other things before, which fill what the kernel keeps for it."""
    async with realtime(redis) as core:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        filling = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                filling += b"x" * ours.send(b"x" * 65536)
        opened = answer_on(IOStream(ours), b"the answer", 0)
        assert opened.unsent == b"the answer"
        refused = RefusedSocket(core.hub.tally)
        refused.adopt(opened.socket, opened.unsent)
        refused.part(b"the reason")
        theirs.setblocking(False)
        reader, writer = await asyncio.open_connection(sock=theirs)
        expected = filling + b"the answer" + b"the reason"
        assert await reader.readexactly(len(expected)) == expected
        assert await reader.read() == b""
        writer.close()
