"""Longest waits for the stores, and the ways of their settings."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pymongo.errors import NetworkTimeout, ServerSelectionTimeoutError
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeout

from services.deliveries.running import RETRY_SECONDS, delivery_targets
from services.deliveries.service import DeliveryKind
from services.queue import QueueService
from services.remote.bounds import RemoteBounds
from services.worker.targets import kind_target, legacy_target
from settings import Settings, StoreSettings, default
from tests import kind_deeds
from tests.ports import free_port
from tests.receiving import make_deliveries
from tests.waiting import until
from tornado_rt.core import queue_of
from tornado_rt.mongo import open_database
from tornado_rt.redis import open_redis
from tornado_rt.stores import StoreAddresses
from tornado_rt.work.attempts.backoff import Backoff
from tornado_rt.work.kind import Kind
from tornado_rt.work.values import MOST_RESULT_BYTES


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """Yield the port of a server that takes what is sent and never answers."""
    held = []

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append((reader, writer))

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for _, writer in held:
            writer.close()


@pytest.mark.gen_test
async def test_redis_that_is_silent_is_given_up_after_the_time_of_the_setting() -> None:
    async with silent_server() as port:
        stores = StoreSettings(redis_answer_seconds=0.3)
        async with open_redis(f"redis://127.0.0.1:{port}", stores=stores) as redis:
            begin = time.monotonic()
            with pytest.raises(RedisTimeout):
                await redis.ping()
            assert 0.3 <= time.monotonic() - begin < default("redis_answer_seconds")


@pytest.mark.gen_test
async def test_pool_of_redis_has_as_many_connections_as_the_setting_says(
    stores: StoreAddresses,
) -> None:
    bounds = StoreSettings(
        redis_connections=4, redis_connect_seconds=2.0, redis_answer_seconds=60.0
    )
    async with open_redis(stores.redis_url, stores=bounds) as redis:
        held = [asyncio.create_task(redis.blpop(["nothing"], 50)) for _ in range(4)]
        pool = redis.connection_pool
        await until(lambda: len(pool._in_use_connections) == 4)
        with pytest.raises(RedisTimeout, match="no connection within 2 s"):
            await redis.ping()
        for one in held:
            one.cancel()
        await asyncio.wait(held)
        assert await redis.ping()


@pytest.mark.gen_test
async def test_mongodb_that_is_away_or_silent_is_given_up_after_the_times_of_the_settings() -> None:
    stores = StoreSettings(mongodb_connect_seconds=0.2, mongodb_answer_seconds=0.2)
    url = f"mongodb://127.0.0.1:{free_port()}"
    async with open_database(url, "t", stores) as database:
        begin = time.monotonic()
        with pytest.raises(ServerSelectionTimeoutError):
            await database.things.find_one({})
        assert 0.2 <= time.monotonic() - begin < default("mongodb_connect_seconds")


@pytest.mark.gen_test
async def test_mongodb_answers_within_the_time_of_the_setting(stores: StoreAddresses) -> None:
    """An operation that takes longer is given up, and so is its one repetition."""
    bounds = StoreSettings(mongodb_answer_seconds=0.001)
    async with open_database(stores.mongodb_url, "slow", bounds) as database:
        documents = [{"text": "x" * 10_000} for _ in range(4000)]
        with pytest.raises(NetworkTimeout):
            await database.things.insert_many(documents)


@pytest.mark.gen_test
async def test_spread_of_retries_reaches_every_way_of_running(redis: Redis) -> None:
    settings = Settings(queue_retry_spread=0.0, delivery_retry_spread=0.0)
    first = default("queue_retry_base_seconds")
    assert [Backoff(2.0, 7.0, 0.0).seconds(one) for one in (1, 2, 3, 4)] == [2.0, 4.0, 7.0, 7.0]
    legacy = legacy_target("examples.stock_analysis:analyse", settings)
    assert legacy._rules.backoff.seconds(1) == first
    assert (
        kind_target(kind_deeds.plain, settings).rules.backoff.seconds(1)
        == kind_deeds.plain.backoff[0]
    )
    assert RemoteBounds.of(settings).backoff.seconds(1) == first
    deliveries = make_deliveries(redis)
    deliveries.register(DeliveryKind(kind_deeds.plain))
    (target,) = delivery_targets(deliveries, settings).values()
    assert target.wait_after(2) == RETRY_SECONDS[1]  # type: ignore[attr-defined]


@pytest.mark.gen_test
async def test_upkeep_of_the_queue_is_due_after_the_time_of_the_setting(redis: Redis) -> None:
    assert queue_of(redis, Settings(queue_upkeep_seconds=7.0)).upkeep_seconds == 7.0
    assert QueueService(redis).upkeep_seconds == default("queue_upkeep_seconds")


def test_package_for_authors_has_the_defaults_of_the_settings() -> None:
    """It imports nothing of ours, so its numbers stand there once more."""
    waits = (default("queue_retry_base_seconds"), default("queue_retry_max_seconds"))
    assert (Backoff().base, Backoff().most) == waits
    assert Backoff().spread == default("queue_retry_spread")
    kind = Kind("a", kind_deeds.Deed)
    assert kind.backoff == waits
    assert kind.max_attempts == default("queue_max_attempts")
    assert default("task_result_bytes") == MOST_RESULT_BYTES
