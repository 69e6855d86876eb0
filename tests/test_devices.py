"""The record of users' connections: bounded, and kept by every process."""

import time
from collections.abc import Sequence
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis

from tests.waiting import until
from tornado_rt.auth import Identity
from tornado_rt.census import Transport
from tornado_rt.devices import DEVICES, MOST_WAITING, Devices
from tornado_rt.presence import STATS


@attrs.define
class Opened:
    """A connection of a user, as far as it is kept."""

    identity: Identity
    followed: Sequence[str] = ()
    close_code: int = 0
    number: int = 0
    opened_at: float = 0.0
    transport: Any = Transport.SSE

    def topics(self) -> Sequence[str]:
        return self.followed


def connection(user: str = "alice", *topics: str) -> Opened:
    """Return a connection of a user that follows these topics."""
    return Opened(Identity(user, frozenset(), 2e9), topics)


def devices_of(redis: Redis, process: str = "p1", **more: Any) -> Devices:
    return Devices(redis, process, STATS, **more)


@pytest.mark.gen_test
async def test_connection_is_known_while_it_is_open_and_after(redis: Redis) -> None:
    devices = devices_of(redis)
    one = connection("alice", "user:alice", "broadcast", "task:t1", "app:x", "tasks:alice")
    devices.opened(one)
    [found] = await devices.read("alice")
    assert (found.closed_at, found.code, found.transport) == (None, 0, "sse")
    assert found.topics == ["me", "task:t1", "tasks"]
    one.close_code = 4508
    # Moments are kept in milliseconds.
    await until(lambda: time.time() > one.opened_at + 0.002)
    devices.closed(one)
    devices.closed(one)
    await devices.flush()
    [found] = await devices_of(redis, "p2").read("alice")
    assert found.code == 4508
    assert found.closed_at is not None
    assert found.was_open(found.opened_at)
    assert not found.was_open(found.closed_at)
    assert await devices.read("bob") == []


@pytest.mark.gen_test
async def test_last_connections_of_a_user_are_kept_for_a_while(redis: Redis) -> None:
    devices = devices_of(redis, most=3, seconds=100)
    for number in range(1, 8):
        one = connection()
        devices.opened(one)
        one.opened_at = float(number)
        one.close_code = 1000
        devices.closed(one)
    assert [one.opened_at for one in await devices.read("alice")] == [5.0, 6.0, 7.0]
    assert 0 < await redis.ttl(DEVICES + "alice") <= 100
    nothing = devices_of(redis, most=0)
    nothing.opened(connection("carol"))
    assert await nothing.read("carol") == []


@pytest.mark.gen_test
async def test_connection_of_a_killed_process_was_cut(redis: Redis) -> None:
    """One of a process that lives is open."""
    devices = devices_of(redis, "dead")
    devices.opened(connection())
    await devices.flush()
    [cut] = await devices_of(redis, "other").read("alice")
    assert cut.is_cut
    await redis.set(STATS + "dead", "1")
    [living] = await devices_of(redis, "other").read("alice")
    assert not living.is_cut


@pytest.mark.gen_test
async def test_what_waits_to_be_written_is_bounded(redis: Redis) -> None:
    devices = devices_of(redis)
    for number in range(MOST_WAITING + 5):
        devices.opened(connection(f"u{number}"))
    assert len(devices._waiting) == MOST_WAITING
    await devices.flush()
    assert await devices.read("u0") == []
    assert len(await devices.read(f"u{MOST_WAITING}")) == 1


@pytest.mark.gen_test
async def test_key_of_another_type_is_no_hindrance(redis: Redis) -> None:
    await redis.set(DEVICES + "alice", "text")
    devices = devices_of(redis)
    assert await devices.read("alice") == []
    devices.opened(connection())
    assert len(await devices.read("alice")) == 1
    await redis.hset(DEVICES + "alice", "odd", b"garbage")
    assert len(await devices.read("alice")) == 1
