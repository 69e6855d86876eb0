"""The progress of a task or batch after its last snapshot, by the clock, in words."""

import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import attrs

from services.queue import TaskState
from tornado_rt_client.records import BatchSnapshot, Snapshot
from tornado_rt_client.time_left import (
    ServerClock,
    TimeLeft,
    age_of,
    is_number,
    seconds_of,
    starts_in,
    time_left,
)

DAY_SECONDS = 86400.0
# A later finish that is not told: by less than this share of the time left, or these seconds.
RISE_SHARE = 0.03
RISE_SECONDS = 1.0
NOTHING = Snapshot(data={})


class Pace:
    """The last snapshot, and the clock of the server that it is true by.

    The finish that is told goes no later unless the snapshot says why.
    """

    def __init__(self, clock: ServerClock | None = None) -> None:
        self.snapshot: Snapshot | BatchSnapshot = NOTHING
        self._clock = clock or ServerClock()
        # The end, as it is told.
        self._finish: datetime | None = None

    @property
    def task(self) -> Mapping[str, Any]:
        """All that came with the snapshot."""
        return self.snapshot.data

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self.snapshot.status == TaskState.PROCESSING

    def take(self, snapshot: Snapshot | BatchSnapshot) -> None:
        """Take a snapshot that has just come."""
        before, self.snapshot = self.task, snapshot
        left = time_left(snapshot, skew=self._clock.skew())
        if left is None:
            self._finish = None
            return
        same = all(before.get(one) == self.task.get(one) for one in ("attempt", "revised_at"))
        if same and self._finish is not None:
            rise = (left.finish - self._finish).total_seconds()
            if 0 < rise < max(RISE_SHARE * left.seconds, RISE_SECONDS):
                return
        self._finish = left.finish

    def left(self) -> TimeLeft | None:
        """Return how long it still takes; None: it is unknown, or it does not run."""
        left = time_left(self.snapshot, skew=self._clock.skew())
        if left is None or self._finish is None:
            return None
        seconds = max(self._finish.timestamp() - time.time(), 0.0)
        low, high = left.low, left.high
        return attrs.evolve(
            left,
            seconds=seconds,
            low=None if low is None else min(low, seconds),
            high=None if high is None else max(high, seconds),
            finish=self._finish,
        )

    def elapsed(self) -> float | None:
        """Return how long the attempt runs, or has run; None is unknown."""
        elapsed = self.task.get("elapsed_time")
        if not is_number(elapsed):
            return None
        passed = age_of(self.snapshot, time.time(), self._clock.skew()) if self.is_running else 0.0
        return elapsed + passed

    def words(self) -> Iterator[str]:
        """Yield what the clock says of it."""
        if (left := self.left()) is not None:
            yield left_in_words(left)
        elif isinstance(self.snapshot, Snapshot):
            start = starts_in(self.snapshot, skew=self._clock.skew())
            if start is not None:
                yield start_in_words(start)

    def reasons(self) -> Iterator[str]:
        """Yield what has gone otherwise than was told."""
        if not self.is_running:
            return
        if revised := self.task.get("revised"):
            at = seconds_of(self.task.get("revised_at"))
            yield str(revised) if at is None else f"{self._told(at)}: {revised}"
        for name, text in (("slow_since", "slow"), ("stalled_since", "no sign of life")):
            if (at := seconds_of(self.task.get(name))) is not None:
                yield f"{text} since {self._told(at)}"

    def _told(self, moment: float) -> str:
        """Return a moment of the server's clock as that of this machine shows it."""
        return clock(moment - self._clock.skew())


def clock(moment: float) -> str:
    """Return a moment as a clock shows it here, with the date if it is a day away."""
    is_near = abs(moment - time.time()) < DAY_SECONDS
    return time.strftime("%H:%M" if is_near else "%Y-%m-%d %H:%M", time.localtime(moment))


def roughly(seconds: float) -> str:
    """Return a rough number of seconds: "20 s", "4 min", "3 h", "2 d"."""
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    if seconds < 3570:
        return f"{round(seconds / 60)} min"
    if seconds < 2 * DAY_SECONDS:
        return f"{round(seconds / 3600)} h"
    return f"{round(seconds / DAY_SECONDS)} d"


def length(seconds: float) -> str:
    """Return how long something took: "0.4 s", "12 s", "4:05", "1:02:03"."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def left_in_words(left: TimeLeft) -> str:
    """Return a time that is left: "about 4 min left, about 14:32, at the latest 14:36"."""
    if left.seconds < 1:
        return "any moment now"
    told, now = f"about {roughly(left.seconds)} left", time.time()
    if left.seconds < 59.5:
        most = None if left.high is None else roughly(left.high)
        return told if most in (None, roughly(left.seconds)) else f"{told}, at most {most}"
    about = clock(now + left.seconds)
    latest = None if left.high is None else clock(now + left.high)
    bound = "" if latest in (None, about) else f", at the latest {latest}"
    return f"{told}, about {about}{bound}"


def start_in_words(start: TimeLeft) -> str:
    """Return when something starts: "starts in about 2 min, at the latest 5 min"."""
    if start.seconds < 1:
        return "starts any moment now"
    about = roughly(start.seconds)
    most = None if start.high is None else roughly(start.high)
    return f"starts in about {about}" + ("" if most in (None, about) else f", at the latest {most}")
