"""The base of WebSocket endpoints (RFC 6455).

We check the handshake to the letter, Tornado answers it. Then the stream is taken over, as an event
stream is: an open socket is its stream and one small object, and what a client sends is read by
`frames`. It is read no faster than it is answered: one action at a time, a bounded number of
messages a second, a few milliseconds of frames a turn. What comes beyond that waits in the client's
kernel and ours; nothing is lost.
"""

import abc
import asyncio
import contextlib
import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import orjson
from tornado.httputil import HTTPHeaders
from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import WebSocketHandler

from tornado_rt.auth import AuthError, Identity
from tornado_rt.connection import Connection
from tornado_rt.deflate import WINDOW_BITS, Inflater, answer_offers, window_of
from tornado_rt.feed import Action, Feed
from tornado_rt.frames import BadFrame, FrameReader, Opcode, close_frame, control_frame
from tornado_rt.hub import Hub, Transport
from tornado_rt.problems import Problem
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
from tornado_rt.web import BaseHandler, refuse_without_folder
from tornado_rt.wire import take_over
from tornado_rt.work.values import cut

# Room for what comes right after a handshake: mostly nothing.
EARLY_BYTES = 4096
# How long the frames of one socket are read before the loop turns [s].
TURN_SECONDS = 0.002
# The cost, in messages, of a frame that is neither a message nor a ping: a fragment, a pong.
PART_COST = 1 / 256
# 16 bytes in base64 (RFC 6455 section 4.1).
KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
VERSION = "13"


class SocketConnection(Connection):
    """A WebSocket in the hub."""

    __slots__ = ("_alive", "_answered", "_paid_until", "_paused", "_reader", "_window")
    transport = Transport.WEBSOCKET

    def __init__(self, hub: Hub, identity: Identity, address: str, socket: "SocketHandler") -> None:
        super().__init__(hub, identity, address, socket.settings)
        self._reader: FrameReader | None = socket.reader()
        # That of compression, in bits; 0 without.
        self._window = 0 if socket.agreed is None else window_of(socket.agreed)
        self._alive = True
        # While it is, something resumes reading later: an action's end, a timer, the next turn.
        self._paused = False
        # The monotonic time to which the messages so far have used up the rate.
        self._paid_until = 0.0
        # Whether the client has sent its close frame.
        self._answered = False

    def interval(self) -> float:
        return self.hub.limits.live.ws_heartbeat_interval_seconds

    def encode(self, message: Message) -> bytes:
        if not self._window:
            return message.ws_frame
        return message.ws_compressed if self._window == WINDOW_BITS else message.ws_small_window

    def beat(self, heartbeat: Message) -> None:
        """Close when nothing came since the last ping, a whole interval ago; else ping again.

        While nothing is read nothing can have come.
        """
        if self._alive or self._paused:
            self._alive = False
            super().beat(heartbeat)
        else:
            self.leave(CloseCode.PONG_TIMEOUT)

    def encode_beat(self, heartbeat: Message) -> bytes:
        return heartbeat.ws_frame + PING_FRAME

    def take(self, stream: IOStream) -> None:
        """Own the socket from here on, and what came after the handshake.

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
        elif self._reader is None:
            # The connection has failed; what the client still sends is not understood.
            self.hang_up()

    def part(self, farewell: bytes) -> None:
        super().part(farewell)
        if self._paused:
            # To hear the client's answer.
            self._loop.call_soon(self._go_on)

    def received(self, data: bytes) -> None:
        """Take the frames that are whole."""
        if self._reader is not None:
            self._reader.feed(data)
            self._read_frames()

    def _read_frames(self) -> None:
        turn_ends = time.monotonic() + TURN_SECONDS
        try:
            while self._reader is not None and (frame := self._reader.next()) is not None:
                self._take(*frame)
                wait = self._charge(frame[0])
                if self._paused:
                    return
                if wait > 0 or time.monotonic() >= turn_ends:
                    self._hold_back()
                    self._loop.call_later(wait, self._go_on)
                    return
        except BadFrame as error:
            self._break_off(error.code)

    def _charge(self, opcode: Opcode) -> float:
        """Count a frame; return how long to wait before the next is read [s]."""
        rate = self.hub.limits.messages_per_second
        if not rate:
            return 0.0
        now = time.monotonic()
        cost = 1 if opcode in (Opcode.TEXT, Opcode.PING) else PART_COST
        self._paid_until = max(self._paid_until, now) + cost / rate
        # A second's worth may come at once.
        return max(self._paid_until - now - max(1.0, 1 / rate), 0.0)

    def _hold_back(self) -> None:
        self._paused = True
        self.pause()

    def _go_on(self) -> None:
        """Read on what has come; harmless when nothing is held back."""
        if not self._paused:
            return
        self._paused = False
        # Frames that it sent meanwhile have still to be read.
        self._alive = True
        self._read_frames()
        if not self._paused:
            self.resume()

    def _break_off(self, code: CloseCode) -> None:
        """Fail the connection (RFC 6455 section 7.1.7): nothing more of it is understood."""
        self._reader = None
        if not self.closed:
            self.leave(code)
        elif self.is_silent:
            self.hang_up()

    def _take(self, opcode: Opcode, payload: bytes) -> None:
        # Any frame is a sign of life.
        self._alive = True
        if opcode is Opcode.CLOSE:
            self._answer_close(payload)
        elif self.closed or opcode in (Opcode.PONG, Opcode.CONTINUATION):
            return
        elif opcode is Opcode.BINARY:
            self._break_off(CloseCode.UNSUPPORTED_DATA)
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
            frame = orjson.loads(text)
            type_, data = frame["type"], frame.get("data", {})
        except (ValueError, TypeError, KeyError, AttributeError):
            return self._complain(ErrorCode.BAD_MESSAGE, 'expected {"type": ..., "data": {...}}')
        if type_ == ClientMessageType.PING:
            return self._pong()
        if not isinstance(type_, str):
            return self._complain(ErrorCode.UNKNOWN_TYPE, "type must be a string")
        action = self.action_of(type_, frame)
        if action is None:
            return self._complain(ErrorCode.UNKNOWN_TYPE, f"unknown type {cut(type_, 50)!r}")
        self._hold_back()
        self.hub.own(self._act(action, data, frame.get("ref")), "client-message")
        return None

    def action_of(self, type_: str, frame: dict[str, Any]) -> Action | None:
        """Return what does what a client's message asks for; None for an unknown type."""
        if type_ == ClientMessageType.AUTH:
            return self.renew
        return next((one.feed.actions().get(type_) for one in self.subscriptions), None)

    async def _act(self, action: Action, data: Any, ref: Any) -> None:
        try:
            refuse_without_folder(self._settings)
            answer = await action(data)
            if answer is not None and ref is not None:
                self.send(_referring(answer, ref))
            elif answer is not None and answer.type != MessageType.DONE:
                # A client that did not name the request sees what it has changed.
                self.send(answer)
        except Exception as error:
            told = error_of(self.problem_of(error))
            self.send(told if ref is None else _referring(told, ref))
        finally:
            self._go_on()

    def _pong(self) -> None:
        waiting = self._backlog.messages if self._backlog is not None else ()
        if waiting and waiting[-1].type == MessageType.HEARTBEAT:
            # It answers this ping too.
            return
        self.send(Message.of(MessageType.HEARTBEAT, {"timestamp": iso_time()}))

    def _complain(self, code: ErrorCode, text: str) -> None:
        self.send(error_message(code, text))

    async def renew(self, data: Any) -> None:
        token = data.get("token") if isinstance(data, dict) else None
        identity = await self._settings["verifier"].verify(token if isinstance(token, str) else "")
        if identity.user_id != self.identity.user_id:
            raise AuthError("the token is another user's")
        self.identity = identity
        self.hub.reschedule_one(self)
        await self.renewed()

    async def renewed(self) -> None:
        """Learn that the identity has another token, which may allow less."""


class SocketHandler(BaseHandler, WebSocketHandler, abc.ABC):
    """An endpoint that is a WebSocket. Subclasses say what it follows."""

    stream: IOStream | None = None
    redeems_itself = True
    get_changes = True
    # The negotiated compression; None when it is off or the client does not want it.
    agreed: str | None = None

    @abc.abstractmethod
    async def enter(self) -> tuple[SocketConnection, Callable[[], None]]:
        """Count a connection in; return it, and what it does first once it has its socket.

        Raise Problem, or what `settings["problems"]` maps.
        """

    def check_request(self) -> None:
        """Check the handshake."""
        if self.request.method == "GET":
            self._check_handshake()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with a problem document; 426 says what is spoken here (RFC 6455 section 4.4)."""
        if status_code == 426:
            self.set_header("Connection", "Upgrade")
            self.set_header("Sec-WebSocket-Version", VERSION)
        super().write_error(status_code, **kwargs)

    def give_up(self, task: "asyncio.Task[Any]") -> None:
        """Close a socket that is being opened, or has still to answer a close frame."""
        if self.stream is None:
            return super().give_up(task)
        self._close(CloseCode.GOING_AWAY)
        task.cancel()
        return None

    def reader(self) -> FrameReader:
        """Return what reads this client's frames."""
        return self.reader_of(self.settings["websocket_max_message_size"])

    def reader_of(self, most_bytes: int) -> FrameReader:
        """Return what reads frames of messages up to this size."""
        inflater = None if self.agreed is None else Inflater(self.agreed)
        return FrameReader(most_bytes, inflater)

    async def head(self, *args: str, **kwargs: str) -> None:
        """Open nothing. Raise Problem 426."""
        raise Problem(426, "this address speaks WebSocket")

    async def get(self, *args: str, **kwargs: str) -> None:
        """Answer the handshake. Of compression Tornado knows nothing: its own keeps a window."""
        if self.agreed is not None:
            self.set_header("Sec-WebSocket-Extensions", self.agreed)
        await super().get(*args, **kwargs)

    def on_message(self, message: str | bytes) -> None:
        """Ignore what a refused client says."""

    def _check_handshake(self) -> None:
        """Raise Problem for what RFC 6455 does not allow (sections 4.2.1 and 9.1)."""
        headers = self.request.headers
        if self.request.version == "HTTP/1.0":
            raise Problem(400, "a WebSocket needs HTTP/1.1")
        if not _names(headers, "Upgrade", "websocket"):
            raise Problem(426, "this address speaks WebSocket")
        if not _names(headers, "Connection", "upgrade"):
            raise Problem(400, "Connection must name Upgrade")
        if headers.get("Sec-WebSocket-Version") != VERSION:
            raise Problem(426, f"Sec-WebSocket-Version must be {VERSION}")
        if not KEY.fullmatch(headers.get("Sec-WebSocket-Key", "")):
            raise Problem(400, "Sec-WebSocket-Key must be 16 bytes in base64, once")
        self._check_foreign_origin()
        self._agree()
        # Tornado wants it alone.
        headers["Upgrade"] = "websocket"

    def _check_foreign_origin(self) -> None:
        try:
            error = self._check_cross_origin(self.check_origin)
        except ValueError:
            error = "malformed"
        if error is not None:
            raise Problem(403, "this origin may not open a WebSocket")

    def _agree(self) -> None:
        # Taken out of the request: Tornado would read it in its own way.
        header = self.request.headers.pop("Sec-WebSocket-Extensions", "")
        try:
            answer = answer_offers(header)
        except ValueError as error:
            raise Problem(400, f"Sec-WebSocket-Extensions: {error}") from None
        self.agreed = answer if self.settings.get("websocket_compression") else None

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Choose ours; the one with the token is never echoed."""
        return WS_SUBPROTOCOL if WS_SUBPROTOCOL in subprotocols else None

    async def open(self, *args: str, **kwargs: str) -> None:
        """Check the identity, follow the feed, and send what there is."""
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
        connection, begin = await self.enter()
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
        begin()

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


class RealtimeSocket(SocketHandler):
    """A WebSocket that follows one feed. Subclasses say which."""

    connection_class: ClassVar[type[SocketConnection]] = SocketConnection

    @abc.abstractmethod
    async def feed(self) -> Feed:
        """Return what this socket follows. Raise Problem, or what `settings["problems"]` maps."""

    async def enter(self) -> tuple[SocketConnection, Callable[[], None]]:
        identity, after = self.identity, self.last_id()
        feed = await self.feed()
        connection = self.connection_class(self.hub, identity, self.address, self)
        opening = await connection.open(feed, after)
        return connection, partial(connection.begin, opening, after)


def _referring(answer: Message, ref: Any) -> Message:
    """Return an answer with what its request was named by the client."""
    return Message.of(answer.type, {"ref": ref, **answer.fields()})


def _names(headers: HTTPHeaders, header: str, token: str) -> bool:
    """Say whether a header that is a list has this token (RFC 9110 section 5.6.1)."""
    return token in (one.strip().lower() for one in headers.get(header, "").split(","))
