"""The base of event-stream endpoints (Server-Sent Events, WHATWG HTML section 9.2).

After the headers the stream is taken over from Tornado's request machinery, which would neither
notice a client that left nor bound what waits for a slow one.
"""

import functools
import random
from typing import Any
from urllib.parse import parse_qsl, urlencode

import attrs
from structlog.contextvars import bind_contextvars
from tornado.iostream import IOStream, StreamClosedError

from tornado_rt.auth import Identity
from tornado_rt.census import Transport
from tornado_rt.connection import Connection
from tornado_rt.feed import Feed
from tornado_rt.hub import Hub
from tornado_rt.problems import Problem
from tornado_rt.protocol import ERROR_EVENT, CloseCode, ErrorCode, Message, chunk
from tornado_rt.web import BaseHandler, is_last_id
from tornado_rt.wire import take_over
from tornado_rt.work.texts import phrase

LAST_CHUNK = b"0\r\n\r\n"
RETRY_MILLISECONDS = (1000, 4000)
GOING_AWAY = phrase("the server is going away: come back")


class GoingAway(Problem):
    """The server stops."""

    def __init__(self) -> None:
        super().__init__(503, phrase("the server is going away"), retry_after=1)


class StreamConnection(Connection):
    """An event stream in the hub."""

    __slots__ = ("_chunked",)
    transport = Transport.SSE

    def __init__(
        self, hub: Hub, identity: Identity, address: str, settings: dict[str, Any]
    ) -> None:
        super().__init__(hub, identity, address, settings)
        self._chunked = True

    def interval(self) -> float:
        return self.hub.limits.live.sse_heartbeat_interval_seconds

    def encode(self, message: Message) -> bytes:
        return message.sse_chunk if self._chunked else message.sse_event

    def take(self, stream: IOStream, chunked: bool) -> None:
        """Own the socket from here on. Raise StreamClosedError when the client has left."""
        self._chunked = chunked
        self.adopt(take_over(stream, self.hub.limits.peer_timeout))
        if self.closed:
            self.part(self.farewell(CloseCode.GOING_AWAY))

    def send_first(self, connected: Message) -> None:
        """Send `connected`, and in its block the time after which to come back.

        It is random, so that not all come at once. It is no block of its own: some readers report
        one without data as an event.
        """
        if self.closed or self._socket is None:
            return
        event = b"retry: %d\n" % random.randint(*RETRY_MILLISECONDS) + connected.sse_event
        self.write(chunk(event) if self._chunked else event)
        self.tally.delivered += 1

    def named(self, error: Message) -> Message:
        return _renamed(error, self._settings.get("sse_error_event", ERROR_EVENT))

    def received(self, data: bytes) -> None:
        """Ignore what a client sends."""

    def idle_seconds(self) -> float:
        return max((one.feed.idle_seconds() for one in self.subscriptions), default=0.0)

    def leave(self, code: CloseCode, why: Message | None = None) -> None:
        going = code is CloseCode.GOING_AWAY
        super().leave(code, self.error(ErrorCode.GOING_AWAY, GOING_AWAY) if going else why)

    def farewell(self, code: CloseCode) -> bytes:
        return LAST_CHUNK if self._chunked else b""

    def parted(self) -> None:
        """Close: that is the end of the stream."""
        self.shut()


class EventStreamHandler(BaseHandler):
    """An endpoint whose GET can be an event stream of one feed."""

    async def stream(self, feed: Feed) -> None:
        """Answer with an event stream, or 204 to a client that has seen the end."""
        if await self.only_describes():
            return
        after = self.last_id()
        connection = StreamConnection(self.hub, self.identity, self.address, self.settings)
        connection.read_by = self.read_by
        opening = await connection.open(feed, after)
        if await self.starts(connection, is_over=opening.is_over(after)):
            connection.begin(opening, after)

    def stream_address(self) -> str | None:
        """Return what an EventSource sends again: all but the ticket and the place."""
        if self.request.method != "GET" or self.wants_json():
            return None
        query = parse_qsl(self.request.query, keep_blank_values=True)
        kept = sorted((name, value) for name, value in query if not is_last_id(name))
        named = [(name, value) for name, value in kept if name != "ticket"]
        return f"{self.request.path}?{urlencode(named)}"

    async def only_describes(self) -> bool:
        """Answer HEAD: it gets the headers, and follows nothing. Raise Problem 503 at the end."""
        if self.request.method == "HEAD":
            self._describe()
            await self.flush()
            return True
        if self.hub.draining:
            raise GoingAway
        return False

    async def starts(self, connection: "StreamConnection", *, is_over: bool) -> bool:
        """Answer, and hand the stream over to its connection; say whether there is one.

        There is none for a client that has seen the end. Raise Problem 503 at the server's end.
        """
        if connection.closed:
            raise GoingAway
        if is_over:
            connection.detach()
            self.set_status(204)
            await self.finish()
            return False
        await self._start(connection)
        return True

    def _describe(self) -> None:
        self.set_header("Content-Type", "text/event-stream; charset=utf-8")
        self.set_header("Cache-Control", "no-cache, no-transform")
        self.set_header("X-Accel-Buffering", "no")

    async def _start(self, connection: StreamConnection) -> None:
        self._describe()
        bind_contextvars(connection=self.request_id)
        # The socket is ours until it closes: it carries no second request.
        self.set_header("Connection", "close")
        try:
            await self.flush()
        except StreamClosedError:
            connection.detach()
            raise
        chunked = self.request.version == "HTTP/1.1"
        self.application.log_request(self)
        try:
            connection.take(self.detach(), chunked)
        except StreamClosedError:
            # The client left when it had the headers: there is nobody to tell anything.
            connection.detach()


@functools.lru_cache(maxsize=64)
def _renamed(error: Message, name: str) -> Message:
    """Return the same each time, so that one for everybody is encoded once."""
    return attrs.evolve(error, type=name)
