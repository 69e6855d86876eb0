"""Statistics, and the settings that change while the server runs."""

from enum import StrEnum
from typing import Any

import attrs

from services.progress import show
from services.queue import QueueService, describe_dead
from services.system_settings import SystemSettingsService
from tornado_rt.auth import ADMIN
from tornado_rt.presence import Presence
from tornado_rt.web import ApiHandler

PAGE_SIZE = 50
MAX_PAGE_SIZE = 500
MAX_OFFSET = 1_000_000


class StatsScope(StrEnum):
    """Whose statistics."""

    PROCESS = "process"
    ALL = "all"


class QueueStatsHandler(ApiHandler):
    """`GET`: how many tasks are in each state."""

    def initialize(self, queue: QueueService) -> None:
        self.queue = queue

    async def get(self) -> None:
        _ = self.identity
        self.answer(attrs.asdict(await self.queue.stats()))


class QueueCheckHandler(ApiHandler):
    """`GET`: what does not fit together in the queue; an empty list when all is well."""

    def initialize(self, queue: QueueService) -> None:
        self.queue = queue

    async def get(self) -> None:
        self.require(ADMIN)
        self.answer({"violations": await self.queue.check_invariants()})


class DeadTasksHandler(ApiHandler):
    """`GET`: the tasks that are dead, the last to die first."""

    def initialize(self, queue: QueueService) -> None:
        self.queue = queue

    async def get(self) -> None:
        self.require(ADMIN)
        offset = self.number("offset", 0, MAX_OFFSET, least=0)
        dead = await self.queue.list_dead(self.number("limit", PAGE_SIZE, MAX_PAGE_SIZE), offset)
        self.answer({"items": [describe_dead(task) for task in dead]})


class DeadTaskHandler(ApiHandler):
    """`DELETE`: discard a dead task."""

    def initialize(self, queue: QueueService) -> None:
        self.queue = queue

    async def delete(self, task_id: str) -> None:
        self.require(ADMIN)
        await self.queue.discard_task(task_id)
        self.set_status(204)


class RetryDeadTaskHandler(ApiHandler):
    """`POST`: give a dead task all its attempts again."""

    takes_body = False

    def initialize(self, queue: QueueService) -> None:
        self.queue = queue

    async def post(self, task_id: str) -> None:
        self.require(ADMIN)
        self.answer(show((await self.queue.revive_task(task_id)).snapshot))


class ConnectionStatsHandler(ApiHandler):
    """`GET`: the connections of this process or, with `?scope=all`, of all.

    An admin also sees whose.
    """

    def initialize(self, presence: Presence) -> None:
        self.presence = presence

    async def get(self) -> None:
        processes, stats = 1, self.hub.stats()
        if self.choice("scope", StatsScope) is StatsScope.ALL:
            processes, stats = await self.presence.stats()
        self._answer_stats({"processes": processes, **attrs.asdict(stats)})

    def _answer_stats(self, stats: dict[str, Any]) -> None:
        if not self.identity.may(ADMIN):
            del stats["users"]
        self.answer(stats)


class SettingsHandler(ApiHandler):
    """`GET` and `PUT`: the settings that every process follows at once."""

    def initialize(self, system_settings: SystemSettingsService) -> None:
        self.system_settings = system_settings

    async def get(self) -> None:
        self.require(ADMIN)
        self.answer(attrs.asdict(await self.system_settings.get()))

    async def put(self) -> None:
        self.require(ADMIN)
        changes = self.body(dict[str, Any])
        self.answer(attrs.asdict(await self.system_settings.update(changes)))
