"""The wait of a task before its next attempt."""

import random

import attrs

from tornado_rt.work.values import RETRY_SECONDS


@attrs.frozen
class Backoff:
    """From `base` seconds, doubled with each attempt, to `most`; of each `spread` is random.

    With a spread of 0.5 this is the "equal jitter" of Brooker, "Exponential Backoff And Jitter"
    (AWS Architecture Blog, 2015).
    """

    base: float = RETRY_SECONDS[0]
    most: float = RETRY_SECONDS[1]
    spread: float = 0.5

    def seconds(self, attempt: int) -> float:
        """Return the wait after an attempt, counted from 1."""
        ceiling = min(self.most, self.base * 2.0 ** min(attempt - 1, 30))
        return ceiling * random.uniform(1.0 - self.spread, 1.0)
