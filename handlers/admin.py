"""Statistics, and the settings that change while the server runs."""

from typing import Any

import attrs

from services.queue import QueueService
from services.system_settings import SystemSettingsService
from tornado_rt.auth import ADMIN
from tornado_rt.web import ApiHandler


class QueueStatsHandler(ApiHandler):
    """`GET`: how many tasks are in each state."""

    def initialize(self, queue: QueueService) -> None:
        self.queue = queue

    async def get(self) -> None:
        _ = self.identity
        self.answer(attrs.asdict(await self.queue.stats()))


class ConnectionStatsHandler(ApiHandler):
    """`GET`: the connections of this process; an admin also sees whose."""

    async def get(self) -> None:
        stats = attrs.asdict(self.hub.stats())
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
