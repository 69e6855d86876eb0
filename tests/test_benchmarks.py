"""The benchmark of the queue runs on the product as it is."""

import asyncio
import json
import sys

import pytest
from redis.asyncio import Redis

from tests.conftest import ROOT
from tornado_rt.stores import StoreAddresses


@pytest.mark.parametrize("mode", [[], ["full"]])
@pytest.mark.gen_test
async def test_our_queue_is_measured(redis: Redis, stores: StoreAddresses, mode: list[str]) -> None:
    command = ("-m", "benchmarks.queues.ours", stores.redis_url, "150", "10", *mode)
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    rates = json.loads(output)
    assert process.returncode == 0
    assert min(rates["enqueue"], rates["process"]) > 0
