"""One PeriodicCallback that wakes every connection when something of its own is due."""

import heapq
import itertools
import time
from datetime import timedelta
from typing import Protocol

from tornado.ioloop import PeriodicCallback

TICK = timedelta(milliseconds=50)


class Sleeper(Protocol):
    """Something with a next due time."""

    closed: bool

    def next_due(self) -> float:
        """Return the monotonic time at which `wake` is to be called."""
        ...

    def wake(self, now: float) -> None:
        """Do what is due."""
        ...


class Heartbeats:
    """A heap of due times.

    Each sleeper has one valid entry, the newest; older ones are passed over when they come up.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Sleeper]] = []
        self._valid: dict[int, int] = {}
        self._numbers = itertools.count()
        self._callback = PeriodicCallback(self.tick, TICK)

    def start(self) -> None:
        """Begin to tick on the current loop."""
        self._callback.start()

    def stop(self) -> None:
        """End the ticking."""
        self._callback.stop()

    def add(self, sleeper: Sleeper) -> None:
        """Wake this one at its due time; again after a change of that time."""
        number = next(self._numbers)
        self._valid[id(sleeper)] = number
        heapq.heappush(self._heap, (sleeper.next_due(), number, sleeper))

    def remove(self, sleeper: Sleeper) -> None:
        """Forget this one."""
        self._valid.pop(id(sleeper), None)

    def tick(self) -> None:
        """Wake whatever is due now."""
        now = time.monotonic()
        while self._heap and self._heap[0][0] <= now:
            _, number, sleeper = heapq.heappop(self._heap)
            if self._valid.get(id(sleeper)) == number:
                sleeper.wake(now)
                if not sleeper.closed:
                    self.add(sleeper)
