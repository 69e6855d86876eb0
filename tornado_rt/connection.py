"""The common part of sockets and event streams: counting in, writing, pacing, ending.

A connection is a transport that has subscriptions, and sends what they forward.
"""

import abc
import random
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import orjson

from tornado_rt.auth import Identity
from tornado_rt.backlog import Backlog
from tornado_rt.census import Transport
from tornado_rt.devices import LOST
from tornado_rt.feed import Feed, Opening
from tornado_rt.hub import Hub
from tornado_rt.problems import Problem, log_problem, problem_of
from tornado_rt.protocol import (
    CLOSE_CODES,
    RECONNECT,
    CloseCode,
    Cursor,
    ErrorCode,
    Message,
    MessageType,
    iso_time,
)
from tornado_rt.reader import reader_of
from tornado_rt.refusals import close_code_of, error_message, error_of
from tornado_rt.subscription import Subscription
from tornado_rt.wire import Wire
from tornado_rt.work.texts import phrase

# The same in every `connected`.
CLOSING = {
    "close_codes": orjson.Fragment(orjson.dumps(CLOSE_CODES)),
    "reconnect": orjson.Fragment(orjson.dumps(RECONNECT)),
}
# Interval at which a connection that is still reading its log is looked at.
OPENING_SECONDS = 0.2


class Connection(Wire):
    """One open socket or stream of a user.

    There may be tens of thousands, most of them idle: it holds no more than it needs.

    It is wide because the hub, the heartbeats, the wire and its endpoint each call a part of it.
    """

    __slots__ = (
        "_beat_at",
        "_last_news",
        "_settings",
        "address",
        "bucket",
        "close_code",
        "closed",
        "hub",
        "identity",
        "number",
        "opened_at",
        "read_by",
        "since",
        "subscriptions",
    )
    transport: ClassVar[Transport]
    # Whether it shows news to its user.
    is_device: ClassVar[bool] = True

    def __init__(
        self, hub: Hub, identity: Identity, address: str, settings: dict[str, Any]
    ) -> None:
        super().__init__(hub.tally)
        self.hub = hub
        self._settings = settings
        self.identity = identity
        self.address = address
        # Whose language its texts are in.
        self.read_by = reader_of(settings)
        self.subscriptions: tuple[Subscription, ...] = ()
        self.closed = False
        # Why it was closed, 0 while it is open; the rest is of what is kept of devices.
        self.close_code = 0
        self.number, self.opened_at = 0, 0.0
        self.since = 0.0
        self.bucket = 0
        self._last_news = time.monotonic()
        # Spread over the interval, however many connect at once.
        self._beat_at = self._last_news + random.random() * self.interval()

    @abc.abstractmethod
    def interval(self) -> float:
        """Return the seconds between heartbeats; 0 for none."""

    @abc.abstractmethod
    def farewell(self, code: CloseCode) -> bytes:
        """Return the last bytes that a peer gets."""

    def topics(self) -> Sequence[str]:
        """Return the topics that it follows."""
        return [topic for one in self.subscriptions for topic in one.feed.topics]

    async def enter(self) -> None:
        """Count in. Raise TooManyConnections, or RedisError."""
        self.hub.connect(self)
        try:
            await self.hub.admit(self)
        except BaseException:
            self.detach()
            raise

    async def open(self, feed: Feed, after: Cursor | None) -> Opening:
        """Count in, and subscribe to the one feed that the address names.

        Raise TooManyConnections or what the feed raises.
        """
        await self.enter()
        subscription = Subscription(self.hub, feed, self)
        self.subscriptions = (subscription,)
        try:
            return await subscription.open(after)
        except BaseException:
            self.detach()
            raise

    def begin(self, opening: Opening, after: Cursor | None) -> None:
        """Send `connected` and all that the opening of the one feed holds."""
        self.greet(opening.state_after(after), opening.begin_of(after))
        for subscription in self.subscriptions:
            subscription.begin(opening)
        self.wait_for_due()

    def begin_empty(self) -> None:
        """Send `connected`; what is followed comes later, if at all."""
        self.greet({})
        self.wait_for_due()

    def wait_for_due(self) -> None:
        """Be woken from now on, when something of its own is due."""
        if not self.closed:
            self.hub.reschedule_one(self)

    def greet(self, state: dict[str, Any], id_: str | None = None) -> None:
        """Send `connected`."""
        data = {
            "user_id": self.identity.user_id,
            "timestamp": iso_time(),
            "heartbeat_interval": self.interval(),
            **CLOSING,
            **state,
        }
        self.send_first(self.read_by.message(Message.of(MessageType.CONNECTED, data, id_)))
        if self.is_device and not self.closed:
            self.hub.opened(self)

    def send_first(self, connected: Message) -> None:
        """Send `connected`, with what the transport adds to it."""
        self.send(connected)

    def forward(self, subscription: Subscription, message: Message) -> None:
        """Send a message of a subscription."""
        self._last_news = time.monotonic()
        self.send(message)

    def finished(self, subscription: Subscription) -> None:
        """Close: the one feed has ended."""
        self.leave(CloseCode.FINISHED)

    def failed(self, subscription: Subscription, error: Exception) -> None:
        """Close: the one feed cannot be read."""
        problem = self.problem_of(error)
        self.leave(close_code_of(problem), self.error_of(problem))

    def next_due(self) -> float:
        """Return the monotonic time of the next heartbeat, expiry or idle end."""
        now = time.monotonic()
        if self._is_busy():
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
        if self._is_busy():
            return
        idle = self.idle_seconds()
        if time.time() >= self.identity.expires_at:
            self._expire()
        elif idle and now - self._last_news >= idle:
            self._end_idle()
        elif self.interval() and now >= self._beat_at:
            self._beat_at = now + self.interval()
            self.beat(heartbeat)

    def _is_busy(self) -> bool:
        """Say whether `connected` is still to come, or all that is followed is being read."""
        followed = self.subscriptions
        return self._socket is None or (bool(followed) and all(one.is_holding for one in followed))

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
        message = self.read_by.message(message)
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
        self.close_code = code.value
        self.detach()
        if self._backlog is not None and code not in (CloseCode.FINISHED, CloseCode.GOING_AWAY):
            self.tally.dropped += self._backlog.drop()
        last_words = b"" if why is None else self.encode(self.named(why))
        self.part(last_words + self.farewell(code))

    def detach(self) -> None:
        """Leave the hub; harmless when repeated."""
        self.closed = True
        for subscription in self.subscriptions:
            subscription.end()
        self.hub.disconnect(self)
        self.hub.closed(self)

    def lost(self) -> None:
        """Leave the hub: the peer is gone."""
        self.close_code = self.close_code or LOST
        self.detach()

    def _wait(self, backlog: Backlog, message: Message) -> None:
        backlog.add(message, len(self.encode(message)))
        bound = self.hub.limits.pending_bytes
        if not bound or backlog.size <= bound:
            return
        self.tally.conflated += backlog.conflate(self.encode, self.may_skip)
        if backlog.size > bound and any(one.feed.contiguous for one in self.subscriptions):
            self.tally.closed_slow += 1
            self.leave(CloseCode.TOO_SLOW)

    def may_skip(self, message: Message) -> bool:
        """Say whether a slow reader may go without this message once there is a newer one."""
        return not self.subscriptions[0].feed.contiguous

    def _expire(self) -> None:
        why = self.error(ErrorCode.TOKEN_EXPIRED, phrase("the token has expired"))
        self.leave(CloseCode.UNAUTHORIZED, why)

    def _end_idle(self) -> None:
        why = self.error(ErrorCode.IDLE, phrase("nothing happened for a long time"))
        self.leave(CloseCode.FINISHED, why)

    def error(self, code: ErrorCode, text: str) -> Message:
        """Return an `error` in the reader's language."""
        return error_message(code, self.read_by.words.say(text))

    def error_of(self, problem: Problem) -> Message:
        """Return the `error` of a problem in the reader's language."""
        return error_of(problem, self.read_by.words)

    def problem_of(self, error: BaseException, topic: str = "") -> Problem:
        """Translate an error, and log it when it is our fault."""
        problem = problem_of(error, self._settings.get("problems", {}))
        followed = [one.feed.topics[0] for one in self.subscriptions if one.feed.topics]
        log_problem(problem, error, topic=topic or " ".join(followed[:1]))
        return problem
