"""Plans that Redis has: the text of one is sent seldom, its digest with each task."""

import math
import time
from collections.abc import Iterable, Sequence

from services.queue.models import NewTask

# A plan that no task names is kept for this time [s]; a process sends the text of a plan again
# after half of it.
PLAN_IDLE_SECONDS = 3600.0
MOST_SENT_PLANS = 4096


class SentPlans:
    """When this process last sent the text of each plan."""

    def __init__(self) -> None:
        self._sent: dict[str, float] = {}

    def missing(self, tasks: Sequence[NewTask]) -> dict[str, bytes]:
        """Return the texts, by digest, of the plans of tasks that Redis may not have."""
        long_ago = time.monotonic() - PLAN_IDLE_SECONDS / 2
        return {
            new.plan.digest: new.plan.text
            for new in tasks
            if new.plan is not None and self._sent.get(new.plan.digest, -math.inf) < long_ago
        }

    def note(self, digests: Iterable[str]) -> None:
        """Remember that these were sent now."""
        if len(self._sent) > MOST_SENT_PLANS:
            self._sent.clear()
        self._sent.update(dict.fromkeys(digests, time.monotonic()))

    def forget(self) -> None:
        """Send all again: Redis was emptied."""
        self._sent.clear()
