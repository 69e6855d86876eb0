"""The wheel, and what it does to sockets."""

import time
from collections import Counter
from collections.abc import Callable

import attrs
import pytest
from redis.asyncio import Redis

from tests.peers import PING, TEXT, client_frame
from tests.realtime import realtime
from tests.waiting import until
from tornado_rt.heartbeat import TICK, Heartbeats
from tornado_rt.protocol import CloseCode, Message

Token = Callable[..., str]


@attrs.define(eq=False)
class Sleeper:
    """Is due after these seconds, again and again."""

    due: float
    woken: list[float] = attrs.field(factory=list)
    closed: bool = False
    bucket: int = 0

    def next_due(self) -> float:
        return self.due

    def wake(self, now: float, _: Message) -> None:
        self.woken.append(now)
        self.due = now + 0.5


@pytest.mark.gen_test
async def test_nobody_is_woken_before_time_or_long_after() -> None:
    heartbeats, begun = Heartbeats(), time.monotonic()
    sleepers = [Sleeper(begun + number / 1000) for number in range(500)]
    due = [one.due for one in sleepers]
    for one in sleepers:
        heartbeats.add(one)
    heartbeats.start()
    await until(lambda: all(one.woken for one in sleepers))
    heartbeats.stop()
    late = [one.woken[0] - at for one, at in zip(sleepers, due, strict=True)]
    assert min(late) >= 0
    assert sorted(late)[len(late) // 2] < 2 * TICK.total_seconds()


@pytest.mark.gen_test
async def test_removed_and_closed_are_not_woken_again() -> None:
    heartbeats, now = Heartbeats(), time.monotonic()
    removed, closed, last = Sleeper(now), Sleeper(now), Sleeper(now + 0.3)
    for one in (removed, closed, last):
        heartbeats.add(one)
    heartbeats.remove(removed)
    closed.closed = True
    heartbeats.start()
    await until(lambda: last.woken)
    heartbeats.stop()
    assert (removed.woken, len(closed.woken), closed.bucket) == ([], 1, 0)


@pytest.mark.gen_test
async def test_connections_that_came_at_once_beat_spread_over_the_interval(
    redis: Redis, make_token: Token
) -> None:
    """No tick has the work of all."""
    async with realtime(redis, sse_heartbeat=30, ws_heartbeat=30) as core:
        for _ in range(150):
            await core.stream(make_token("alice"))
            peer = await core.peer(make_token("bob"))
            await peer.frame()
        await until(lambda: core.hub.stats().total_connections >= 300)
        due = [one.next_due() - time.monotonic() for one in core.hub.census]
        quarters = Counter(int(at // 7.5) for at in due)
        assert all(quarters[quarter] > 40 for quarter in range(4))


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "sent", [client_frame(TEXT, b"ping"), client_frame(PING)], ids=["text", "ping"]
)
async def test_any_traffic_counts_as_life(redis: Redis, make_token: Token, sent: bytes) -> None:
    """A client that answers no ping but says something stays; silent at last, it goes with 4510."""
    async with realtime(redis, ws_heartbeat=0.3) as core:
        peer = await core.peer(make_token("alice"))
        for _ in range(4):
            await peer.frame_of(PING)
            peer.send(sent)
        assert core.hub.stats().total_connections == 1
        assert await peer.close_code() == CloseCode.PONG_TIMEOUT
        assert core.hub.stats().total_connections == 0
