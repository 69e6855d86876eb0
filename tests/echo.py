"""An echo endpoint on the sockets of the real-time core, for conformance tests of the framing.

It needs no store: its hub subscribes to nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from tests.peers import FIN, RSV1, client_frame
from tests.realtime import open_hub
from tornado_rt.auth import NO_SCOPES, Identity
from tornado_rt.deflate import deflate
from tornado_rt.feed import Opening
from tornado_rt.frames import Opcode
from tornado_rt.limits import RateLimiter
from tornado_rt.protocol import Cursor, Message
from tornado_rt.sockets import RealtimeSocket, SocketConnection
from tornado_rt.under_way import UnderWay

# The largest message of Autobahn's cases has 16 MiB.
MOST_BYTES = 16 * 1024 * 1024


class Silence:
    """A feed of nothing."""

    topics: tuple[str, ...] = ()
    contiguous = True

    def show(self, message: Message) -> Message:
        return message

    async def read(self, after: Cursor | None) -> Opening:
        cursor = Cursor("e1", 0)
        return Opening({}, (), cursor, cursor)

    def idle_seconds(self) -> float:
        return 0.0

    def actions(self) -> dict[str, Callable[[Any], Awaitable[None]]]:
        return {}


class EchoConnection(SocketConnection):
    """Sends each message back, and nothing else."""

    __slots__ = ()

    def begin(self, opening: Opening, after: Cursor | None) -> None:
        """Say nothing."""

    def encode(self, message: Message) -> bytes:
        opcode = Opcode[message.type]
        if not self._window:
            return client_frame(opcode, message.data, masked=False)
        deflated = deflate(message.data, self._window)
        return client_frame(opcode, deflated, bits=FIN | RSV1, masked=False)

    def _take(self, opcode: Opcode, payload: bytes) -> None:
        # Its type is the opcode's name.
        if opcode in (Opcode.TEXT, Opcode.BINARY) and not self.closed:
            self.send(Message(opcode.name, payload))
        else:
            super()._take(opcode, payload)


class EchoSocket(RealtimeSocket):
    connection_class = EchoConnection

    async def _identify(self) -> None:
        self.current_user = Identity("echo", NO_SCOPES, float("inf"))

    async def feed(self) -> Silence:
        return Silence()


@contextlib.asynccontextmanager
async def echo_server(*, compression: bool) -> AsyncIterator[int]:
    """Run the endpoint; yield its port."""
    # Nothing is followed: its Redis is never asked.
    hub, _, _ = open_hub(Redis())
    application = Application(
        [(r"/.*", EchoSocket)],
        hub=hub,
        rate_limiter=RateLimiter(0),
        under_way=UnderWay(),
        websocket_max_message_size=MOST_BYTES,
        websocket_compression=compression,
        log_function=lambda handler: None,
    )
    server = HTTPServer(application)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    try:
        yield sockets[0].getsockname()[1]
    finally:
        server.stop()
        await hub.drain(0)
        await server.close_all_connections()
        await asyncio.sleep(0)
