"""The hub: who is connected, who follows what, and delivery to them."""

import asyncio
import random
from collections import Counter
from collections.abc import Coroutine, Mapping
from enum import StrEnum
from typing import Any, ClassVar, Protocol, TypeVar

import attrs

from tornado_rt.auth import Identity
from tornado_rt.backplane import Backplane
from tornado_rt.fanout import Fanout, Receiver
from tornado_rt.heartbeat import Heartbeats, Sleeper
from tornado_rt.jobs import Jobs
from tornado_rt.limits import Limits
from tornado_rt.metrics import Metrics
from tornado_rt.protocol import CloseCode, Cursor, ErrorCode, Message, MessageType, iso_time

DRAIN_STEP_SECONDS = 0.02
# Connections told of an outage between two turns of the loop.
TOLD_TOGETHER = 64

DEGRADED = Message.of(
    MessageType.ERROR,
    {"code": ErrorCode.DEGRADED, "message": "news may be late: a store does not answer"},
)

T = TypeVar("T")
# Most users have one connection, most topics one subscriber; a set takes five times a tuple.
Members = tuple[T, ...] | set[T]
FEW = 8


class Transport(StrEnum):
    """How a subscriber is connected."""

    WEBSOCKET = "websocket"
    SSE = "sse"


class TooManyConnections(Exception):
    """A bound on open connections is reached; the message names it."""


class Subscriber(Receiver, Protocol):
    """Something that follows a topic."""

    def gap(self) -> None:
        """Learn that messages of a followed topic may have been lost."""
        ...

    def is_behind(self, head: Cursor | None) -> bool:
        """Say whether the log of the topic has more than what came; None: the log is gone."""
        ...


class Connected(Sleeper, Protocol):
    """An open socket or stream of a user."""

    identity: Identity
    address: str
    transport: ClassVar[Transport]

    def leave(self, code: CloseCode) -> None:
        """Say goodbye and close."""
        ...

    def tell(self, message: Message) -> None:
        """Write one message of no topic, an `error` by the name that it has on this transport."""
        ...


class Registry(Protocol):
    """Knows the connections of all processes."""

    async def admit(self, user_id: str, address: str) -> None:
        """Count a new connection. Raise TooManyConnections, or RedisError."""
        ...

    def changed(self, user_id: str, address: str) -> None:
        """Note that a connection of the user, from there, is gone."""
        ...


@attrs.frozen
class HubStats:
    """Connections of one process; `remote_workers` of them are workers elsewhere."""

    total_users: int
    total_connections: int
    by_transport: dict[str, int]
    by_topic: dict[str, int]
    messages_delivered: int
    messages_conflated: int
    messages_dropped: int
    bytes_delivered: int
    closed_slow: int
    remote_workers: int
    users: dict[str, int]


class Hub:
    """Keeps connections by user and by address, and subscribers by topic.

    No entry of a map is empty: the first subscriber of a topic subscribes it at the backplane, and
    the last one that leaves unsubscribes it.
    """

    def __init__(self, limits: Limits, heartbeats: Heartbeats, metrics: Metrics) -> None:
        self.limits = limits
        self._heartbeats = heartbeats
        self.metrics = metrics
        self.tally = metrics.tally
        metrics.measure_by(self._measure)
        self._topics: dict[str, Members[Subscriber]] = {}
        self._fanout = Fanout(lambda topic: self._topics.get(topic, ()))
        self._users: dict[str, Members[Connected]] = {}
        self._addresses: dict[str, int] = {}
        self._connections: set[Connected] = set()
        self._transports: Counter[str] = Counter({one.value: 0 for one in Transport})
        self._kinds: Counter[str] = Counter()
        self._jobs = Jobs()
        self._backplane: Backplane | None = None
        self._registry: Registry | None = None
        self.draining = False
        # The connections that are workers; counted by them.
        self.remote_workers = 0

    def attach(self, backplane: Backplane, registry: Registry | None = None) -> None:
        """Take topics from this backplane, and share limits by this registry."""
        self._backplane = backplane
        self._registry = registry

    def connect(self, connection: Connected) -> None:
        """Count a new connection and give it heartbeats. Raise TooManyConnections."""
        self._check_limits(connection)
        self._connections.add(connection)
        self._transports[connection.transport.value] += 1
        _add(self._users, connection.identity.user_id, connection)
        self._addresses[connection.address] = self._addresses.get(connection.address, 0) + 1
        self._heartbeats.add(connection)

    async def admit(self, connection: Connected) -> None:
        """Count a connection over all processes. Raise TooManyConnections, or RedisError."""
        if self._registry is not None:
            await self._registry.admit(connection.identity.user_id, connection.address)

    def disconnect(self, connection: Connected) -> None:
        """Forget a connection; harmless when it is not known."""
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        self._transports[connection.transport.value] -= 1
        _discard(self._users, connection.identity.user_id, connection)
        self._addresses[connection.address] -= 1
        if not self._addresses[connection.address]:
            del self._addresses[connection.address]
        self._heartbeats.remove(connection)
        if self._registry is not None:
            self._registry.changed(connection.identity.user_id, connection.address)

    async def subscribe(self, topic: str, subscriber: Subscriber) -> None:
        """Follow a topic; from the return on nothing published is missed. Raise BackplaneDown."""
        assert self._backplane is not None
        if _add(self._topics, topic, subscriber):
            self._kinds[_kind_of(topic)] += 1
        try:
            await self._backplane.subscribe(topic)
        except BaseException:
            self.unsubscribe(topic, subscriber)
            raise

    def unsubscribe(self, topic: str, subscriber: Subscriber) -> None:
        """Stop following a topic; harmless when it was not followed."""
        if subscriber not in self._topics.get(topic, ()):
            return
        self._kinds[_kind_of(topic)] -= 1
        if _discard(self._topics, topic, subscriber):
            assert self._backplane is not None
            self._backplane.unsubscribe(topic)

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
        self.own(self._tell_all(message), "tell-outage")

    def followed(self, kind: str) -> list[str]:
        """Return the ids of the followed topics of a kind."""
        prefix = kind + ":"
        return [topic[len(prefix) :] for topic in self._topics if topic.startswith(prefix)]

    def is_behind(self, topic: str, head: Cursor | None) -> bool:
        """Say whether a subscriber of the topic misses something of its log."""
        return any(subscriber.is_behind(head) for subscriber in self._topics.get(topic, ()))

    def count_of(self, user_id: str) -> int:
        """Count a user's connections here."""
        return len(self._users.get(user_id, ()))

    def count_users(self) -> dict[str, int]:
        """Count the connections of every user here."""
        return {user: len(connections) for user, connections in self._users.items()}

    def count_at(self, address: str) -> int:
        """Count the connections from an address here."""
        return self._addresses.get(address, 0)

    def count_addresses(self) -> Mapping[str, int]:
        """Return the connections from every address here, as they are at any time."""
        return self._addresses

    def refuse(self, name: str, limit: int) -> TooManyConnections:
        """Count a refusal, and return the error that says whose limit was reached."""
        self.metrics.refused.labels(name).inc()
        article = "an" if name == "address" else "a"
        return TooManyConnections(f"at most {limit} open connections {article} {name}")

    def own(self, job: Coroutine[Any, Any, None], name: str) -> None:
        """Run a connection's background job until it ends or the hub closes."""
        self._jobs.start(job, name)

    def reschedule(self) -> None:
        """Follow changed intervals on connections that are already open."""
        for connection in self._connections:
            self._heartbeats.add(connection)

    def reschedule_one(self, connection: Connected) -> None:
        """Follow a changed due time of one connection."""
        self._heartbeats.add(connection)

    def stats(self) -> HubStats:
        """Count the connections of this process."""
        users = self.count_users()
        tally = self.tally
        return HubStats(
            total_users=len(users),
            total_connections=len(self._connections),
            by_transport=dict(self._transports),
            by_topic=dict(+self._kinds),
            messages_delivered=tally.delivered,
            messages_conflated=tally.conflated,
            messages_dropped=tally.dropped,
            bytes_delivered=tally.bytes,
            closed_slow=tally.closed_slow,
            remote_workers=self.remote_workers,
            users=users,
        )

    async def drain(self, seconds: float) -> None:
        """Close every connection with 1001, spread evenly over `seconds`."""
        self.draining = True
        leaving = list(self._connections)
        random.shuffle(leaving)
        steps = max(min(int(seconds / DRAIN_STEP_SECONDS), len(leaving)), 1)
        for step in range(steps):
            for connection in leaving[step::steps]:
                connection.leave(CloseCode.GOING_AWAY)
            await asyncio.sleep(seconds / steps if leaving else 0)
        await self._jobs.close()

    def _measure(self) -> None:
        """Show the same numbers in the metrics."""
        self.metrics.users.set(len(self._users))
        for transport, count in self._transports.items():
            self.metrics.connections.labels(transport).set(count)
        for kind, count in self._kinds.items():
            self.metrics.subscribers.labels(kind).set(count)

    async def _tell_all(self, message: Message) -> None:
        everybody = tuple(self._connections)
        for start in range(0, len(everybody), TOLD_TOGETHER):
            for connection in everybody[start : start + TOLD_TOGETHER]:
                connection.tell(message)
            await asyncio.sleep(0)

    def _check_limits(self, connection: Connected) -> None:
        limits = self.limits
        user = self._users.get(connection.identity.user_id, ())
        counts = {
            "user": (len(user), limits.live.ws_max_connections_per_user),
            "address": (self._addresses.get(connection.address, 0), limits.per_address),
            "process": (len(self._connections), limits.total),
        }
        for name, (count, limit) in counts.items():
            if limit and count >= limit:
                raise self.refuse(name, limit)


def _kind_of(topic: str) -> str:
    return topic.partition(":")[0]


def _add(sets: dict[str, Members[T]], key: str, member: T) -> bool:
    """Put a member in; say whether it was not there."""
    members = sets.get(key, ())
    if member in members:
        return False
    if isinstance(members, set):
        members.add(member)
    else:
        sets[key] = (*members, member) if len(members) < FEW else {*members, member}
    return True


def _discard(sets: dict[str, Members[T]], key: str, member: T) -> bool:
    """Take a member out; say whether none is left, and so the key was removed."""
    members = sets[key]
    if isinstance(members, set):
        members.discard(member)
    else:
        members = sets[key] = tuple(one for one in members if one is not member)
    if members:
        return False
    del sets[key]
    return True
