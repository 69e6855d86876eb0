"""Connections of many topics: each a subscription with a name, on one socket or event stream.

A message names its topic. On a socket each topic has its own cursor. An event stream has one id
that holds the cursors of all its topics, since a reader remembers only the last one.

It is long because sockets and streams of many topics share the same rules.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import attrs
import orjson

from tornado_rt.auth import Identity
from tornado_rt.bounds import OutOfBounds, check_name
from tornado_rt.connection import Connection
from tornado_rt.feed import Action, Feed, Opening
from tornado_rt.hub import Hub
from tornado_rt.json_body import structure
from tornado_rt.places import format_places, parse_places
from tornado_rt.problems import STORE_ERRORS, Problem
from tornado_rt.protocol import (
    ClientMessageType,
    CloseCode,
    Cursor,
    Message,
    MessageType,
    about,
)
from tornado_rt.sockets import SocketConnection, SocketHandler
from tornado_rt.streams import EventStreamHandler, StreamConnection
from tornado_rt.subscription import Subscription
from tornado_rt.work.texts import phrase

NAME_LENGTH = 255


class Feeds(Protocol):
    """Finds what a topic is for a user."""

    async def find(self, identity: Identity, name: str) -> Feed:
        """Return what the topic brings. Raise Problem, or what `settings["problems"]` maps."""
        ...


def _is_cursor(_: Any, __: Any, value: str | None) -> None:
    try:
        if value:
            Cursor.parse(value)
    except ValueError as error:
        raise OutOfBounds(str(error)) from None


def _is_name(_: Any, __: Any, value: str) -> None:
    check_name("topic", value, NAME_LENGTH)


@attrs.frozen
class SubscribeRequest:
    """The `data` of `subscribe`; `last_id` is the cursor that a client comes back with."""

    topic: str = attrs.field(validator=_is_name)
    last_id: str | None = attrs.field(default=None, validator=_is_cursor)

    @property
    def after(self) -> Cursor | None:
        """The cursor, read."""
        return Cursor.parse(self.last_id) if self.last_id else None


@attrs.frozen
class UnsubscribeRequest:
    """The `data` of `unsubscribe`."""

    topic: str = attrs.field(validator=_is_name)


class TopicsConnection(Connection):
    """A connection whose subscriptions have names, and come and go."""

    __slots__ = ()

    def finished(self, subscription: Subscription) -> None:
        """Follow the topic no more: the client knows by what came last."""
        self.drop(subscription)

    def failed(self, subscription: Subscription, error: Exception) -> None:
        """Follow the topic no more, and say why."""
        assert subscription.name is not None
        self.drop(subscription)
        self.refuse(subscription.name, error)

    def refuse(self, name: str, error: Exception) -> None:
        """Say why a topic is not followed."""
        self.send(about(self.named(self.error_of(self.problem_of(error, name))), name))

    def may_skip(self, message: Message) -> bool:
        subscription = self.named_subscription(message.topic)
        # An answer is waited for.
        return message.ref is None and subscription is not None and not subscription.feed.contiguous

    def named_subscription(self, name: Any) -> Subscription | None:
        """Return the subscription of this name, if there is one."""
        return next((one for one in self.subscriptions if one.name == name), None)

    def add(self, name: str, feed: Feed) -> Subscription:
        """Return one more subscription, which is still to be opened."""
        subscription = Subscription(self.hub, feed, self, name)
        self.subscriptions = (*self.subscriptions, subscription)
        return subscription

    def drop(self, subscription: Subscription) -> None:
        """End a subscription; harmless when repeated."""
        subscription.end()
        self.subscriptions = tuple(one for one in self.subscriptions if one is not subscription)


class TopicsSocketConnection(TopicsConnection, SocketConnection):
    """A WebSocket of many topics: the client subscribes and unsubscribes."""

    __slots__ = ("_feeds", "_most_topics")

    def __init__(self, hub: Hub, identity: Identity, address: str, socket: "TopicsSocket") -> None:
        super().__init__(hub, identity, address, socket)
        self._feeds = socket.feeds
        self._most_topics: int = socket.settings["max_topics_per_connection"]

    def forward(self, subscription: Subscription, message: Message) -> None:
        assert subscription.name is not None
        super().forward(subscription, about(message, subscription.name))

    def action_of(self, type_: str, frame: dict[str, Any]) -> Action | None:
        """Return what does what is asked for, of the topic that it names if it names one."""
        match type_:
            case ClientMessageType.AUTH:
                return self.renew
            case ClientMessageType.SUBSCRIBE:
                return lambda data: self._subscribe(data, frame.get("ref"))
            case ClientMessageType.UNSUBSCRIBE:
                return lambda data: self._unsubscribe(data, frame.get("ref"))
        topic = frame.get("topic")
        asked = [one for one in self.subscriptions if topic is None or one.name == topic]
        found = [action for one in asked if (action := one.feed.actions().get(type_)) is not None]
        if len(found) > 1:
            # Each of several tasks can be cancelled: which one is meant?
            return _ask_for_topic
        return found[0] if found else None

    async def _subscribe(self, data: Any, ref: Any) -> None:
        name = data.get("topic") if isinstance(data, dict) else None
        try:
            request = structure(data, SubscribeRequest)
            name = request.topic
            if (known := self.named_subscription(name)) is not None:
                # A client that lost track begins anew.
                self.drop(known)
            if 0 < self._most_topics <= len(self.subscriptions):
                raise Problem(
                    409,
                    phrase("at most {most} topics a connection", most=self._most_topics),
                )
            feed = await self._feeds.find(self.identity, name)
            subscription = self.add(name, feed)
            try:
                opening = await subscription.open(request.after)
            except BaseException:
                self.drop(subscription)
                raise
        except Exception as error:
            told = self.error_of(self.problem_of(error, str(name)))
            self.send(_answer(told, name if isinstance(name, str) else None, ref))
            return
        if not self.closed:
            self.send(_answer(subscribed(opening, request.after), name, ref))
            subscription.begin(opening)

    async def _unsubscribe(self, data: Any, ref: Any) -> None:
        request = structure(data, UnsubscribeRequest)
        if (known := self.named_subscription(request.topic)) is not None:
            self.drop(known)
        self.send(_answer(Message.of(MessageType.UNSUBSCRIBED, {}), request.topic, ref))

    async def renewed(self) -> None:
        """Follow no more what the new token does not allow."""
        for subscription in self.subscriptions:
            assert subscription.name is not None
            try:
                await self._feeds.find(self.identity, subscription.name)
            except Exception as error:
                # While a store is away nobody can say that it is allowed: the client asks again.
                self.failed(subscription, error)


class TopicsStreamConnection(TopicsConnection, StreamConnection):
    """An event stream of many topics, which the address names."""

    __slots__ = ("_places",)

    def __init__(
        self, hub: Hub, identity: Identity, address: str, settings: dict[str, Any]
    ) -> None:
        super().__init__(hub, identity, address, settings)
        # Up to where each topic was sent.
        self._places: dict[str, Cursor] = {}

    def forward(self, subscription: Subscription, message: Message) -> None:
        name = subscription.name
        assert name is not None
        for part in about(message, name).parts:
            place = None
            if part.cursor is not None:
                self._places[name] = part.cursor
                place = format_places(self._places)
            super().forward(subscription, attrs.evolve(part, place=place))

    def idle_seconds(self) -> float:
        """Return the longest of its topics; 0 when one of them never ends for want of news."""
        each = [one.feed.idle_seconds() for one in self.subscriptions]
        return max(each, default=0.0) if all(each) else 0.0

    def finished(self, subscription: Subscription) -> None:
        super().finished(subscription)
        self.end_if_empty()

    def failed(self, subscription: Subscription, error: Exception) -> None:
        super().failed(subscription, error)
        self.end_if_empty()

    def end_if_empty(self) -> None:
        """End the stream when nothing can come any more."""
        if not self.subscriptions and not self.closed:
            self.leave(CloseCode.FINISHED)

    def begin_all(
        self,
        openings: Mapping[str, Opening],
        after: Mapping[str, Cursor],
        refused: Mapping[str, Exception],
    ) -> None:
        """Send `connected`, then of each topic why it is not followed, or all that it holds."""
        # A topic that comes anew has no place before its snapshot: a client that is cut off between
        # the two gets another snapshot.
        self._places = {name: after[name] for name in openings if name in after}
        self.greet({"topics": [*openings]}, format_places(self._places))
        for name, error in refused.items():
            self.refuse(name, error)
        for name, opening in openings.items():
            subscription = self.named_subscription(name)
            if subscription is not None:
                self._places.setdefault(name, opening.begin)
                message = about(subscribed(opening, after.get(name)), name)
                self.send(attrs.evolve(message, place=format_places(self._places)))
                subscription.begin(opening)
        self.end_if_empty()
        self.wait_for_due()


class TopicsSocket(SocketHandler):
    """`/api/ws`: a WebSocket on which a client subscribes to topics."""

    def initialize(self, feeds: Feeds) -> None:
        self.feeds = feeds

    async def enter(self) -> tuple[SocketConnection, Callable[[], None]]:
        connection = TopicsSocketConnection(self.hub, self.identity, self.address, self)
        connection.read_by = self.read_by
        await connection.enter()
        return connection, connection.begin_empty


class TopicsStreamHandler(EventStreamHandler):
    """`/api/stream?topics=…`: an event stream of topics."""

    def initialize(self, feeds: Feeds) -> None:
        self.feeds = feeds

    async def get(self) -> None:
        _ = self.identity
        if await self.only_describes():
            return
        names = self._names()
        after = self._places(names)
        connection = TopicsStreamConnection(self.hub, self.identity, self.address, self.settings)
        connection.read_by = self.read_by
        await connection.enter()
        try:
            openings, refused = await self._open_all(connection, names, after)
            # While a store is away nobody is told that a topic is followed, or that it is not.
            away = (one for one in refused.values() if isinstance(one, STORE_ERRORS))
            for error in (*away, *([] if openings else refused.values())):
                raise error
            seen = [one.is_over(after.get(name)) for name, one in openings.items()]
            is_open = await self.starts(connection, is_over=not refused and all(seen))
        except BaseException:
            connection.detach()
            raise
        if is_open:
            connection.begin_all(openings, after, refused)

    def _names(self) -> list[str]:
        given = [one for text in self.get_query_arguments("topics") for one in text.split(",")]
        names = list(dict.fromkeys(filter(None, given)))
        most: int = self.settings["max_topics_per_connection"]
        if not names:
            raise Problem(400, phrase("topics must name at least one topic"))
        if 0 < most < len(names):
            raise Problem(400, phrase("at most {most} topics a connection", most=most))
        return names

    def _places(self, names: Sequence[str]) -> dict[str, Cursor]:
        try:
            text = self.last_id_text()
            return parse_places(text, names) if text else {}
        except ValueError as error:
            raise Problem(400, str(error)) from None

    async def _open_all(
        self,
        connection: TopicsStreamConnection,
        names: Sequence[str],
        after: Mapping[str, Cursor],
    ) -> tuple[dict[str, Opening], dict[str, Exception]]:
        """Open all topics at once; return what they hold, and why some cannot be followed."""

        async def open_one(name: str) -> Opening:
            feed = await self.feeds.find(self.identity, name)
            subscription = connection.add(name, feed)
            try:
                return await subscription.open(after.get(name))
            except BaseException:
                connection.drop(subscription)
                raise

        found = await asyncio.gather(*map(open_one, names), return_exceptions=True)
        openings: dict[str, Opening] = {}
        refused: dict[str, Exception] = {}
        for name, one in zip(names, found, strict=True):
            if isinstance(one, Opening):
                openings[name] = one
            elif isinstance(one, Exception):
                refused[name] = one
            else:
                raise one
        return openings, refused


def subscribed(opening: Opening, after: Cursor | None) -> Message:
    """Return the first message of a topic."""
    state = opening.state_after(after)
    return Message.of(MessageType.SUBSCRIBED, state, opening.begin_of(after))


def _answer(message: Message, topic: str | None, ref: Any) -> Message:
    """Return an answer with the topic, and what the client called its request, if it did.

    The latter stands in `data` too, as in all other answers.
    """
    if ref is None:
        return attrs.evolve(message, topic=topic)
    data = orjson.dumps({"ref": ref, **message.fields()})
    return attrs.evolve(message, topic=topic, ref=orjson.dumps(ref), data=data)


async def _ask_for_topic(_: Any) -> None:
    raise Problem(422, phrase("several topics know this: say which by `topic`"))
