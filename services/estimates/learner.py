"""Learns the usual times of one sort of task from those that have ended, one after the other.

Each segment has experts that forget at different rates, and who was right lately counts most
(Herbster and Warmuth 1998, "Tracking the best expert"): so a change is followed within a few
tasks, and chance is not. The bands are calibrated by adaptive conformal prediction (Gibbs and
Candès 2021, "Adaptive conformal inference under distribution shift"; the quantile tracker of
Angelopoulos, Candès and Tibshirani 2023, "Conformal PID control"): each task that ends says
whether it was inside its band, and moves it.
"""

import itertools
import math
from collections.abc import Sequence

import attrs

from tornado_rt.work.forecast import (
    JITTER_SECONDS,
    LEAST_SECONDS,
    NORMAL_BAND,
    STAGES,
    UNKNOWN_PACE,
    UNKNOWN_VARIANCE,
    Forecast,
    Usual,
    Way,
)

# Rate at which experts forget: the share of the newest task.
RATES = (0.6, 0.25, 0.1, 0.04)
# Share of an expert's loss that is kept from task to task, and share of its weight that all others
# get.
LOSS_KEPT = 0.95
SHARED = 0.005
# A prior counts as this many tasks.
PRIOR_TASKS = 0.25
SPREAD_RATE = 0.07
LEAST_VARIANCE = 4e-4
# A step of a variance is made up to this often as long, and takes at most this share of it away.
MOST_STRIDE, MOST_DOWN = 2.0, 0.8
# A miss moves an end of a band by this many spreads. An end that moves misses a little more often
# than one that stands, so that it aims at fewer than one in ten.
BAND_STEP = 0.05
MISS = 0.08
# The n-th task moves a band this many n-ths as far, and never less than one.
SWIFT_TASKS = 45
PRESENCE_RATE = 0.1
CALIBRATED_FROM = 4
LATE = 1.5
MOST_WEIGHT = 3.0


@attrs.define
class _Segment:
    logs: list[float]
    variance: float
    losses: list[float] = attrs.field(factory=lambda: [0.0] * len(RATES))
    presence: float = 1.0
    tasks: int = 0
    known: float = 0.0

    def usual(self) -> Usual:
        """Return what the next task is expected to do here."""
        best = min(self.losses)
        weights = [math.exp(-(loss - best)) + SHARED for loss in self.losses]
        whole = sum(weights)
        log = sum(w * one for w, one in zip(weights, self.logs, strict=True)) / whole
        apart = sum(w * (one - log) ** 2 for w, one in zip(weights, self.logs, strict=True)) / whole
        variance = self.variance * (1 + 1 / (1 + self.known)) + apart
        return Usual(log, variance, self.presence)

    def learn(self, log: float) -> None:
        """Take the log of a time of this segment."""
        for index, rate in enumerate(RATES):
            apart = log - self.logs[index]
            # Of Student's distribution with four degrees of freedom: chance counts little.
            loss = 2.5 * math.log1p(apart * apart / (4 * self.variance))
            self.losses[index] = LOSS_KEPT * self.losses[index] + loss
            self.logs[index] += max(rate, 1 / (1 + self.known + PRIOR_TASKS)) * apart
        self.known += 1
        self.tasks += 1


class Learner:
    """The knowledge of one sort of task.

    `shares`: the names of its segments, with the part of the whole that each is expected to take.
    `length`: how long it is expected to take [s], None: unknown; `pace`: the variance of its log.
    """

    def __init__(
        self,
        shares: Sequence[tuple[str, float]],
        length: float | None,
        pace: float = UNKNOWN_PACE,
    ) -> None:
        self._shares = list(shares)
        self._length = length
        self._segments: dict[str, _Segment] = {}
        self._pace = pace
        self._tasks = 0
        self._bands = [[-NORMAL_BAND, 0.0, NORMAL_BAND] for _ in range(STAGES)]

    def forecast(self) -> Forecast:
        """Return what the next task is expected to do."""
        segments = {name: one.usual() for name, one in self._segments.items()}
        length = self._length
        if segments:
            length = sum(one.seconds * one.presence for one in segments.values())
        return Forecast(
            segments,
            length=length,
            pace_variance=self._pace,
            bands=tuple((b[0], b[1], b[2]) for b in self._bands),
            tasks=self._tasks,
        )

    def learn(self, times: Sequence[tuple[str, float]]) -> None:
        """Take the times [s] of the segments of a task that is completed, in their order."""
        forecast = self.forecast()
        if self._tasks >= CALIBRATED_FROM:
            self._calibrate(forecast, times)
        logs = {name: math.log(max(seconds, LEAST_SECONDS)) for name, seconds in times}
        self._spread(forecast, logs)
        for name, log in logs.items():
            segment = self._segments.get(name)
            if segment is None:
                share = dict(self._shares).get(name, 0.0)
                usual = forecast.usual(name, share) if self._length and share else None
                start = log if usual is None else usual.log
                segment = _Segment([start] * len(RATES), UNKNOWN_VARIANCE)
                self._segments[name] = segment
            segment.learn(log)
        for name, segment in self._segments.items():
            rate = max(PRESENCE_RATE, 1 / (1 + self._tasks))
            segment.presence += rate * ((name in logs) - segment.presence)
        self._tasks += 1

    def _spread(self, forecast: Forecast, logs: dict[str, float]) -> None:
        """Tell the variance of the task's factor from those of its segments."""
        known = {
            name: log - forecast.segments[name].log
            for name, log in logs.items()
            if name in forecast.segments
        }
        if not known:
            return
        weights = {
            name: 1
            / (
                self._segments[name].variance
                + (JITTER_SECONDS / forecast.segments[name].seconds) ** 2
            )
            for name in known
        }
        rate = max(SPREAD_RATE, 2 / (2 + self._tasks))
        count = len(known)
        # A step of expectation and maximization, as for one common factor: what the task's factor
        # may be adds to all. Without that, two segments would always have the same variance.
        unsure = 1 / (1 / self._pace + sum(weights.values()))
        pace = sum(weights[name] * apart for name, apart in known.items()) * unsure
        if count > 1:
            self._pace += rate * _step(self._pace, min(pace * pace, 1.0), unsure)
            self._pace = max(self._pace, LEAST_VARIANCE)
        for name, apart in known.items():
            segment = self._segments[name]
            limit = 9 * segment.variance + 0.01
            if count > 1:
                step = _step(segment.variance, min((apart - pace) ** 2, limit), unsure)
            else:
                step = min(apart * apart, limit) - segment.variance
            segment.variance += rate * step
            segment.variance = max(segment.variance, LEAST_VARIANCE)

    def _calibrate(self, forecast: Forecast, times: Sequence[tuple[str, float]]) -> None:
        """Say of each stage whether the band held, and move it."""
        shares = dict(self._shares)
        way = Way(forecast, [(name, shares.get(name, 0.0)) for name, _ in times])
        left = whole = max(sum(seconds for _, seconds in times), LEAST_SECONDS)
        # The middle is the one of least error as a share of the length of the task.
        weight = 1.0 if forecast.length is None else min(forecast.length / whole, MOST_WEIGHT)
        scores: list[list[tuple[float, float]]] = [[] for _ in range(STAGES)]
        for index, (name, seconds) in enumerate(times):
            usual = forecast.usual(name, shares.get(name, 0.0)).seconds
            looks = _looks(seconds, usual, forecast.length)
            for since, until in itertools.pairwise([*looks, seconds]):
                guess = way.guess(index, since)
                true = math.log(max(left - since, LEAST_SECONDS))
                score = (true - guess.middle) / guess.spread
                scores[guess.stage].append((score, until - since))
            way.end(index, seconds)
            left -= seconds
        step = BAND_STEP * max(1.0, SWIFT_TASKS / self._tasks)
        for band, seen in zip(self._bands, scores, strict=True):
            if seen:
                _move(band, seen, step, weight)


def _looks(seconds: float, usual: float, length: float | None) -> list[float]:
    """Return when to look at a segment: at its begin, in each stage, and when it is late."""
    count = 1 if not length else min(max(round(STAGES * usual / length), 1), STAGES)
    looks = [usual * number / count for number in range(count)]
    return [0.0, *(one for one in [*looks[1:], usual * LATE] if one < seconds)]


def _step(variance: float, seen: float, unsure: float) -> float:
    """Return how far a variance is from what was seen of it, and what that may be off by.

    The plain step is slow where most of the variance is unsure.
    """
    stride = min(variance / max(variance - unsure, LEAST_VARIANCE / 2), MOST_STRIDE)
    return max(stride * (seen + unsure - variance), -MOST_DOWN * variance)


def _move(
    band: list[float], scores: Sequence[tuple[float, float]], step: float, weight: float
) -> None:
    """Move the quantiles a step towards the scores; the middle one by the `weight` of the task."""
    whole = sum(time for _, time in scores) or 1.0
    for index, share in enumerate((MISS, 0.5, 1 - MISS)):
        above = sum(time for score, time in scores if score > band[index]) / whole
        band[index] += 2 * step * (above - (1 - share)) * (weight if index == 1 else 1.0)
    band[0], band[2] = min(band[0], band[1] - 0.1), max(band[2], band[1] + 0.1)
