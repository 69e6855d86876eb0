"""When reports may leave."""

import math
import threading
import time
from collections.abc import Callable

# Reports of a run that leave in a second.
MOST_REPORTS = 10.0


class Pacer:
    """Says when reports may leave: at most `per_second`, and the last one always."""

    def __init__(
        self, per_second: float = MOST_REPORTS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval = 1 / per_second
        self._clock = clock
        self._next = -math.inf
        self._planned = False
        self._lock = threading.Lock()

    def ask(self) -> float | None:
        """Tell of a change: 0 sends it now, a number sends it after so many seconds.

        None: a report is planned already, and carries it.
        """
        with self._lock:
            if self._planned:
                return None
            now = self._clock()
            wait = max(self._next - now, 0.0)
            self._planned = wait > 0
            self._next = now + self._interval
            return wait

    def leave(self) -> None:
        """Tell that the planned report leaves; call it before the state is read."""
        with self._lock:
            self._planned = False
            self._next = max(self._next, self._clock() + self._interval)
