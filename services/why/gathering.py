"""Reads all that is kept of a task, in Redis and in MongoDB, within a bounded time."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import attrs
import orjson
import structlog
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from services.channels import EMAIL, PUSH
from services.notifications import NotificationService
from services.notifications.reading import EventTold
from services.outbox import FoundEntry
from services.progress import PlanBook
from services.queue import QueueService, Task, TaskFacts, TaskState
from services.webhooks import Posted, WebhookService
from settings import default
from tornado_rt.devices import DeviceRecord, Devices
from tornado_rt.turns import NoTurn

log = structlog.get_logger(__name__)

T = TypeVar("T")

# MongoDB has this long to tell the notifications of a task [s].
STORE_SECONDS = 2.0
# The clock of a server may be ahead of Redis's by this much [s].
CLOCKS_SECONDS = 60.0
ENDS = {TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.DEAD}
# Looks for the entry of an event [by its id] that ended then [s since the epoch].
FindEntry = Callable[[str, float], Awaitable[FoundEntry | None]]


@attrs.frozen(kw_only=True)
class Facts:
    """The facts about a task.

    `shown` is its snapshot with its steps, `told` the notification of its end, `entry` that of its
    end in the outbox, `away` the deliveries of its notification by push and mail. `is_store_away`:
    MongoDB has not said. `visibility` is how long a lease lasts [s]. `sees_all`: the reader may
    know tasks of others.
    """

    queue: TaskFacts
    shown: Mapping[str, Any]
    told: EventTold | None = None
    entry: FoundEntry | None = None
    posts: Sequence[Posted] = ()
    away: Sequence[Task] = ()
    devices: Sequence[DeviceRecord] = ()
    is_store_away: bool = False
    visibility: float = default("queue_visibility_seconds")
    sees_all: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether the task has."""
        return self.queue.task.status in ENDS


class Gatherer:
    """Reads the facts of tasks."""

    def __init__(
        self,
        queue: QueueService,
        plans: PlanBook,
        notifications: NotificationService,
        webhooks: WebhookService,
        devices: Devices,
        find_entry: FindEntry,
    ) -> None:
        self._queue = queue
        self._plans = plans
        self._notifications = notifications
        self._webhooks = webhooks
        self._devices = devices
        self._find_entry = find_entry

    async def read(self, known: TaskFacts, *, sees_all: bool) -> Facts:
        """Return all facts of a task that the queue knows. Raise RedisError."""
        task = known.task
        [snapshot] = await self._plans.all_shown([task.snapshot or b"{}"])
        facts = Facts(
            queue=known,
            shown=orjson.loads(snapshot),
            devices=await self._devices.read(task.user_id),
            visibility=self._queue.visibility_seconds,
            sees_all=sees_all,
        )
        if not facts.has_ended or task.ended_at is None:
            return facts
        told, is_away = await self.of_event(task.user_id, known.event_id)
        posts, posts_away = await self._of_store(
            self._webhooks.posts_of(task.user_id, known.event_id)
        )
        entry = None if told else await self._find_entry(known.event_id, task.ended_at)
        away = () if told is None else await self._deliveries_of(told)
        return attrs.evolve(
            facts,
            told=told,
            entry=entry,
            posts=posts or (),
            away=away,
            is_store_away=is_away or posts_away,
        )

    async def of_event(self, user_id: str, event_id: str) -> tuple[EventTold | None, bool]:
        """Return what a user was told of an event, and whether MongoDB did not say."""
        return await self._of_store(self._notifications.of_event(user_id, event_id))

    async def _deliveries_of(self, told: EventTold) -> list[Task]:
        """Return the deliveries of a notification to an absent user, as far as they are kept."""
        notification, deliveries = told.notification, self._webhooks.deliveries
        since = notification.created_at.timestamp() - CLOCKS_SECONDS
        found = [
            await deliveries.recent(kind, notification.user_id, since) for kind in (PUSH, EMAIL)
        ]
        return [one for part in found for one in part if _is_about(one, notification.id)]

    async def _of_store(self, asked: Awaitable[T]) -> tuple[T | None, bool]:
        try:
            async with asyncio.timeout(STORE_SECONDS):
                return await asked, False
        except (PyMongoError, NoTurn, TimeoutError, OSError) as error:
            if isinstance(error, RedisError):
                raise
            log.info("why_without_store", error=error)
            return None, True


def _is_about(delivery: Task, notification_id: str) -> bool:
    """Say whether a delivery tells of a notification: a push names one, a mail several."""
    params = delivery.params
    return notification_id in (params.get("notification_id"), *params.get("ids", ()))
