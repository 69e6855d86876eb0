"""The time that a task has used over all of its attempts, and has left."""

from tornado_rt.work.attempts.link import Link


async def seconds_left(link: Link) -> float:
    """Return how long a task may still run, 0 when its budget is used up. Raise LeaseLost."""
    task = await link.read_task()
    used = 0.0 if task is None else task.used_seconds
    return max(link.task.job.budget_seconds - used, 0.0)
