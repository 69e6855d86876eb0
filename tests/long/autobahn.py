"""`make autobahn`: the cases of the Autobahn test suite against our frames and compression.

    python -m tests.long.autobahn [--short]

`kosoku` brings the cases and runs them; the other side is the echo endpoint of `tests.echo`. Fails
for a case that failed, was not strict, or is not implemented. In a process of its own: the cases
are of another age, and `kosoku` changes Python's modules for them.
"""

import argparse
import asyncio
import os
import sys
import time

from kosoku import FailureError, run_fuzzingclient

from tests.echo import echo_server

ALLOWED = {"OK", "INFORMATIONAL"}
COMPRESSION = ["12.*", "13.*"]
# 1000 messages each: one of each offer, small, larger, and in fragments.
FEW_COMPRESSED = ["12.1.1", "12.4.4", "13.1.2", "13.2.1", "13.3.4", "13.4.1", "13.5.11", "13.6.1"]
# Number of cases that run at once: most of them wait most of the time.
CONCURRENCY = 8


async def run(compression: bool, cases: list[str] | None, but: list[str] | None) -> int:
    """Run the cases, and print what went wrong; return how many of them did."""
    began = time.monotonic()
    async with echo_server(compression=compression) as port:
        try:
            results = await run_fuzzingclient(
                f"ws://127.0.0.1:{port}", cases, but, concurrency=CONCURRENCY
            )
        except FailureError as error:
            results = error.results
    wrong = [one for one in results if not {*_verdicts(one)} <= ALLOWED]
    for one in wrong:
        print(one.case_id, *_verdicts(one), one.result, one.result_close, sep=" | ")
    print(
        f"compression {'on' if compression else 'off'}: {len(results)} cases, "
        f"{len(wrong)} wrong, {time.monotonic() - began:.0f} s",
        flush=True,
    )
    # None at all would be no success.
    return len(wrong) + (not results)


def _verdicts(result: object) -> tuple[str, str]:
    return result.behavior.value, result.behavior_close.value


async def run_all() -> int:
    """Run every case: those of compression only with it."""
    return await run(False, None, COMPRESSION) + await run(True, None, None)


async def run_short() -> int:
    """Run what takes seconds: all but the large messages, and some with compression."""
    large = ["9.*", *COMPRESSION]
    wrong = await run(False, None, large)
    return wrong + await run(True, None, large) + await run(True, FEW_COMPRESSED, None)


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="only what takes seconds")
    arguments = parser.parse_args()
    wrong = asyncio.run(run_short() if arguments.short else run_all())
    sys.stdout.flush()
    # A native thread of `kosoku` that asks for the interpreter while it ends aborts the process.
    os._exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
