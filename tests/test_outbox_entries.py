"""Entries of the outbox of any shape: each end is told, without what cannot be read."""

from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from services.notifications import NotificationService
from services.outbox import OutboxEvent, OutboxPump
from tests.inboxes import unread
from tests.receiving import Received, receiving
from tests.telling import delivered
from tests.test_outbox import (
    STREAM,
    about,
    end_a_task,
    entry_of,
    make_pump,
    notifications,
    pump,
    webhooks,
)
from tests.waiting import until

__all__ = ["notifications", "pump", "webhooks"]


@pytest.mark.gen_test
async def test_malformed_entry_is_set_aside(
    redis: Redis, pump: OutboxPump, notifications: NotificationService
) -> None:
    """It does not stop those behind it, and it is kept to be looked at."""
    await redis.xadd(STREAM, {"what": "is this"})
    await redis.xadd(STREAM, {b"\xff": b"\xff"})
    await end_a_task(redis)
    entries: Any = await redis.xrange(STREAM)
    whole = entries[-1][1]
    await redis.xadd(STREAM, {name: whole[name] for name in whole if name != b"user_id"})
    await redis.xadd(STREAM, {**whole, b"user_id": b"\xff"})
    await redis.xadd(STREAM, {**whole, b"user_id": b"x" * 300})
    await pump.pump(0)
    assert await unread(notifications, "alice") == 1
    assert await redis.xlen(STREAM + ":bad") == 5
    assert await redis.xlen(STREAM) == 0
    assert b"rt_outbox_set_aside_total 5.0" in pump._metrics.render()


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "result",
    [
        "{" + '"a":{' * 200 + "}" * 201,
        '{"a":' * 253 + "1" + "}" * 253,
        '{"x":18446744073709551615}',
    ],
)
async def test_result_that_no_store_could_keep_leaves_its_end_to_be_told(
    redis: Redis, pump: OutboxPump, notifications: NotificationService, result: str
) -> None:
    """However deep it nests: the user learns of the end, and others are not held up."""
    await entry_of(redis, result=result)
    await entry_of(redis, event_id="e2", user_id="bob")
    await pump.pump(0)
    [told] = (await notifications.find("alice")).items
    assert told.metadata == about("t1", "A")
    assert await unread(notifications, "bob") == 1
    assert await redis.xlen(STREAM) == 0


@pytest.mark.gen_test
async def test_texts_that_no_notification_may_hold_are_cleaned(
    redis: Redis, pump: OutboxPump, notifications: NotificationService
) -> None:
    """An older version took symbols and errors with any character."""
    await entry_of(redis, symbol="A\x00\x1b" + "x" * 300, error="no\x00\n" + "y" * 5000)
    await pump.pump(0)
    [told] = (await notifications.find("alice")).items
    assert told.title.startswith("A\ufffd\ufffdxxx")
    assert told.content is not None
    assert told.content.startswith("no\ufffd\nyyy")
    # A cut text ends with "…". The label in a title is cut, for the outcome comes after it.
    assert "xxx…: " in told.title
    assert told.content.endswith("yyy…")


@pytest.mark.parametrize(
    ("result", "content"),
    [
        *(({}, None), ({"summary": None}, None), ({"summary": ""}, None), ({"summary": 0}, "0")),
        ({"summary": "two\nlines"}, "two\nlines"),
    ],
)
def test_summary_of_the_result_is_the_content(result: dict[str, Any], content: str | None) -> None:
    event = OutboxEvent(event_id="e1", user_id="alice", result=result)
    assert event.notification().content == content


@pytest.mark.gen_test
async def test_entry_of_a_later_version_is_moved(
    redis: Redis, pump: OutboxPump, notifications: NotificationService
) -> None:
    await entry_of(redis, something_new="1")
    await pump.pump(0)
    assert await unread(notifications, "alice") == 1
    assert await redis.xlen(STREAM + ":bad") == 0


DEEP = '{"a":' * 300 + "1" + "}" * 300


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("changes", "posted"),
    [
        ({"result": DEEP}, {"result": orjson.Fragment(DEEP)}),
        ({"result": '{"summary":' + DEEP + "}"}, {}),
        ({"result": '{"a":' * 2000 + "1" + "}" * 2000}, {"result": None}),
        ({"result": "[1]"}, {"result": [1]}),
        ({"result": "{"}, {"result": None}),
        ({"result": b'{"a":"\xff"}'}, {"result": None}),
        ({"symbol": b"\xff\x00", "error": b"\xff"}, {"symbol": "\ufffd\0", "error": "\ufffd"}),
        ({"ended_at": "soon"}, {}),
        ({"ended_at": "1e300"}, {}),
        ({"kind": "group", "status": "x" * 1000}, {"kind": "group"}),
        ({"task_id": "\n/?x"}, {"task_id": "\n/?x"}),
        ({"task_id": "\U0001f4a5" * 300}, {}),
    ],
)
async def test_end_is_told_and_posted_without_what_cannot_be_read(
    redis: Redis,
    notifications: NotificationService,
    database: Any,
    changes: dict[str, Any],
    posted: dict[str, Any],
) -> None:
    """One field of an entry may hold anything."""
    received = Received()
    async with receiving(received) as url, delivered(redis, database) as webhooks:
        await entry_of(redis, callback_url=url, **changes)
        await make_pump(redis, notifications, webhooks).pump(0)
        await until(lambda: received.requests)
    body = orjson.loads(received.requests[0].body)
    expected = orjson.loads(orjson.dumps({"event_id": "e1", **posted}))
    assert {name: body[name] for name in expected} == expected
    assert await unread(notifications, "alice") == 1
    assert await redis.xlen(STREAM) == await redis.xlen(STREAM + ":bad") == 0


@pytest.mark.gen_test
async def test_entry_of_which_most_is_missing_is_told(
    redis: Redis, pump: OutboxPump, notifications: NotificationService
) -> None:
    await redis.xadd(STREAM, {"event_id": "e1", "user_id": "alice"})
    await pump.pump(0)
    [told] = (await notifications.find("alice")).items
    assert told.title == "analysis: analysis ended"
