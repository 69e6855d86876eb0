"""Settings that an admin changes while the servers run; every process follows at once."""

from typing import Any

import attrs
import structlog

from tornado_rt.bounds import clean_text, number_of
from tornado_rt.protocol import CONTROL, Message, MessageType, Publisher

log = structlog.get_logger(__name__)

DAY_SECONDS = 86400.0
MAX_CONNECTIONS = 1_000_000
SHOWN_NAME = 60


class InvalidSetting(ValueError):
    """A setting is unknown, or its value is not allowed; the message names it."""


def _seconds(default: float, least: float = 0.0) -> Any:
    return attrs.field(default=default, validator=number_of(least, DAY_SECONDS))


@attrs.frozen(kw_only=True)
class SystemSettings:
    """Paces and bounds of open connections, in seconds; 0 is none.

    The names are those of the system that this API comes from. Streams here are pushed to; the two
    poll intervals say how often what they follow is compared with its log.
    """

    sse_poll_timeout_seconds: float = _seconds(1.0, 0.1)
    sse_heartbeat_interval_seconds: float = _seconds(10.0)
    sse_task_max_idle_seconds: float = _seconds(300.0)
    sse_batch_poll_interval_seconds: float = _seconds(2.0, 0.1)
    sse_batch_max_idle_seconds: float = _seconds(600.0)
    ws_heartbeat_interval_seconds: float = _seconds(30.0)
    ws_max_connections_per_user: int = attrs.field(
        default=50, validator=number_of(0, MAX_CONNECTIONS)
    )


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
            raise InvalidSetting(f"there is no setting {clean_text(name, SHOWN_NAME)}")
        whole = FIELDS[name].type is int
        # True is an int to Python, and no number; a long of MongoDB is one.
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            raise InvalidSetting(f"{name} must be {'an integer' if whole else 'a number'}")
    try:
        SystemSettings(**changes)
    except ValueError as error:
        raise InvalidSetting(str(error.args[0])) from None
    return changes
