"""The wait before the next attempt."""

import random
from collections.abc import Callable

import attrs

# 2 to the power of more would only overflow.
MOST_DOUBLINGS = 32


@attrs.frozen
class Backoff:
    """Waits that double up to `most`, each at random between its half and its whole [s].

    So clients that were cut off together do not come back together.
    """

    first: float = 1.0
    most: float = 30.0
    random: Callable[[], float] = random.random

    def seconds(
        self, failures: int, *, first: float | None = None, retry_after: float | None = None
    ) -> float:
        """Return the wait after this many failures in a row.

        `first` takes the place of ours: the server's `retry:`. `retry_after` is the least wait.
        """
        if retry_after is not None:
            return retry_after + self.random() * self.first
        begin = self.first if first is None else first
        whole = min(self.most, begin * 2.0 ** min(max(failures - 1, 0), MOST_DOUBLINGS))
        return whole * (0.5 + 0.5 * self.random())
