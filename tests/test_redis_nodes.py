"""The product on a Redis of several nodes: a cluster, a master under Sentinel."""

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable

from tests.faults.crowd import Crowd
from tests.faults.waiting import until, until_done
from tests.redis_nodes import ClusterNodes, SentinelNodes, SharedSystem

SEED = secrets.token_hex(4)
SCENARIO_SECONDS = 60.0
FAILOVER_SECONDS = 15.0
HOME = "{rtq}:"

Scenario = Callable[[SharedSystem], Awaitable[None]]


def play(scenario: Scenario, make: type[ClusterNodes] | type[SentinelNodes]) -> None:
    """Run a scenario on a system of its own."""

    async def run() -> None:
        async with asyncio.timeout(SCENARIO_SECONDS), SharedSystem(make) as system:
            await scenario(system)
            assert not system.complaints()

    asyncio.run(run())


def test_product_works_on_a_cluster_and_outlives_the_queues_master() -> None:
    async def scenario(system: SharedSystem) -> None:
        assert isinstance(system.shared, ClusterNodes)
        async with Crowd(system, random.Random(SEED)) as crowd:
            crowd.flow()
            await until(lambda: crowd.news_to_all(0), 10, "there is something for everybody")
            master = await system.shared.owner(HOME)
            await master.kill()
            back = time.monotonic()
            await until(lambda: crowd.news_to_all(back), FAILOVER_SECONDS, "it goes on")
            await until_done(
                lambda: _has_moved(system, master), FAILOVER_SECONDS, "the replica is the master"
            )
            back = time.monotonic()
            await crowd.submit(0.1)
            await crowd.settle()
            await crowd.stored_once()
            assert crowd.reconnects() == 0

    play(scenario, ClusterNodes)


async def _has_moved(system, master):
    return await system.shared.owner(HOME) is not master


def test_product_works_under_sentinel_and_outlives_its_master() -> None:
    async def scenario(system: SharedSystem) -> None:
        async with Crowd(system, random.Random(SEED)) as crowd:
            crowd.flow()
            await until(lambda: crowd.news_to_all(0), 10, "there is something for everybody")
            await system.shared.master.kill()
            back = time.monotonic()
            await until(lambda: crowd.news_to_all(back), FAILOVER_SECONDS, "it goes on")
            await crowd.submit(0.1)
            await crowd.settle()
            await crowd.stored_once()
            assert crowd.reconnects() == 0

    play(scenario, SentinelNodes)
