"""The time left, measured in virtual time: how far off it is, and how often the band holds.

Eight workloads of sixty tasks each, of which the last thirty count, and two that change at half. At
10, 50 and 90 % of each task's time a client reads what was told last, less the time since then.
"""

import argparse
import itertools
import math
import random
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs

from services.analysis import Analyst, estimate_seconds
from services.analysis.plan import make_plan
from services.estimates import Learner
from tornado_rt.work.forecast import Forecast, name_of
from tornado_rt.work.timekeeper import Sight, Timekeeper

ANALYSTS = [Analyst.MARKET, Analyst.FUNDAMENTALS, Analyst.NEWS]
DEPTH = 3
PLAN = make_plan(ANALYSTS, DEPTH)
PRIOR = estimate_seconds(ANALYSTS, DEPTH, "dashscope")
LEAVES = PLAN.leaves
SHARES = [leaf.share for leaf in LEAVES]
NAMES = [name_of(leaf.path) for leaf in LEAVES]

TASKS, COUNTED = 60, 30
POINTS = (0.1, 0.5, 0.9)
# A point is drawn from this far around it: at exactly 10 % of the time, 10 % of this plan are done
# whatever the tasks do, and a line would be right by chance.
AROUND = 0.02
TASK_SPREAD, STEP_SPREAD = 0.08, 0.12
SLOW_STEP = len(LEAVES) // 2
# Of the moving average of tqdm 4.67.
SMOOTHING = 0.3
PACE_TRUSTED_FROM = 0.25
RESULT = Path(__file__).parent / "results" / "eta.md"

Durations = list[float]


@attrs.frozen
class Told:
    """What a method told: the time left [s], its band, and when."""

    at: float
    seconds: float | None
    low: float | None = None
    high: float | None = None
    revised: str | None = None


Method = Callable[[Durations], list[Told]]


def durations(
    generator: random.Random,
    *,
    level: float = 1.0,
    shape: Callable[[int], float] = lambda _: 1.0,
    is_equal: bool = False,
    is_heavy: bool = False,
) -> Durations:
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


WORKLOADS: dict[str, Callable[[random.Random, int], Durations]] = {
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


def ours(forecast: Forecast, steps: Durations) -> list[Told]:
    """Return what the product tells: at each step, and when it looks again by itself."""
    keeper = Timekeeper(forecast)
    told: list[Told] = []
    ends = [0.0, *itertools.accumulate(steps)]

    def tell(at: float) -> None:
        estimate = keeper.tell(at)
        if estimate is None:
            told.append(Told(at, None))
        else:
            told.append(Told(at, estimate.seconds, estimate.low, estimate.high, keeper.revised))

    for index, (begin, end) in enumerate(itertools.pairwise(ends)):
        marks = ("c" * index + "r").ljust(len(LEAVES), "p")
        keeper.see(Sight(LEAVES, marks, index, 0.0, sum(SHARES[:index])), begin)
        tell(begin)
        at = begin
        while (wait := keeper.look_in(at)) is not None and at + wait < end:
            at += wait
            tell(at)
    return told


def by_share(remaining: Callable[[float, float], float]) -> Method:
    """Return a method that tells the rest from the time so far and the share that is done."""

    def method(steps: Durations) -> list[Told]:
        at, done, told = 0.0, 0.0, [Told(0.0, PRIOR)]
        for seconds, share in zip(steps, SHARES, strict=True):
            at, done = at + seconds, min(done + share, 1.0)
            told.append(Told(at, remaining(at, done)))
        return told

    return method


def before(elapsed: float, done: float) -> float:
    """The tracker before this one: the plan's time, and more and more the pace so far."""
    planned, paced = PRIOR * (1 - done), linear(elapsed, done)
    trust = min(done / PACE_TRUSTED_FROM, 1.0)
    return trust * paced + (1 - trust) * planned


def linear(elapsed: float, done: float) -> float:
    """The pace so far."""
    return elapsed / done * (1 - done)


def planned(_: float, done: float) -> float:
    """What is left of the plan's time."""
    return PRIOR * (1 - done)


def smoothed(steps: Durations) -> list[Told]:
    """An exponentially weighted pace, as tqdm's."""
    at, done, told = 0.0, 0.0, [Told(0.0, PRIOR)]
    shares = times = 0.0
    for count, (seconds, share) in enumerate(zip(steps, SHARES, strict=True), 1):
        at, done = at + seconds, min(done + share, 1.0)
        shares = SMOOTHING * share + (1 - SMOOTHING) * shares
        times = SMOOTHING * seconds + (1 - SMOOTHING) * times
        assert count
        told.append(Told(at, times / shares * (1 - done)))
    return told


OTHERS: dict[str, Method] = {
    "before": by_share(before),
    "plan": by_share(planned),
    "linear": by_share(linear),
    "smoothed": smoothed,
}


@attrs.frozen
class Seen:
    """What a client saw at a point of a task: shares of the task's length, whether it held."""

    error: float
    holds: bool
    width: float


def look(told: Sequence[Told], at: float, whole: float) -> Seen:
    """Return what a client sees that subtracts the time since it was told."""
    last = [one for one in told if one.at <= at][-1]
    since, left = at - last.at, whole - at
    if last.seconds is None:
        return Seen(1.0, False, 0.0)
    error = abs(max(last.seconds - since, 0.0) - left) / whole
    if last.low is None or last.high is None:
        return Seen(error, False, 0.0)
    low, high = max(last.low - since, 0.0), max(last.high - since, 0.0)
    return Seen(error, low <= left <= high, (high - low) / whole)


def rises(told: Sequence[Told]) -> tuple[int, int]:
    """Return how often the time left rose, and how often without a reason."""
    count = silent = 0
    for one, two in itertools.pairwise(told):
        if one.seconds is None or two.seconds is None:
            continue
        if two.seconds > max(one.seconds - (two.at - one.at), 0.0) + 0.05:
            count += 1
            silent += two.revised is None
    return count, silent


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
    """Run one workload with so many seeds."""
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


def _count(row: Row, forecast: Forecast, steps: Durations, generator: random.Random) -> None:
    whole = sum(steps)
    told = ours(forecast, steps)
    others = {name: method(steps) for name, method in OTHERS.items()}
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
        "# The time left, measured",
        "",
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
        RESULT.write_text(text)


if __name__ == "__main__":
    main()
