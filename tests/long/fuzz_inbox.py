"""`make fuzz-inbox`: a long random walk of the inbox, by four processes, beside its model.

    python -m tests.long.fuzz_inbox [--operations N] [--seed N] [--round N] [--users N] [--pause S]

Prints the seed. The operations and faults follow from it; the ways they meet do not.
"""

import argparse
import asyncio
import os
import random
import sys
import time

from tests.inbox_model import Wrong
from tests.inbox_walk import walking


async def walk(operations: int, seed: int, a_round: int, users: int, pause: float) -> None:
    """Do operations in rounds; compare all behind each."""
    began, done = time.monotonic(), 0
    async with walking(seed, users, pause) as walking_:
        while done < operations:
            await walking_.go(min(a_round, operations - done))
            done += min(a_round, operations - done)
            rate = done / (time.monotonic() - began)
            print(f"{done} operations, {rate:.0f}/s {dict(walking_.history.tally)}", flush=True)
    tally = walking_.history.tally
    print(
        f"{done} operations of seed {seed}: {tally['versions']} versions, {tally['doubtful']} of "
        f"them by operations in doubt, {tally['counts']} counts, {tally['lists']} lists and "
        f"{tally['messages']} messages compared, faults {walking_.faults}; no difference"
    )


def main() -> None:
    """Read the arguments and walk."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--round", type=int, default=4000)
    parser.add_argument("--users", type=int, default=24)
    parser.add_argument("--pause", type=float, default=5.0, help="longest between two faults [s]")
    options = parser.parse_args()
    os.nice(10)
    print(f"seed {options.seed}", flush=True)
    try:
        asyncio.run(
            walk(options.operations, options.seed, options.round, options.users, options.pause)
        )
    except Wrong as wrong:
        sys.exit(f"broken in seed {options.seed}: {wrong}")


if __name__ == "__main__":
    main()
