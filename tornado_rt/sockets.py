"""The base of WebSocket endpoints (RFC 6455).

Tornado does the handshake. Then the stream is taken over, as an event stream is: an open socket is
its stream and one small object, and what a client sends is read by `frames`.
"""

import abc
import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import WebSocketHandler

from tornado_rt.auth import AuthError, Identity
from tornado_rt.connection import Connection, Feed
from tornado_rt.deflate import Inflater, answer_offers
from tornado_rt.frames import BadFrame, FrameReader, Opcode, close_frame, control_frame
from tornado_rt.hub import Hub, Transport
from tornado_rt.protocol import (
    PING_FRAME,
    WS_SUBPROTOCOL,
    ClientMessageType,
    CloseCode,
    ErrorCode,
    Message,
    MessageType,
    iso_time,
)
from tornado_rt.refusals import close_code_of, error_message, error_of
from tornado_rt.web import BaseHandler, Problem
from tornado_rt.wire import take_over

# Room for what comes behind a handshake: mostly nothing.
EARLY_BYTES = 4096


class SocketConnection(Connection):
    """A WebSocket in the hub."""

    __slots__ = ("_alive", "_answered", "_compressed", "_reader")
    transport = Transport.WEBSOCKET

    def __init__(
        self, hub: Hub, identity: Identity, address: str, feed: Feed, socket: "RealtimeSocket"
    ) -> None:
        super().__init__(hub, identity, address, feed, socket.settings)
        self._reader: FrameReader | None = socket.reader()
        self._compressed = socket.agreed is not None
        self._alive = True
        # Whether the client has sent its close frame.
        self._answered = False

    def interval(self) -> float:
        return self.hub.limits.ws_heartbeat

    def encode(self, message: Message) -> bytes:
        return message.ws_compressed if self._compressed else message.ws_frame

    def beat(self, heartbeat: Message) -> None:
        """Close when nothing came since the last ping, a whole interval ago; else ping again."""
        if self._alive:
            self._alive = False
            super().beat(heartbeat)
        else:
            self.leave(CloseCode.PONG_TIMEOUT)

    def encode_beat(self, heartbeat: Message) -> bytes:
        return heartbeat.ws_frame + PING_FRAME

    def take(self, stream: IOStream) -> None:
        """Own the socket from here on, and what came behind the handshake.

        Raise StreamClosedError when the client has left.
        """
        stream.read_chunk_size = EARLY_BYTES
        # Pending when nothing did; then the future is dropped with the stream.
        early = asyncio.ensure_future(stream.read_bytes(stream.max_buffer_size, partial=True))
        data = early.result() if early.done() else b""
        self.own(take_over(stream, self.hub.limits.peer_timeout))
        if data:
            self._loop.call_soon(self.received, data)

    def farewell(self, code: CloseCode) -> bytes:
        return close_frame(code)

    def parted(self) -> None:
        """Close, unless the client has still to answer the close frame."""
        if self._answered:
            self.shut()

    def received(self, data: bytes) -> None:
        """Take the frames that are whole."""
        if self._reader is None:
            return
        try:
            for opcode, payload in self._reader.feed(data):
                self._take(opcode, payload)
        except BadFrame as error:
            # The rest is not to be understood, but read, so that the close frame arrives.
            self._reader = None
            self.leave(error.code)

    def _take(self, opcode: Opcode, payload: bytes) -> None:
        # Whatever came is a sign of life.
        self._alive = True
        if opcode is Opcode.CLOSE:
            self._answer_close(payload)
        elif self.closed or opcode is Opcode.PONG:
            return
        elif opcode is Opcode.BINARY:
            self.leave(CloseCode.UNSUPPORTED_DATA)
        elif opcode is Opcode.TEXT:
            self._dispatch(payload)
        elif self._backlog is None:
            # A peer that does not read gets no pongs on top of what waits already.
            self.write(control_frame(Opcode.PONG, payload))

    def _answer_close(self, payload: bytes) -> None:
        self._answered = True
        # It says nothing after that.
        self._reader = None
        if not self.closed:
            self.detach()
            self.part(control_frame(Opcode.CLOSE, payload[:2]))
        elif self.is_silent:
            self.shut()

    def _dispatch(self, text: bytes) -> None:
        if text == ClientMessageType.PING.encode():
            return self._pong()
        try:
            text.decode()
        except UnicodeDecodeError:
            raise BadFrame(CloseCode.BAD_DATA) from None
        try:
            frame = orjson.loads(text)
            type_, data = frame["type"], frame.get("data", {})
        except (ValueError, TypeError, KeyError, AttributeError):
            return self._complain(ErrorCode.BAD_MESSAGE, 'expected {"type": ..., "data": {...}}')
        if type_ == ClientMessageType.PING:
            return self._pong()
        actions = {ClientMessageType.AUTH: self._renew, **self.feed.actions()}
        action = actions.get(type_) if isinstance(type_, str) else None
        if action is None:
            return self._complain(ErrorCode.UNKNOWN_TYPE, f"unknown type {str(type_)[:50]!r}")
        self.hub.own(self._act(action, data), "client-message")
        return None

    async def _act(self, action: Callable[[Any], Awaitable[None]], data: Any) -> None:
        try:
            await action(data)
        except Exception as error:
            self.send(error_of(self.problem_of(error)))

    def _pong(self) -> None:
        self.send(Message.of(MessageType.HEARTBEAT, {"timestamp": iso_time()}))

    def _complain(self, code: ErrorCode, text: str) -> None:
        self.send(error_message(code, text))

    async def _renew(self, data: Any) -> None:
        token = data.get("token") if isinstance(data, dict) else None
        identity = await self._settings["verifier"].verify(token if isinstance(token, str) else "")
        if identity.user_id != self.identity.user_id:
            raise AuthError("the token is another user's")
        self.identity = identity
        self.hub.reschedule_one(self)


class RealtimeSocket(BaseHandler, WebSocketHandler, abc.ABC):
    """A WebSocket that follows one feed. Subclasses say which."""

    stream: IOStream | None = None
    redeems_itself = True

    @abc.abstractmethod
    async def feed(self) -> Feed:
        """Return what this socket follows. Raise Problem, or what `settings["problems"]` maps."""

    @property
    def agreed(self) -> str | None:
        """What was agreed of compression; None when it is off or the client does not want it."""
        if not self.settings.get("websocket_compression"):
            return None
        return answer_offers(self.request.headers.get("Sec-WebSocket-Extensions", ""))

    def reader(self) -> FrameReader:
        """Return what reads this client's frames."""
        inflater = None if self.agreed is None else Inflater(self.agreed)
        return FrameReader(self.settings["websocket_max_message_size"], inflater)

    async def head(self, *args: str, **kwargs: str) -> None:
        """Open nothing. Raise Problem 426."""
        raise Problem(426, "this address speaks WebSocket")

    async def get(self, *args: str, **kwargs: str) -> None:
        """Answer the handshake. Of compression Tornado knows nothing: its own keeps a window."""
        if self.agreed is not None:
            self.set_header("Sec-WebSocket-Extensions", self.agreed)
        await super().get(*args, **kwargs)

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Choose ours; the one with the token is never echoed."""
        return WS_SUBPROTOCOL if WS_SUBPROTOCOL in subprotocols else None

    async def open(self, *args: str, **kwargs: str) -> None:
        """Check who it is, follow the feed, and send what there is."""
        assert self.ws_connection is not None
        self.stream = self.ws_connection.stream
        assert self.stream is not None
        if self.hub.draining:
            self._close(CloseCode.GOING_AWAY)
            return
        try:
            await self._follow(self.stream)
        except StreamClosedError:
            # The client left before it had its answer.
            self._close(CloseCode.GOING_AWAY)
        except Exception as error:
            self._refuse(error)

    async def _follow(self, stream: IOStream) -> None:
        await self.redeem()
        identity, after = self.identity, self.last_id()
        connection = SocketConnection(self.hub, identity, self.address, await self.feed(), self)
        opening = await connection.open(after)
        try:
            if stream.writing():
                # Then the answer to the handshake is written.
                await stream.write(b"")
            if not connection.closed:
                connection.take(stream)
        except StreamClosedError:
            connection.detach()
            raise
        if connection.closed:
            self._close(CloseCode.GOING_AWAY)
            return
        self._let_go()
        connection.begin(opening, after)

    def _let_go(self) -> None:
        # Tornado's receive loop ends before it begins, and closes nothing.
        assert self.ws_connection is not None
        self.ws_connection.client_terminated = True
        self.ws_connection = None

    def _refuse(self, error: Exception) -> None:
        problem = self._problem_of(500, error)
        self.log_exception(type(error), error, error.__traceback__)
        assert self.stream is not None
        with contextlib.suppress(StreamClosedError):
            self.stream.write(error_of(problem).ws_frame)
        self._close(close_code_of(problem))

    def _close(self, code: CloseCode) -> None:
        self.close(code, code.name.lower())
