"""The wire protocol: message types, codes, topics, cursors, and the envelope.

The envelope `{"type", "data", "id"?}` is the text frame of a WebSocket and the message on a Redis
channel, byte for byte. The Lua scripts of the services write the same envelope. A connection of
many topics adds `topic`, and `ref` when it answers a request that was named.

It is long because the whole wire protocol stands in one place, for the clients and documents too.
"""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from functools import cached_property, lru_cache
from typing import Any, Protocol

import attrs
import orjson

from tornado_rt.deflate import SMALL_WINDOW_BITS, WINDOW_BITS, deflate
from tornado_rt.work.values import cut

CHANNEL_PREFIX = "rt:"
BROADCAST = "broadcast"
WORKERS = "workers"
CONTROL = "control"
ASKED = "asked"
ADMIN_TOPIC = "admin"
PROBE = "probe"
APP = "app"
TASKS = "tasks"
WS_SUBPROTOCOL = "rt.v1"
WS_AUTH_PREFIX = "auth."
# Default name of `error` messages on an event stream: browsers dispatch an event named `error` to
# `onerror`, as if the connection was lost.
ERROR_EVENT = "problem"

# First bytes of frames (RFC 6455 section 5.2; RFC 7692 section 6): FIN and text, and RSV1.
TEXT_FRAME = 0x81
COMPRESSED = 0x40
# A whole ping without data.
PING_FRAME = b"\x89\x00"


class MessageType(StrEnum):
    """The `type` of a message from the server."""

    CONNECTED = "connected"
    HEARTBEAT = "heartbeat"
    NOTIFICATION = "notification"
    UNREAD_COUNT = "unread_count"
    READ = "read"
    CHANGED = "changed"
    LIST = "list"
    DONE = "done"
    PROGRESS = "progress"
    FINISHED = "finished"
    ERROR = "error"
    RESYNC = "resync"
    # On a connection of many topics.
    SUBSCRIBED = "subscribed"
    UNSUBSCRIBED = "unsubscribed"
    # Published by the application on a topic of its own.
    MESSAGE = "message"
    # To a worker that is elsewhere.
    WORKING = "working"
    TASKS = "tasks"
    EVENTS = "events"
    REPORTED = "reported"
    EXTENDED = "extended"
    ACKED = "acked"
    DRAINING = "draining"
    # Between processes only, on the topics `workers`, `control`, `schedules` and `asked`.
    CANCEL = "cancel"
    ANSWER = "answer"
    WAKE = "wake"
    REPLACED = "replaced"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    SETTINGS = "settings"
    ASK = "ask"


class ClientMessageType(StrEnum):
    """The `type` of a message from a client."""

    PING = "ping"
    AUTH = "auth"
    LIST = "list"
    UNDO = "undo"
    ANSWER = "answer"
    CANCEL = "cancel"
    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"
    # From a worker.
    WORK = "work"
    REPORT = "report"
    EXTEND = "extend"
    ACK = "ack"
    DRAIN = "drain"


class CloseCode(IntEnum):
    """Why a WebSocket was closed (RFC 6455 section 7.4; 4000 to 4999 are ours).

    RECONNECT says whether a client comes back.
    """

    FINISHED = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    BAD_DATA = 1007
    TOO_LARGE = 1009
    OVERLOADED = 1013
    BAD_REQUEST = 4400
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403
    NOT_FOUND = 4404
    REPLACED = 4409
    TOO_MANY_CONNECTIONS = 4429
    TOO_SLOW = 4508
    PONG_TIMEOUT = 4510


CLOSE_CODES: dict[str, str] = {
    str(CloseCode.FINISHED.value): "finished",
    str(CloseCode.GOING_AWAY.value): "server going away: reconnect",
    str(CloseCode.PROTOCOL_ERROR.value): "a frame that RFC 6455 does not allow",
    str(CloseCode.UNSUPPORTED_DATA.value): "binary frames are not accepted",
    str(CloseCode.BAD_DATA.value): "text that is not UTF-8, or data that cannot be inflated",
    str(CloseCode.TOO_LARGE.value): "message too large",
    str(CloseCode.OVERLOADED.value): "overloaded: reconnect",
    str(CloseCode.BAD_REQUEST.value): "the request is not valid: do not reconnect",
    str(CloseCode.UNAUTHORIZED.value): "no, bad or expired credentials: do not reconnect",
    str(CloseCode.FORBIDDEN.value): "not allowed: do not reconnect",
    str(CloseCode.NOT_FOUND.value): "no such task for this user: do not reconnect",
    str(CloseCode.REPLACED.value): "another connection took its place: do not reconnect",
    str(CloseCode.TOO_MANY_CONNECTIONS.value): "too many connections: do not reconnect",
    str(CloseCode.TOO_SLOW.value): "too slow a reader: reconnect and resume",
    str(CloseCode.PONG_TIMEOUT.value): "no pong in time: reconnect and resume",
}

# Whether a client comes back after a close code. Besides ours there are those that a browser makes
# up (1005 and 1006: the connection was lost) and that a proxy sends (RFC 6455 section 7.4.1).
RECONNECT: dict[str, bool] = {
    str(CloseCode.FINISHED.value): False,
    str(CloseCode.GOING_AWAY.value): True,
    str(CloseCode.PROTOCOL_ERROR.value): False,
    str(CloseCode.UNSUPPORTED_DATA.value): False,
    "1005": True,
    "1006": True,
    str(CloseCode.BAD_DATA.value): False,
    "1008": False,
    str(CloseCode.TOO_LARGE.value): False,
    "1010": False,
    "1011": True,
    "1012": True,
    str(CloseCode.OVERLOADED.value): True,
    "1014": True,
    str(CloseCode.BAD_REQUEST.value): False,
    str(CloseCode.UNAUTHORIZED.value): False,
    str(CloseCode.FORBIDDEN.value): False,
    str(CloseCode.NOT_FOUND.value): False,
    str(CloseCode.REPLACED.value): False,
    str(CloseCode.TOO_MANY_CONNECTIONS.value): False,
    str(CloseCode.TOO_SLOW.value): True,
    str(CloseCode.PONG_TIMEOUT.value): True,
}
# The same for a code that is not listed, by its hundreds; after any other a client comes back.
RECONNECT_RANGES: dict[str, bool] = {"44": False, "45": True}


def comes_back(code: int) -> bool:
    """Say whether a client comes back after a close code."""
    return RECONNECT.get(str(code), RECONNECT_RANGES.get(str(code // 100), True))


class ErrorCode(StrEnum):
    """The `code` of an `error` message."""

    BAD_MESSAGE = "bad_message"
    BAD_REQUEST = "bad_request"
    UNKNOWN_TYPE = "unknown_type"
    TOKEN_EXPIRED = "token_expired"
    BAD_TOKEN = "bad_token"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    FORBIDDEN = "forbidden"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    DEGRADED = "degraded"
    IDLE = "idle"
    GOING_AWAY = "going_away"
    INTERNAL = "internal"


class ResyncReason(StrEnum):
    """Why a gap could not be filled."""

    TRIMMED = "trimmed"
    EPOCH = "epoch"
    LIMIT = "limit"


def iso_time(time: datetime | None = None) -> str:
    """Return a time, or now, in ISO 8601, UTC, to the millisecond."""
    utc = datetime.now(UTC) if time is None else time.astimezone(UTC)
    return utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def user_topic(user_id: str) -> str:
    """Return the topic of one user's notifications."""
    return f"user:{user_id}"


def task_topic(task_id: str) -> str:
    """Return the topic of one task."""
    return f"task:{task_id}"


def batch_topic(batch_id: str) -> str:
    """Return the topic of one batch."""
    return f"batch:{batch_id}"


def tasks_topic(user_id: str) -> str:
    """Return the topic of all tasks of a user."""
    return f"{TASKS}:{user_id}"


def app_topic(name: str) -> str:
    """Return the topic of ours that is one of the application's."""
    return f"{APP}:{name}"


def probe_topic(process: str) -> str:
    """Return the topic on which a process hears itself."""
    return f"{PROBE}:{process}"


def channel(topic: str) -> str:
    """Return the Redis channel of a topic."""
    return CHANNEL_PREFIX + topic


# An epoch, and an offset that is a signed 64-bit integer.
_CURSOR = re.compile(r"([A-Za-z0-9]{1,64})-([0-9]{1,19})")
MOST_OFFSET = 2**63 - 1
# The form of a message type, which becomes the name of an event.
_TYPE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@attrs.frozen
class Cursor:
    """The id of a message: its place in a log, and the epoch of that log."""

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.offset}"

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Read `epoch-offset`. Raise ValueError when it is not of that form."""
        found = _CURSOR.fullmatch(text)
        if found is None or int(found[2]) > MOST_OFFSET:
            raise ValueError(f"not a cursor: {cut(text, 50)!r}")
        return cls(found[1], int(found[2]))

    @property
    def previous(self) -> "Cursor":
        """The place before it; where a log begins there is none before."""
        return Cursor(self.epoch, max(self.offset - 1, 0))


# Where a message of a task says the language of its submitter: it stands first in what is told of
# one (services/queue/adding.py), so that no value of the task is taken for it.
_OF_TASK = re.compile(rb'\{"locale":"([^"\\]{1,35})"').match
_OF_SNAPSHOT = re.compile(rb'"snapshot":\{"locale":"([^"\\]{1,35})"').search
_TASK_LOCALES: dict[str, Callable[[bytes], re.Match[bytes] | None]] = {
    MessageType.PROGRESS: _OF_TASK,
    MessageType.FINISHED: _OF_TASK,
    MessageType.CONNECTED: _OF_SNAPSHOT,
    MessageType.SUBSCRIBED: _OF_SNAPSHOT,
}


@attrs.frozen
class Message:
    """One envelope. `data` is its JSON object, already encoded; `id` a cursor or None.

    On a connection of many topics `topic` is what the client calls that of the message, `ref` what
    it called the request that is answered, as JSON, and `place` the id of the event on a stream:
    the cursors of all topics. Each transport's form is made once, when first asked for, however
    many subscribers there are.
    """

    type: str
    data: bytes
    id: str | None = None
    topic: str | None = None
    ref: bytes | None = None
    place: str | None = None

    @classmethod
    def of(cls, type_: str, data: dict[str, Any], id_: str | None = None) -> "Message":
        """Make a message of a plain object."""
        return cls(type_, orjson.dumps(data), id_)

    @classmethod
    def decode(cls, envelope: bytes | str) -> "Message":
        """Read an envelope. Raise ValueError when it is none."""
        fields = orjson.loads(envelope)
        if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
            raise ValueError("not an envelope")
        if not _TYPE.fullmatch(fields["type"]):
            raise ValueError("its type is not the name of one")
        id_ = fields.get("id")
        if not isinstance(id_, str | None):
            raise ValueError("its id is not a cursor")
        message = cls(fields["type"], orjson.dumps(fields.get("data", {})), id_)
        # Read here, where ValueError is expected; it is kept for those who get the message.
        _ = message.cursor
        return message

    def encode(self) -> bytes:
        """Return the envelope as JSON."""
        head = b'{"type":' + orjson.dumps(self.type)
        if self.topic is not None:
            head += b',"topic":' + orjson.dumps(self.topic)
        if self.ref is not None:
            head += b',"ref":' + self.ref
        head += b',"data":' + self.data
        return head + (b"}" if self.id is None else b',"id":' + orjson.dumps(self.id) + b"}")

    @cached_property
    def cursor(self) -> Cursor | None:
        """The id, read; None without one."""
        return None if self.id is None else Cursor.parse(self.id)

    @cached_property
    def locale(self) -> str | None:
        """The language that the submitter of the task wants, where it is one's; else None."""
        first = self.parts[0]
        if first is not self:
            return first.locale
        find = _TASK_LOCALES.get(self.type)
        found = None if find is None else find(self.data)
        return None if found is None else found[1].decode()

    @property
    def parts(self) -> tuple["Message", ...]:
        """The messages that it is."""
        return (self,)

    @cached_property
    def count(self) -> int:
        """The number of messages in it."""
        return len(self.parts)

    @cached_property
    def ws_frame(self) -> bytes:
        """One unmasked text frame (RFC 6455 section 5.2)."""
        return b"".join(_frame(TEXT_FRAME, part.encode()) for part in self.parts)

    @cached_property
    def ws_compressed(self) -> bytes:
        """The frame by permessage-deflate (RFC 7692 section 7.2.1).

        It refers to nothing before it, so that it is the same for all who negotiated compression.
        """
        return self._compress(WINDOW_BITS)

    @cached_property
    def ws_small_window(self) -> bytes:
        """The same for a client that keeps less than our usual window."""
        return self._compress(SMALL_WINDOW_BITS)

    @cached_property
    def sse_event(self) -> bytes:
        """One event (WHATWG HTML section 9.2): `id`, `event` and one line of `data`.

        Of a message with a topic `data` is the envelope.
        """
        return b"".join(map(_event, self.parts))

    @cached_property
    def sse_chunk(self) -> bytes:
        """The event as one chunk (RFC 9112 section 7.1)."""
        return chunk(self.sse_event)

    def _compress(self, window: int) -> bytes:
        deflated = (deflate(part.encode(), window) for part in self.parts)
        return b"".join(_frame(TEXT_FRAME | COMPRESSED, one) for one in deflated)

    def fields(self) -> dict[str, Any]:
        """Return `data` as a plain object."""
        decoded: dict[str, Any] = orjson.loads(self.data)
        return decoded


@attrs.frozen
class Bundle(Message):
    """Messages of one topic that are written in one go: each as it is, one after another.

    Its type and id are those that the last of them leaves.
    """

    messages: tuple[Message, ...] = ()

    @property
    def parts(self) -> tuple[Message, ...]:
        """The messages that it is."""
        return self.messages

    @classmethod
    def join(cls, messages: Sequence[Message]) -> Message:
        """Return one of them all."""
        last = next((one.id for one in reversed(messages) if one.id is not None), None)
        return cls(messages[-1].type, b"", last, messages=tuple(messages))


@lru_cache(maxsize=64)
def about(message: Message, topic: str) -> Message:
    """Return a message as it goes to connections of many topics, the same object to each."""
    parts = message.parts
    if len(parts) == 1:
        return attrs.evolve(parts[0], topic=topic)
    return Bundle.join([attrs.evolve(part, topic=topic) for part in parts])


def _frame(first: int, text: bytes) -> bytes:
    size = len(text)
    if size < 126:
        return struct.pack("!BB", first, size) + text
    if size < 65536:
        return struct.pack("!BBH", first, 126, size) + text
    return struct.pack("!BBQ", first, 127, size) + text


def _event(message: Message) -> bytes:
    id_, data = message.id, message.data
    if message.topic is not None:
        id_, data = message.place, message.encode()
    head = b"" if id_ is None else b"id: " + id_.encode() + b"\n"
    data = _one_line(data)
    return head + b"event: " + message.type.encode() + b"\ndata: " + data + b"\n\n"


# In JSON a line break is only white space between values; within a text it is escaped.
_SPACES = bytes.maketrans(b"\r\n\0", b"   ")
# Unicode line ends that this format does not know, but some of its readers split at.
_LINE_ENDS: Mapping[bytes, bytes] = {
    one.encode(): b"\\u%04x" % ord(one) for one in ("\u0085", "\u2028", "\u2029")
}


def _one_line(data: bytes) -> bytes:
    """Return JSON as a single line for every reader."""
    if not data.isascii():
        for end, escaped in _LINE_ENDS.items():
            data = data.replace(end, escaped)
    return data.translate(_SPACES)


def chunk(piece: bytes) -> bytes:
    """Return `piece` as one chunk of a chunked HTTP body (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


class Publisher(Protocol):
    """Brings a message to every subscriber of a topic, in every process."""

    async def publish(self, topic: str, message: Message) -> bool:
        """Publish to each subscriber of `topic`; False: only to those of this process.

        Never raises.
        """
        ...
