"""Methods that tell the time left of a task while its steps end: the product's, and others."""

import itertools
from collections.abc import Callable, Sequence

from benchmarks.etas.looking import Told
from tornado_rt.work.forecast import Forecast
from tornado_rt.work.plan import Leaf
from tornado_rt.work.timekeeper import Sight, Timekeeper

# Of the moving average of tqdm 4.67.
SMOOTHING = 0.3
PACE_TRUSTED_FROM = 0.25

Durations = Sequence[float]
# Tells from the times of the steps, their shares in the plan, and the plan's time [s].
Method = Callable[[Durations, Sequence[float], float], list[Told]]


def ours(leaves: Sequence[Leaf], forecast: Forecast, steps: Durations) -> list[Told]:
    """Return what the product tells: at each step, and when it looks again by itself."""
    keeper = Timekeeper(forecast)
    told: list[Told] = []
    ends = [0.0, *itertools.accumulate(steps)]
    done = [0.0, *itertools.accumulate(leaf.share for leaf in leaves)]

    def tell(at: float) -> None:
        estimate = keeper.tell(at)
        if estimate is None:
            told.append(Told(at, None))
        else:
            told.append(Told(at, estimate.seconds, estimate.low, estimate.high, keeper.revised))

    for index, (begin, end) in enumerate(itertools.pairwise(ends)):
        marks = ("c" * index + "r").ljust(len(leaves), "p")
        keeper.see(Sight(leaves, marks, index, 0.0, done[index]), begin)
        tell(begin)
        at = begin
        while (wait := keeper.look_in(at)) is not None and at + wait < end:
            at += wait
            tell(at)
    return told


def by_share(remaining: Callable[[float, float, float], float]) -> Method:
    """Return a method that tells the rest from the time so far, the share that is done, and the
    plan's time."""

    def method(steps: Durations, shares: Sequence[float], prior: float) -> list[Told]:
        at, done, told = 0.0, 0.0, [Told(0.0, prior)]
        for seconds, share in zip(steps, shares, strict=True):
            at, done = at + seconds, min(done + share, 1.0)
            told.append(Told(at, remaining(at, done, prior)))
        return told

    return method


def before(elapsed: float, done: float, prior: float) -> float:
    """The tracker before this one: the plan's time, and more and more the pace so far."""
    trust = min(done / PACE_TRUSTED_FROM, 1.0)
    return trust * linear(elapsed, done, prior) + (1 - trust) * planned(elapsed, done, prior)


def linear(elapsed: float, done: float, _: float) -> float:
    """The pace so far."""
    return elapsed / done * (1 - done)


def planned(_: float, done: float, prior: float) -> float:
    """Return the rest of the plan's time."""
    return prior * (1 - done)


def smoothed(steps: Durations, shares: Sequence[float], prior: float) -> list[Told]:
    """An exponentially weighted pace, as tqdm's."""
    at, done, told = 0.0, 0.0, [Told(0.0, prior)]
    part = times = 0.0
    for seconds, share in zip(steps, shares, strict=True):
        at, done = at + seconds, min(done + share, 1.0)
        part = SMOOTHING * share + (1 - SMOOTHING) * part
        times = SMOOTHING * seconds + (1 - SMOOTHING) * times
        told.append(Told(at, times / part * (1 - done)))
    return told


OTHERS: dict[str, Method] = {
    "before": by_share(before),
    "plan": by_share(planned),
    "linear": by_share(linear),
    "smoothed": smoothed,
}
