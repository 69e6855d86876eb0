"""The time left, measured in virtual time: how far off it is, and how often the band holds.

Eight workloads of sixty tasks each, of which the last thirty count, and two that change at half. At
10, 50 and 90 % of each task's time a client reads what was told last, less the time since then.
"""

import argparse
import itertools
import math
import random
import statistics
from collections.abc import Callable, Iterator

import attrs

from benchmarks.etas.looking import AROUND, POINTS, Seen, look, rises
from benchmarks.etas.methods import OTHERS, ours
from benchmarks.etas.report import VIRTUAL, write_section
from services.analysis import Analyst, estimate_seconds
from services.analysis.plan import make_plan
from services.estimates import Learner
from tornado_rt.work.forecast import Forecast, name_of

ANALYSTS = [Analyst.MARKET, Analyst.FUNDAMENTALS, Analyst.NEWS]
DEPTH = 3
PLAN = make_plan(ANALYSTS, DEPTH)
PRIOR = estimate_seconds(ANALYSTS, DEPTH, "dashscope")
LEAVES = PLAN.leaves
SHARES = [leaf.share for leaf in LEAVES]
NAMES = [name_of(leaf.path) for leaf in LEAVES]

TASKS, COUNTED = 60, 30
TASK_SPREAD, STEP_SPREAD = 0.08, 0.12
SLOW_STEP = len(LEAVES) // 2


def durations(
    generator: random.Random,
    *,
    level: float = 1.0,
    shape: Callable[[int], float] = lambda _: 1.0,
    is_equal: bool = False,
    is_heavy: bool = False,
) -> list[float]:
    """Return the times of the steps of one task [s]."""
    pace = generator.gauss(0, TASK_SPREAD)
    found = []
    for index, share in enumerate(SHARES):
        usual = PRIOR * level * (1 / len(SHARES) if is_equal else share) * shape(index)
        apart = generator.gauss(0, STEP_SPREAD)
        if is_heavy:
            # Half of the steps take less than usual, and one in a hundred seven times as long.
            apart = math.log(generator.paretovariate(2.0)) - math.log(2) / 2
        found.append(usual * math.exp(pace + apart))
    return found


def slow_step(index: int) -> float:
    """Return how often its usual time a step takes, where one is slow."""
    return 8.0 if index == SLOW_STEP else 1.0


WORKLOADS: dict[str, Callable[[random.Random, int], list[float]]] = {
    "steady": lambda g, _: durations(g),
    "twice as slow": lambda g, _: durations(g, level=2.0),
    "four times faster": lambda g, _: durations(g, level=0.25),
    "one slow step": lambda g, _: durations(g, shape=slow_step),
    "slow start": lambda g, _: durations(g, shape=lambda index: 6.0 if index < 4 else 1.0),
    "drifting": lambda g, number: durations(g, level=1.02**number),
    "heavy tail": lambda g, _: durations(g, is_heavy=True),
    "equal steps": lambda g, _: durations(g, is_equal=True),
    "level x3 at half": lambda g, n: durations(g, level=1.0 if n < TASKS // 2 else 3.0),
    "a step x8 at half": lambda g, n: durations(g, shape=slow_step if n >= TASKS // 2 else _one),
}


def _one(_: int) -> float:
    return 1.0


@attrs.define
class Row:
    """The measures of a workload: by point what was seen, of ours and of others."""

    seen: dict[float, list[Seen]] = attrs.field(factory=lambda: {point: [] for point in POINTS})
    others: dict[tuple[str, float], list[float]] = attrs.field(factory=dict)
    rises: int = 0
    silent: int = 0
    tasks: int = 0

    def error(self, point: float) -> float:
        """The mean error of ours."""
        return statistics.mean(one.error for one in self.seen[point])

    def other(self, name: str, point: float) -> float:
        """The mean error of another."""
        return statistics.mean(self.others[name, point])

    @property
    def coverage(self) -> float:
        """The share of looks in which the band held."""
        return statistics.mean(one.holds for one in self._all())

    @property
    def width(self) -> float:
        """The mean width of the band."""
        return statistics.mean(one.width for one in self._all())

    def _all(self) -> Iterator[Seen]:
        return itertools.chain.from_iterable(self.seen.values())


def measure(workload: str, seeds: int) -> Row:
    """Run one workload with each of these seeds."""
    row = Row()
    for seed in range(seeds):
        generator = random.Random(f"{workload} {seed}")
        learner = Learner(list(zip(NAMES, SHARES, strict=True)), PRIOR)
        for number in range(TASKS):
            steps = WORKLOADS[workload](generator, number)
            if number >= TASKS - COUNTED:
                _count(row, learner.forecast(), steps, generator)
            learner.learn(list(zip(NAMES, steps, strict=True)))
    return row


def _count(row: Row, forecast: Forecast, steps: list[float], generator: random.Random) -> None:
    whole = sum(steps)
    told = ours(LEAVES, forecast, steps)
    others = {name: method(steps, SHARES, PRIOR) for name, method in OTHERS.items()}
    for point in POINTS:
        at = (point + generator.uniform(-AROUND, AROUND)) * whole
        row.seen[point].append(look(told, at, whole))
        for name, other in others.items():
            row.others.setdefault((name, point), []).append(look(other, at, whole).error)
    count, silent = rises(told)
    row.rises, row.silent, row.tasks = row.rises + count, row.silent + silent, row.tasks + 1


def table(rows: dict[str, Row], seeds: int) -> str:
    """Return the results as Markdown."""
    names = ["ours", *OTHERS]
    lines = [
        f"`make bench-eta`: {TASKS} tasks a workload of {len(LEAVES)} steps in virtual time, the "
        f"last {COUNTED} count, {seeds} seeds. Mean error of the time left as a share of the "
        "task's length, at 10 / 50 / 90 % of it. `before` is the tracker that this one replaced, "
        "`plan` what is left of the plan's time, `smoothed` a weighted pace as tqdm's.",
        "",
        f"| workload | {' | '.join(names)} | band holds | its width | rises a task | unexplained |",
        f"| --- |{' ---: |' * (len(names) + 4)}",
    ]
    for workload, row in rows.items():
        cells = [" / ".join(f"{row.error(point):.3f}" for point in POINTS)]
        cells += [
            " / ".join(f"{row.other(name, point):.3f}" for point in POINTS) for name in OTHERS
        ]
        lines.append(
            f"| {workload} | {' | '.join(cells)} | {row.coverage:.3f} | {row.width:.3f} "
            f"| {row.rises / row.tasks:.2f} | {row.silent} |"
        )
    means = [
        f"{point:.0%}: ours {statistics.mean(row.error(point) for row in rows.values()):.3f}, "
        + ", ".join(
            f"{name} {statistics.mean(row.other(name, point) for row in rows.values()):.3f}"
            for name in OTHERS
        )
        for point in POINTS
    ]
    return "\n".join([*lines, "", "Means: " + "; ".join(means) + ".", ""])


def main() -> None:
    """Run all workloads, print the table, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--no-write", action="store_true")
    given = parser.parse_args()
    rows = {workload: measure(workload, given.seeds) for workload in WORKLOADS}
    text = table(rows, given.seeds)
    print(text)
    if not given.no_write:
        write_section(VIRTUAL, text)


if __name__ == "__main__":
    main()
