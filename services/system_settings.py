"""Settings that an admin changes while the servers run; every process follows at once."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import attrs
import structlog
from pymongo.errors import PyMongoError

from tornado_rt.limits import SystemSettings
from tornado_rt.protocol import CONTROL, Cursor, Message, MessageType, Publisher
from tornado_rt.work import clean_text
from tornado_rt.work.params.faults import NAMES
from tornado_rt.work.texts import phrase

__all__ = ["InvalidSetting", "SettingsFollower", "SystemSettings", "SystemSettingsService"]

log = structlog.get_logger(__name__)

SHOWN_NAME = 60
# Wait before settings that could not be read are read again [s].
RELOAD_RETRY_SECONDS = 0.5


class InvalidSetting(ValueError):
    """A setting is unknown, or its value is not allowed; the message names it."""


FIELDS = attrs.fields_dict(SystemSettings)


class SystemSettingsService:
    """Keeps what differs from `defaults` in MongoDB, as one document."""

    def __init__(self, database: Any, publisher: Publisher, defaults: SystemSettings) -> None:
        self._collection = database["system_settings"]
        self._publisher = publisher
        self._defaults = defaults

    async def get(self) -> SystemSettings:
        """Return the settings that hold now."""
        return self._with(await self._stored())

    async def update(self, changes: dict[str, Any]) -> SystemSettings:
        """Change some and tell every process. Raise InvalidSetting; then nothing is changed."""
        updated = self._with(await self._stored() | _checked(changes))
        await self._collection.update_one({"_id": "settings"}, {"$set": changes}, upsert=True)
        message = Message.of(MessageType.SETTINGS, attrs.asdict(updated))
        await self._publisher.publish(CONTROL, message)
        return updated

    def read(self, message: Message) -> SystemSettings:
        """Return the settings that a message of the topic `control` tells."""
        return self._with(_usable(message.fields()))

    async def _stored(self) -> dict[str, Any]:
        document = await self._collection.find_one({"_id": "settings"}) or {}
        return _usable({name: value for name, value in document.items() if name != "_id"})

    def _with(self, changes: dict[str, Any]) -> SystemSettings:
        return attrs.evolve(self._defaults, **changes)


class SettingsFollower:
    """A subscriber of the topic `control` that hands on the settings as they change.

    `spawn` runs a job that may outlive the call.
    """

    def __init__(
        self,
        service: SystemSettingsService,
        follow: Callable[[SystemSettings], None],
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
    ) -> None:
        self._service = service
        self._follow = follow
        self._spawn = spawn

    def deliver(self, message: Message) -> None:
        """Take a change."""
        self._follow(self._service.read(message))

    def gap(self) -> None:
        """Read the settings again, since a change may have been lost."""
        self._spawn(self._reload(), "reload-settings")

    def is_behind(self, _: Cursor | None) -> bool:
        """Say no: changes have no log."""
        return False

    async def _reload(self) -> None:
        while True:
            try:
                self._follow(await self._service.get())
            except PyMongoError as error:
                log.warning("settings_wait", error=error)
                await asyncio.sleep(RELOAD_RETRY_SECONDS)
            else:
                return


def _usable(values: dict[str, Any]) -> dict[str, Any]:
    """Leave out what another version of this server, or a hand, wrote and this one cannot use."""
    usable: dict[str, Any] = {}
    for name, value in values.items():
        try:
            usable |= _checked({name: value})
        except InvalidSetting as error:
            log.warning("setting_ignored", error=str(error))
    return usable


def _checked(changes: dict[str, Any]) -> dict[str, Any]:
    for name, value in changes.items():
        if name not in FIELDS:
            raise InvalidSetting(
                phrase("there is no setting {name}", name=clean_text(name, SHOWN_NAME))
            )
        whole = FIELDS[name].type is int
        # True is an int to Python, and no number; a long of MongoDB is one.
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise InvalidSetting(
                phrase("{place} must be {kind}", place=name, kind=NAMES[int if whole else float])
            )
    try:
        SystemSettings(**changes)
    except ValueError as error:
        raise InvalidSetting(str(error.args[0])) from None
    return changes
