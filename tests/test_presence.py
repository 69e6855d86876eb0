"""Limits of connections over several hubs on one Redis."""

import asyncio
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tests.realtime import make_limits
from tests.waiting import until
from tornado_rt.auth import Identity
from tornado_rt.backplane import Backplane
from tornado_rt.census import Census, TooManyConnections, Transport
from tornado_rt.heartbeat import Heartbeats
from tornado_rt.hub import Hub
from tornado_rt.metrics import Metrics
from tornado_rt.presence import PROCESSES, Presence


@attrs.define(eq=False)
class Guest:
    """A connection of which only it is known whose it is."""

    identity: Identity
    address: str
    bucket: int = 0
    since: float = 0.0
    transport: Transport = Transport.WEBSOCKET

    def next_due(self) -> float:
        return 0.0


class House:
    """One process's hub and presence."""

    def __init__(self, redis: Redis, **limits: int) -> None:
        metrics = Metrics()
        self.census = Census(make_limits(**limits), metrics)
        self.presence = Presence(redis, self.census)
        self.hub = Hub(self.census, Heartbeats(), Backplane(redis, metrics), self.presence)

    async def let_in(self, user_id: str, address: str) -> str:
        """Try to let one in; return why not."""
        guest: Any = Guest(Identity(user_id, frozenset(), 0.0), address)
        self.hub.connect(guest)
        try:
            await self.hub.admit(guest)
        except TooManyConnections as error:
            self.hub.disconnect(guest)
            return str(error)
        return ""

    async def empty(self, of: str = "") -> None:
        """Have all leave, or all of one user, and Redis told."""
        for connection in tuple(self.census):
            if not of or connection.identity.user_id == of:
                self.hub.disconnect(connection)
        await self.presence.refresh()


@pytest.mark.gen_test
@pytest.mark.parametrize("name", ["user", "address"])
async def test_limit_holds_over_all_processes(redis: Redis, name: str) -> None:
    """Also for those that come in the same moment; who leaves makes room."""
    bound = {f"per_{name}": 3}
    houses = [House(redis, **bound), House(redis, **bound)]
    numbers = iter(range(100))

    async def come(house: House) -> str:
        other = str(next(numbers))
        same = ("alice", other) if name == "user" else (other, "192.0.2.1")
        return await house.let_in(*same)

    come_first = await asyncio.gather(*(come(houses[0]) for _ in range(2)))
    assert come_first == ["", ""]
    answers = await asyncio.gather(*(come(houses[1]) for _ in range(3)))
    refusal = f"at most 3 open connections {'a user' if name == 'user' else 'an address'}"
    assert answers == ["", refusal, refusal]
    assert await come(houses[0]) == refusal
    await houses[1].empty()
    assert await come(houses[0]) == ""
    await houses[0].presence.refresh()
    processes, stats = await houses[1].presence.stats()
    assert (processes, stats.total_connections) == (2, 3)


@pytest.mark.gen_test
async def test_own_statistics_are_known_when_redis_has_just_lost_them(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = House(redis)
    assert await house.let_in("alice", "192.0.2.1") == ""
    tell = house.presence.refresh

    async def tell_in_vain() -> None:
        await tell()
        await redis.flushall()

    monkeypatch.setattr(house.presence, "refresh", tell_in_vain)
    processes, stats = await house.presence.stats()
    assert (processes, stats.total_connections, stats.users) == (1, 1, {"alice": 1})


@pytest.mark.gen_test
async def test_process_that_leaves_takes_its_counts_along(redis: Redis) -> None:
    houses = [House(redis, per_user=1, per_address=1) for _ in range(2)]
    assert await houses[0].let_in("alice", "192.0.2.1") == ""
    assert await houses[1].let_in("alice", "192.0.2.2") != ""
    assert await houses[1].let_in("bob", "192.0.2.1") != ""
    await houses[0].presence.leave()
    assert await houses[1].let_in("alice", "192.0.2.1") == ""


@pytest.mark.gen_test
async def test_key_of_another_type_keeps_nobody_out(redis: Redis) -> None:
    """It is deleted, and its content is told again by the next connection or refresh."""
    houses = [House(redis, per_user=2, per_address=9) for _ in range(2)]
    for house in houses:
        assert await house.let_in("alice", "192.0.2.1") == ""
        await house.presence.refresh()
    keys = [key for key in await redis.keys("{rt}:*") if b"stats" not in key]
    assert len(keys) == 5
    for key in keys:
        await redis.delete(key)
        await redis.set(key, "x")
        assert await houses[0].let_in("bob", "192.0.2.2") == ""
        await houses[0].empty(of="bob")
    await redis.set(PROCESSES, "x")
    keeping = [asyncio.create_task(house.presence.run()) for house in houses]
    await until(lambda: has_all(houses[1]))
    assert await houses[1].let_in("alice", "192.0.2.3") == "at most 2 open connections a user"
    for job in keeping:
        job.cancel()


async def has_all(house: House) -> bool:
    """Say whether the statistics are of both processes and both connections."""
    try:
        processes, stats = await house.presence.stats()
    except ResponseError:
        return False
    return (processes, stats.total_connections, stats.users) == (2, 2, {"alice": 2})
