"""The time left of a task, from what is known of tasks like it and from its own pace.

A task is a row of segments: the leaves of its plan, or tenths of its progress when it has none.
The time of a segment is lognormal, with a factor that all segments of a task share. The factor's
prior is a narrow normal with a wide one beside it: a task unlike all before is noticed at once.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import attrs

# Segments of a task without steps.
TENTHS = 10
# A segment counts as this long at least [s].
LEAST_SECONDS = 1e-3
# Clocks and queues add this much to a segment, whatever its length [s].
JITTER_SECONDS = 0.02
# The share of tasks that are unlike those before them, and how much [log].
UNLIKE = 0.03
UNLIKE_VARIANCE = 0.5
# A segment's time counts at most this far from the pace so far [log].
MOST_APART = 2.0
# Variances of a segment, and of a task's factor, without any knowledge.
UNKNOWN_VARIANCE = 0.25
UNKNOWN_PACE = 0.5
# Variance of the factor when not even the whole length is known.
NO_LENGTH_PACE = 25.0
# Variance with which a reported fraction tells the time of its segment, at one half.
FRACTION_VARIANCE = 0.05
# Nothing is surer than this [variance of a log].
LEAST_SPREAD = 1e-8
# The hazard of a standard normal at one deviation: from there on a segment is late.
LATE_HAZARD = 1.5251
LEAST_GUESS_VARIANCE = 1e-6
# The rest of a segment varies by at least this share of it, beside its own spread.
REST_SPREAD = 0.3
# Logs of seconds and of factors are no larger.
MOST_LOG = 30.0
# A smaller fraction tells nothing.
LEAST_FRACTION = 1e-6
# The band is the 10th to the 90th percentile: of a normal, this many spreads to each side.
NORMAL_BAND = 1.2816
# After this many tasks of at least this length [s] the usual times of steps weigh in the progress.
WEIGHED_TASKS = 3
WEIGHED_SECONDS = 5.0
# Between the names of the path of a leaf, in the name of its segment: no name has it.
SEPARATOR = "\x1f"
# Parts of the way that have a band each.
STAGES = 20
# The spread of the log of the time left beyond which nothing is told.
MOST_SPREAD = 1.2

_NORMAL = NormalDist()


def name_of(path: Sequence[str]) -> str:
    """Return the name of the segment of a leaf."""
    return SEPARATOR.join(path)


@attrs.frozen
class Estimate:
    """The time left [s]: the median, and the 10th and 90th percentile."""

    seconds: float
    low: float
    high: float

    def after(self, seconds: float) -> "Estimate":
        """Return it as the clock has run it down."""
        return Estimate(
            max(self.seconds - seconds, 0.0),
            max(self.low - seconds, 0.0),
            max(self.high - seconds, 0.0),
        )


@attrs.frozen
class Guess:
    """The log of the time left is `middle`, with this spread, before it is calibrated."""

    middle: float
    spread: float
    stage: int


class _Case(NamedTuple):
    """The time left under one prior: the log of how likely it is, the log of what is left [s], the
    variance of that, and the share of this segment that is left."""

    weight: float
    middle: float
    variance: float
    share_left: float


class _Inside(NamedTuple):
    """The task's factor after what was seen of a segment, and its variance; the rest of the segment
    [s], and its variance; the log of how likely that was."""

    pace: float
    variance: float
    rest: float = 0.0
    rest_variance: float = 0.0
    likelihood: float = 0.0


Band = tuple[float, float, float]
PLAIN_BANDS: tuple[Band, ...] = ((-NORMAL_BAND, 0.0, NORMAL_BAND),) * STAGES


@attrs.frozen
class Usual:
    """The usual time of a segment: the log of its median [s], the variance of the log, and the
    share of tasks that have the segment. `is_known`: from tasks, not by its share of the whole.
    """

    log: float
    variance: float
    presence: float = 1.0
    is_known: bool = True

    @property
    def seconds(self) -> float:
        """The median [s]."""
        return math.exp(self.log)


@attrs.frozen(eq=False)
class Forecast:
    """The knowledge of tasks like one before it runs. Each is equal to itself alone.

    `segments`: by their names. `length`: the usual time of the whole [s], None: unknown.
    `pace_variance`: of the log of a task's factor. `bands`: for each stage of the way the quantiles
    of (true log - guessed log) / spread at 0.1, 0.5 and 0.9. `tasks`: how many are behind it.
    """

    segments: Mapping[str, Usual]
    length: float | None = None
    pace_variance: float = UNKNOWN_PACE
    bands: tuple[Band, ...] = PLAIN_BANDS
    tasks: int = 0

    def scaled(self, factor: float) -> "Forecast":
        """Return the same for tasks that take `factor` times as long."""
        if factor == 1:
            return self
        return attrs.evolve(
            self,
            segments={
                name: attrs.evolve(one, log=one.log + math.log(factor))
                for name, one in self.segments.items()
            },
            length=None if self.length is None else self.length * factor,
        )

    @property
    def weighs(self) -> bool:
        """Whether the usual times of steps weigh in the progress of a task, in place of its plan.

        Percent and time agree then.
        """
        return self.tasks >= WEIGHED_TASKS and (self.length or 0.0) >= WEIGHED_SECONDS

    def usual(self, name: str, share: float) -> Usual:
        """Return the usual time of a segment; by its share of the whole when it is not known."""
        known = self.segments.get(name)
        if known is not None:
            return known
        whole = 1.0 if self.length is None else self.length
        return Usual(math.log(max(whole * share, LEAST_SECONDS)), UNKNOWN_VARIANCE, is_known=False)


class Way:
    """The segments of a task, and how far it is on them.

    `segments`: their names and shares of the whole, in their order.
    """

    def __init__(self, forecast: Forecast, segments: Sequence[tuple[str, float]]) -> None:
        self._bands = forecast.bands
        self._prior = forecast.pace_variance if forecast.length is not None else NO_LENGTH_PACE
        self._usual = [forecast.usual(name, share) for name, share in segments]
        # The median of each, its mean by how often there is one, and the variance of that.
        self._means = [_mean_of(one) for one in self._usual]
        self._variances = [
            (mean * mean) * (math.exp(min(one.variance, 2.0)) / max(one.presence, 0.05) - 1)
            for mean, one in zip(self._means, self._usual, strict=True)
        ]
        self._left = sum(self._means)
        self._left_variance = sum(self._variances)
        self._whole = self._left or LEAST_SECONDS
        self._done = [False] * len(segments)
        # Of the residuals r of what is done, with variances v: the sums of 1/v and of r/v.
        self._precision = self._weighted = 0.0
        self._count = 0

    def end(self, index: int, seconds: float | None) -> None:
        """A segment has ended after these seconds; None: it tells nothing of the pace."""
        if self._done[index]:
            return
        self._done[index] = True
        self._left -= self._means[index]
        self._left_variance -= self._variances[index]
        if seconds is not None:
            usual = self._usual[index]
            seconds = max(seconds, LEAST_SECONDS)
            variance = usual.variance + (JITTER_SECONDS / usual.seconds) ** 2
            residual = math.log(seconds) - usual.log
            if self._count:
                # A report that comes late leaves no time to the next segments.
                pace = self._weighted / self._precision
                residual = min(max(residual, pace - MOST_APART), pace + MOST_APART)
            self._precision += 1 / variance
            self._weighted += residual / variance
            self._count += 1

    def guess(self, index: int | None, seconds: float, fraction: float = 0.0) -> Guess:
        """Return the time left when a segment has run for this long; None: all have ended."""
        left, left_variance = max(self._left, 0.0), max(self._left_variance, 0.0)
        here: Usual | None = None
        if index is not None and not self._done[index]:
            here = self._usual[index]
            left = max(left - self._means[index], 0.0)
            left_variance = max(left_variance - self._variances[index], 0.0)
        cases = [
            self._case(prior, math.log(share), here, left, left_variance, seconds, fraction)
            for share, prior in ((1 - UNLIKE, self._prior), (UNLIKE, self._prior + UNLIKE_VARIANCE))
        ]
        most = max(case.weight for case in cases)
        weights = [math.exp(case.weight - most) for case in cases]
        middle = _average(weights, [case.middle for case in cases])
        variance = _average(
            weights, [case.variance + (case.middle - middle) ** 2 for case in cases]
        )
        if here is not None:
            left += cases[0].share_left * _mean_of(here)
        gone = 1 - left / self._whole
        stage = min(int(max(gone, 0.0) * STAGES), STAGES - 1)
        return Guess(middle, math.sqrt(max(variance, LEAST_GUESS_VARIANCE)), stage)

    def _case(
        self,
        prior: float,
        weight: float,
        here: Usual | None,
        left: float,
        left_variance: float,
        seconds: float,
        fraction: float,
    ) -> "_Case":
        """Return what is left if the log of the task's factor has this prior variance."""
        precision = self._precision + 1 / prior
        pace, variance = self._weighted / precision, 1 / precision
        weight += 0.5 * (self._weighted * pace - math.log(prior * precision))
        inside = _Inside(pace, variance)
        if here is not None:
            inside = _inside(here, pace, variance, seconds, fraction)
        factor = math.exp(min(inside.pace, MOST_LOG))
        rest = max(inside.rest + left * factor, LEAST_SECONDS)
        spread = (
            inside.rest_variance
            + left_variance * factor * factor
            + inside.variance * (left * factor + inside.rest / 2) ** 2
        )
        share_left = inside.rest / max(inside.rest + seconds, LEAST_SECONDS)
        return _Case(
            weight + inside.likelihood,
            math.log(rest),
            math.log1p(spread / (rest * rest)),
            share_left,
        )

    def estimate(self, guess: Guess) -> Estimate | None:
        """Return a guess as it is told; None when it is too wide to be of use."""
        if guess.spread > MOST_SPREAD:
            return None
        low, middle, high = self._bands[guess.stage]
        return Estimate(
            math.exp(guess.middle + middle * guess.spread),
            math.exp(guess.middle + low * guess.spread),
            math.exp(guess.middle + high * guess.spread),
        )


def _average(weights: Sequence[float], values: Sequence[float]) -> float:
    return sum(w * one for w, one in zip(weights, values, strict=True)) / sum(weights)


def _mean_of(usual: Usual) -> float:
    if not usual.is_known:
        # Expected times add up to the whole.
        return usual.seconds
    return usual.presence * math.exp(usual.log + min(usual.variance, 1.0) / 2)


def _inside(here: Usual, pace: float, variance: float, seconds: float, fraction: float) -> _Inside:
    """Take the time that a segment has lasted, and the progress that it reports."""
    own = here.variance + (JITTER_SECONDS / here.seconds) ** 2
    # The log of the segment's time, less its usual one.
    mean, spread = pace, variance + own
    likelihood = 0.0
    if fraction > LEAST_FRACTION and seconds > 0:
        seen = math.log(max(seconds, LEAST_SECONDS) / fraction) - here.log
        noise = FRACTION_VARIANCE * (1 - fraction) / fraction + 1e-4
        gain = spread / (spread + noise)
        likelihood -= 0.5 * (math.log(spread + noise) + (seen - mean) ** 2 / (spread + noise))
        pace += variance / (spread + noise) * (seen - mean)
        variance -= variance * variance / (spread + noise)
        mean += gain * (seen - mean)
        spread = max(spread * (1 - gain), LEAST_SPREAD)
    deviation = math.sqrt(spread)
    if seconds <= 0:
        middle = here.presence * math.exp(here.log + mean)
        return _Inside(pace, variance, middle, middle * middle * spread, likelihood)
    # It has lasted this long already: a normal that is cut off below.
    at = math.log(max(seconds, LEAST_SECONDS)) - here.log
    z = (at - mean) / deviation
    # NormalDist.cdf is 1 + erf, which is 0 beyond 8 deviations; its complement is not.
    survival = max(0.5 * math.erfc(z / math.sqrt(2)), 1e-300) if z < 37 else 1e-300
    likelihood += math.log(survival)
    hazard = math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) / survival if z < 30 else z + 1 / z
    # A segment that takes its usual time says nothing of the others yet.
    longer = deviation * max(hazard - LATE_HAZARD, 0.0)
    pace += variance / (variance + own) * longer
    # The median, and the quantiles that a normal has at one deviation, of what is left.
    rest = _survivor(here.log, mean, deviation, survival, 0.5, z) - seconds
    far = _survivor(here.log, mean, deviation, survival, 0.841, z) - seconds
    rest = max(rest, LEAST_SECONDS)
    rest_variance = (max(far, rest) - rest) ** 2 + (REST_SPREAD * rest) ** 2
    return _Inside(pace, variance, rest, rest_variance, likelihood)


def _survivor(
    log: float, mean: float, deviation: float, survival: float, share: float, z: float
) -> float:
    """Return the quantile of a segment's time [s] among those that last as long as this one."""
    above = survival * (1 - share)
    if above > 1e-290:
        x = mean - deviation * _NORMAL.inv_cdf(min(above, 1 - 1e-12))
    else:
        # The tail of a normal is exponential there.
        x = mean + deviation * (z - math.log(1 - share) / z)
    return math.exp(min(log + x, MOST_LOG))
