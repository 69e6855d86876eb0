"""The benchmarks of the queue and of the inbox run on the product as it is."""

import asyncio
import json
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.conftest import ROOT
from tornado_rt.stores import StoreAddresses

pytestmark = pytest.mark.long


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


@pytest.mark.gen_test
async def test_our_inbox_is_measured(tmp_path: Path) -> None:
    """On stores of its own, at one small size, beside the naive way."""
    few = ("--sizes", "150", "--samples", "5", "--seconds", "0.3", "--probe-seconds", "1")
    command = ("-m", "benchmarks.inbox", *few, "--results", str(tmp_path))
    process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT)
    assert await process.wait() == 0
    report = (tmp_path / "inbox.md").read_text()
    assert "skipped" not in report
    assert report.count("| list of 50") == 4
    assert (tmp_path / "inbox.svg").read_text().count("<polyline") >= 20
