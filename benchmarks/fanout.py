"""`make bench-fanout`: one message to many sockets, here and through what others offer.

    python -m benchmarks.fanout [--connections N] [--messages N] [--rounds N] [--only NAME]

Each server is a process pinned to one core, the load client (C, `benchmarks/fanouts/client.c`) has
another. They run one after another, each round in another order. The tables of medians and the
plot go to `benchmarks/results/`.
"""

import argparse
import os
import platform
import random
import resource
import signal
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.fanouts import large, report
from benchmarks.fanouts.load import Transport, compile_c
from benchmarks.fanouts.rounds import measure
from benchmarks.fanouts.servers import Cores, Need, Start, prepare
from benchmarks.programs import Failed

RESULTS = Path(__file__).resolve().parent / "results"
NAMES = ("ours", "tornado", "starlette", "websockets", "nchan", "ceiling")
# Descriptors of a process besides its connections.
SPARE_FILES = 1000

Key = tuple[str, Transport]


def compare(
    starts: dict[Key, Start], need: Need, messages: int, rounds: int
) -> tuple[report.Found, list[str]]:
    """Measure all in turn; return the medians and why some are not whole."""
    found: dict[Key, list[dict[str, float]]] = {key: [] for key in starts}
    skipped = []
    left = list(starts)
    for _ in range(rounds):
        for key in random.sample(left, len(left)):
            try:
                found[key].append(measure(starts[key], need, key[1], messages))
            except (Failed, OSError) as reason:
                left.remove(key)
                after = f" after {len(found[key])} rounds" if found[key] else ""
                skipped.append(f"- {' '.join(key)} was skipped{after}: {reason}")
                print(skipped[-1], flush=True)
            else:
                print(*key, _brief(found[key][-1]), flush=True)
    return {key: _medians(rows) for key, rows in found.items() if rows}, skipped


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median([row[key] for row in rows]) for key in rows[0]}


def _brief(row: dict[str, float]) -> dict[str, float]:
    return {key: float(f"{value:.4g}") for key, value in row.items()}


def compare_large(need: Need, options: argparse.Namespace) -> tuple[list[large.Large], list[str]]:
    """Measure this product with very many connections, over each transport."""
    found, skipped = [], []
    for transport in options.transports:
        try:
            found.append(large.measure(need, transport, options.messages, options.idle_seconds))
        except (Failed, OSError) as reason:
            skipped.append(f"- ours {transport} with {need.connections}: {reason}")
            print(skipped[-1], flush=True)
        else:
            print(found[-1], flush=True)
    return found, skipped


def find_servers(options: argparse.Namespace) -> tuple[dict[Key, Start], list[str]]:
    """Return what starts each server that can be measured, and why others cannot."""
    starts: dict[Key, Start] = {}
    skipped = []
    for name in options.only or NAMES:
        try:
            start, transports = prepare(name)
        except LookupError as reason:
            skipped.append(f"- {name} was skipped: {reason}")
            continue
        starts |= {(name, one): start for one in transports if one in options.transports}
    return starts, skipped


def choose_cores() -> Cores:
    """Give the client, and us, the last core, the server the first one."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    return Cores(server=cores[0], client=cores[-1])


def raise_file_limit(connections: int) -> None:
    """Allow a process this many open sockets. Raise LookupError when that is forbidden."""
    needed = connections + SPARE_FILES
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(needed, hard), max(needed, hard)))
    except (ValueError, OSError):
        reason = f"{connections} connections need `ulimit -n {needed}`"
        raise LookupError(reason) from None


def describe(options: argparse.Namespace, cores: Cores) -> Iterator[str]:
    """Yield what was measured how."""
    shared = " **the same one, there being no other**" if cores.server == cores.client else ""
    yield "# Fan-out, measured"
    yield ""
    yield (
        f"`make bench-fanout`: {options.connections:,} connections, {options.messages} messages of "
        f"{options.bytes} bytes, medians of {options.rounds} rounds; {os.cpu_count()} cores, "
        f"Python {platform.python_version()}. Each server is one process on core {cores.server}, "
        f"the load client, in C, is on core {cores.client}{shared}. The ceiling is what a loop of "
        "`send()` in C delivers; the client could take more where it is busy for less than 100 %."
    )
    yield ""
    yield (
        "Ours goes the whole way: `POST /api/broadcast`, Redis, backplane, hub; each connection is "
        "another user's, with a JWT, and counts as open from its `connected`; its fixed fields "
        "make its message longer. The others take a bare line of text, nchan a `POST`, and check "
        "nobody. "
        "Messages: published back to back, received from the first publish to the last receipt. "
        "Latency: from publish to receipt, over all receivers, each message published when all "
        "have the one before. Memory: growth of the server's resident set."
    )
    yield ""
    yield "![Messages and memory](fanout.svg)"


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--messages", type=int, default=50)
    parser.add_argument("--bytes", type=int, default=235, help="size of a message")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", action="append", choices=NAMES, help="may be repeated")
    parser.add_argument(
        "--transport",
        dest="transports",
        type=Transport,
        nargs="+",
        default=list(Transport),
        help="ws, sse",
    )
    parser.add_argument("--skip-large", action="store_true", help="without the 10,000")
    parser.add_argument("--large-connections", type=int, default=10000)
    parser.add_argument("--idle-seconds", type=float, default=30.0, help="heartbeats are watched")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the results")
    return parser.parse_args()


def write_results(
    options: argparse.Namespace, cores: Cores, medians: report.Found, rest: list[str]
) -> None:
    """Write the tables and the plot, and print the tables."""
    lines = [*describe(options, cores), *report.tables(medians), *rest]
    options.results.mkdir(exist_ok=True)
    (options.results / "fanout.md").write_text("\n".join(lines) + "\n")
    (options.results / "fanout.svg").write_text(report.plot(medians))
    print("\n".join(lines))


def main() -> int:
    """Measure, write the results; return the exit status."""
    options = read_arguments()
    # So that what was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with_large = not options.skip_large and "ours" in (options.only or NAMES)
    try:
        raise_file_limit(max(options.connections, options.large_connections * with_large))
        compile_c("client")
    except LookupError as reason:
        print(f"skipped: {reason}")
        return 1
    starts, skipped = find_servers(options)
    cores = choose_cores()
    need = Need(options.connections, options.bytes, cores)
    medians, failures = compare(starts, need, options.messages, options.rounds)
    skipped += failures
    found: list[large.Large] = []
    if with_large:
        found, failures = compare_large(
            Need(options.large_connections, options.bytes, cores), options
        )
        skipped += failures
    rest = [*report.describe_large(found), *(["", *skipped] if skipped else [])]
    write_results(options, cores, medians, rest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
