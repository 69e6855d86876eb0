"""The product on a Redis of several nodes: a cluster, a master under Sentinel."""

import asyncio
import contextlib
import gc
import os
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import RedisError

from services.queue import QueueService, key_prefix
from tests.faults.crowd import SSE, Crowd
from tests.faults.fleet import Fleet
from tests.faults.system import open_client
from tests.queueing import enqueue, started
from tests.realtime import EventStream
from tests.redis_nodes import ClusterNodes, Node, SentinelNodes, SharedSystem
from tests.waiting import stopwatch, until
from tornado_rt.redis import open_redis

pytestmark = pytest.mark.long

SCENARIO_SECONDS = 240.0
FAILOVER_SECONDS = 15.0
REFUSED_SECONDS = 2.0
HOME = key_prefix("rtq")
LIMIT = 4
# More steps of the loop than a search takes.
MOST_STEPS = 200

Scenario = Callable[[SharedSystem, Crowd], Awaitable[None]]


def play(package: Path, make: type[ClusterNodes] | type[SentinelNodes], scenario: Scenario) -> None:
    """Play it to people who are written to all the while: nobody misses or doubles anything."""
    seed = os.environ.get("RT_FAULT_SEED") or secrets.token_hex(4)

    async def run() -> None:
        async with (
            SharedSystem(make) as system,
            Fleet(system, package),
            Crowd(system, random.Random(seed)) as crowd,
        ):
            crowd.flow()
            await until(lambda: crowd.news_to_all(0), what="there is something for everybody")
            await scenario(system, crowd)
            await goes_on(crowd)
            await crowd.submit(0.1)
            await crowd.settle()
            await crowd.stored_once()
            assert crowd.reconnects() == 0
            assert not system.complaints()
            admin = {"scope": "rt:admin"}
            checked = await system.ask(
                system.servers[0], "GET", "/api/queue/check", "admin", **admin
            )
            assert checked.body == {"violations": []}

    async def bounded() -> None:
        async with asyncio.timeout(SCENARIO_SECONDS):
            await run()

    try:
        asyncio.run(bounded())
    except BaseException as error:
        error.add_note(f"repeat it with RT_FAULT_SEED={seed}")
        raise


async def goes_on(crowd: Crowd) -> None:
    """Wait until everybody has had news from now on."""
    since = time.monotonic()
    await until(lambda: crowd.news_to_all(since), FAILOVER_SECONDS, "it goes on for everybody")


def test_product_on_a_cluster_outlives_the_queues_master(js_package: Path) -> None:
    """Killed, then frozen. Its replica takes over; back as a replica, it is handed the slot again.

    Its people have their limit of connections over both servers before.
    """

    async def scenario(system: SharedSystem, crowd: Crowd) -> None:
        await limit_holds(system)
        await outlives(system, crowd, Node.kill)
        await outlives(system, crowd, freeze)

    play(js_package, ClusterNodes, scenario)


async def freeze(node: Node) -> None:
    node.freeze()


async def outlives(
    system: SharedSystem, crowd: Crowd, end: Callable[[Node], Awaitable[None]]
) -> None:
    """Let the queue's master end in one way, and give it its slot back."""
    cluster = system.shared
    assert isinstance(cluster, ClusterNodes)
    old = await cluster.owner(HOME)
    await end(old)
    new = await cluster.next_owner(HOME, old)
    await until(lambda: has_subscriptions(new), FAILOVER_SECONDS, "all follow the slot")
    await goes_on(crowd)
    if not old.running:
        old.start()
    old.thaw()
    await old.ready()
    # Nobody dies this time: who does not notice stays with one that has nothing to say.
    await cluster.hand_over(new, old)
    await until(lambda: has_subscriptions(old), FAILOVER_SECONDS, "all follow it back")


async def has_subscriptions(node: Node) -> bool:
    """Say whether both servers and the worker subscribe here."""
    with contextlib.suppress(RedisError, OSError):
        return len(await clients(node)) == 3
    return False


async def clients(node: Node) -> list[Any]:
    async with open_client(f"redis://{node.address}") as client:
        found: list[Any] = await client.client_list(_type="pubsub")
    return found


async def limit_holds(system: SharedSystem) -> None:
    """Connect a user to both servers, over the limit of both together."""
    await system.change_settings(ws_max_connections_per_user=LIMIT)
    headers = {"Authorization": f"Bearer {system.token('many')}"}
    opened = []
    for number in range(LIMIT + 3):
        server = system.servers[number % 2]
        opened.append(await EventStream.open(server.port, SSE, headers))
    assert [stream.status for stream in opened] == [200] * LIMIT + [429] * 3
    for stream in opened:
        stream.writer.close()
    await system.change_settings(ws_max_connections_per_user=0)


def test_product_under_sentinel_outlives_its_master(js_package: Path) -> None:
    async def scenario(system: SharedSystem, crowd: Crowd) -> None:
        assert isinstance(system.shared, SentinelNodes)
        # One of the three that are asked says nothing.
        system.shared.sentinels[0].freeze()
        await system.shared.master.kill()
        await until(
            lambda: has_subscriptions(system.shared.replica), FAILOVER_SECONDS, "all follow"
        )

    play(js_package, SentinelNodes, scenario)


@contextlib.asynccontextmanager
async def running(make: Callable[[Path], Any], folder: Path) -> AsyncIterator[Any]:
    nodes = make(folder)
    try:
        await nodes.start()
        yield nodes
    finally:
        await nodes.end()


@pytest.mark.gen_test
async def test_queue_waits_while_its_slot_is_moved_and_is_whole_afterwards(tmp_path: Path) -> None:
    """No script runs on a node that has a part of the keys: not before, not after."""
    async with running(ClusterNodes, tmp_path) as cluster, open_redis(cluster.url, HOME) as redis:
        queue, pubsub = QueueService(redis, global_limit=0, user_limit=0), redis.pubsub()
        await pubsub.subscribe("rt:task:t")
        assert await pubsub.get_message(timeout=20)
        ids = [await enqueue(queue, "u") for _ in range(5)]
        owner = await cluster.owner(HOME)
        # The first node that is asked is neither of the two.
        target = next(node for node in reversed(cluster.nodes[:3]) if node is not owner)
        source = await cluster.begin_move(HOME, target)
        with pytest.raises(RedisError):
            await enqueue(queue, "u")
        assert await target.ask("DBSIZE") == 0
        await cluster.end_move(HOME, source, target)
        ids.append(await enqueue(queue, "u"))
        assert await started(queue, 10) == ids
        assert await queue.check_invariants() == []
        assert (await queue.stats()).processing == len(ids)
        # The subscription has followed, so that the scripts see who watches.
        again = await pubsub.get_message(timeout=20)
        assert again is not None
        assert again["type"] == "subscribe"
        assert await target.ask("PUBSUB", "CHANNELS", "rt:task:*") == [b"rt:task:t"]
        await pubsub.aclose()


async def is_refused(redis: Any) -> None:
    with pytest.raises((RedisError, OSError)):
        await redis.get(HOME)


@pytest.mark.parametrize("make", [ClusterNodes, SentinelNodes])
@pytest.mark.gen_test
async def test_refusal_comes_within_2_s_while_all_stand_still(
    tmp_path: Path, make: Callable[[Path], Any]
) -> None:
    """For many at once too, and it is answered when they go on."""
    async with running(make, tmp_path) as nodes, open_redis(nodes.url, HOME) as redis:
        await asyncio.gather(*(until(lambda: is_written(redis)) for _ in range(20)))
        for node in nodes.nodes:
            node.freeze()
        async with stopwatch() as seconds:
            await asyncio.gather(*(is_refused(redis) for _ in range(200)))
            took = seconds()
        for node in nodes.nodes:
            node.thaw()
        assert took < REFUSED_SECONDS
        await until(lambda: answers(redis), FAILOVER_SECONDS, "it answers again")


@pytest.mark.gen_test
async def test_search_for_the_master_leaves_no_connection_wherever_it_is_cut(
    tmp_path: Path,
) -> None:
    """Also while it closes the one by which it has asked."""
    async with running(SentinelNodes, tmp_path) as nodes:
        for steps in range(MOST_STEPS):
            async with open_redis(nodes.url, HOME) as redis:
                asking = asyncio.create_task(redis.get(HOME))
                for _ in range(steps):
                    await asyncio.sleep(0)
                asking.cancel()
                with contextlib.suppress(asyncio.CancelledError, RedisError):
                    await asking
        # A connection that was left open complains, and that fails the test.
        gc.collect()


async def is_written(redis: Any) -> bool:
    with contextlib.suppress(RedisError, OSError):
        return bool(await redis.set(HOME, "1"))
    return False


async def answers(redis: Any) -> bool:
    with contextlib.suppress(RedisError, OSError):
        return await redis.get(HOME) == b"1"
    return False


@pytest.mark.gen_test
async def test_sentinels_that_stand_still_are_passed_over_in_time(tmp_path: Path) -> None:
    """Two of three; the first connection is made before anybody is refused."""
    async with running(SentinelNodes, tmp_path) as nodes, open_redis(nodes.url, HOME) as redis:
        for sentinel in nodes.sentinels[:2]:
            sentinel.freeze()
        assert await until(lambda: is_written(redis))
