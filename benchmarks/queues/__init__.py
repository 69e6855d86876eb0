"""One module for each queue that is compared; each runs in an environment of its own."""

import asyncio
import json
from collections.abc import Awaitable, Callable


async def spread(enqueue: Callable[[int], Awaitable[object]], jobs: int, lanes: int) -> None:
    """Call `enqueue` for each number, from this many lanes at once."""

    async def lane(first: int) -> None:
        for number in range(first, jobs, lanes):
            await enqueue(number)

    await asyncio.gather(*(lane(first) for first in range(lanes)))


def report(jobs: int, enqueue_seconds: float, process_seconds: float) -> None:
    """Print the rates [jobs/s] as the last line."""
    rates = {"enqueue": jobs / enqueue_seconds, "process": jobs / process_seconds}
    print(json.dumps(rates))
