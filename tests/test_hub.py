"""The hub and the backplane on the real Redis."""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis

from tests.peers import Peer
from tests.realtime import open_hub, realtime, start_redis
from tests.waiting import until
from tornado_rt.backplane import BackplaneDown
from tornado_rt.protocol import CONTROL, CloseCode, Cursor, Message
from tornado_rt.redis import open_redis
from tornado_rt.stores import StoreAddresses


@attrs.define(eq=False)
class Listener:
    """A subscriber that keeps what it gets."""

    messages: list[Message] = attrs.field(factory=list)
    gaps: int = 0

    def deliver(self, message: Message) -> None:
        self.messages.append(message)

    def gap(self) -> None:
        self.gaps += 1

    def is_behind(self, _: Cursor | None) -> bool:
        return False


def news(number: int) -> Message:
    return Message.of("progress", {"number": number})


@pytest.mark.gen_test
async def test_message_reaches_the_subscribers_of_its_topic(redis: Redis) -> None:
    async with realtime(redis) as core:
        first, second, other = Listener(), Listener(), Listener()
        await core.hub.subscribe("task:1", first)
        await core.hub.subscribe("task:1", second)
        await core.hub.subscribe("task:2", other)
        await core.backplane.publish("task:1", news(1))
        await until(lambda: first.messages and second.messages)
        assert first.messages[0].encode() == news(1).encode()
        assert other.messages == []


@pytest.mark.gen_test
async def test_message_reaches_other_processes(redis: Redis) -> None:
    """Two hubs over one Redis are one system."""
    async with realtime(redis) as here, realtime(redis) as there:
        listener = Listener()
        await there.hub.subscribe("user:alice", listener)
        await here.backplane.publish("user:alice", news(1))
        await until(lambda: listener.messages)


@pytest.mark.gen_test
async def test_topic_is_left_with_its_last_subscriber(redis: Redis) -> None:
    """Redis is told, so that nothing is received for nobody."""
    async with realtime(redis) as core:
        first, second = Listener(), Listener()
        for listener in (first, second):
            await core.hub.subscribe("task:1", listener)
        core.hub.unsubscribe("task:1", first)
        assert await redis.pubsub_numsub("rt:task:1") == [(b"rt:task:1", 1)]
        core.hub.unsubscribe("task:1", second)
        await until(lambda: redis.pubsub_numsub("rt:task:1"), equal=[(b"rt:task:1", 0)])
        await core.hub.subscribe("task:1", second)
        await core.backplane.publish("task:1", news(2))
        await until(lambda: second.messages)


@pytest.mark.gen_test
async def test_topic_that_was_left_while_the_connection_was_lost_is_not_kept(
    tmp_path: Path,
) -> None:
    """Nobody told Redis's new connection that it is left; it is told when it confirms."""
    address = tmp_path / "redis.sock"
    process = await start_redis(address)
    async with open_redis(f"unix://{address}") as redis:
        hub, backplane, _ = open_hub(redis)
        async with backplane.running(hub):
            kept, left = Listener(), Listener()
            await hub.subscribe("task:kept", kept)
            await hub.subscribe("task:left", left)
            process.send_signal(signal.SIGSTOP)
            hub.unsubscribe("task:left", left)
            await until(lambda: not backplane._unwanted)
            await backplane._cut()
            process.send_signal(signal.SIGCONT)
            await until(lambda: kept.gaps)
            await until(lambda: redis.pubsub_numsub("rt:task:left"), equal=[(b"rt:task:left", 0)])
    process.kill()
    await process.wait()


@pytest.mark.gen_test
async def test_connection_lost_while_a_topic_is_sent_is_followed_by_another(
    stores: StoreAddresses,
) -> None:
    """The connection may be lost in every step of the sending."""
    async with open_redis(stores.redis_url) as redis:
        hub, backplane, _ = open_hub(redis)
        async with backplane.running(hub):
            kept = Listener()
            await hub.subscribe("task:kept", kept)
            for steps in range(10):
                connection: Any = backplane._connected_pubsub().connection
                subscribing = asyncio.create_task(hub.subscribe(f"task:{steps}", Listener()))
                for _ in range(steps):
                    await asyncio.sleep(0)
                await connection.disconnect(nowait=True)
                with contextlib.suppress(BackplaneDown):
                    await subscribing
                gaps = steps + 1
                await until(lambda gaps=gaps: kept.gaps == gaps and backplane.alive)


@pytest.mark.gen_test
async def test_one_connection_carries_all_topics(redis: Redis) -> None:
    """However many streams are open, this process has one subscription connection."""
    async with realtime(redis) as core:
        await asyncio.gather(*(core.hub.subscribe(f"task:{n}", Listener()) for n in range(300)))
        clients = await redis.client_list(_type="pubsub")
        assert len(clients) == 1
        assert int(clients[0]["sub"]) == 300 + len(("control", "probe"))


@pytest.mark.gen_test
async def test_subscriber_may_leave_while_it_is_delivered_to(redis: Redis) -> None:
    async with realtime(redis) as core:

        class Leaver(Listener):
            def deliver(self, message: Message) -> None:
                super().deliver(message)
                core.hub.unsubscribe("task:1", self)

        leavers = [Leaver(), Leaver()]
        for leaver in leavers:
            await core.hub.subscribe("task:1", leaver)
        core.hub.deliver("task:1", news(1))
        core.hub.deliver("task:1", news(2))
        assert [len(leaver.messages) for leaver in leavers] == [1, 1]


@pytest.mark.gen_test
async def test_garbage_on_a_channel_is_passed_over(redis: Redis) -> None:
    async with realtime(redis) as core:
        listener = Listener()
        await core.hub.subscribe("task:1", listener)
        bad_ids = (b'{"type": "progress", "id": "x"}', b'{"type": "progress", "id": 5}')
        deep = b'{"type": "progress", "data": ' + b"[" * 300 + b"]" * 300 + b"}"
        for garbage in (b"", b"\xff\x00", b"[]", b"{}", b'{"type": 1}', deep, *bad_ids):
            await redis.publish("rt:task:1", garbage)
        await core.backplane.publish("task:1", news(1))
        await until(lambda: any(one.data == news(1).data for one in listener.messages))
        assert len(listener.messages) == 1


@pytest.mark.gen_test
async def test_killed_connection_is_a_gap_and_comes_back(redis: Redis) -> None:
    """A cut subscription is renewed; each of its topics is told once that it may have missed."""
    async with realtime(redis) as core:
        listener = Listener()
        await core.hub.subscribe("task:1", listener)
        await redis.client_kill_filter(_type="pubsub", skipme=True)
        await until(lambda: listener.gaps)
        assert core.backplane.alive
        await core.backplane.publish("task:1", news(1))
        await until(lambda: listener.messages)
        assert listener.gaps == 1


@pytest.mark.gen_test
async def test_without_redis_only_our_own_subscribers_are_told(tmp_path: Path) -> None:
    """Degraded, counted, and over when Redis is back."""
    address = tmp_path / "redis.sock"
    process = await start_redis(address)
    async with open_redis(f"unix://{address}") as redis:
        hub, backplane, metrics = open_hub(redis)
        listener = Listener()
        async with backplane.running(hub):
            await hub.subscribe("task:1", listener)
            process.kill()
            await process.wait()
            await until(lambda: not backplane.alive)
            await backplane.publish("task:1", news(1))
            assert len(listener.messages) == 1
            assert metrics.degraded._value.get() == 1
            process = await start_redis(address)
            await until(lambda: backplane.alive and listener.gaps)
            await backplane.publish("task:1", news(2))
            await until(lambda: len(listener.messages) == 2)
    process.kill()
    await process.wait()


@pytest.mark.gen_test
async def test_drain_is_spread_so_that_not_all_come_back_at_once(
    redis: Redis, make_token: Callable[..., str]
) -> None:
    async with realtime(redis) as core:
        peers = [await core.peer(make_token(f"user{n}")) for n in range(40)]
        await until(lambda: core.hub.stats().total_connections >= len(peers))
        ended: list[float] = []

        async def wait_for_end(peer: Peer) -> None:
            assert await peer.close_code() == CloseCode.GOING_AWAY
            ended.append(time.monotonic() - begun)

        begun = time.monotonic()
        await asyncio.gather(core.hub.drain(1.0), *map(wait_for_end, peers))
        quarters = [sum(n / 4 <= at < (n + 1) / 4 for at in ended) for n in range(4)]
        # A process that stands still for a moment ends those of that moment together.
        assert max(quarters) <= 25, ended


@pytest.mark.gen_test
async def test_unconfirmed_subscription_raises(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen Redis fails a subscriber in bounded time and leaves nothing behind."""
    monkeypatch.setattr("tornado_rt.backplane.SUBSCRIBE_SECONDS", 0.2)
    hub, backplane, _ = open_hub(redis)
    async with backplane.running(hub):
        await redis.client_pause(1500)
        try:
            with pytest.raises(BackplaneDown):
                await hub.subscribe("task:1", Listener())
            assert hub.stats().by_topic == {}
        finally:
            await redis.client_unpause()
        assert CONTROL in backplane._wanted


@pytest.mark.gen_test
async def test_each_who_waits_for_a_topic_waits_for_themselves(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that leaves takes nothing from the others; a subscriber after a failure asks again."""
    monkeypatch.setattr("tornado_rt.backplane.SUBSCRIBE_SECONDS", 0.3)
    hub, backplane, _ = open_hub(redis)
    async with backplane.running(hub):
        await redis.client_pause(100)
        first, second, other = (
            asyncio.create_task(hub.subscribe(topic, Listener()))
            for topic in ("task:1", "task:1", "task:2")
        )
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(second, other)
        assert first.cancelled()
        await redis.client_pause(900)
        for _ in range(2):
            tries = [hub.subscribe(f"task:{number}", Listener()) for number in (3, 4, 4)]
            failed = await asyncio.gather(*tries, return_exceptions=True)
            assert [type(one) for one in failed] == [BackplaneDown] * 3
        await redis.client_unpause()
        await until(lambda: backplane.alive)
        await hub.subscribe("task:3", kept := Listener())
        await backplane.publish("task:3", news(1))
        await until(lambda: len(kept.messages), equal=1)
