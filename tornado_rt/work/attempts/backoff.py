"""How long a task waits before it is tried again."""

import random

import attrs


@attrs.frozen
class Backoff:
    """From `base` seconds, doubled with each attempt, to `most`."""

    base: float = 5.0
    most: float = 300.0

    def seconds(self, attempt: int) -> float:
        """Return the wait after an attempt, counted from 1; spread over its upper half."""
        ceiling = min(self.most, self.base * 2.0 ** min(attempt - 1, 30))
        return ceiling * random.uniform(0.5, 1.0)
