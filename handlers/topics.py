"""`/api/ws`, `/api/stream` and `/api/publish`: many topics on one connection."""

import re
from typing import Any

from handlers.feeds import AdminFeed, NotificationFeed, ProgressFeed, TasksFeed, TopicFeed
from handlers.tasks import owner_of_identity
from services.admin import Series
from services.notifications import NotificationService
from services.progress import PlanBook
from services.queue import By, QueueService
from services.tasks import TaskService
from services.topics import PublishRequest, TopicService, check_topic, matches
from tornado_rt.api import ApiHandler
from tornado_rt.auth import ADMIN, PUBLISH, Identity
from tornado_rt.bounds import OutOfBounds
from tornado_rt.feed import Feed
from tornado_rt.limits import Limits
from tornado_rt.problems import Problem
from tornado_rt.protocol import ADMIN_TOPIC, TASKS
from tornado_rt.work.texts import phrase

ME = "me"
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class FeedFinder:
    """Knows each topic: `me`, `tasks`, `task:ID`, `batch:ID`, `admin`, or an application's."""

    def __init__(
        self,
        notifications: NotificationService,
        tasks: TaskService,
        queue: QueueService,
        plans: PlanBook,
        topics: TopicService,
        series: Series,
        limits: Limits,
    ) -> None:
        self._notifications = notifications
        self._tasks = tasks
        self._queue = queue
        self._plans = plans
        self._topics = topics
        self._series = series
        self._limits = limits

    async def find(self, identity: Identity, name: str) -> Feed:
        """Return what a topic brings to a user.

        Raise TaskNotFound, BatchNotFound, Problem 400 for what is no topic, or 403.
        """
        kind, _, id_ = name.partition(":")
        owner = owner_of_identity(identity)
        by = By.asking(identity.user_id, owner)
        if name == ME:
            return NotificationFeed(self._notifications, identity.user_id)
        if name == TASKS:
            return TasksFeed(self._queue, self._tasks, identity.user_id)
        if name == ADMIN_TOPIC:
            if not identity.may(ADMIN):
                raise Problem(
                    403,
                    phrase(
                        "the topic {topic} needs the scope {scope}",
                        topic=ADMIN_TOPIC,
                        scope=ADMIN,
                    ),
                )
            return AdminFeed(self._series)
        if kind == "task" and ID.fullmatch(id_):
            await self._tasks.get(id_, owner)
            return ProgressFeed(self._queue, self._plans, "task", id_, self._limits, by)
        if kind == "batch" and ID.fullmatch(id_):
            await self._tasks.get_batch(id_, owner)
            return ProgressFeed(self._queue, self._plans, "batch", id_, self._limits, by)
        try:
            check_topic(name)
        except OutOfBounds as error:
            raise Problem(400, str(error)) from None
        if not (identity.may(ADMIN) or matches(name, identity.topics)):
            raise Problem(
                403, phrase("the claim `topics` of your token has no pattern for this topic")
            )
        return TopicFeed(self._topics, name)


class PublishHandler(ApiHandler):
    """`POST`: publish on a topic of the application."""

    def initialize(self, topics: TopicService) -> None:
        self.topics = topics

    async def post(self) -> None:
        self.require(PUBLISH)
        request = self.body(PublishRequest)
        try:
            id_ = await self.topics.publish(request.topic, request.data)
        except OutOfBounds as error:
            raise Problem(422, str(error)) from None
        answer: dict[str, Any] = {"id": id_}
        self.answer(answer, 202)
