"""The base of WebSocket endpoints (RFC 6455).

The handshake is checked to the letter, and answered. Then the stream is taken over, as an event
stream is: an open socket is its stream and one small object, and what a client sends is read by
`frames`. It is read no faster than it is answered: one action at a time, a bounded number of
messages a second, a few milliseconds of frames a turn. Frames beyond that wait in the client's
kernel and ours; nothing is lost.

It is long because the handshake, the reading and the closing of a socket share its state.
"""

import abc
import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import attrs
import orjson
from structlog.contextvars import bind_contextvars
from tornado.iostream import IOStream
from tornado.websocket import WebSocketHandler

from tornado_rt.auth import AuthError, Identity
from tornado_rt.census import Transport
from tornado_rt.connection import Connection
from tornado_rt.deflate import WINDOW_BITS, Inflater, answer_offers, window_of
from tornado_rt.feed import Action, Feed
from tornado_rt.frames import BadFrame, FrameReader, Opcode, close_frame, control_frame
from tornado_rt.handshake import VERSION, accept_handshake, check_handshake, offered_subprotocols
from tornado_rt.hub import Hub
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
from tornado_rt.refusals import close_code_of, error_of
from tornado_rt.request_id import HEADER as REQUEST_ID
from tornado_rt.web import BaseHandler, refuse_without_folder
from tornado_rt.wire import Wire, take_over
from tornado_rt.work.texts import phrase
from tornado_rt.work.values import cut

# Says of a close frame that it has no code.
NO_CODE = 1005
# The frames of one socket are read for this long before the loop turns [s].
TURN_SECONDS = 0.002
# `connected` follows at once: both go in one segment. The answer goes alone when nothing has
# followed after 200 ms (`MSG_MORE` of send(2), which only Linux has).
MORE: int = getattr(socket, "MSG_MORE", 0)
# The cost, in messages, of a frame that is neither a message nor a ping: a fragment, a pong.
PART_COST = 1 / 256


@attrs.frozen
class OpenedSocket:
    """A socket whose handshake is answered.

    `unsent` of the answer has still to be written; `early` has come after the handshake.
    """

    socket: socket.socket
    unsent: bytes
    early: bytes


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

    def take(self, opened: OpenedSocket) -> None:
        """Own the socket from here on, and what came after the handshake."""
        self.adopt(opened.socket, opened.unsent)
        if opened.early:
            self._loop.call_soon(self.received, opened.early)

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
            # Without a code it is 1005 (RFC 6455 section 7.1.5).
            self.close_code = int.from_bytes(payload[:2]) or NO_CODE
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
            return self._complain(
                ErrorCode.BAD_MESSAGE, phrase('expected {{"type": ..., "data": {{...}}}}')
            )
        if type_ == ClientMessageType.PING:
            return self._pong()
        if not isinstance(type_, str):
            return self._complain(ErrorCode.UNKNOWN_TYPE, phrase("type must be a string"))
        action = self.action_of(type_, frame)
        if action is None:
            return self._complain(
                ErrorCode.UNKNOWN_TYPE, phrase("unknown type {type}", type=repr(cut(type_, 50)))
            )
        self._hold_back()
        self.hub.spawn(self._act(action, data, frame.get("ref")), "client-message")
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
            told = self.error_of(self.problem_of(error))
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
        self.send(self.error(code, text))

    async def renew(self, data: Any) -> None:
        token = data.get("token") if isinstance(data, dict) else None
        identity = await self._settings["verifier"].verify(token if isinstance(token, str) else "")
        if identity.user_id != self.identity.user_id:
            raise AuthError(phrase("the token is another user's"))
        self.identity = identity
        self.hub.reschedule_one(self)
        await self.renewed()

    async def renewed(self) -> None:
        """Learn that the identity has another token, which may allow less."""


class RefusedSocket(Wire):
    """A socket that gets its last bytes, and is closed once its client has."""

    __slots__ = ()

    def encode(self, message: Message) -> bytes:
        return message.ws_frame

    def received(self, data: bytes) -> None:
        """Ignore what a refused client says."""

    def lost(self) -> None:
        """Nothing is left to do."""

    def parted(self) -> None:
        self.hang_up()


class SocketHandler(BaseHandler, WebSocketHandler, abc.ABC):
    """An endpoint that is a WebSocket. Subclasses say what it follows."""

    # Set once the handshake is answered, until somebody owns the socket.
    opened: OpenedSocket | None = None
    redeems_itself = True
    get_changes = True
    # The negotiated compression; None when it is off or the client does not want it.
    agreed: str | None = None
    _is_new = True

    @abc.abstractmethod
    async def enter(self) -> tuple[SocketConnection, Callable[[], None]]:
        """Count a connection in; return it, and what it does first once it has its socket.

        Raise Problem, or what `settings["problems"]` maps.
        """

    def clear(self) -> None:
        """Begin an answer of HTTP's: only a refusal is one."""
        if not self._is_new or self.request.method != "GET":
            super().clear()
        self._is_new = False

    def check_request(self) -> None:
        """Check the handshake."""
        if self.request.method == "GET":
            check_handshake(self.request)
            self._check_foreign_origin()
            self._agree()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with a problem document; 426 says what is spoken here (RFC 6455 section 4.4)."""
        if status_code == 426:
            self.set_header("Connection", "Upgrade")
            self.set_header("Sec-WebSocket-Version", VERSION)
        super().write_error(status_code, **kwargs)

    def give_up(self, task: "asyncio.Task[Any]") -> None:
        """Close a socket that is being opened."""
        if self.opened is None:
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
        raise Problem(426, phrase("this address speaks WebSocket"))

    async def get(self, *args: str, **kwargs: str) -> None:
        """Answer the handshake, check the identity, follow the feed, and send what there is.

        From the answer on the request is over for Tornado: refusals are close codes.
        """
        # Its messages are logged under the id of the request that opened it.
        bind_contextvars(connection=self.request_id)
        self.set_status(101)
        self.application.log_request(self)
        answer = self._accept()
        try:
            self.opened = answer_on(self.detach(), answer, self.hub.limits.peer_timeout)
        except OSError:
            # The client left before it had its answer.
            return
        try:
            if self.hub.draining:
                self._close(CloseCode.GOING_AWAY)
            else:
                await self._follow(self.opened)
        except Exception as error:
            self._refuse(error)
        finally:
            # Nobody owns it when this was cancelled.
            if self.opened is not None:
                self.opened.socket.close()
            # It refers to us.
            self.ui = None  # type: ignore[assignment]

    def _accept(self) -> bytes:
        headers = self.request.headers
        chosen = {
            "Sec-WebSocket-Protocol": self.select_subprotocol(offered_subprotocols(headers)),
            "Sec-WebSocket-Extensions": self.agreed,
            REQUEST_ID: self.request_id,
        }
        return accept_handshake(headers, chosen)

    def _check_foreign_origin(self) -> None:
        try:
            error = self._check_cross_origin(self.check_origin)
        except ValueError:
            error = "malformed"
        if error is not None:
            raise Problem(403, phrase("this origin may not open a WebSocket"))

    def _agree(self) -> None:
        """Settle compression. Raise Problem 400 for an offer that cannot be read."""
        try:
            answer = answer_offers(self.request.headers.get("Sec-WebSocket-Extensions", ""))
        except ValueError as error:
            raise Problem(400, phrase("Sec-WebSocket-Extensions: {error}", error=error)) from None
        self.agreed = answer if self.settings.get("websocket_compression") else None

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Choose ours; the one with the token is never echoed."""
        return WS_SUBPROTOCOL if WS_SUBPROTOCOL in subprotocols else None

    async def _follow(self, opened: OpenedSocket) -> None:
        await self.redeem()
        connection, begin = await self.enter()
        if connection.closed:
            self._close(CloseCode.GOING_AWAY)
            return
        self.opened = None
        connection.take(opened)
        begin()

    def _refuse(self, error: Exception) -> None:
        problem = self._problem_of(500, error)
        self.log_exception(type(error), error, error.__traceback__)
        self._close(close_code_of(problem), error_of(problem, self.read_by.words).ws_frame)

    def _close(self, code: CloseCode, last_words: bytes = b"") -> None:
        """Say why, and goodbye; the client has a while to take it."""
        opened, self.opened = self.opened, None
        assert opened is not None
        refused = RefusedSocket(self.hub.tally)
        refused.adopt(opened.socket, opened.unsent)
        refused.part(last_words + close_frame(code))


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
        connection.read_by = self.read_by
        opening = await connection.open(feed, after)
        return connection, partial(connection.begin, opening, after)


def _referring(answer: Message, ref: Any) -> Message:
    """Return an answer with what its request was named by the client."""
    return Message.of(answer.type, {"ref": ref, **answer.fields()})


def answer_on(stream: IOStream, answer: bytes, peer_timeout: float) -> OpenedSocket:
    """Answer a handshake, and take the socket over. Raise OSError when the client has left."""
    early = bytes(stream._read_buffer)
    sock = take_over(stream, peer_timeout)
    try:
        sent = sock.send(answer) if isinstance(sock, ssl.SSLSocket) else sock.send(answer, MORE)
    except (BlockingIOError, ssl.SSLWantWriteError):
        # It asked for other things before, and has not read them.
        sent = 0
    except OSError:
        sock.close()
        raise
    return OpenedSocket(sock, answer[sent:], early)
