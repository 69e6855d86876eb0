"""System settings in a real MongoDB."""

from typing import Any

import attrs
import pytest
from bson import Int64

from services.system_settings import InvalidSetting, SystemSettings, SystemSettingsService
from tests.inboxes import Published
from tornado_rt.protocol import Message, MessageType

DEFAULTS = SystemSettings(ws_heartbeat_interval_seconds=20.0)


@pytest.fixture
def published() -> Published:
    return Published()


@pytest.fixture
def service(database: Any, published: Published) -> SystemSettingsService:
    return SystemSettingsService(database, published, DEFAULTS)


@pytest.mark.gen_test
async def test_nothing_stored_is_the_defaults(service: SystemSettingsService) -> None:
    assert await service.get() == DEFAULTS


def test_defaults_are_those_of_the_system_that_the_api_comes_from() -> None:
    assert attrs.asdict(SystemSettings()) == {
        "sse_poll_timeout_seconds": 1.0,
        "sse_heartbeat_interval_seconds": 10.0,
        "sse_task_max_idle_seconds": 300.0,
        "sse_batch_poll_interval_seconds": 2.0,
        "sse_batch_max_idle_seconds": 600.0,
        "ws_heartbeat_interval_seconds": 30.0,
        "ws_max_connections_per_user": 50,
    }


@pytest.mark.gen_test
async def test_change_is_kept_and_told_to_every_process(
    service: SystemSettingsService, published: Published, database: Any
) -> None:
    """Another process reads the whole from the message, and one that starts later from MongoDB."""
    await service.update({"sse_task_max_idle_seconds": 60})
    changed = await service.update({"ws_max_connections_per_user": 0})
    assert changed == attrs.evolve(
        DEFAULTS, sse_task_max_idle_seconds=60, ws_max_connections_per_user=0
    )
    topic, message = published.messages[-1]
    assert (topic, message.type) == ("control", "settings")
    other = SystemSettingsService(database, published, DEFAULTS)
    assert other.read(message) == changed
    assert await other.get() == changed


@pytest.mark.gen_test
async def test_what_is_not_changed_follows_the_defaults(
    service: SystemSettingsService, database: Any, published: Published
) -> None:
    """Only what an admin chose is kept: a process started with other options keeps the rest."""
    await service.update({"sse_poll_timeout_seconds": 3.0})
    defaults = attrs.evolve(DEFAULTS, ws_heartbeat_interval_seconds=5.0)
    restarted = await SystemSettingsService(database, published, defaults).get()
    assert restarted == attrs.evolve(defaults, sse_poll_timeout_seconds=3.0)


@pytest.mark.gen_test
async def test_empty_change_changes_nothing(service: SystemSettingsService) -> None:
    assert await service.update({}) == DEFAULTS
    assert await service.get() == DEFAULTS


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sse_task_max_idle_seconds", -1),
        ("sse_task_max_idle_seconds", 86401),
        ("sse_task_max_idle_seconds", float("nan")),
        ("sse_task_max_idle_seconds", float("inf")),
        ("sse_task_max_idle_seconds", True),
        ("sse_task_max_idle_seconds", "1"),
        ("sse_task_max_idle_seconds", None),
        ("sse_poll_timeout_seconds", 0),
        ("ws_max_connections_per_user", -1),
        ("ws_max_connections_per_user", 1.5),
        ("ws_max_connections_per_user", 2**63),
        ("_id", "x"),
        ("$where", 1),
        ("nothing", 1),
    ],
)
async def test_bad_change_is_refused_whole(
    service: SystemSettingsService, published: Published, name: str, value: Any
) -> None:
    """The message names the setting; the good one beside it is not stored either."""
    with pytest.raises(InvalidSetting) as raised:
        await service.update({"sse_heartbeat_interval_seconds": 7.0, name: value})
    assert name in str(raised.value)
    assert await service.get() == DEFAULTS
    assert published.messages == []


@pytest.mark.gen_test
async def test_stored_value_that_cannot_be_used_is_left_out(
    service: SystemSettingsService, database: Any
) -> None:
    """A hand or another version wrote it; a server starts none the less, and a change works."""
    await database["system_settings"].insert_one(
        {
            "_id": "settings",
            "sse_poll_timeout_seconds": "fast",
            "ws_max_connections_per_user": -1,
            "of_a_later_version": 1,
            "sse_batch_max_idle_seconds": 9.0,
        }
    )
    held = attrs.evolve(DEFAULTS, sse_batch_max_idle_seconds=9.0)
    assert await service.get() == held
    changed = await service.update({"sse_poll_timeout_seconds": 2.0})
    assert changed == attrs.evolve(held, sse_poll_timeout_seconds=2.0)


@pytest.mark.gen_test
async def test_long_of_mongodb_is_an_integer(service: SystemSettingsService, database: Any) -> None:
    """As `NumberLong(7)` in the shell writes it."""
    await database["system_settings"].insert_one(
        {"_id": "settings", "ws_max_connections_per_user": Int64(7)}
    )
    assert await service.get() == attrs.evolve(DEFAULTS, ws_max_connections_per_user=7)


def test_message_of_a_later_version_is_followed_as_far_as_it_is_known(
    service: SystemSettingsService,
) -> None:
    told = {"of_a_later_version": 1, "sse_poll_timeout_seconds": 2.0}
    read = service.read(Message.of(MessageType.SETTINGS, told))
    assert read == attrs.evolve(DEFAULTS, sse_poll_timeout_seconds=2.0)
