"""`make fuzz-queue`: a long random walk of the queue beside its model.

    python -m tests.long.fuzz_queue [--steps N] [--seed N] [--compare-every N]

Prints the seed; the same seed takes the same steps, however often the two are compared.
"""

import argparse
import asyncio
import collections
import random
import sys
import tempfile
import time
from pathlib import Path

from redis.asyncio import Redis

from tests.queue_model import make_driver
from tests.realtime import start_redis

CHECK_EVERY = 500
TELL_EVERY = 20_000


async def walk(steps: int, seed: int, compare_every: int) -> None:
    """Take the steps on a Redis of our own."""
    with tempfile.TemporaryDirectory() as folder:
        address = Path(folder) / "redis.sock"
        process = await start_redis(address)
        try:
            async with Redis.from_url(f"unix://{address}") as redis:
                await _walk(redis, steps, seed, compare_every)
        finally:
            process.kill()
            await process.wait()


async def _walk(redis: Redis, steps: int, seed: int, compare_every: int) -> None:
    driver, taken = await make_driver(redis, seed), collections.Counter[str]()
    began = time.monotonic()
    for number in range(1, steps + 1):
        try:
            taken[await driver.step()] += 1
            if number % compare_every == 0:
                await driver.compare()
            if number % CHECK_EVERY == 0:
                await driver.check()
        except AssertionError:
            print(f"broken at step {number} of seed {seed}", file=sys.stderr)
            raise
        if number % TELL_EVERY == 0:
            print(f"{number} steps, {number / (time.monotonic() - began):.0f}/s", flush=True)
    await driver.check()
    print(f"{steps} steps of seed {seed}: {dict(taken)}; no limit exceeded, no invariant broken")


def main() -> None:
    """Read the arguments and walk."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--compare-every", type=int, default=10)
    options = parser.parse_args()
    print(f"seed {options.seed}")
    asyncio.run(walk(options.steps, options.seed, options.compare_every))


if __name__ == "__main__":
    main()
