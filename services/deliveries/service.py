"""Adds deliveries to a queue of their own, and says how each kind of them is run."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs

from services.deliveries.lanes import Lanes, digest_of, lane_of
from services.kinds.known import entry_of
from services.queue import (
    Job,
    KindEntry,
    NewTask,
    QueueFull,
    QueueService,
    Task,
    TaskState,
    new_id,
)
from tornado_rt.work import Kind
from tornado_rt.work.texts import phrase

ENDED = {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.DEAD}
# The queue counts also attempts that only found an earlier delivery of their key under way.
MOST_ATTEMPTS = 10**9
# Most deliveries that are looked at.
MOST_RECENT = 100
NOTHING_YET = b'"progress":0.0'


class DeliveryNotKept(Exception):
    """There is no such delivery, or none any more."""


class DeliveryUnderWay(Exception):
    """Somebody wants to repeat a delivery that has not ended."""


@attrs.frozen
class GivenUp:
    """A delivery that is tried no more, and why; `since`: when it was added [s since the epoch].

    `exhausted`: all its attempts failed; else its handler said that no other one would help.
    """

    user_id: str
    params: Mapping[str, Any]
    since: float
    reason: str
    exhausted: bool


# It may be told twice of one delivery, when its process is killed meanwhile.
GaveUp = Callable[[GivenUp], Awaitable[None]]


@attrs.frozen
class DeliveryKind:
    """A sort of delivery: its kind with its handler, and who is told of those given up.

    A handler that raises Retry, or anything unexpected, is run again by the schedule of all
    deliveries, not before the delay of the Retry. TaskError ends the delivery.
    """

    kind: Kind
    gave_up: GaveUp | None = None


def deliveries_name(queue_name: str) -> str:
    """Return the name of the queue of deliveries beside a queue."""
    return f"{queue_name}-deliveries"


class Deliveries:
    """Adds deliveries of the registered kinds; in Redis when `add` returns.

    A delivery is attempted at least once. Under one `unique` there is one, as long as it is kept.
    """

    def __init__(self, queue: QueueService, lanes: Lanes) -> None:
        self.queue = queue
        self.lanes = lanes
        self.kinds: dict[str, DeliveryKind] = {}

    def register(self, *kinds: DeliveryKind) -> None:
        """Offer some kinds, before the worker of this process begins."""
        self.kinds |= {one.kind.name: one for one in kinds}

    def entries(self) -> Sequence[KindEntry]:
        """Return what the queue is told of the kinds."""
        return [entry_of(one.kind) for one in self.kinds.values()]

    async def add(
        self,
        kind: str,
        user_id: str,
        params: dict[str, Any],
        *,
        key: str = "",
        unique: str = "",
        delay: float = 0.0,
        host: str = "",
    ) -> None:
        """Add a delivery, to be attempted `delay` seconds from now.

        Those of one user and `key` arrive in the order of their adding: the next waits until the
        one before has arrived or is given up. To one `host` the `key_limit` of the kind is under
        way at once. Raise QueueFull when as many of the user wait as may, and RedisError.
        """
        task_id = digest_of(kind, unique) if unique else new_id()
        lane = lane_of(kind, user_id, key)
        if lane:
            # Before the worker can look whether it is the first.
            await self.lanes.join(lane, task_id)
        new = _new_task(kind, params, host, lane)
        try:
            task = await self.queue.enqueue_task(user_id, new, task_id=task_id, delay=delay)
        except QueueFull:
            await self.lanes.leave(lane, task_id)
            raise
        if task.status in ENDED:
            # It was added before.
            await self.lanes.leave(lane, task_id)

    async def find(self, kind: str, unique: str) -> Task | None:
        """Return the delivery of this `unique`, as a task; None when none is kept."""
        return await self.queue.get_task(digest_of(kind, unique))

    async def recent(self, kind: str, user_id: str, since: float) -> Sequence[Task]:
        """Return the deliveries of a user that were added since a time, the newest `MOST_RECENT`.

        `since`: seconds since the epoch.
        """
        page = await self.queue.list_tasks(user_id, kind=kind, since=since, limit=MOST_RECENT)
        return page.items

    async def again(self, kind: str, unique: str) -> None:
        """Deliver once more what has ended, after nothing else.

        Raise DeliveryNotKept, DeliveryUnderWay, QueueFull.
        """
        task = await self.find(kind, unique)
        if task is None:
            raise DeliveryNotKept(
                phrase("there is no delivery of this event, or it is kept no more")
            )
        if task.status not in ENDED:
            raise DeliveryUnderWay(phrase("this event is being delivered"))
        await self.queue.enqueue_task(task.user_id, _new_task(kind, task.params, task.key, ""))


def _new_task(kind: str, params: dict[str, Any], host: str, lane: str) -> NewTask:
    return NewTask(
        kind=kind,
        # No script reads this part of a task: it holds the lane too.
        job=Job(label=kind, params=params, tags=(lane,) if lane else ()),
        first=NOTHING_YET,
        key=host,
        max_attempts=MOST_ATTEMPTS,
        expected_seconds=1.0,
        notify=False,
    )
