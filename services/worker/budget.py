"""How much of its time a task has used, over all of its attempts."""

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from services.worker.link import Link

# The outcomes of attempts that another one followed. Any other outcome was the end of a task that
# was run again later, with its whole budget.
FOLLOWED = ("error", "retry", "lost")


async def seconds_left(link: Link) -> float:
    """Return how long a task may still run, 0 when its budget is used up. Raise LeaseLost."""
    budget = link.task.job.budget_seconds
    if link.task.attempt <= 1:
        return budget
    task = await link.read_task()
    return max(budget - seconds_used(task.attempts if task else ()), 0.0)


def seconds_used(attempts: Sequence[Mapping[str, Any]]) -> float:
    """Return how long the attempts took since a task was last begun anew."""
    latest = itertools.takewhile(lambda one: one["outcome"] in FOLLOWED, reversed(attempts))
    return sum(_seconds(one["started_at"], one["ended_at"]) for one in latest)


def _seconds(started_at: str | None, ended_at: str | None) -> float:
    if started_at is None or ended_at is None:
        return 0.0
    took = datetime.fromisoformat(ended_at) - datetime.fromisoformat(started_at)
    return max(took.total_seconds(), 0.0)
