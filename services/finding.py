"""Filters of tasks in requests."""

from collections.abc import Sequence

import attrs

from services.queue import QueueService, TaskPage, TaskState

# States that a filter may run again; a cancelled task was meant to end.
FAILURES = (TaskState.FAILED, TaskState.DEAD)
# In the place of a user: all of them.
EVERYBODY = "*"


@attrs.frozen(kw_only=True)
class TaskFilter:
    """A filter of tasks; an empty field or None matches all. Times are seconds since the epoch.

    `words` stand in the label or the id. `before` is where a list goes on.
    """

    kind: str = ""
    statuses: Sequence[TaskState] = ()
    tag: str = ""
    batch_id: str = ""
    parent_id: str = ""
    since: float | None = None
    until: float | None = None
    words: str = ""
    before: str = ""
    limit: int = 50


async def find_page(queue: QueueService, owner: str | None, wanted: TaskFilter) -> TaskPage:
    """Read a page of a user's tasks, the newest first; None: of everybody's."""
    return await queue.list_tasks(owner or "", **attrs.asdict(wanted, recurse=False))
