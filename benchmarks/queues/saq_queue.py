"""No-op jobs through SAQ."""

import asyncio
import sys
import time
from typing import Any

from saq import Queue, Worker

from benchmarks.queues import report, spread

handled = 0


async def no_op(context: dict[str, Any]) -> None:
    """Do nothing, and count it."""
    global handled
    handled += 1


async def main(url: str, jobs: int, concurrency: int) -> None:
    """Enqueue all, then process all."""
    queue = Queue.from_url(url)
    await queue.connect()

    async def enqueue(number: int) -> None:
        await queue.enqueue("no_op")

    began = time.perf_counter()
    await spread(enqueue, jobs, concurrency)
    enqueued = time.perf_counter()
    worker = Worker(queue, functions=[no_op], concurrency=concurrency)
    running = asyncio.create_task(worker.start())
    while handled < jobs or await queue.count("active"):
        await asyncio.sleep(0.005)
    processed = time.perf_counter()
    await worker.stop()
    await running
    report(jobs, enqueued - began, processed - enqueued)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
