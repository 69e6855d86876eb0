"""Gauges of the queue, on a Redis that goes away."""

from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis

from services import gauges
from services.gauges import QueueGauges
from services.outbox import read_lag
from services.queue import QueueService
from tests.queueing import KIND, enqueue, register
from tests.realtime import start_redis
from tests.waiting import until
from tornado_rt.metrics import Metrics
from tornado_rt.redis import open_redis

NAMES = ("rt_queue_depth", "rt_queue_oldest_seconds", "rt_queue_paused", "rt_outbox_lag_seconds")


@pytest.fixture(autouse=True)
def each_scrape_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gauges, "SHARED_SECONDS", 0.0)


def shown(metrics: Metrics) -> dict[str, float]:
    """Return the gauges of the queue that have values."""
    lines = metrics.render().decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if line.startswith(NAMES))
    return {name: float(value) for name, value in found.items()}


@pytest.mark.gen_test
async def test_gauges_have_no_value_while_redis_is_away(tmp_path: Path) -> None:
    """Old values would keep an alert on an age silent."""
    address, metrics = tmp_path / "redis.sock", Metrics()
    process = await start_redis(address, "--appendonly", "yes", "--appendfsync", "always")
    async with open_redis(f"unix://{address}") as redis:
        queue = QueueService(redis)
        read = QueueGauges(queue, partial(read_lag, redis, "rtq"), metrics)
        assert shown(metrics) == {}
        await enqueue(queue)
        await read.refresh()
        assert sorted(shown(metrics)) == [
            "rt_outbox_lag_seconds",
            f'rt_queue_depth{{kind="{KIND}"}}',
            f'rt_queue_oldest_seconds{{kind="{KIND}"}}',
            'rt_queue_paused{kind=""}',
            f'rt_queue_paused{{kind="{KIND}"}}',
        ]
        process.kill()
        await process.wait()
        await read.refresh()
        assert shown(metrics) == {}
        process = await start_redis(address, "--appendonly", "yes")

        async def is_back() -> bool:
            await read.refresh()
            return shown(metrics).get(f'rt_queue_depth{{kind="{KIND}"}}') == 1

        await until(is_back)
    process.kill()
    await process.wait()


@pytest.mark.gen_test
async def test_pauses_are_shown_by_kind_and_over_all(redis: Redis, queue: QueueService) -> None:
    metrics = Metrics()
    read = QueueGauges(queue, partial(read_lag, redis, "rtq"), metrics)

    async def paused() -> tuple[float, float]:
        await read.refresh()
        found = shown(metrics)
        return found['rt_queue_paused{kind=""}'], found[f'rt_queue_paused{{kind="{KIND}"}}']

    await register(queue)
    assert await paused() == (0, 0)
    await queue.pause()
    assert await paused() == (1, 0)
    await queue.pause(KIND)
    await queue.resume()
    assert await paused() == (0, 1)
