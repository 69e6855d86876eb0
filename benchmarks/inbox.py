"""`make bench-inbox`: the inbox in stores of several sizes, here and as it is made at first.

    python -m benchmarks.inbox [--sizes N,N] [--full] [--samples N] [--only NAME]

Each way runs alone on an embedded store of its own that was filled before. The tables and the plot
go to `benchmarks/results/`.
"""

import argparse
import asyncio
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.inboxes import report
from benchmarks.inboxes.filling import PER_USER
from benchmarks.inboxes.plot import plot
from benchmarks.inboxes.rounds import PAGE, PROBE_SECONDS, Found, Need, measure
from benchmarks.inboxes.servers import Way, serving
from benchmarks.programs import Failed

RESULTS = Path(__file__).resolve().parent / "results"
SIZES = (1_000, 100_000)
FULL_SIZES = (*SIZES, 1_000_000)


def compare(sizes: list[int], ways: list[Way], need: Need) -> tuple[report.Sizes, list[str]]:
    """Measure each way at each size; return what was found, and why some of it is missing."""
    found: dict[int, dict[Way, Found]] = {}
    skipped = []
    for size in sizes:
        for way in ways:
            began = time.monotonic()
            try:
                with serving(way, size) as server:
                    print(f"{way}: {size:,} stored, {time.monotonic() - began:.0f} s", flush=True)
                    found.setdefault(size, {})[way] = asyncio.run(measure(server, need))
            except (Failed, OSError) as reason:
                skipped.append(f"- {size:,}, {way} was skipped: {reason}")
                print(skipped[-1], flush=True)
            else:
                print(f"{way}: measured after {time.monotonic() - began:.0f} s", flush=True)
    return found, skipped


def describe(need: Need, found: report.Sizes) -> Iterator[str]:
    """Yield what was measured how."""
    clients = [one.client for ways in found.values() for one in ways.values()]
    yield "# The inbox, measured"
    yield ""
    yield (
        f"`make bench-inbox`: {need.samples} requests of each kind by one client, one after "
        f"another; medians. {os.cpu_count()} cores, shared by the server, its embedded stores and "
        f"the client, which takes {max(clients) * 1e3:.2f} ms of processor time for a list of 50; "
        f"Python {platform.python_version()}. The measured user has {PER_USER:,} notifications, "
        "as many as are kept, so that each create deletes one; the others are of more users with "
        f"as many each. The two rates go over {need.seconds:g} s. Growth: the cost in times of "
        "that at the smallest size."
    )
    yield ""
    yield (
        "The naive way is a plain Tornado handler on the same embedded store: count for the "
        "quota, insert, count the unread ones, find and sort whatever matches, with the indexes "
        "that come to mind; it checks no token. The probe counts or lists every "
        f"{PROBE_SECONDS * 1e3:.0f} ms while nobody else asks anything."
    )
    yield ""
    yield "![Cost against size](inbox.svg)"


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=_numbers, default=list(SIZES), metavar="N,N")
    parser.add_argument("--full", action="store_true", help="also a million")
    parser.add_argument("--samples", type=int, default=200, help="requests of each kind")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each rate")
    parser.add_argument("--probe-seconds", type=float, default=70.0, help="upkeep is watched")
    parser.add_argument("--only", type=Way, action="append", choices=list(Way))
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    sizes = sorted(int(one) for one in text.split(","))
    if sizes[0] <= PAGE:
        raise argparse.ArgumentTypeError(f"the list must be longer than a page of {PAGE}")
    return sizes


def write_results(folder: Path, need: Need, found: report.Sizes, skipped: list[str]) -> None:
    """Write the tables and the plot, and print the tables."""
    failures = [*report.failures(found), *skipped]
    aims = ["", "## Not as it should be", "", *failures] if failures else []
    lines = [*describe(need, found), *report.tables(found), *aims]
    folder.mkdir(exist_ok=True)
    (folder / "inbox.md").write_text("\n".join(lines) + "\n")
    (folder / "inbox.svg").write_text(plot(found))
    print("\n".join(lines))


def main() -> int:
    """Measure, write the results; return the exit status."""
    options = read_arguments()
    # So that what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    need = Need(options.samples, options.seconds, options.probe_seconds)
    sizes = list(FULL_SIZES) if options.full else options.sizes
    found, skipped = compare(sizes, options.only or list(Way), need)
    if not found:
        return 1
    write_results(options.results, need, found, skipped)
    return 0


if __name__ == "__main__":
    sys.exit(main())
