"""How a task goes on by the clock after its last snapshot: the time left, in words."""

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import attrs

from services.queue import TaskState

DAY_SECONDS = 86400.0
# The messages whose times count. Of these the fastest one tells most.
HEARD = 8
# A later finish that is not told: by less than this share of the time left, or these seconds.
RISE_SHARE = 0.03
RISE_SECONDS = 1.0
WAITING = (TaskState.QUEUED, TaskState.DELAYED)


@attrs.frozen
class Left:
    """A time that is left [s], and its bounds; None is unknown."""

    seconds: float
    low: float | None = None
    high: float | None = None

    def after(self, passed: float) -> "Left":
        """Return what is left after so many seconds, never below 0."""
        low, high = (None if x is None else max(x - passed, 0.0) for x in (self.low, self.high))
        return Left(max(self.seconds - passed, 0.0), low, high)


class Pace:
    """The last snapshot of a task, and the clock of the server that it is true by.

    The finish that is told goes no later unless the snapshot says why.
    """

    def __init__(self) -> None:
        self.snapshot: Mapping[str, Any] = {}
        self._heard: deque[float] = deque(maxlen=HEARD)
        self._came = 0.0
        # The end by the monotonic clock, as it is told.
        self._finish: float | None = None

    def hear(self, timestamp: Any) -> None:
        """Take the time of a message that has just come; pass over what is none."""
        # It comes later than it was made, never earlier: the greatest difference is the truest.
        if (moment := moment_of(timestamp)) is not None:
            self._heard.append(moment - time.monotonic())

    def take(self, snapshot: Mapping[str, Any]) -> None:
        """Take a snapshot that has just come."""
        before, self.snapshot, self._came = self.snapshot, snapshot, time.monotonic()
        left = self._left_of("remaining_time", "remaining_low", "remaining_high")
        if left is None or self.is_waiting:
            self._finish = None
            return
        finish = self._came + left.seconds
        slack = max(RISE_SHARE * left.seconds, RISE_SECONDS)
        same = all(before.get(one) == snapshot.get(one) for one in ("attempt", "revised_at"))
        if same and self._finish is not None and 0 < finish - self._finish < slack:
            return
        self._finish = finish

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its start."""
        return self.snapshot.get("status") in WAITING

    @property
    def is_running(self) -> bool:
        """Whether it runs."""
        return self.snapshot.get("status") == TaskState.PROCESSING

    def left(self) -> Left | None:
        """Return how long it still takes; None: it is unknown, or it does not run."""
        left = self._left_of("remaining_time", "remaining_low", "remaining_high")
        if left is None or self._finish is None or not self.is_running:
            return None
        seconds = max(self._finish - time.monotonic(), 0.0)
        high = None if left.high is None else max(left.high, seconds)
        return Left(seconds, None if left.low is None else min(left.low, seconds), high)

    def starts(self) -> Left | None:
        """Return in how long it starts; None: it is unknown, or it does not wait."""
        if not self.is_waiting:
            return None
        left = self._left_of("starts_in", "starts_in_low", "starts_in_high")
        planned = moment_of(self.snapshot.get("run_at"))
        if left is None and planned is not None:
            return Left(max(planned - self._now(), 0.0))
        return left

    def elapsed(self) -> float | None:
        """Return how long the attempt runs, or has run; None is unknown."""
        elapsed = number_of(self.snapshot.get("elapsed_time"))
        return None if elapsed is None else elapsed + (self._age() if self.is_running else 0.0)

    def words(self) -> Iterator[str]:
        """Yield what the clock says of it, each part in words."""
        if (left := self.left()) is not None:
            yield left_in_words(left)
        elif (start := self.starts()) is not None:
            yield start_in_words(start)

    def reasons(self) -> Iterator[str]:
        """Yield what has gone otherwise than was told."""
        if not self.is_running:
            return
        if revised := self.snapshot.get("revised"):
            at = moment_of(self.snapshot.get("revised_at"))
            yield str(revised) if at is None else f"{self._clock(at)}: {revised}"
        for name, text in (("slow_since", "slow"), ("stalled_since", "no sign of life")):
            if (at := moment_of(self.snapshot.get(name))) is not None:
                yield f"{text} since {self._clock(at)}"

    def _left_of(self, *names: str) -> Left | None:
        seconds, low, high = (number_of(self.snapshot.get(name)) for name in names)
        return None if seconds is None else Left(seconds, low, high).after(self._age())

    def _age(self) -> float:
        """Return the seconds since the snapshot was true: that of a waiting task when it came."""
        made = None if self.is_waiting else moment_of(self.snapshot.get("updated_at"))
        since = time.monotonic() - self._came
        return max(since if made is None else self._now() - made, 0.0)

    def _now(self) -> float:
        """Return the time by the server's clock, as far as it is known [s since 1970]."""
        return max(self._heard) + time.monotonic() if self._heard else time.time()

    def _clock(self, moment: float) -> str:
        """Return a moment of the server's clock as that of this machine shows it."""
        return clock(moment - self._now() + time.time())


def number_of(value: Any) -> float | None:
    """Return a number as it came; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def moment_of(timestamp: Any) -> float | None:
    """Return an ISO time in seconds since 1970; None for what is none."""
    if not isinstance(timestamp, str):
        return None
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo else None


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


def left_in_words(left: Left) -> str:
    """Return a time that is left: "about 4 min left, about 14:32, at the latest 14:36"."""
    if left.seconds < 1:
        return "any moment now"
    told, now = f"about {roughly(left.seconds)} left", time.time()
    if left.seconds < 59.5:
        most = None if left.high is None else roughly(left.high)
        return told if most in (None, roughly(left.seconds)) else f"{told}, at most {most}"
    about = clock(now + left.seconds)
    latest = None if left.high is None else clock(now + left.high)
    return f"{told}, about {about}" + (
        "" if latest in (None, about) else f", at the latest {latest}"
    )


def start_in_words(left: Left) -> str:
    """Return when something starts: "starts in about 2 min, at the latest 5 min"."""
    if left.seconds < 1:
        return "starts any moment now"
    about, most = roughly(left.seconds), None if left.high is None else roughly(left.high)
    return f"starts in about {about}" + ("" if most in (None, about) else f", at the latest {most}")
