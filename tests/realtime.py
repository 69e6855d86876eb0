"""A small application on the real-time core: one feed over a list, for sockets and streams."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import attrs
from redis.asyncio import Redis
from redis.exceptions import RedisError
from tornado.httpclient import HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketClientConnection, websocket_connect

from settings import Settings
from tests.blocks import read_block
from tests.certificates import Certificate
from tests.conftest import SECRET
from tests.peers import Peer
from tests.waiting import until
from tornado_rt.auth import TokenVerifier
from tornado_rt.backplane import Backplane
from tornado_rt.census import Census
from tornado_rt.feed import Opening
from tornado_rt.heartbeat import Heartbeats
from tornado_rt.hub import Hub
from tornado_rt.limits import Limits, RateLimiter, SystemSettings
from tornado_rt.metrics import Metrics
from tornado_rt.protocol import ERROR_EVENT, Cursor, Message, MessageType, ResyncReason
from tornado_rt.sockets import RealtimeSocket
from tornado_rt.stores import find_redis_server
from tornado_rt.streams import EventStreamHandler
from tornado_rt.tickets import Tickets
from tornado_rt.under_way import UnderWay
from tornado_rt.web import NotFoundHandler

EPOCH = "e1"


@attrs.define
class Log:
    """Numbered messages on one topic, kept in a list."""

    topic: str = "task:t1"
    messages: list[Message] = attrs.field(factory=list)
    idle: float = 0.0
    contiguous: bool = False
    reading: asyncio.Event = attrs.field(factory=asyncio.Event)
    may_read: asyncio.Event = attrs.field(factory=asyncio.Event)
    away: bool = False
    # The values of `act` messages, and whether those that have come may go on.
    acts: list[Any] = attrs.field(factory=list)
    may_act: asyncio.Event = attrs.field(factory=asyncio.Event)

    def __attrs_post_init__(self) -> None:
        self.may_read.set()

    def append(self, type_: str = MessageType.PROGRESS, **data: Any) -> Message:
        """Keep one more message."""
        message = Message.of(type_, data, str(Cursor(EPOCH, len(self.messages) + 1)))
        self.messages.append(message)
        return message


class LogFeed:
    """Follows a log from any cursor of its epoch."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.contiguous = log.contiguous
        self.topics = (log.topic,)

    def show(self, message: Message) -> Message | None:
        return message

    async def read(self, after: Cursor | None) -> Opening:
        self._log.reading.set()
        if self._log.away:
            raise RedisError("away")
        messages = tuple(self._log.messages)
        await self._log.may_read.wait()
        cursor = Cursor(EPOCH, len(messages))
        ended = bool(messages) and messages[-1].type == MessageType.FINISHED
        # The last but the end is sent as a snapshot, under its own id.
        begin = Cursor(EPOCH, max(len(messages) - ended - 1, 0))
        if after is None:
            return Opening({}, messages[-1 - ended :], begin, cursor, ended=ended)
        if after.epoch != EPOCH:
            snapshot = messages[-1 - ended :]
            return Opening({}, snapshot, begin, cursor, ResyncReason.EPOCH, ended)
        return Opening({}, messages[after.offset :], begin, cursor, ended=ended)

    def idle_seconds(self) -> float:
        return self._log.idle

    def actions(self) -> dict[str, Callable[[Any], Awaitable[None]]]:
        return {"act": self._act}

    async def _act(self, data: Any) -> None:
        self._log.acts.append(data)
        await self._log.may_act.wait()


class LogStream(EventStreamHandler):
    def initialize(self, log: Log) -> None:
        self.log = log

    async def get(self) -> None:
        await self.stream(LogFeed(self.log))


class LogSocket(RealtimeSocket):
    def initialize(self, log: Log) -> None:
        self.log = log

    async def feed(self) -> LogFeed:
        return LogFeed(self.log)


@attrs.frozen
class Realtime:
    """A running core. Things that are opened on it are closed when it stops."""

    port: int
    hub: Hub
    backplane: Backplane
    heartbeats: Heartbeats
    limits: Limits
    metrics: Metrics
    log: Log
    tls: ssl.SSLContext | None
    opened: contextlib.AsyncExitStack

    async def publish(self, type_: str = MessageType.PROGRESS, **data: Any) -> Message:
        """Append to the log and publish, as a service does."""
        message = self.log.append(type_, **data)
        await self.backplane.publish(self.log.topic, message)
        return message

    async def socket(
        self,
        token: str,
        query: str = "",
        headers: dict[str, str] | None = None,
        compressed: bool = False,
    ) -> WebSocketClientConnection:
        """Open a WebSocket on the log, as Tornado's client does."""
        request = HTTPRequest(
            f"{'wss' if self.tls else 'ws'}://127.0.0.1:{self.port}/ws{query}",
            headers={"Authorization": f"Bearer {token}", **(headers or {})},
            ssl_options=self.tls,
        )
        socket = await websocket_connect(request, compression_options={} if compressed else None)
        self.opened.callback(_close, socket)
        return socket

    async def peer(self, token: str, **options: Any) -> Peer:
        """Open a WebSocket on the log, to see every frame; the options are those of `Peer.open`."""
        peer = await Peer.open(self.port, "/ws", token, tls=self.tls, **options)
        self.opened.push_async_callback(peer.close)
        return peer

    async def stream(self, token: str, last_id: str = "", version: str = "1.1") -> "EventStream":
        """Open an event stream on the log."""
        headers = {"Authorization": f"Bearer {token}"}
        headers |= {"Last-Event-ID": last_id} if last_id else {}
        stream = await EventStream.open(self.port, "/stream", headers, version, self.tls)
        self.opened.push_async_callback(stream.close)
        return stream


# Names that tests have for the limits that change.
LIVE = {
    "ws_heartbeat": "ws_heartbeat_interval_seconds",
    "sse_heartbeat": "sse_heartbeat_interval_seconds",
    "per_user": "ws_max_connections_per_user",
}


def make_limits(**changes: Any) -> Limits:
    """Limits that bound nothing, but for the changes."""
    live = {name: changes.pop(short, 0) for short, name in LIVE.items()}
    return Limits(SystemSettings(**live), **changes)


@contextlib.asynccontextmanager
async def realtime(
    redis: Redis,
    *,
    compression: bool = False,
    certificate: Certificate | None = None,
    error_event: str = ERROR_EVENT,
    **limits: Any,
) -> AsyncIterator[Realtime]:
    """Run the core with a log, over the real Redis; with a certificate, behind TLS."""
    metrics, heartbeats, bounds, log = Metrics(), Heartbeats(), make_limits(**limits), Log()
    backplane = Backplane(redis, metrics)
    hub = Hub(Census(bounds, metrics), heartbeats, backplane)
    settings = Settings(jwt_secret=SECRET)
    application = Application(
        [("/stream", LogStream, {"log": log}), ("/ws", LogSocket, {"log": log})],
        default_handler_class=NotFoundHandler,
        hub=hub,
        verifier=TokenVerifier(settings, SECRET),
        tickets=Tickets(redis, 30),
        rate_limiter=RateLimiter(0),
        under_way=UnderWay(),
        max_body_bytes=1024,
        websocket_max_message_size=4096,
        websocket_compression=compression,
        sse_error_event=error_event,
        trusted_origins=["https://trusted.example"],
        cross_origin_protection=True,
        log_function=lambda handler: None,
    )
    server = HTTPServer(application, ssl_options=certificate.server if certificate else None)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    async with backplane.running(hub):
        heartbeats.start()
        port = sockets[0].getsockname()[1]
        tls = certificate.client if certificate else None
        async with contextlib.AsyncExitStack() as opened:
            opened.push_async_callback(server.close_all_connections)
            opened.callback(heartbeats.stop)
            try:
                yield Realtime(port, hub, backplane, heartbeats, bounds, metrics, log, tls, opened)
            finally:
                # Also for a test that fails: else another one is blamed for open connections.
                server.stop()
                await hub.drain(0)


def _close(socket: WebSocketClientConnection) -> None:
    """Close at once; nobody waits for one that has not read everything."""
    stream = None if socket.protocol is None else socket.protocol.stream
    socket.close()
    if stream is not None:
        stream.close()


async def start_redis(address: Path, *options: str) -> asyncio.subprocess.Process:
    """Start a Redis of the test's own on a Unix socket."""
    command = [
        find_redis_server(),
        "--port",
        "0",
        "--unixsocket",
        str(address),
        "--save",
        "",
        *options,
    ]
    devnull = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdout=devnull, cwd=address.parent)
    async with Redis.from_url(f"unix://{address}") as client:
        await until(lambda: answers(client))
    return process


async def answers(client: Redis) -> bool:
    """Say whether Redis answers."""
    try:
        return bool(await client.ping())
    except RedisError:
        return False


def open_hub(redis: Redis) -> tuple[Hub, Backplane, Metrics]:
    """Make a hub on a backplane, without anything to connect to it."""
    metrics = Metrics()
    backplane = Backplane(redis, metrics)
    hub = Hub(Census(make_limits(), metrics), Heartbeats(), backplane)
    return hub, backplane, metrics


class EventStream:
    """A client of an event stream over a bare socket, to see every byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.raw = b""

    @classmethod
    async def open(
        cls,
        port: int,
        path: str,
        headers: dict[str, str],
        version: str = "1.1",
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """Send a GET and read the answer's head."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        lines = [f"GET {path} HTTP/{version}", "Host: 127.0.0.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        stream = cls(reader, writer)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        except BaseException:
            # The server went, or we are cancelled: nobody else knows of the writer.
            writer.close()
            raise
        stream.status = int(head[0].split()[1])
        stream.headers = dict(line.split(": ", 1) for line in head[1:] if line)
        return stream

    async def event(self) -> dict[str, str]:
        """Return the next event's fields. Raise EOFError at the end of the stream."""
        assert self.status == 200, "the stream was refused: no event will come"
        while b"\n\n" not in self.raw:
            self.raw += await self.piece()
        block, self.raw = self.raw.split(b"\n\n", 1)
        return read_block(block)

    async def events(self) -> AsyncIterator[dict[str, str]]:
        """Yield the events up to the end of the stream."""
        with contextlib.suppress(EOFError):
            while True:
                yield await self.event()

    async def piece(self) -> bytes:
        """Return what comes next of the body. Raise EOFError at its end."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            piece = await self.reader.read(65536)
            if not piece:
                raise EOFError
            return piece
        size = int((await self.reader.readline()).strip() or b"0", 16)
        piece = await self.reader.readexactly(size + 2)
        if not size:
            raise EOFError
        return piece[:-2]

    async def close(self) -> None:
        self.writer.close()
        # TLS is not told that what it did not read was cut off.
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()
