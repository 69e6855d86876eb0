"""Counting the connections of one process, within bounds."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import ClassVar, Protocol, TypeVar

import attrs

from tornado_rt.auth import Identity
from tornado_rt.heartbeat import Sleeper
from tornado_rt.limits import Limits
from tornado_rt.metrics import Metrics
from tornado_rt.protocol import CloseCode, Message
from tornado_rt.work.texts import Text, msgid

T = TypeVar("T")
# Words for a bound that is reached, by the scope of the bound.
LIMITS = {
    "user": msgid("at most {limit} open connections a user"),
    "address": msgid("at most {limit} open connections an address"),
    "process": msgid("at most {limit} open connections a process"),
}
# Most users have one connection, most topics one subscriber; a set takes five times a tuple.
Members = tuple[T, ...] | set[T]
FEW = 8
# The least time between two connections, as a float has it for centuries [s].
TICK = 2**-20


class Transport(StrEnum):
    """The transport of a subscriber."""

    WEBSOCKET = "websocket"
    SSE = "sse"


class TooManyConnections(Exception):
    """A bound on open connections is reached; the message names it."""


class Connected(Sleeper, Protocol):
    """An open socket or stream of a user."""

    identity: Identity
    address: str
    transport: ClassVar[Transport]
    # When it was counted [s since the epoch]; the census sets it, to no two the same.
    since: float

    def leave(self, code: CloseCode, why: Message | None = None) -> None:
        """Say goodbye, last of all with an `error` that says why, and close."""
        ...

    def topics(self) -> Sequence[str]:
        """Return the topics that it follows."""
        ...

    def tell(self, message: Message) -> None:
        """Write one message of no topic, an `error` by the name that it has on this transport."""
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


class Census:
    """Keeps connections by user and by address. No entry of a map is empty.

    `followed`: subscribers by the kind of a topic. `remote_workers`: connections that are workers
    elsewhere. Followers and workers count there.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self.limits = limits
        self.metrics = metrics
        self.followed: Counter[str] = Counter()
        self.remote_workers = 0
        self._users: dict[str, Members[Connected]] = {}
        self._addresses: dict[str, int] = {}
        self._connections: set[Connected] = set()
        self._newest = 0.0
        self._transports: Counter[str] = Counter({one.value: 0 for one in Transport})
        metrics.measure_by(self._measure)

    def __iter__(self) -> Iterator[Connected]:
        return iter(self._connections)

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: Connected) -> None:
        """Count a new connection. Raise TooManyConnections."""
        user_id, address = connection.identity.user_id, connection.address
        self._check(user_id, address)
        self._connections.add(connection)
        self._newest = connection.since = max(time.time(), self._newest + TICK)
        self._transports[connection.transport.value] += 1
        add_member(self._users, user_id, connection)
        self._addresses[address] = self.count_at(address) + 1

    def remove(self, connection: Connected) -> bool:
        """Forget a connection; say whether it was known."""
        if connection not in self._connections:
            return False
        self._connections.discard(connection)
        self._transports[connection.transport.value] -= 1
        discard_member(self._users, connection.identity.user_id, connection)
        self._addresses[connection.address] -= 1
        if not self._addresses[connection.address]:
            del self._addresses[connection.address]
        return True

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
        return TooManyConnections(Text(LIMITS[name], {"limit": limit}))

    def stats(self) -> HubStats:
        """Count the connections of this process."""
        users = self.count_users()
        tally = self.metrics.tally
        return HubStats(
            total_users=len(users),
            total_connections=len(self._connections),
            by_transport=dict(self._transports),
            by_topic=dict(+self.followed),
            messages_delivered=tally.delivered,
            messages_conflated=tally.conflated,
            messages_dropped=tally.dropped,
            bytes_delivered=tally.bytes,
            closed_slow=tally.closed_slow,
            remote_workers=self.remote_workers,
            users=users,
        )

    def _check(self, user_id: str, address: str) -> None:
        limits = self.limits
        of_user = limits.live.ws_max_connections_per_user
        if of_user and self.count_of(user_id) >= of_user:
            raise self.refuse("user", of_user)
        if limits.per_address and self.count_at(address) >= limits.per_address:
            raise self.refuse("address", limits.per_address)
        if limits.total and len(self._connections) >= limits.total:
            raise self.refuse("process", limits.total)

    def _measure(self) -> None:
        """Show the same numbers in the metrics."""
        self.metrics.users.set(len(self._users))
        for transport, count in self._transports.items():
            self.metrics.connections.labels(transport).set(count)
        for kind, count in self.followed.items():
            self.metrics.subscribers.labels(kind).set(count)


def add_member(sets: dict[str, Members[T]], key: str, member: T) -> bool:
    """Put a member in; say whether it was not there."""
    members = sets.get(key, ())
    if member in members:
        return False
    if isinstance(members, set):
        members.add(member)
    else:
        sets[key] = (*members, member) if len(members) < FEW else {*members, member}
    return True


def discard_member(sets: dict[str, Members[T]], key: str, member: T) -> bool:
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
