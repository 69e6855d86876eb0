"""When reports may be sent."""

import math
import threading
import time
from collections.abc import Callable

# Most reports of a run in a second.
MOST_REPORTS = 10.0


class Pacer:
    """Says when reports may be sent: at most `per_second`, and the last one always."""

    def __init__(
        self, per_second: float = MOST_REPORTS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval = 1 / per_second
        self._clock = clock
        self._next = -math.inf
        self._planned = False
        self._lock = threading.Lock()

    def ask(self) -> float | None:
        """Note a change: return 0 to send a report now, or the seconds after which to send it.

        None: a planned report will include this change.
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
        """Note that the planned report is sent now; call it before the state is read."""
        with self._lock:
            self._planned = False
            self._next = max(self._next, self._clock() + self._interval)
