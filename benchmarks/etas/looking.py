"""A client that looks at what it was told of the time left, and subtracts the time since then."""

import itertools
from collections.abc import Sequence

import attrs

# At these shares of a task's time a client looks.
POINTS = (0.1, 0.5, 0.9)
# A point is drawn from this far around it: at exactly 10 % of the time, 10 % of a plan are done
# whatever the tasks do, and a line would be right by chance.
AROUND = 0.02
# A time left that is more than this above the one that has run down has risen [s].
RISE = 0.05


@attrs.frozen
class Told:
    """A report of a method: the time left [s], its band, and when it was told."""

    at: float
    seconds: float | None
    low: float | None = None
    high: float | None = None
    revised: str | None = None


@attrs.frozen
class Seen:
    """A client's look at a point of a task: shares of the task's length, whether the band held."""

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
        if two.seconds > max(one.seconds - (two.at - one.at), 0.0) + RISE:
            count += 1
            silent += two.revised is None
    return count, silent
