"""The time of day, as it is told."""

import functools
import time
from datetime import UTC, datetime


def iso_now() -> str:
    """Return the time in ISO 8601, UTC, to the millisecond."""
    return _iso(time.time_ns() // 1_000_000)


def iso_ago(seconds: float) -> str:
    """Return the time that was this long ago [s], in the same form."""
    return _iso(time.time_ns() // 1_000_000 - int(seconds * 1000))


# Several runs end in the same millisecond, many in the same second.
@functools.lru_cache(maxsize=4)
def _iso(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_date_and_time(seconds)}.{rest:03}Z"


@functools.lru_cache(maxsize=2)
def _date_and_time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
