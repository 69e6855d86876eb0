"""What sockets and event streams have in common: opening, catching up, pacing, ending.

A connection subscribes first and holds what comes, then reads the log, sends it, and lets go what
was held, without repeats. The same steps fill a gap later.
"""

import abc
import time
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import attrs

from tornado_rt.auth import Identity
from tornado_rt.hub import Hub, Transport
from tornado_rt.protocol import (
    CLOSE_CODES,
    CloseCode,
    Cursor,
    ErrorCode,
    Message,
    MessageType,
    ResyncReason,
    iso_time,
)


def error_message(code: ErrorCode, text: str) -> Message:
    """Return an `error` message."""
    return Message.of(MessageType.ERROR, {"code": code, "message": text})


@attrs.frozen
class Opening:
    """What a feed has for a subscriber that comes now.

    `state` is what `connected` says of it. `messages` are those after the asked cursor, or the
    snapshot when none was asked for or the gap cannot be filled (`resync`). `begin` is where a
    client resumes that saw no more than `state`, `cursor` the place in the log that the messages
    reach. `ended`: nothing will come after that.
    """

    state: dict[str, Any]
    messages: tuple[Message, ...]
    begin: Cursor
    cursor: Cursor
    resync: ResyncReason | None = None
    ended: bool = False


# How often to look whether a connection that is still reading its log is done.
OPENING_SECONDS = 0.2


class Feed(Protocol):
    """Something to follow. `ordered`: its topic carries ids in their order."""

    topics: tuple[str, ...]
    ordered: bool

    async def read(self, after: Cursor | None) -> Opening:
        """Return what a subscriber needs that has seen everything up to `after`."""
        ...

    def idle_seconds(self) -> float:
        """Return after how long without news an event stream ends; 0 for never."""
        ...


class Connection(abc.ABC):
    """One open socket or stream of a user, following one feed."""

    transport: ClassVar[Transport]

    def __init__(
        self, hub: Hub, identity: Identity, address: str, feed: Feed, interval: Callable[[], float]
    ) -> None:
        self.hub = hub
        self.identity = identity
        self.address = address
        self.feed = feed
        self.closed = False
        self._interval = interval
        self._held: list[Message] | None = []
        self._cursor: Cursor | None = None
        self._last_news = self._last_beat = time.monotonic()

    async def open(self, after: Cursor | None) -> Opening:
        """Count in, subscribe, read. Raise TooManyConnections or what the feed raises."""
        self.hub.connect(self)
        try:
            for topic in self.feed.topics:
                await self.hub.subscribe(topic, self)
            return await self.feed.read(after)
        except BaseException:
            self.detach()
            raise

    def begin(self, opening: Opening, after: Cursor | None) -> None:
        """Send `connected` and all that the opening holds."""
        recovered = after is not None and opening.resync is None
        data = {
            "user_id": self.identity.user_id,
            "timestamp": iso_time(),
            "heartbeat_interval": self._interval(),
            "recovered": recovered,
            "close_codes": CLOSE_CODES,
            **opening.state,
        }
        begin = after if recovered else opening.begin
        self.send(Message.of(MessageType.CONNECTED, data, None if begin is None else str(begin)))
        self._catch_up(opening)

    def deliver(self, message: Message) -> None:
        """Send a message of a followed topic, or hold it while the log is read."""
        if self._held is not None:
            self._held.append(message)
        else:
            self._forward(message)

    def gap(self) -> None:
        """Read the log again from the last message sent."""
        if self._held is None and not self.closed:
            self._held = []
            self.hub.own(self._fill_gap(), "fill-gap")

    def next_due(self) -> float:
        """Return the monotonic time of the next heartbeat, expiry or idle end."""
        now = time.monotonic()
        if self._held is not None:
            return now + OPENING_SECONDS
        dues = [now + max(self.identity.expires_at - time.time(), 0)]
        if self._interval():
            dues.append(self._last_beat + self._interval())
        if self.idle_seconds():
            dues.append(self._last_news + self.idle_seconds())
        return min(dues)

    def wake(self, now: float) -> None:
        """End when the token has expired or nothing came for too long; else send a heartbeat.

        Nothing comes before `connected`, or into the middle of what fills a gap.
        """
        if self._held is not None:
            return
        idle = self.idle_seconds()
        if time.time() >= self.identity.expires_at:
            self.expire()
        elif idle and now - self._last_news >= idle:
            self.end_idle()
        elif self._interval() and now - self._last_beat >= self._interval():
            self._last_beat = now
            self.beat()

    def idle_seconds(self) -> float:
        """Return after how long without news to end; 0 for never."""
        return 0.0

    def beat(self) -> None:
        """Send a heartbeat."""
        self.send(Message.of(MessageType.HEARTBEAT, {"timestamp": iso_time()}))

    def expire(self) -> None:
        """Say that the token has expired, and end."""
        self.send(error_message(ErrorCode.TOKEN_EXPIRED, "the token has expired"))
        self.leave(CloseCode.UNAUTHORIZED)

    def end_idle(self) -> None:
        """Say that nothing happened for too long, and end."""
        self.send(error_message(ErrorCode.IDLE, "nothing happened for a long time"))
        self.leave(CloseCode.FINISHED)

    @abc.abstractmethod
    def send(self, message: Message) -> None:
        """Write one message. Neither waits nor raises; a slow or lost peer is closed."""

    @abc.abstractmethod
    def leave(self, code: CloseCode) -> None:
        """Close from our side."""

    def detach(self) -> None:
        """Leave the hub; harmless when repeated."""
        self.closed = True
        for topic in self.feed.topics:
            self.hub.unsubscribe(topic, self)
        self.hub.disconnect(self)

    async def _fill_gap(self) -> None:
        try:
            opening = await self.feed.read(self._cursor)
        except Exception:
            # Nothing can be promised any more: the client comes back with its cursor.
            self.leave(CloseCode.OVERLOADED)
            raise
        self._catch_up(opening)

    def _catch_up(self, opening: Opening) -> None:
        if opening.resync is not None:
            self.send(Message.of(MessageType.RESYNC, {"reason": opening.resync}))
        sent = {message.id for message in opening.messages}
        self._cursor = opening.cursor
        for message in opening.messages:
            self._forward(message)
        held, self._held = self._held or [], None
        for message in held:
            if message.id not in sent and not self._covered(message):
                self._forward(message)
        if opening.ended:
            self.leave(CloseCode.FINISHED)

    def _covered(self, message: Message) -> bool:
        here, cursor = self._cursor, message.cursor
        if not self.feed.ordered or here is None or cursor is None:
            return False
        return cursor.epoch == here.epoch and cursor.offset <= here.offset

    def _forward(self, message: Message) -> None:
        if self.closed:
            return
        self._last_news = time.monotonic()
        self._advance(message.cursor)
        self.send(message)
        if message.type == MessageType.FINISHED:
            self.leave(CloseCode.FINISHED)

    def _advance(self, cursor: Cursor | None) -> None:
        here = self._cursor
        if cursor and (here is None or cursor.epoch != here.epoch or cursor.offset > here.offset):
            self._cursor = cursor
