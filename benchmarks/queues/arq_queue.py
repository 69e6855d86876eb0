"""No-op jobs through arq."""

import asyncio
import sys
import time
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker

from benchmarks.queues import report, spread


async def no_op(context: dict[str, Any]) -> None:
    """Do nothing."""


async def main(url: str, jobs: int, concurrency: int) -> None:
    """Enqueue all, then process all."""
    address = RedisSettings.from_dsn(url)
    pool = await create_pool(address)

    async def enqueue(number: int) -> None:
        await pool.enqueue_job("no_op")

    began = time.perf_counter()
    await spread(enqueue, jobs, concurrency)
    enqueued = time.perf_counter()
    worker = Worker(
        functions=[no_op],
        redis_settings=address,
        burst=True,
        max_jobs=concurrency,
        poll_delay=0.005,
        handle_signals=False,
    )
    await worker.async_run()
    processed = time.perf_counter()
    assert worker.jobs_complete == jobs
    await worker.close()
    await pool.aclose()
    report(jobs, enqueued - began, processed - enqueued)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
