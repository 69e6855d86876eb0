"""Lines of the outbox: the ends of each user are told in their order, and hold up nobody."""

import asyncio
import contextlib
from typing import Any

import pytest
from redis.asyncio import Redis

from services.notifications import NotificationService, Query
from services.outbox import pump as pump_module
from services.outbox.pump import OURS_SECONDS
from services.webhooks import WebhookService
from tests.inboxes import Published, unread
from tests.test_outbox import STREAM, end_a_task, entry_of, make_pump, notifications, webhooks
from tests.waiting import until
from tornado_rt.mongo import MongoAccess
from tornado_rt.turns import NoTurn

__all__ = ["notifications", "webhooks"]


@pytest.mark.gen_test
async def test_two_pumps_share_the_work(
    redis: Redis, notifications: NotificationService, webhooks: WebhookService
) -> None:
    pumps = [make_pump(redis, notifications, webhooks, name) for name in "ab"]
    jobs = [asyncio.create_task(pump.run()) for pump in pumps]
    for _ in range(10):
        await end_a_task(redis)
    await until(lambda: unread(notifications, "alice"), equal=10)
    await until(lambda: redis.xlen(STREAM), equal=0)
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
    assert await unread(notifications, "alice") == 10


@pytest.mark.gen_test
async def test_end_of_a_busy_user_waits_and_nobody_elses(
    redis: Redis, database: Any, webhooks: WebhookService
) -> None:
    """A user whose requests fill their line gets the end later; others do not wait."""
    access = MongoAccess(database, most_waiting_a_user=1)
    notifications = NotificationService(database, Published(), access=access)
    await notifications.prepare()
    pump = make_pump(redis, notifications, webhooks)
    for number in range(50):
        await entry_of(redis, event_id=f"a{number}")
    await entry_of(redis, event_id="b1", user_id="bob")
    flood = asyncio.create_task(keep_busy(notifications))
    job = asyncio.create_task(pump.run())
    await until(lambda: unread(notifications, "bob"), equal=1)
    await entry_of(redis, event_id="b2", user_id="bob")
    await until(lambda: unread(notifications, "bob"), equal=2)
    assert await redis.xlen(STREAM) > 0
    flood.cancel()
    await asyncio.wait([flood])
    await until(lambda: redis.xlen(STREAM), 60, equal=0)
    assert await unread(notifications) == 50
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)
    await notifications.close()
    await access.close()


async def keep_busy(notifications: NotificationService) -> None:
    """Let one of alice's requests wait at any time, until cancelled."""

    async def flood() -> None:
        while True:
            with contextlib.suppress(NoTurn):
                await notifications.mark_read("alice", ["0" * 24])
            await asyncio.sleep(0)

    await asyncio.gather(flood(), flood())


@pytest.mark.gen_test
async def test_end_that_was_given_out_to_us_again_keeps_its_place(
    redis: Redis,
    notifications: NotificationService,
    webhooks: WebhookService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its line is slow, and what has just come of it is not read yet: it is ours all the same."""
    monkeypatch.setattr(pump_module, "OURS_SECONDS", 0.0)
    for number in range(5):
        await entry_of(redis, event_id=f"a{number}", task_id=f"t{number}")
    await make_pump(redis, notifications, webhooks).pump(0)
    page = await notifications.find("alice")
    assert [one.metadata["task_id"] for one in page.items] == ["t4", "t3", "t2", "t1", "t0"]
    assert await redis.xlen(STREAM) == 0


@pytest.mark.gen_test
async def test_ends_of_one_user_are_told_in_their_order(
    redis: Redis, notifications: NotificationService, webhooks: WebhookService
) -> None:
    """Also when more wait than are held, and when this process had read some before."""
    for number in range(250):
        await entry_of(redis, event_id=f"a{number}", task_id=f"t{number}")
    await make_pump(redis, notifications, webhooks)._ensure_group()
    await redis.xreadgroup("notifications", "a", {STREAM: ">"}, count=120)
    pump = make_pump(redis, notifications, webhooks)
    job = asyncio.create_task(pump.run())
    await until(lambda: redis.xlen(STREAM), 60, equal=0)
    told: list[str] = []
    before = None
    while True:
        page = await notifications.find("alice", Query(limit=100, before=before))
        told += [one.metadata["task_id"] for one in page.items]
        if (before := page.next) is None:
            break
    assert told == [f"t{number}" for number in reversed(range(250))]
    assert (pump._held, pump._known, pump._lines) == (0, {}, {})
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)


@pytest.mark.gen_test
async def test_entry_that_another_pump_took_over_is_moved_by_that_one_alone(
    redis: Redis, database: Any, webhooks: WebhookService
) -> None:
    """While it waited too long in the line of the first."""
    published = Published(held=asyncio.Event())
    notifications = NotificationService(database, published)
    await notifications.prepare()
    slow, other = (make_pump(redis, notifications, webhooks, name) for name in "ab")
    await entry_of(redis, event_id="a1")
    await entry_of(redis, event_id="a2")
    moving = asyncio.create_task(slow.pump(0))
    await until(lambda: slow._known)
    [second] = [entry for entry in slow._known.values() if entry is slow._lines[b"alice"][-1]]
    await redis.xclaim(STREAM, "notifications", "b", 0, [second.id])
    second.read_at -= OURS_SECONDS
    assert published.held is not None
    published.held.set()
    await moving
    assert await unread(notifications, "alice") == 1
    assert await redis.xlen(STREAM) == 1
    assert await other.pump(0) == 1
    assert await unread(notifications, "alice") == 2
    assert len(published.of_type("notification")) == 2
    await notifications.close()
