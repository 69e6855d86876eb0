"""Follows how far an attempt is, and tells how long it still takes.

It is long because the times of steps, tenths and the whole come from one state.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import attrs

from tornado_rt.work.clock import iso_ago
from tornado_rt.work.forecast import (
    SEPARATOR,
    TENTHS,
    Estimate,
    Forecast,
    Way,
    name_of,
)
from tornado_rt.work.plan import Leaf, StepPath

# The segment of a task that tells nothing on its way.
WHOLE = ""
TENTH_NAMES = tuple(f"{SEPARATOR}{number}" for number in range(TENTHS))
# The time left rises when it does so by more than this share of it, and this many seconds.
RISE_SHARE = 0.03
RISE_SECONDS = 1.0
# A segment that takes this often its usual time is why.
LONGER = 1.2
# A segment of an earlier task that this one may still do [share of the tasks that did].
LIKELY = 0.3
# Until the next step the time left is estimated anew after this share of it, within bounds [s].
AGAIN_SHARE = 0.02
AGAIN_SECONDS = (0.1, 2.0)
# Unless the whole, or a step, has gone on by so much meanwhile.
JUMP, INNER_JUMP = 0.02, 0.1
# When nothing is reported, the estimate is looked at again after this long [s].
LOOK_SECONDS = (1.0, 60.0)
# Most steps of a plan whose usual times, and own times, are told.
MOST_TIMED = 200
# Most seconds that are told.
MOST_SECONDS = 10 * 365 * 86400.0

NOTHING_KNOWN = Forecast({})
NOTHING_LEFT = Estimate(0.0, 0.0, 0.0)


class Sight(NamedTuple):
    """The progress of an attempt: its leaves, a letter for each (see Place), the leaf that runs,
    the progress of that leaf (0 to 1), and of the whole (0 to 1). `is_open`: more steps will be
    found.
    """

    leaves: Sequence[Leaf]
    marks: str
    here: int
    fraction: float
    progress: float
    is_open: bool = False


NOTHING_SEEN = Sight((), "", 0, 0.0, 0.0)


@attrs.define
class StepSpan:
    """When a leaf began and ended, from the start of the attempt [s]; None: it has not."""

    begin: float | None = None
    end: float | None = None


class Timekeeper:
    """Tells how long an attempt still takes, from what it is shown of it.

    `forecast`: what is known of tasks like it. All times are in seconds from its start. The time
    left runs down by the clock; when it rises, `revised` says why.
    """

    def __init__(self, forecast: Forecast | None = None) -> None:
        self.forecast = forecast or NOTHING_KNOWN
        self.revised: str | None = None
        self.revised_at: float | None = None
        # Since when the attempt takes longer than was told at first.
        self.slow_since: float | None = None
        self._sight = NOTHING_SEEN
        self._spans: dict[StepPath, StepSpan] = {}
        # The segments that have ended, in their order; None: it took no time of this attempt.
        self._steps: dict[str, float | None] = {}
        self._tenths: list[float | None] = []
        self._at_step = self._at_tenth = 0.0
        self._seen_at = 0.0
        self._is_over = False
        self._way: Way | None = None
        self._numbers: dict[str, int] = {}
        self._mode = ""
        # When the attempt ends by what was told last, and at the latest by what was told first.
        self._finish: float | None = None
        self._promise: float | None = None
        self._replanned = False
        # The times of steps, for the marks of a moment.
        self._shown: dict[str, Any] | None = None
        self._shown_marks = ""
        # The estimate told last, and when; until when it runs down by the clock alone.
        self._told: Estimate | None = None
        self._told_at = 0.0
        self._told_of = NOTHING_SEEN
        self._again_at = 0.0
        known = self.forecast.segments
        # Whether the tasks before had steps; whether they told nothing on their way.
        self._knows_steps = any(name and not name.startswith(SEPARATOR) for name in known)
        self._is_silent = WHOLE in known and known[WHOLE].presence > 0.5

    def see(self, sight: Sight, at: float, *, free: bool = False) -> None:
        """Take how far it is; `free`: what is new was done without work of this attempt."""
        before, self._sight = self._sight, sight
        if sight.leaves is not before.leaves and sight.leaves != before.leaves:
            self._replanned, self._shown = bool(before.leaves), None
            self._way = None
            marks = dict(zip((leaf.path for leaf in before.leaves), before.marks, strict=False))
            self._compare([marks.get(leaf.path, "p") for leaf in sight.leaves], at, free)
            self._again_at = 0.0
        elif sight.marks != before.marks:
            self._again_at = 0.0
            self._compare(before.marks, at, free)
        if sight.progress > before.progress and not self._is_over:
            self._cross(before.progress, sight.progress, at, free)
        self._seen_at = at

    def finish(self) -> None:
        """Take it that the attempt is over: what is seen from here on took no time."""
        self._is_over = True

    def tell(self, at: float) -> Estimate | None:
        """Return the time left at a moment; None when too little is known."""
        if at < self._again_at and self._told is not None and not self._has_jumped():
            return self._told.after(at - self._told_at)
        self._told, self._told_at = self._tell(at), at
        self._told_of = self._sight
        if self._told is not None:
            least, most = AGAIN_SECONDS
            self._again_at = at + min(max(self._told.seconds * AGAIN_SHARE, least), most)
        return self._told

    def _has_jumped(self) -> bool:
        """Say whether there was much progress since the time left was estimated."""
        now, then = self._sight, self._told_of
        inside = now.fraction - then.fraction
        return now.progress - then.progress > JUMP or inside > INNER_JUMP

    def _tell(self, at: float) -> Estimate | None:
        found = self._estimate(at)
        if found is None:
            if self._finish is None:
                return None
            left = max(self._finish - at, 0.0)
            return Estimate(left, 0.0, left)
        left = min(found.seconds, MOST_SECONDS)
        if self._finish is not None:
            down = max(self._finish - at, 0.0)
            if left > down and not self._is_near(left, down):
                self.revised, self.revised_at = self._reason(at), at
                self._replanned = False
            elif left > down or (left > RISE_SECONDS and self._is_near(left, down)):
                left = down
        self._finish = at + left
        high = min(max(found.high, left), MOST_SECONDS)
        if self._promise is None:
            self._promise = at + high
        self._judge(at, left)
        return Estimate(left, min(found.low, left), high)

    def look_in(self, at: float) -> float | None:
        """Return after how many seconds of silence the estimate is news; None: never."""
        least, most = LOOK_SECONDS
        if self._finish is None:
            return first_look_in(self.forecast)
        ends = [self._finish + RISE_SECONDS]
        if self._promise is not None and self.slow_since is None:
            ends.append(self._promise)
        late = [end - at for end in ends if end > at]
        since = at - self._seen_at
        return min(max(min(late, default=since / 2), least), most)

    def times_of_steps(self) -> dict[str, Any]:
        """Return what a snapshot has of the times of steps."""
        if self._shown is None or self._shown_marks != self._sight.marks:
            self._shown_marks, self._shown = self._sight.marks, {}
            if times := self.times():
                self._shown["times"] = times
            if usual := self.usual_times():
                self._shown["usual"] = usual
        return self._shown

    def times(self) -> list[list[float] | None]:
        """Return for each leaf when it began and ended, as far as it has; without those behind."""
        found: list[list[float] | None] = []
        if len(self._sight.leaves) > MOST_TIMED:
            return found
        for leaf in self._sight.leaves:
            span = self._spans.get(leaf.path)
            if span is None or span.begin is None:
                found.append(None)
            elif span.end is None:
                found.append([round(span.begin, 1)])
            else:
                found.append([round(span.begin, 1), round(span.end, 1)])
        while found and found[-1] is None:
            found.pop()
        return found

    def usual_times(self) -> list[float]:
        """Return for each leaf how long it usually takes [s]; nothing when that is not known."""
        leaves = self._sight.leaves
        if not self.forecast.tasks or len(leaves) > MOST_TIMED:
            return []
        return [
            round(self.forecast.usual(name_of(leaf.path), leaf.share).seconds, 1) for leaf in leaves
        ]

    def lesson(self, at: float) -> list[tuple[str, float]] | None:
        """Return what a task that was completed at a moment has taught: its segments' times [s].

        None when an earlier attempt did a part of it.
        """
        if self._steps and len(self._sight.leaves) > 1:
            times = {name: seconds for name, seconds in self._steps.items() if seconds is not None}
            if len(times) < len(self._steps):
                return None
            rest, last = at - self._at_step, self._sight
            if last.here < len(last.leaves):
                name = name_of(last.leaves[last.here].path)
                times[name] = times.get(name, 0.0) + rest
            return list(times.items())
        crossed = [seconds for seconds in self._tenths if seconds is not None]
        if len(crossed) < len(self._tenths):
            return None
        if not crossed:
            return [(WHOLE, at)]
        left = TENTHS - len(crossed)
        rest = (at - self._at_tenth) / max(left, 1)
        if not left:
            crossed[-1] += at - self._at_tenth
        return list(zip(TENTH_NAMES, [*crossed, *[rest] * left], strict=True))

    def _compare(self, before: Sequence[str], at: float, free: bool) -> None:
        """Note which leaves have begun and ended."""
        leaves, marks = self._sight.leaves, self._sight.marks
        ended = []
        for leaf, old, new in zip(leaves, before, marks, strict=False):
            if old == new:
                continue
            span = self._spans.setdefault(leaf.path, StepSpan())
            if new == "r":
                span.begin, span.end = at, None
            elif new == "c" and old == "p" and self._is_over:
                # Nobody told of it.
                continue
            elif new == "c" and old in "pr":
                if span.begin is None:
                    span.begin = self._at_step
                span.end = at
                ended.append(leaf)
            elif new == "s":
                self._end(name_of(leaf.path), None, skipped=True)
        if not ended:
            return
        # Those that end together share the time since the last end by their usual times.
        usual = [self.forecast.usual(name_of(leaf.path), leaf.share).seconds for leaf in ended]
        since, whole = at - self._at_step, sum(usual)
        for leaf, own in zip(ended, usual, strict=True):
            self._end(name_of(leaf.path), None if free else since * own / whole)
        self._at_step = at

    def _end(self, name: str, seconds: float | None, *, skipped: bool = False) -> None:
        if not skipped:
            self._steps[name] = seconds
        if self._way is not None and name in self._numbers:
            self._way.end(self._numbers[name], seconds)

    def _cross(self, before: float, now: float, at: float, free: bool) -> None:
        """Note which tenths have been crossed, by a line from the last edge to this sight."""
        first = len(self._tenths)
        since, begin = self._at_tenth, max(first / TENTHS, before if free else 0.0)
        for tenth in range(first, TENTHS):
            edge = (tenth + 1) / TENTHS
            if edge > now + 1e-9:
                break
            share = min(max((edge - begin) / max(now - begin, 1e-9), 0.0), 1.0)
            crossed = since + share * (at - since)
            seconds = max(crossed - self._at_tenth, 0.0)
            self._tenths.append(None if free else seconds)
            self._at_tenth = crossed
            if self._way is not None and self._mode == "tenths":
                self._way.end(tenth, None if free else seconds)

    def _estimate(self, at: float) -> Estimate | None:
        mode = self._mode_now()
        if self._way is None or mode != self._mode:
            self._lay(mode)
        way, sight = self._way, self._sight
        assert way is not None
        if mode == "steps":
            guess = way.guess(self._running(sight.here), at - self._at_step, sight.fraction)
        elif mode == "tenths":
            tenth = len(self._tenths)
            inside = min(max(sight.progress * TENTHS - tenth, 0.0), 1.0)
            guess = way.guess(tenth if tenth < TENTHS else None, at - self._at_tenth, inside)
        else:
            guess = way.guess(0, at)
        return way.estimate(guess)

    def _running(self, index: int) -> int | None:
        """Return the segment that runs, or comes next; None when all have ended."""
        marks = self._sight.marks
        if index < len(marks) and marks[index] in "pr":
            return index
        for number in range(len(self._numbers)):
            if number >= len(marks) or marks[number] in "pr":
                return number
        return None

    def _mode_now(self) -> str:
        leaves, marks = self._sight.leaves, self._sight.marks
        if self._sight.is_open and not self._knows_steps:
            return "whole"
        if (len(leaves) > 1 or self._knows_steps) and marks.strip("p"):
            return "steps"
        if self._sight.progress > 0:
            return "tenths"
        if self._is_silent:
            return "whole"
        return "steps" if len(leaves) > 1 or self._knows_steps else "tenths"

    def _lay(self, mode: str) -> None:
        self._mode = mode
        if mode == "steps":
            shares = {name_of(leaf.path): leaf.share for leaf in self._sight.leaves}
            for name, usual in self.forecast.segments.items():
                if name and not name.startswith(SEPARATOR) and usual.presence > LIKELY:
                    shares.setdefault(name, 0.0)
        elif mode == "tenths":
            shares = dict.fromkeys(TENTH_NAMES, 1 / TENTHS)
        else:
            shares = {WHOLE: 1.0}
        self._numbers = {name: number for number, name in enumerate(shares)}
        self._way = Way(self.forecast, list(shares.items()))
        if mode == "steps":
            for leaf, mark in zip(self._sight.leaves, self._sight.marks, strict=False):
                if mark in "cs":
                    name = name_of(leaf.path)
                    self._way.end(self._numbers[name], self._steps.get(name))
        elif mode == "tenths":
            for tenth, seconds in enumerate(self._tenths):
                self._way.end(tenth, seconds)

    @staticmethod
    def _is_near(left: float, down: float) -> bool:
        """Say whether a time left is as good as the one that has run down."""
        return abs(left - down) <= max(RISE_SHARE * left, RISE_SECONDS)

    def _judge(self, at: float, left: float) -> None:
        """Say since when it is slow: it will end later than was told at first."""
        is_slow = self._promise is not None and at + left > self._promise
        if not is_slow:
            self.slow_since = None
        elif self.slow_since is None:
            self.slow_since = at

    def _are_late(self) -> bool:
        """Say whether the steps that have ended took longer than they usually do."""
        shares = {name_of(leaf.path): leaf.share for leaf in self._sight.leaves}
        late = 0.0
        for name, seconds in self._steps.items():
            if seconds is not None:
                late += seconds - self.forecast.usual(name, shares.get(name, 0.0)).seconds
        return late > 0

    def _reason(self, at: float) -> str:
        than = "usual" if self.forecast.tasks else "expected"
        sight = self._sight
        if self._mode == "steps" and sight.here < len(sight.leaves):
            leaf = sight.leaves[sight.here]
            usual = self.forecast.usual(name_of(leaf.path), leaf.share)
            since = at - self._at_step
            if self._replanned and since <= usual.seconds * LONGER:
                return "the plan has changed"
            if since <= usual.seconds and self._are_late():
                return f"the steps so far took longer than {than}"
            return f"step {leaf.title} takes longer than {than}"
        if self._mode == "tenths" and self._tenths:
            return f"progress is slower than {than}"
        return f"it takes longer than {than}"


def first_look_in(forecast: Forecast) -> float | None:
    """Return after how many seconds a task that reports nothing is looked at; None: never."""
    least, _ = LOOK_SECONDS
    return least if (forecast.length or 0.0) > least else None


def times_shown(keeper: Timekeeper | None, elapsed: float, left: Estimate | None) -> dict[str, Any]:
    """Return what a snapshot has of an attempt's times; `left`: the time left."""
    if left is NOTHING_LEFT and keeper is None:
        # Of many tasks this is all.
        ran = round(elapsed, 1)
        return {
            "elapsed_time": ran,
            "remaining_time": 0.0,
            "remaining_low": 0.0,
            "remaining_high": 0.0,
            "estimated_total_time": ran,
        }
    fields: dict[str, Any] = {
        "elapsed_time": round(elapsed, 1),
        "remaining_time": None if left is None else round(left.seconds, 1),
        "remaining_low": None if left is None else round(left.low, 1),
        "remaining_high": None if left is None else round(left.high, 1),
        "estimated_total_time": None if left is None else round(elapsed + left.seconds, 1),
    }
    if keeper is None:
        return fields
    if keeper.revised is not None and keeper.revised_at is not None:
        fields["revised"] = keeper.revised
        fields["revised_at"] = iso_ago(elapsed - keeper.revised_at)
    if keeper.slow_since is not None:
        fields["slow_since"] = iso_ago(elapsed - keeper.slow_since)
    return fields | keeper.times_of_steps()
