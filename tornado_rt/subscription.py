"""One client's subscription to one feed: each message once, in order, whatever is lost on the way.

It subscribes first and holds what comes, then reads the log, forwards it, and then forwards what
was held. The same steps fill a gap later. A message that comes twice, read and published, is
forwarded once.

The states and the ways between them: `TRANSITIONS`, and docs/images/states-of-a-subscription.svg.
"""

import asyncio
import random
from collections.abc import Coroutine, Sequence
from enum import StrEnum
from typing import Any, Protocol

from tornado_rt.feed import Feed, Opening
from tornado_rt.problems import STORE_ERRORS
from tornado_rt.protocol import Cursor, Message, MessageType

# Shortest and longest wait before a gap that could not be read is read again [s].
GAP_RETRY_SECONDS = (0.3, 0.9)


class SubscriptionState(StrEnum):
    """The state decides how a subscription treats a published message."""

    # Holds it: the log is being read for the first time.
    OPENING = "opening"
    # Forwards it.
    LIVE = "live"
    # Holds it: the log is being read again.
    FILLING = "filling"
    # Forwards it if nothing before it is needed: the log could not be read, and is tried again.
    BEHIND = "behind"
    # Ignores it.
    ENDED = "ended"


HOLDING = (SubscriptionState.OPENING, SubscriptionState.FILLING)
# From, to, and by what.
TRANSITIONS = (
    (SubscriptionState.OPENING, SubscriptionState.LIVE, "begin"),
    (SubscriptionState.LIVE, SubscriptionState.FILLING, "gap"),
    (SubscriptionState.FILLING, SubscriptionState.LIVE, "log read"),
    (SubscriptionState.FILLING, SubscriptionState.BEHIND, "store away"),
    (SubscriptionState.BEHIND, SubscriptionState.FILLING, "after a while"),
    (SubscriptionState.OPENING, SubscriptionState.ENDED, "end"),
    (SubscriptionState.LIVE, SubscriptionState.ENDED, "end"),
    (SubscriptionState.FILLING, SubscriptionState.ENDED, "end"),
    (SubscriptionState.BEHIND, SubscriptionState.ENDED, "end"),
)


class Topics(Protocol):
    """Brings what is published on topics; the hub."""

    async def subscribe(self, topic: str, subscriber: "Subscription") -> None:
        """Follow a topic; from the return on nothing published is missed. Raise BackplaneDown."""
        ...

    def unsubscribe(self, topic: str, subscriber: "Subscription") -> None:
        """Stop following a topic; harmless when it was not followed."""
        ...

    def spawn(self, job: Coroutine[Any, Any, None], name: str) -> None:
        """Run a background job until it ends or the hub closes."""
        ...


class Carrier(Protocol):
    """Brings what a subscription forwards to the client. No method waits or raises."""

    def forward(self, subscription: "Subscription", message: Message) -> None:
        """Send a message. It may end the subscription."""
        ...

    def finished(self, subscription: "Subscription") -> None:
        """Learn that nothing will come any more."""
        ...

    def failed(self, subscription: "Subscription", error: Exception) -> None:
        """Learn that the log cannot be read, for a reason that stays."""
        ...


class Subscription:
    """Follows a feed for a carrier. `name` is what the client calls it; None when it has only one.

    There may be tens of thousands, most of them idle: it holds no more than it needs.
    """

    __slots__ = ("_carrier", "_cursor", "_held", "_missed", "_topics", "feed", "name", "state")

    def __init__(
        self, topics: Topics, feed: Feed, carrier: Carrier, name: str | None = None
    ) -> None:
        self.feed = feed
        self.name = name
        self.state = SubscriptionState.OPENING
        self._topics = topics
        self._carrier = carrier
        # None while nothing is held.
        self._held: list[Message] | None = None
        # Highest cursor forwarded or superseded. It stays while a gap is open.
        self._cursor: Cursor | None = None
        # Whether there was a gap since the log was last asked.
        self._missed = False

    @property
    def is_holding(self) -> bool:
        """Whether what comes waits until the log has been read."""
        return self.state in HOLDING

    async def open(self, after: Cursor | None) -> Opening:
        """Subscribe and read the log. Raise BackplaneDown or what the feed raises."""
        try:
            for topic in self.feed.topics:
                await self._topics.subscribe(topic, self)
            if self._has_ended():
                # The client left meanwhile; a topic may have been followed after that.
                self.end()
            self._missed = False
            return await self.feed.read(after)
        except BaseException:
            self.end()
            raise

    def begin(self, opening: Opening) -> None:
        """Forward all that the opening holds, and from then on what comes."""
        self._catch_up(opening)

    def end(self) -> None:
        """Stop following; harmless when repeated."""
        self.state = SubscriptionState.ENDED
        for topic in self.feed.topics:
            self._topics.unsubscribe(topic, self)

    def deliver(self, message: Message) -> None:
        """Take a message of a topic."""
        if self.is_holding:
            self._held = self._held or []
            self._held.extend(message.parts)
            return
        if self.state is SubscriptionState.ENDED:
            return
        shown = self.feed.show(message)
        if shown is None:
            # The log has it.
            self.gap()
        elif shown.id is None:
            self._carrier.forward(self, shown)
        else:
            self._forward_new(shown)

    def gap(self) -> None:
        """Read the log again from the last message forwarded."""
        self._missed = True
        if self.state is SubscriptionState.LIVE:
            self.state = SubscriptionState.FILLING
            self._topics.spawn(self._fill(), "fill-gap")

    def is_behind(self, head: Cursor | None) -> bool:
        """Say whether the log has more than what came; None: the log is gone."""
        if self.state is not SubscriptionState.LIVE or self._cursor is None:
            return False
        return head is None or self._is_ahead(head)

    async def _fill(self) -> None:
        while self.state is not SubscriptionState.ENDED:
            self.state, self._missed = SubscriptionState.FILLING, False
            try:
                opening = await self.feed.read(self._cursor)
            except STORE_ERRORS:
                if self.state is SubscriptionState.FILLING:
                    # Deliver again what has come: a feed without gaps keeps it until its log is
                    # read.
                    self.state = SubscriptionState.BEHIND
                    self._release()
                    await asyncio.sleep(random.uniform(*GAP_RETRY_SECONDS))
            except Exception as error:
                if self.state is SubscriptionState.FILLING:
                    self._carrier.failed(self, error)
                return
            else:
                self._catch_up(opening, had_gap=True)
                return

    def _catch_up(self, opening: Opening, *, had_gap: bool = False) -> None:
        if self.state is SubscriptionState.ENDED:
            return
        if opening.resync is not None:
            reason = {"reason": opening.resync}
            resync = Message.of(MessageType.RESYNC, reason, str(opening.begin))
            self._carrier.forward(self, resync)
        for message in opening.messages:
            # Messages after a resync replace all earlier ones.
            if opening.resync is not None or self._is_new(message.cursor):
                self._forward(message)
        if self._has_ended():
            return
        self._cursor, self.state = opening.cursor, SubscriptionState.LIVE
        self._release()
        if self._has_ended():
            return
        if opening.ended:
            self._carrier.finished(self)
            return
        if self._missed:
            self.gap()
        for message in opening.current if had_gap else ():
            self._carrier.forward(self, message)

    def _has_ended(self) -> bool:
        # A carrier may end it at any message.
        return self.state is SubscriptionState.ENDED

    def _release(self) -> None:
        """Deliver what was held; after one that makes a gap the others are held again."""
        held, self._held = self._held, None
        for message in held or ():
            self.deliver(message)

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

    def _forward(self, message: Message) -> None:
        if self.state is SubscriptionState.ENDED:
            return
        # It replaces the messages before it that are still missing, or they have come already.
        if message.cursor is not None and self._is_ahead(message.cursor):
            self._cursor = message.cursor
        self._carrier.forward(self, message)
        if message.type == MessageType.FINISHED and not self._has_ended():
            self._carrier.finished(self)

    def _is_new(self, cursor: Cursor | None) -> bool:
        """Say whether this has not come yet."""
        return cursor is None or self._is_ahead(cursor)

    def _is_ahead(self, cursor: Cursor) -> bool:
        here = self._cursor
        return here is None or cursor.epoch != here.epoch or cursor.offset > here.offset

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
