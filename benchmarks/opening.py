"""`make bench-opening`: how fast WebSockets open, here and at a plain Tornado handler.

    python -m benchmarks.opening [--connections N] [--rounds N]

Each server is a process pinned to one core, the load client (C, `benchmarks/fanouts/client.c`) and
our stores have another. They take turns within each round, so that a busy machine is the same for
both: what is told are medians of each round's ratio. Ours checks a JWT of each connection's own
user, counts it in over all processes, subscribes, reads the counts of its inbox, and sends
`connected`; plain Tornado checks nobody and sends nothing. The table goes to
`benchmarks/results/opening.md`.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import attrs

from benchmarks.fanouts.load import Transport, compile_c
from benchmarks.fanouts.servers import Cores, Need, Target, prepare
from benchmarks.programs import token

RESULTS = Path(__file__).resolve().parent / "results" / "opening.md"
NAMES = {"ours": "this server", "tornado": "plain Tornado"}
BASE = "tornado"
MESSAGE_BYTES = 600
# Between two servers' turns, so that one has closed what the other's round finds busy [s].
REST_SECONDS = 0.3
# Of the clocks of a process, the one that counts nanoseconds (linux/posix-timers.h).
SCHED = 2


@attrs.frozen
class Round:
    """Connections a second, and the server's processor time for each [s]."""

    rate: float
    cpu: float


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--rounds", type=int, default=10)
    chosen = parser.parse_args()
    compile_c("client")
    rows = []
    for connections in chosen.connections:
        found = measure(connections, chosen.rounds)
        rows += [row_of(name, connections, found) for name in NAMES]
        print(*rows[-len(NAMES) :], sep="\n", flush=True)
    RESULTS.write_text(document(rows, chosen.rounds))


def measure(connections: int, rounds: int) -> dict[str, list[Round]]:
    """Open and close this many connections of each server in turn."""
    need = Need(connections, MESSAGE_BYTES, Cores(0, 1))
    found: dict[str, list[Round]] = {name: [] for name in NAMES}
    with ExitStack() as stack:
        targets = {name: stack.enter_context(prepare(name)[0](need)) for name in NAMES}
        for number in range(rounds):
            for name, target in targets.items():
                if target.tokens is not None:
                    # Nobody has been here before: each token is checked.
                    users = (f"user{number}-{one}" for one in range(connections))
                    target.tokens.write_text("".join(f"{token(one)}\n" for one in users))
                found[name].append(one_round(target, connections))
                time.sleep(REST_SECONDS)
    return found


def one_round(target: Target, connections: int) -> Round:
    """Open them once."""
    before = processor_seconds(target.pids)
    with target.connect(Transport.WEBSOCKET, connections) as load:
        used = processor_seconds(target.pids) - before
        return Round(connections / load.opening_seconds, used / connections)


def processor_seconds(pids: Sequence[int]) -> float:
    """Return what processes have used, also by threads that have ended [s].

    The ticks of `/proc/PID/stat` are coarser. The id of a process's clock is that of
    clock_getcpuclockid(3).
    """
    return sum(time.clock_gettime((~pid << 3) | SCHED) for pid in pids)


def row_of(name: str, connections: int, found: dict[str, list[Round]]) -> str:
    """Return a line of the table."""
    own, base = found[name], found[BASE]
    rate = statistics.median(one.rate for one in own)
    cpu = statistics.median(one.cpu for one in own)
    pairs = list(zip(own, base, strict=True))
    rates = statistics.median(mine.rate / plain.rate for mine, plain in pairs)
    costs = statistics.median(plain.cpu / mine.cpu for mine, plain in pairs)
    return (
        f"| {NAMES[name]} | {connections:,} | {rate:,.0f} | {cpu * 1e6:,.0f} | {rates:.2f} "
        f"| {costs:.2f} |"
    )


def document(rows: Sequence[str], rounds: int) -> str:
    """Return the page of results."""
    head = [
        "# Opening WebSockets, measured",
        "",
        f"`make bench-opening`: medians of {rounds} rounds, in which servers take turns; 2 cores, "
        f"Python {platform.python_version()}. Each server is one process on core 0; the client, "
        "in C, and our Redis and MongoDB are on core 1. Ours checks a JWT that it has not seen, "
        "limits over all processes, subscribes, reads the counts and sends `connected`, for "
        "another user with each connection. A ratio is the median of the rounds' ratios.",
        "",
        "| server | connections | opened [1/s] | processor time [µs] | ratio of rates | of times |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *rows,
    ]
    return "\n".join(head) + "\n"


if __name__ == "__main__":
    main()
