"""Waiting for the values of an author, which may or may not be awaitable, and for users."""

import inspect
from typing import Any, Protocol

from tornado_rt.work.values import is_number, require

# Most values are of these types. That they cannot be awaited is found faster here.
SETTLED = {type(None), bool, int, float, str, bytes, list, tuple, dict}


class Turn(Protocol):
    """A lock, of a loop or of threads."""

    def locked(self) -> bool:
        """Say whether somebody has it."""


async def settled(value: Any) -> Any:
    """Return a value; await it first, as long as it can be awaited."""
    while type(value) not in SETTLED and inspect.isawaitable(value):
        value = await value
    return value


def as_timeout(seconds: float | None) -> float | None:
    """Return how long somebody is waited for [s]; None: as long as it takes. Raise ValueError."""
    if seconds is None:
        return None
    require(is_number(seconds, 0), f"a timeout is a number of seconds, not {seconds!r:.100}")
    return float(seconds)
