"""The hub: who is connected, who follows what, and delivery to them."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, Protocol

from tornado_rt.census import Census, Connected, HubStats, Members, add_member, discard_member
from tornado_rt.devices import Device
from tornado_rt.fanout import Fanout, Receiver
from tornado_rt.heartbeat import Heartbeats
from tornado_rt.jobs import Jobs
from tornado_rt.protocol import CloseCode, Cursor, ErrorCode, Message, MessageType, iso_time

DRAIN_STEP_SECONDS = 0.02
# Connections told of an outage between two turns of the loop.
TOLD_TOGETHER = 64

DEGRADED = Message.of(
    MessageType.ERROR,
    {"code": ErrorCode.DEGRADED, "message": "news may be late: a store does not answer"},
)


class Subscriber(Receiver, Protocol):
    """Something that follows a topic."""

    def gap(self) -> None:
        """Learn that messages of a followed topic may have been lost."""
        ...

    def is_behind(self, head: Cursor | None) -> bool:
        """Say whether the log of the topic has more than what came; None: the log is gone."""
        ...


class MessageSource(Protocol):
    """Brings what is published on a topic; the backplane."""

    async def subscribe(self, topic: str) -> None:
        """Return once nothing published is missed. Raise BackplaneDown."""
        ...

    def unsubscribe(self, topic: str) -> None:
        """Stop bringing what is published there."""
        ...


class Registry(Protocol):
    """Knows the connections of all processes."""

    async def admit(self, user_id: str, address: str) -> None:
        """Count a new connection. Raise TooManyConnections, or RedisError."""
        ...

    def changed(self, user_id: str, address: str) -> None:
        """Note that a connection of the user, from there, is gone."""
        ...


class MessageHistory(Protocol):
    """Keeps what became of connections."""

    def opened(self, device: Device) -> None:
        """Note that a connection was opened."""
        ...

    def closed(self, device: Device) -> None:
        """Note that a connection was closed; harmless when repeated, and of one not opened."""
        ...


class Hub:
    """Keeps the subscribers of each topic, and delivers; connections are in its census.

    The first subscriber of a topic subscribes it at the source, and the last one that leaves
    unsubscribes it. Without a `registry` limits hold for this process alone, without a `history`
    nothing is known of connections that were closed.
    """

    def __init__(
        self,
        census: Census,
        heartbeats: Heartbeats,
        source: MessageSource,
        registry: Registry | None = None,
        history: MessageHistory | None = None,
    ) -> None:
        self.limits = census.limits
        self.metrics = census.metrics
        self.tally = census.metrics.tally
        self.draining = False
        self.census = census
        self._heartbeats = heartbeats
        self._source = source
        self._registry = registry
        self._history = history
        self._topics: dict[str, Members[Subscriber]] = {}
        self._fanout = Fanout(lambda topic: self._topics.get(topic, ()))
        self._jobs = Jobs()

    def connect(self, connection: Connected) -> None:
        """Count a new connection. Raise TooManyConnections."""
        self.census.add(connection)

    async def admit(self, connection: Connected) -> None:
        """Count a connection over all processes. Raise TooManyConnections, or RedisError."""
        if self._registry is not None:
            await self._registry.admit(connection.identity.user_id, connection.address)

    def opened(self, device: Device) -> None:
        """Note that a connection has begun to be written to."""
        if self._history is not None:
            self._history.opened(device)

    def closed(self, device: Device) -> None:
        """Note that a connection was closed; harmless when repeated."""
        if self._history is not None:
            self._history.closed(device)

    def disconnect(self, connection: Connected) -> None:
        """Forget a connection; harmless when it is not known."""
        if not self.census.remove(connection):
            return
        self._heartbeats.remove(connection)
        if self._registry is not None:
            self._registry.changed(connection.identity.user_id, connection.address)

    async def subscribe(self, topic: str, subscriber: Subscriber) -> None:
        """Follow a topic; from the return on nothing published is missed. Raise BackplaneDown."""
        if add_member(self._topics, topic, subscriber):
            self.census.followed[_kind_of(topic)] += 1
        try:
            await self._source.subscribe(topic)
        except BaseException:
            self.unsubscribe(topic, subscriber)
            raise

    def unsubscribe(self, topic: str, subscriber: Subscriber) -> None:
        """Stop following a topic; harmless when it was not followed."""
        if subscriber not in self._topics.get(topic, ()):
            return
        self.census.followed[_kind_of(topic)] -= 1
        if discard_member(self._topics, topic, subscriber):
            self._source.unsubscribe(topic)

    def deliver(self, topic: str, message: Message) -> None:
        """Hand a message to every subscriber of its topic, here. Neither waits nor raises."""
        self._fanout.deliver(topic, message)

    def gap(self, topic: str) -> None:
        """Let every subscriber of the topic know that it may have missed messages."""
        for subscriber in tuple(self._topics.get(topic, ())):
            subscriber.gap()

    def outage(self, down: bool) -> None:
        """Tell everybody that Redis is away; and that we are there when it is back."""
        message = DEGRADED if down else Message.of(MessageType.HEARTBEAT, {"timestamp": iso_time()})
        self.spawn(self._tell_all(message), "tell-outage")

    def followed(self, kind: str) -> list[str]:
        """Return the ids of the followed topics of a kind."""
        prefix = kind + ":"
        return [topic[len(prefix) :] for topic in self._topics if topic.startswith(prefix)]

    def is_behind(self, topic: str, head: Cursor | None) -> bool:
        """Say whether a subscriber of the topic misses something of its log."""
        return any(subscriber.is_behind(head) for subscriber in self._topics.get(topic, ()))

    def spawn(self, job: Coroutine[Any, Any, None], name: str) -> None:
        """Run a connection's background job until it ends or the hub closes."""
        self._jobs.start(job, name)

    def reschedule(self) -> None:
        """Follow changed intervals on connections that are already open."""
        for connection in self.census:
            self._heartbeats.add(connection)

    def reschedule_one(self, connection: Connected) -> None:
        """Wake one connection when it is due; again after a change of that time."""
        self._heartbeats.add(connection)

    def stats(self) -> HubStats:
        """Count the connections of this process."""
        return self.census.stats()

    async def drain(self, seconds: float) -> None:
        """Close every connection with 1001, spread evenly over `seconds`."""
        self.draining = True
        leaving = list(self.census)
        random.shuffle(leaving)
        steps = max(min(int(seconds / DRAIN_STEP_SECONDS), len(leaving)), 1)
        for step in range(steps):
            for connection in leaving[step::steps]:
                connection.leave(CloseCode.GOING_AWAY)
            await asyncio.sleep(seconds / steps if leaving else 0)
        await self._jobs.close()

    async def _tell_all(self, message: Message) -> None:
        everybody = tuple(self.census)
        for start in range(0, len(everybody), TOLD_TOGETHER):
            for connection in everybody[start : start + TOLD_TOGETHER]:
                connection.tell(message)
            await asyncio.sleep(0)


def _kind_of(topic: str) -> str:
    return topic.partition(":")[0]
