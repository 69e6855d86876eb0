"""Data that a later version writes beside this one is read, with unknown fields and types."""

import json
import time
from pathlib import Path
from typing import Any

import attrs
import msgpack
import orjson
import pytest
from redis.asyncio import Redis

from services.notifications import NotificationDraft, NotificationService, NotificationType
from services.outbox import OutboxPump
from services.queue import Job, KindEntry, KindLimits, QueueService
from services.system_settings import SystemSettings, SystemSettingsService
from tests.inboxes import Published
from tests.queueing import KIND, claim, end, enqueue, give_up, read, several
from tests.telling import make_webhooks
from tests.test_outbox import end_a_task, make_pump
from tests.test_presence import House
from tornado_rt.auth import Identity
from tornado_rt.census import HubStats
from tornado_rt.presence import PROCESSES, STATS
from tornado_rt.protocol import Message, MessageType
from tornado_rt.stores import ADDRESSES_FILE, embedded_stores, running_addresses
from tornado_rt.tickets import Tickets


@pytest.mark.gen_test
async def test_entry_of_the_outbox_may_have_more_fields(redis: Redis, database: Any) -> None:
    notifications = NotificationService(database, Published())
    await notifications.prepare()
    pump: OutboxPump = make_pump(redis, notifications, make_webhooks(redis, database))
    await end_a_task(redis)
    [(id_, entry)] = await redis.xrange("{rtq}:outbox")
    await redis.xdel("{rtq}:outbox", id_)
    await redis.xadd("{rtq}:outbox", {**entry, b"of_a_later_version": b"x"})
    await pump.pump(0)
    assert len((await notifications.find("alice")).items) == 1
    assert not await redis.exists("{rtq}:outbox:bad")


@pytest.mark.gen_test
async def test_statistics_of_another_version_may_have_more_or_less(redis: Redis) -> None:
    """A number that it does not tell counts as 0."""
    house = House(redis)
    await redis.sadd(PROCESSES, "later", "earlier")
    told = {"total_users": 0, "total_connections": 3, "by_transport": {"sse": 3}}
    await redis.set(STATS + "later", orjson.dumps({**told, "of_a_later_version": [1]}))
    await redis.set(STATS + "earlier", orjson.dumps({"total_connections": 2}))
    processes, stats = await house.presence.stats()
    assert (processes, stats.total_connections, stats.by_transport["sse"]) == (3, 5, 3)
    numbers = [value for value in attrs.asdict(stats).values() if isinstance(value, int)]
    assert sum(numbers) == 5
    assert isinstance(stats, HubStats)


@pytest.mark.gen_test
async def test_addresses_of_the_stores_may_have_more_fields(tmp_path: Path) -> None:
    async with embedded_stores(tmp_path, mongodb=False) as addresses:
        file = tmp_path / ADDRESSES_FILE
        file.write_text(json.dumps(json.loads(file.read_text()) | {"of_a_later_version": 1}))
        assert running_addresses(tmp_path).redis_url == addresses.redis_url


@pytest.mark.gen_test
async def test_ticket_may_have_more_parts(redis: Redis) -> None:
    tickets = Tickets(redis, 30)
    ticket = await tickets.issue(Identity("alice", frozenset({"rt:admin"}), time.time() + 60))
    [key] = await redis.keys("*ticket*")
    stored: Any = await redis.get(key)
    await redis.set(key, orjson.dumps([*orjson.loads(stored), {"of": "a later version"}]))
    found = await tickets.redeem(ticket)
    assert (found.user_id, found.scopes) == ("alice", {"rt:admin"})


@pytest.mark.gen_test
async def test_settings_may_have_more_fields(database: Any) -> None:
    """In MongoDB, and in the message that tells of a change."""
    service = SystemSettingsService(database, Published(), SystemSettings())
    stored = {"ws_heartbeat_interval_seconds": 7.0, "of_a_later_version": {"x": 1}}
    await database["system_settings"].insert_one({"_id": "settings", **stored})
    assert (await service.get()).ws_heartbeat_interval_seconds == 7.0
    message = Message.of(MessageType.SETTINGS, stored)
    assert service.read(message).ws_heartbeat_interval_seconds == 7.0


@pytest.mark.gen_test
async def test_notification_may_have_more_fields_or_lack_the_latest(database: Any) -> None:
    service = NotificationService(database, Published())
    await service.prepare()
    draft = NotificationDraft(user_id="alice", type=NotificationType.ALERT, title="A")
    stored = await service.create(draft)
    changes = {"$set": {"of_a_later_version": [1]}, "$unset": {"severity": "", "goes_at": ""}}
    await database["inbox"].update_one({"user_id": "alice"}, changes)
    user = {"$set": {"of_a_later_version": [1]}}
    await database["notification_users"].update_one({"_id": "alice"}, user)
    assert [item.title for item in (await service.find("alice")).items] == ["A"]
    begin = (await service.replay("alice")).begin
    await service.create(attrs.evolve(draft, title="B"))
    assert len((await service.replay("alice", begin)).messages) == 1
    assert (await service.mark_one("alice", stored.id)).status == "read"
    for name, key in (("inbox", "user_id"), ("notification_users", "_id")):
        kept = await database[name].find_one({key: "alice", "of_a_later_version": [1]})
        assert kept is not None, name
    await service.close()


@pytest.mark.gen_test
async def test_task_and_batch_may_have_more_fields(redis: Redis) -> None:
    """Also behind those that are packed; what is not known stays when the task changes."""
    queue = QueueService(redis)
    made = await queue.create_batch("alice", several("A", max_attempts=1))
    [task_id], key = made.task_ids, "{rtq}:task:" + made.task_ids[0]
    more = "local m = cmsgpack.unpack(redis.call('HGET', KEYS[1], 'made')) m[16] = {a = 1} "
    more += "redis.call('HSET', KEYS[1], 'made', cmsgpack.pack(m), 'later', 'x')"
    await redis.eval(more, 1, key)
    await redis.hset("{rtq}:batch:" + made.batch_id, "later", "x")
    [owned] = await claim(queue, 1)
    await queue.report_progress(task_id, owned.token, b'"progress":5.0', 5.0)
    await give_up(queue, owned)
    assert (await queue.rerun_task(task_id)).status == "queued"
    assert await queue.check_invariants() == []
    kept = "return cmsgpack.unpack(redis.call('HGET', KEYS[1], 'made'))[16].a"
    assert await redis.eval(kept, 1, key) == 1
    assert await redis.hget(key, "later") == b"x"
    batch = await queue.get_batch(made.batch_id)
    assert batch is not None
    assert batch.status == "failed"


@pytest.mark.gen_test
async def test_job_may_have_more_fields(redis: Redis) -> None:
    queue = QueueService(redis)
    task_id = await enqueue(queue, label="A", tags=["t"])
    key, places = (
        "{rtq}:task:" + task_id,
        "local m = cmsgpack.unpack(redis.call('HGET', KEYS[1], 'made')) ",
    )
    job = orjson.dumps({"label": "A", "params": {"x": 1}, "tags": ["t"], "of_a_later_version": 1})
    await redis.eval(
        places + "m[15] = ARGV[1] redis.call('HSET', KEYS[1], 'made', cmsgpack.pack(m))",
        1,
        key,
        job,
    )
    [owned] = await claim(queue)
    assert owned.task.job == Job(label="A", params={"x": 1}, tags=("t",))
    await end(queue, owned)
    [entry] = await redis.xrange("{rtq}:outbox")
    assert entry[1][b"job"] == job


@pytest.mark.gen_test
async def test_ended_attempt_may_have_more_fields(redis: Redis) -> None:
    """Known fields of it are read, and it stays when another is added."""
    queue = QueueService(redis)
    task_id = await enqueue(queue)
    [owned] = await claim(queue)
    await give_up(queue, owned, error="first")
    key = "{rtq}:task:" + task_id
    attempts: Any = msgpack.unpackb(await redis.hget(key, "attempts"))
    await redis.hset(key, "attempts", msgpack.packb([[*one, {"later": 1}] for one in attempts]))
    [owned] = await claim(queue)
    await give_up(queue, owned, error="second")
    assert [one["error"] for one in (await read(queue, task_id)).attempts] == ["first", "second"]
    kept: Any = msgpack.unpackb(await redis.hget(key, "attempts"))
    assert [len(one) for one in kept] == [7, 6]


@pytest.mark.gen_test
async def test_kind_worker_and_limits_may_have_more_fields(redis: Redis) -> None:
    """A limit of a later version stays when an admin changes another."""
    queue = QueueService(redis)
    await queue.register_kinds([KindEntry(kind=KIND, title="T", limits=KindLimits(limit=2))])
    prefix = queue.prefix
    entry = orjson.loads(await redis.hget(prefix + "kinds", KIND)) | {"later": [1]}
    await redis.hset(prefix + "kinds", KIND, orjson.dumps(entry))
    for hash_ in ("own_limits", "limits"):
        limits = msgpack.unpackb(await redis.hget(prefix + hash_, KIND)) | {"later": [1]}
        await redis.hset(prefix + hash_, KIND, msgpack.packb(limits))
    told = orjson.dumps({"kinds": [KIND], "info": None, "later": 1})
    await redis.hset(prefix + "workers", "w", b"%f " % time.time() + told)
    for _ in range(3):
        await enqueue(queue)
    assert len(await claim(queue)) == 2
    await queue.set_limits(KIND, {"user_limit": 7})
    found = {state.entry.kind: state for state in await queue.read_kinds()}[KIND]
    assert (found.entry.title, found.workers) == ("T", 1)
    assert dict(found.limits) == attrs.asdict(KindLimits(limit=2, user_limit=7))
    assert msgpack.unpackb(await redis.hget(prefix + "limits", KIND))["later"] == [1]
