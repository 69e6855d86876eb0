"""Counts attempts by what became of their tasks."""

from collections.abc import Callable
from functools import partial

from services.queue import Claim
from tornado_rt.metrics import Metrics

# Of more the oldest is forgotten: it counts nowhere if its task was cancelled.
MOST_UNTAKEN = 1000


class Outcomes:
    """Counts each attempt of a worker once, when it is known what became of its task.

    Redis says so when it takes the end of the attempt, and a message says that a task was
    cancelled. Either may come first; an attempt whose lease was lost is counted by upkeep.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        # By task, attempts that are over, and whose end Redis has not taken yet, or never.
        self._untaken: dict[str, tuple[Claim, float]] = {}

    def began(self, task_id: str) -> None:
        """Wait no more for an earlier attempt's end: the task is ours again."""
        self._untaken.pop(task_id, None)

    def ended(self, claim: Claim, ran: float) -> Callable[[str], None]:
        """Note an attempt and its run time [s]; return the counts for when Redis has its end."""
        self._untaken[claim.task.task_id] = (claim, ran)
        if len(self._untaken) > MOST_UNTAKEN:
            del self._untaken[next(iter(self._untaken))]
        return partial(self._taken, claim, ran)

    def cancelled(self, task_id: str) -> None:
        """Count the attempt at a task that was cancelled, if it was ours and is over."""
        if (ended := self._untaken.pop(task_id, None)) is not None:
            self.count(*ended, "cancelled")

    def count(self, claim: Claim, ran: float, became: str) -> None:
        """Count an attempt and its run time [s]."""
        self._metrics.task_ended(claim.task.kind, became, claim.waited, ran)

    def _taken(self, claim: Claim, ran: float, became: str) -> None:
        if became:
            self._untaken.pop(claim.task.task_id, None)
            self.count(claim, ran, became)
