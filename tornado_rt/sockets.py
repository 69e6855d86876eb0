"""The base of WebSocket endpoints (RFC 6455)."""

import abc
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import structlog
from tornado.httputil import HTTPHeaders
from tornado.iostream import IOStream, StreamClosedError
from tornado.websocket import WebSocketHandler

from tornado_rt.auth import AuthError, Identity
from tornado_rt.connection import Connection, Feed, error_message, tune
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
from tornado_rt.web import BaseHandler, Problem

log = structlog.get_logger(__name__)


class SocketConnection(Connection):
    """A WebSocket in the hub."""

    __slots__ = ("_alive", "_compressed", "_socket")
    transport = Transport.WEBSOCKET

    def __init__(
        self, hub: Hub, identity: Identity, address: str, feed: Feed, socket: "RealtimeSocket"
    ) -> None:
        super().__init__(hub, identity, address, feed)
        self._socket = socket
        self._stream = socket.stream
        self._compressed = socket.compressed
        self._alive = True

    def interval(self) -> float:
        return self.hub.limits.ws_heartbeat

    def encode(self, message: Message) -> bytes:
        return message.ws_compressed if self._compressed else message.ws_frame

    def alive(self) -> None:
        """Note that something came from the peer."""
        self._alive = True

    def renew(self, identity: Identity) -> None:
        """Go on under a fresh token of the same user."""
        self.identity = identity
        self.hub.reschedule_one(self)

    def beat(self, heartbeat: Message) -> None:
        """Close when nothing came since the last ping, a whole interval ago; else ping again."""
        if self._alive:
            self._alive = False
            super().beat(heartbeat)
        else:
            self.leave(CloseCode.PONG_TIMEOUT)

    def encode_beat(self, heartbeat: Message) -> bytes:
        return heartbeat.ws_frame + PING_FRAME

    def end(self, code: CloseCode) -> None:
        self._socket.close_with(code)


class RealtimeSocket(BaseHandler, WebSocketHandler, abc.ABC):
    """A WebSocket that follows one feed. Subclasses say which, and add client messages.

    The receive loop also reads pongs, so `on_message` only decodes, dispatches and starts.
    """

    connection: SocketConnection | None = None
    stream: IOStream | None = None
    # Whether permessage-deflate was negotiated (RFC 7692).
    compressed = False

    @abc.abstractmethod
    async def feed(self) -> Feed:
        """Return what this socket follows. Raise Problem, or what `settings["problems"]` maps."""

    def actions(self) -> dict[str, Callable[[Any], Awaitable[None]]]:
        """Return what a client may ask for, by message type."""
        return {ClientMessageType.AUTH: self._renew}

    def get_compression_options(self) -> dict[str, Any] | None:
        """Negotiate compression when the settings want it."""
        if not self.settings.get("websocket_compression"):
            return None
        self.compressed = _takes_compressed(self.request.headers)
        return {}

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Choose ours; the one with the token is never echoed."""
        return WS_SUBPROTOCOL if WS_SUBPROTOCOL in subprotocols else None

    async def open(self, *args: str, **kwargs: str) -> None:
        """Check who it is, follow the feed, and send what there is."""
        assert self.ws_connection is not None
        self.stream = self.ws_connection.stream
        assert self.stream is not None
        tune(self.stream, self.hub.limits.peer_timeout)
        try:
            await self._follow()
        except Exception as error:
            self._refuse(error)

    def on_message(self, message: str | bytes) -> None:
        """Dispatch one frame of the client."""
        if self.connection is None:
            return
        self.connection.alive()
        if isinstance(message, bytes):
            self.connection.leave(CloseCode.UNSUPPORTED_DATA)
        elif message == ClientMessageType.PING:
            self._pong()
        else:
            self._dispatch(message)

    def on_pong(self, data: bytes) -> None:
        """Count a pong as life."""
        if self.connection is not None:
            self.connection.alive()

    def on_ping(self, data: bytes) -> None:
        """Count a ping as life."""
        self.on_pong(data)

    def on_close(self) -> None:
        """Leave the hub."""
        if self.connection is not None:
            self.connection.detach()

    def close_with(self, code: CloseCode) -> None:
        """Send a close frame and end."""
        self.close(code, code.name.lower())

    async def _follow(self) -> None:
        if self.hub.draining:
            return self.close_with(CloseCode.GOING_AWAY)
        identity, after = self.identity, self.last_id()
        feed = await self.feed()
        self.connection = SocketConnection(self.hub, identity, self.address, feed, self)
        opening = await self.connection.open(after)
        self.connection.begin(opening, after)
        return None

    def _refuse(self, error: Exception) -> None:
        problem = self._problem_of(500, error)
        self.log_exception(type(error), error, error.__traceback__)
        code = _CLOSE_CODES.get(problem.status_code, CloseCode.OVERLOADED)
        error_code = _ERROR_CODES.get(problem.status_code, ErrorCode.INTERNAL)
        assert self.stream is not None
        with contextlib.suppress(StreamClosedError):
            self.stream.write(error_message(error_code, _text(problem)).ws_frame)
        self.close_with(code)

    def _pong(self) -> None:
        assert self.connection is not None
        self.connection.send(Message.of(MessageType.HEARTBEAT, {"timestamp": iso_time()}))

    def _dispatch(self, text: str) -> None:
        try:
            frame = orjson.loads(text)
            type_, data = frame["type"], frame.get("data", {})
        except (ValueError, TypeError, KeyError, AttributeError):
            return self._complain(ErrorCode.BAD_MESSAGE, 'expected {"type": ..., "data": {...}}')
        if type_ == ClientMessageType.PING:
            return self._pong()
        action = self.actions().get(type_) if isinstance(type_, str) else None
        if action is None:
            return self._complain(ErrorCode.UNKNOWN_TYPE, f"unknown type {str(type_)[:50]!r}")
        self.hub.own(self._act(action, data), "client-message")
        return None

    async def _act(self, action: Callable[[Any], Awaitable[None]], data: Any) -> None:
        try:
            await action(data)
        except Exception as error:
            problem = self._problem_of(500, error)
            self.log_exception(type(error), error, error.__traceback__)
            code = _ERROR_CODES.get(problem.status_code, ErrorCode.INTERNAL)
            self._complain(code, _text(problem))

    def _complain(self, code: ErrorCode, text: str) -> None:
        if self.connection is not None:
            self.connection.send(error_message(code, text))

    async def _renew(self, data: Any) -> None:
        assert self.connection is not None
        token = data.get("token") if isinstance(data, dict) else None
        identity = await self.settings["verifier"].verify(token if isinstance(token, str) else "")
        if identity.user_id != self.connection.identity.user_id:
            raise AuthError("the token is another user's")
        self.connection.renew(identity)


_CLOSE_CODES = {
    400: CloseCode.BAD_REQUEST,
    401: CloseCode.UNAUTHORIZED,
    403: CloseCode.FORBIDDEN,
    404: CloseCode.NOT_FOUND,
    429: CloseCode.TOO_MANY_CONNECTIONS,
}
_ERROR_CODES = {
    400: ErrorCode.BAD_REQUEST,
    401: ErrorCode.BAD_TOKEN,
    403: ErrorCode.FORBIDDEN,
    404: ErrorCode.NOT_FOUND,
    422: ErrorCode.BAD_MESSAGE,
    429: ErrorCode.TOO_MANY_CONNECTIONS,
    503: ErrorCode.DEGRADED,
}


def _takes_compressed(headers: HTTPHeaders) -> bool:
    """Say whether the client takes messages compressed with the whole window (RFC 7692)."""
    for offer in headers.get("Sec-WebSocket-Extensions", "").split(","):
        name, *parameters = (part.strip() for part in offer.split(";"))
        if name == "permessage-deflate":
            return not any(one.startswith("server_max_window_bits") for one in parameters)
    return False


def _text(problem: Problem) -> str:
    return "; ".join([problem.detail, *(problem.errors or [])])
