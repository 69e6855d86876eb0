"""What sockets and event streams have in common: opening, catching up, writing, pacing, ending.

A connection subscribes first and holds what comes, then reads the log, sends it, and then sends
what was held. The same steps fill a gap later. What comes twice, read and published, is sent once.
"""

import abc
import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ClassVar, Protocol

import attrs
import orjson

from tornado_rt.auth import Identity
from tornado_rt.backlog import Backlog
from tornado_rt.hub import Hub, Transport
from tornado_rt.problems import STORE_ERRORS, Problem, log_problem, problem_of
from tornado_rt.protocol import (
    CLOSE_CODES,
    RECONNECT,
    CloseCode,
    Cursor,
    ErrorCode,
    Message,
    MessageType,
    ResyncReason,
    iso_time,
)
from tornado_rt.refusals import close_code_of, error_message, error_of
from tornado_rt.wire import Wire

# How long to wait before a gap is read again that could not be read [s].
GAP_RETRY_SECONDS = (0.3, 0.9)
# The same in every `connected`.
CLOSING = {
    "close_codes": orjson.Fragment(orjson.dumps(CLOSE_CODES)),
    "reconnect": orjson.Fragment(orjson.dumps(RECONNECT)),
}


@attrs.frozen
class Opening:
    """What a feed has for a subscriber that comes now.

    `state` is what `connected` says of it. `messages` are those after the asked cursor, or the
    snapshot when none was asked for or the gap cannot be filled (`resync`). `begin` is where a
    client resumes that has seen none of the messages that are sent then: no message that is still
    to come has that id. `cursor` is the place in the log that the messages reach. `ended`: nothing
    will come after that. `current` is sent to one that had a gap: messages without an id, of which
    only the newest counts.
    """

    state: dict[str, Any]
    messages: tuple[Message, ...]
    begin: Cursor
    cursor: Cursor
    resync: ResyncReason | None = None
    ended: bool = False
    current: tuple[Message, ...] = ()


# How often to look whether a connection that is still reading its log is done.
OPENING_SECONDS = 0.2


# Does what a client asks for; returns what it is answered alone, if anything.
Action = Callable[[Any], Awaitable[Message | None]]


class Feed(Protocol):
    """Something to follow.

    Its topics carry ids in their order. `contiguous`: none of them is left out, so that a gap shows
    by the next message; else each message of type `progress` replaces the one before, so that a
    slow reader needs only the newest. What `read` returns is shown.
    """

    topics: tuple[str, ...]
    contiguous: bool

    def show(self, message: Message) -> Message | None:
        """Return a published message as subscribers see it; None: only `read` can tell.

        Called for each subscriber: one message gives the same object each time. Never raises.
        """
        ...

    async def read(self, after: Cursor | None) -> Opening:
        """Return what a subscriber needs that has seen everything up to `after`."""
        ...

    def idle_seconds(self) -> float:
        """Return after how long without news an event stream ends; 0 for never."""
        ...

    def actions(self) -> dict[str, Action]:
        """Return what a client may ask for over a socket, by message type."""
        ...


class Connection(Wire):
    """One open socket or stream of a user, following one feed.

    There may be tens of thousands, most of them idle: it holds no more than it needs.
    """

    __slots__ = (
        "_beat_at",
        "_behind",
        "_cursor",
        "_held",
        "_last_news",
        "_missed",
        "_settings",
        "address",
        "bucket",
        "closed",
        "feed",
        "hub",
        "identity",
    )
    transport: ClassVar[Transport]

    def __init__(
        self, hub: Hub, identity: Identity, address: str, feed: Feed, settings: dict[str, Any]
    ) -> None:
        super().__init__(hub.tally)
        self.hub = hub
        self._settings = settings
        self.identity = identity
        self.address = address
        self.feed = feed
        self.closed = False
        self.bucket = 0
        self._held: list[Message] | None = []
        # Highest cursor delivered or superseded. It stays while a gap is open.
        self._cursor: Cursor | None = None
        self._behind = False
        # Whether there was a gap since the log was last asked.
        self._missed = False
        self._last_news = time.monotonic()
        # Spread over the interval, however many connect at once.
        self._beat_at = self._last_news + random.random() * self.interval()

    @abc.abstractmethod
    def interval(self) -> float:
        """Return the seconds between heartbeats; 0 for none."""

    @abc.abstractmethod
    def farewell(self, code: CloseCode) -> bytes:
        """Return the last bytes that a peer gets."""

    async def open(self, after: Cursor | None) -> Opening:
        """Count in, subscribe, read. Raise TooManyConnections or what the feed raises."""
        self.hub.connect(self)
        try:
            await self.hub.admit(self)
            for topic in self.feed.topics:
                await self.hub.subscribe(topic, self)
            self._missed = False
            return await self.feed.read(after)
        except BaseException:
            self.detach()
            raise

    def begin(self, opening: Opening, after: Cursor | None) -> None:
        """Send `connected` and all that the opening holds.

        Its id is the cursor that was asked for, so that a client that is cut off after it asks
        again and gets the resync again; the resync has the id that comes after.
        """
        data = {
            "user_id": self.identity.user_id,
            "timestamp": iso_time(),
            "heartbeat_interval": self.interval(),
            "recovered": after is not None and opening.resync is None,
            **CLOSING,
            **opening.state,
        }
        self.greet(Message.of(MessageType.CONNECTED, data, str(after or opening.begin)))
        self._catch_up(opening)

    def greet(self, connected: Message) -> None:
        """Send `connected`."""
        self.send(connected)

    def deliver(self, message: Message) -> None:
        """Send a message of a followed topic, or hold it while the log is read."""
        if self._held is not None:
            self._held.extend(message.parts)
            return
        shown = self.feed.show(message)
        if shown is None:
            # The log has it.
            self.gap()
        elif shown.id is None:
            self._forward(shown)
        else:
            self._forward_new(shown)

    def gap(self) -> None:
        """Read the log again from the last message sent."""
        self._missed = True
        if self._held is None and not self._behind and not self.closed:
            self._held, self._behind = [], True
            self.hub.own(self._fill_gap(), "fill-gap")

    def is_behind(self, head: Cursor | None) -> bool:
        """Say whether the log has more than what came; None: the log is gone."""
        if self._held is not None or self._behind or self._cursor is None:
            return False
        return head is None or self._is_ahead(head)

    def next_due(self) -> float:
        """Return the monotonic time of the next heartbeat, expiry or idle end."""
        now = time.monotonic()
        if self._held is not None:
            return now + OPENING_SECONDS
        due = now + max(self.identity.expires_at - time.time(), 0)
        if self.interval():
            # A shorter interval takes effect at once.
            self._beat_at = min(self._beat_at, now + self.interval())
            due = min(due, self._beat_at)
        if self.idle_seconds():
            due = min(due, self._last_news + self.idle_seconds())
        return due

    def wake(self, now: float, heartbeat: Message) -> None:
        """End when the token has expired or nothing came for too long; else send a heartbeat.

        Nothing comes before `connected`, or into the middle of what fills a gap.
        """
        if self._held is not None:
            return
        idle = self.idle_seconds()
        if time.time() >= self.identity.expires_at:
            self._expire()
        elif idle and now - self._last_news >= idle:
            self._end_idle()
        elif self.interval() and now >= self._beat_at:
            self._beat_at = now + self.interval()
            self.beat(heartbeat)

    def idle_seconds(self) -> float:
        """Return after how long without news to end; 0 for never."""
        return 0.0

    def beat(self, heartbeat: Message) -> None:
        """Send a heartbeat, unless something waits to be written already."""
        if self._backlog is None:
            self.write(self.encode_beat(heartbeat))
        else:
            self.tally.dropped += 1

    def encode_beat(self, heartbeat: Message) -> bytes:
        """Return the bytes of a heartbeat, and of what else the transport needs then."""
        return self.encode(heartbeat)

    def send(self, message: Message) -> None:
        """Write one message. Neither waits nor raises; a slow or lost peer is closed.

        A client that has no answer yet gets it with what the opening reads, or not at all.
        """
        if self.closed or self._socket is None:
            return
        if self._backlog is None:
            self.write(self.encode(message))
            self.tally.delivered += message.count
        else:
            self._wait(self._backlog, message)

    def tell(self, message: Message) -> None:
        """Send a message of no topic, an `error` by the name that it has on this transport."""
        self.send(self.named(message) if message.type == MessageType.ERROR else message)

    def named(self, error: Message) -> Message:
        """Return an `error` by the name that it has on this transport."""
        return error

    def leave(self, code: CloseCode, why: Message | None = None) -> None:
        """Close from our side, last of all with an `error` that says why.

        What came before a regular end is written first.
        """
        if self.closed:
            return
        self.detach()
        if self._backlog is not None and code not in (CloseCode.FINISHED, CloseCode.GOING_AWAY):
            self.tally.dropped += self._backlog.drop()
        last_words = b"" if why is None else self.encode(self.named(why))
        self.part(last_words + self.farewell(code))

    def detach(self) -> None:
        """Leave the hub; harmless when repeated."""
        self.closed = True
        for topic in self.feed.topics:
            self.hub.unsubscribe(topic, self)
        self.hub.disconnect(self)

    def lost(self) -> None:
        """Leave the hub: the peer is gone."""
        self.detach()

    def _wait(self, backlog: Backlog, message: Message) -> None:
        backlog.add(message, len(self.encode(message)))
        bound = self.hub.limits.pending_bytes
        if not bound or backlog.size <= bound:
            return
        if self.feed.contiguous:
            self.tally.closed_slow += 1
            self.leave(CloseCode.TOO_SLOW)
        else:
            self.tally.conflated += backlog.conflate(self.encode)

    def _expire(self) -> None:
        why = error_message(ErrorCode.TOKEN_EXPIRED, "the token has expired")
        self.leave(CloseCode.UNAUTHORIZED, why)

    def _end_idle(self) -> None:
        why = error_message(ErrorCode.IDLE, "nothing happened for a long time")
        self.leave(CloseCode.FINISHED, why)

    def problem_of(self, error: BaseException) -> Problem:
        """Translate an error, and log it when it is our fault."""
        problem = problem_of(error, self._settings.get("problems", {}))
        log_problem(problem, error, topic=self.feed.topics[0])
        return problem

    async def _fill_gap(self) -> None:
        while not self.closed:
            self._held, self._missed = self._held or [], False
            try:
                opening = await self.feed.read(self._cursor)
            except STORE_ERRORS:
                # What has come is tried again: of a feed without gaps it waits for the log.
                self._release(self._held)
                await asyncio.sleep(random.uniform(*GAP_RETRY_SECONDS))
            except Exception as error:
                self._fail(self.problem_of(error))
            else:
                self._catch_up(opening)
                for message in opening.current:
                    self.send(message)
                return

    def _fail(self, problem: Problem) -> None:
        self.leave(close_code_of(problem), error_of(problem))

    def _release(self, held: list[Message]) -> None:
        """Deliver what was held; after one that makes a gap the others are held again."""
        self._held = None
        for message in held:
            self.deliver(message)

    def _catch_up(self, opening: Opening) -> None:
        if opening.resync is not None:
            reason = {"reason": opening.resync}
            self.send(Message.of(MessageType.RESYNC, reason, str(opening.begin)))
        for message in opening.messages:
            # What comes after a resync replaces all that came before.
            if opening.resync is not None or self._is_new(message.cursor):
                self._forward(message)
        self._cursor, self._behind = opening.cursor, False
        self._release(self._held or [])
        if opening.ended:
            self.leave(CloseCode.FINISHED)
        elif self._missed:
            self.gap()

    def _is_new(self, cursor: Cursor | None) -> bool:
        """Say whether this has not come yet."""
        return cursor is None or self._is_ahead(cursor)

    def _is_ahead(self, cursor: Cursor) -> bool:
        here = self._cursor
        return here is None or cursor.epoch != here.epoch or cursor.offset > here.offset

    def _forward_new(self, message: Message) -> None:
        parts = message.parts
        new = [part for part in parts if self._is_new(part.cursor)]
        if self.feed.contiguous and not self._follow_on(new):
            # The log has all of them.
            self.gap()
        elif len(new) == len(parts):
            # As it is: in one write.
            self._forward(message)
        else:
            for part in new:
                self._forward(part)

    def _follow_on(self, parts: Sequence[Message]) -> bool:
        """Say whether each is the next one after what came."""
        here = self._cursor
        for cursor in (part.cursor for part in parts):
            if cursor is None:
                continue
            if here is not None and cursor != Cursor(here.epoch, here.offset + 1):
                return False
            here = cursor
        return True

    def _forward(self, message: Message) -> None:
        if self.closed:
            return
        self._last_news = time.monotonic()
        # What is still missing before it is replaced by it, or was there.
        if message.cursor is not None and self._is_ahead(message.cursor):
            self._cursor = message.cursor
        self.send(message)
        if message.type == MessageType.FINISHED:
            self.leave(CloseCode.FINISHED)
