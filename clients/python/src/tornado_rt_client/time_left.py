"""The time left of a task or batch, and the time until its start, as the clock goes on.

A snapshot is true at one moment; what is told here is run down from there. The server's clock may
differ from that of this machine: `ServerClock` learns by how much from the messages of a stream.
"""

import math
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any, TypeGuard

import attrs

from tornado_rt_client.records import BatchSnapshot, Snapshot

WAITING = frozenset({"queued", "delayed"})
OVER = frozenset({"completed", "partial", "failed", "cancelled", "dead"})
# The messages that count; the fastest of them tells most.
HEARD = 8


@attrs.frozen
class TimeLeft:
    """A time that is left [s], and when it is over by the clock of this machine.

    It is between `low` and `high` in four of five cases; None is unknown.
    """

    seconds: float
    low: float | None
    high: float | None
    finish: datetime
    latest: datetime | None


@attrs.define
class ServerClock:
    """The clock of the server, by the times in its messages.

    A message comes later than it was made, never earlier: the greatest difference from the
    monotonic clock is the truest one. Threads may share it.
    """

    _heard: deque[float] = attrs.field(factory=lambda: deque(maxlen=HEARD), init=False)

    def hear(self, timestamp: Any, at: float) -> None:
        """Take the time of a message that came at `at` (monotonic) [s]; pass over what is none."""
        moment = seconds_of(timestamp)
        if moment is not None:
            self._heard.append(moment - at)

    def skew(self) -> float:
        """Return how far it is ahead of the clock of this machine [s]; 0 while it is unknown."""
        heard = tuple(self._heard)
        return max(heard) + time.monotonic() - time.time() if heard else 0.0


def time_left(
    snapshot: Snapshot | BatchSnapshot, now: datetime | None = None, *, skew: float = 0.0
) -> TimeLeft | None:
    """Return how long a task or batch still takes at a moment, by default now.

    None: it is unknown, or the task does not run. `skew` is how far the server's clock is ahead of
    that of this machine [s]. Raise ValueError for a moment without a time zone.
    """
    if snapshot.status in OVER or is_waiting(snapshot):
        return None
    at = _moment(now)
    left = (snapshot.remaining_time, snapshot.remaining_low, snapshot.remaining_high)
    return _run_down(*left, age_of(snapshot, at, skew), at)


def starts_in(
    snapshot: Snapshot, now: datetime | None = None, *, skew: float = 0.0
) -> TimeLeft | None:
    """Return in how long a task that waits starts; `finish` is when.

    A task with a time of its own, `run_at`, starts then. None: it is unknown, or it does not wait.
    """
    if not is_waiting(snapshot):
        return None
    at = _moment(now)
    if not is_number(snapshot.starts_in):
        planned = seconds_of(snapshot.data.get("run_at"))
        return None if planned is None else _run_down(planned - at - skew, None, None, 0.0, at)
    left = (snapshot.starts_in, snapshot.starts_in_low, snapshot.starts_in_high)
    return _run_down(*left, age_of(snapshot, at, skew), at)


def is_waiting(snapshot: Snapshot | BatchSnapshot) -> bool:
    """Say whether it is a task that waits."""
    return isinstance(snapshot, Snapshot) and snapshot.status in WAITING


def age_of(snapshot: Snapshot | BatchSnapshot, at: float, skew: float) -> float:
    """Return the seconds since a snapshot was true, at a moment [s since 1970].

    That of a running task says when it was made. That of a batch, or of a task that waits, was made
    when it came.
    """
    made = None
    if isinstance(snapshot, Snapshot) and not is_waiting(snapshot):
        made = seconds_of(snapshot.updated_at)
    since = at - snapshot.received_at if made is None else at + skew - made
    return max(since, 0.0)


def _run_down(
    seconds: float | None, low: float | None, high: float | None, passed: float, at: float
) -> TimeLeft | None:
    left, least, most = (
        max(one - passed, 0.0) if is_number(one) else None for one in (seconds, low, high)
    )
    if left is None:
        return None
    latest = None if most is None else _datetime(at + most)
    return TimeLeft(left, least, most, _datetime(at + left), latest)


def is_number(value: object) -> TypeGuard[float]:
    """Say whether a value that came is a time."""
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _moment(now: datetime | None) -> float:
    if now is None:
        return time.time()
    if now.tzinfo is None:
        raise ValueError("the moment has no time zone")
    return now.timestamp()


def _datetime(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def seconds_of(timestamp: Any) -> float | None:
    """Return an ISO time in seconds since 1970; None for what is none."""
    if not isinstance(timestamp, str):
        return None
    try:
        moment = datetime.fromisoformat(timestamp)
    except ValueError:
        return None
    found = moment.timestamp() if moment.tzinfo else math.nan
    return found if math.isfinite(found) else None
