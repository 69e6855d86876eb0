"""The outbox between the real stores."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs
from tornado.ioloop import IOLoop

from services.notifications import NotificationService
from services.outbox import OutboxPump, read_lag
from services.queue import Ack, Claim, Job, NewTask, Outcome, QueueService
from services.webhooks import WebhookRequest, WebhookService
from tests.inboxes import Published, unread
from tests.ports import free_port
from tests.receiving import Received, receiving
from tests.telling import delivered, make_webhooks
from tests.waiting import until
from tornado_rt.mongo import open_database
from tornado_rt.stores import StoreAddresses

STREAM = "{rtq}:outbox"


@pytest.fixture
def notifications(io_loop: IOLoop, database: Any) -> NotificationService:
    service = NotificationService(database, Published())
    io_loop.run_sync(service.prepare)
    return service


@pytest.fixture
def webhooks(redis: Redis, database: Any) -> WebhookService:
    """Webhooks whose deliveries nobody runs."""
    return make_webhooks(redis, database)


@pytest.fixture
def pump(redis: Redis, notifications: NotificationService, webhooks: WebhookService) -> OutboxPump:
    return make_pump(redis, notifications, webhooks)


def make_pump(
    redis: Redis, notifications: NotificationService, webhooks: WebhookService, consumer: str = "a"
) -> OutboxPump:
    return OutboxPump(redis, notifications, webhooks, queue_name="rtq", consumer=consumer)


def new_task(label: str = "AAPL", kind: str = "analysis", **more: Any) -> NewTask:
    job = {name: more.pop(name) for name in ("callback_url", "tags") if name in more}
    return NewTask(kind=kind, job=Job(label=label, **job), first=b'"progress":0.0', **more)


async def claim_one(queue: QueueService, kind: str = "analysis") -> Claim:
    [claim] = (await queue.claim("w", 1, kinds=[kind])).claims
    return claim


async def end_a_task(
    redis: Redis, label: str = "AAPL", kind: str = "analysis", *, callback_url: str = "", **ack: Any
) -> str:
    queue = QueueService(redis)
    task = await queue.enqueue_task("alice", new_task(label, kind, callback_url=callback_url))
    claim = await claim_one(queue, kind)
    await queue.ack_task(task.task_id, token=claim.token, **ack)
    return task.task_id


async def die(queue: QueueService, task_id: str) -> None:
    claim = await claim_one(queue)
    await queue.end_attempt(Ack(task_id, claim.token, Outcome.RETRY, error="broken"))


async def entry_of(redis: Redis, **changes: str | bytes) -> None:
    """Put an entry into the outbox as the end of a task did in the version before."""
    fields = {
        "event_id": "e1",
        "kind": "task",
        "user_id": "alice",
        "task_id": "t1",
        "symbol": "A",
        "batch_id": "",
        "status": "completed",
        "result": "",
        "error": "",
        "callback_url": "",
        "ended_at": "1000.5",
    }
    await redis.xadd(STREAM, fields | changes)  # type: ignore[arg-type]


def about(task_id: str, label: str) -> dict[str, str]:
    """The metadata of an analysis that completed."""
    told = {"task_id": task_id, "kind": "analysis", "label": label, "symbol": label}
    return told | {"status": "completed"}


@pytest.mark.gen_test
@pytest.mark.parametrize("result", [{"x": "y" * 9000}, {"a": [{"$x": 1}]}, {"x": 2**63}])
async def test_result_that_cannot_be_stored_is_left_on_the_task(
    redis: Redis, pump: OutboxPump, notifications: NotificationService, result: dict[str, Any]
) -> None:
    """Too large or not a document: the notification comes without it."""
    task_id = await end_a_task(redis, result=result)
    await pump.pump(0)
    [only] = (await notifications.find("alice")).items
    assert only.metadata == about(task_id, "AAPL")
    task = await QueueService(redis).get_task(task_id)
    assert task is not None
    assert task.result == result


@pytest.mark.gen_test
async def test_each_end_makes_its_notification(
    redis: Redis, pump: OutboxPump, notifications: NotificationService
) -> None:
    done = await end_a_task(redis, result={"summary": "buy it"})
    await end_a_task(redis, "ZZZ", success=False, error="unknown symbol")
    assert await pump.pump(0) == 2
    failed, completed = (await notifications.find("alice")).items
    assert (completed.title, completed.content) == ("AAPL: analysis completed", "buy it")
    assert (completed.severity, completed.link) == ("success", f"/?task={done}")
    assert completed.metadata == about(done, "AAPL") | {"result": {"summary": "buy it"}}
    assert (failed.content, failed.severity) == ("unknown symbol", "error")
    assert await redis.xlen(STREAM) == 0


@pytest.mark.gen_test
async def test_end_of_any_kind_is_told_by_its_label(
    redis: Redis, pump: OutboxPump, notifications: NotificationService
) -> None:
    """The words of the analysis are its own."""
    done = await end_a_task(redis, "a.mp4 as 1080p", "video.transcode", result=[1, 2])
    await pump.pump(0)
    [told] = (await notifications.find("alice")).items
    assert (told.title, told.type) == ("a.mp4 as 1080p: completed", "system")
    assert (told.content, told.source) == (None, "video.transcode")
    named = {"task_id": done, "kind": "video.transcode", "label": "a.mp4 as 1080p"}
    assert told.metadata == named | {"status": "completed", "result": [1, 2]}


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("kind", "told"), [("analysis", ": analysis completed"), ("report", ": completed")]
)
async def test_long_label_leaves_room_for_the_news(
    redis: Redis, pump: OutboxPump, notifications: NotificationService, kind: str, told: str
) -> None:
    for length in (200 - len(told), 201 - len(told), 200, 500):
        await end_a_task(redis, "n" * length, kind)
    await pump.pump(0)
    fits, *others = [one.title for one in reversed((await notifications.find("alice")).items)]
    assert fits == "n" * (200 - len(told)) + told
    assert others == ["n" * (199 - len(told)) + "…" + told] * 3


@pytest.mark.gen_test
async def test_task_that_wants_no_news_makes_none(
    redis: Redis, pump: OutboxPump, notifications: NotificationService
) -> None:
    queue = QueueService(redis)
    task = await queue.enqueue_task("alice", new_task(notify=False))
    claim = await claim_one(queue)
    await queue.ack_task(task.task_id, token=claim.token)
    assert await pump.pump(0) == 0
    assert (await notifications.find("alice")).items == []


@pytest.mark.gen_test
async def test_quiet_end_is_told_to_whoever_hears_it(
    redis: Redis, pump: OutboxPump, notifications: NotificationService
) -> None:
    """Its user hears nothing of it."""
    queue = QueueService(redis)
    await queue.hear_quiet_ends()
    task = await queue.enqueue_task("alice", new_task(notify=False))
    claim = await claim_one(queue)
    await queue.ack_task(task.task_id, token=claim.token)
    [(_, entry)] = await redis.xrange("{rtq}:outbox")
    assert (entry[b"event_id"], entry[b"notify"]) == (task.task_id.encode(), b"c")
    assert await pump.pump(0) == 1
    assert (await notifications.find("alice")).items == []


@pytest.mark.gen_test
async def test_end_of_a_batch_is_told_in_the_words_of_its_kind(
    redis: Redis, pump: OutboxPump, notifications: NotificationService
) -> None:
    queue = QueueService(redis)
    for kind in ("video.transcode", "analysis"):
        batch = await queue.create_batch("alice", [new_task("a", kind), new_task("b", kind)])
        for claim in (await queue.claim("w", 2, kinds=[kind])).claims:
            await queue.ack_task(claim.task.task_id, token=claim.token)
        await pump.pump(0)
        told = (await notifications.find("alice")).items[0]
        words = "Batch: analysis completed" if kind == "analysis" else "Batch: completed"
        assert (told.title, told.content) == (words, "2 of 2 completed")
        assert told.link == f"/?batch={batch.batch_id}"
        assert (told.metadata["batch_id"], told.metadata["kind"]) == (batch.batch_id, kind)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"title": "42 pages", "content": "a\nb", "severity": "warning"}, ("42 pages", "warning")),
        ({"title": "a\x00b", "content": None, "severity": "loud"}, ("a\ufffdb", "info")),
        ({"title": ""}, ("report", "info")),
        ({}, ("report", "info")),
    ],
)
async def test_note_of_a_running_task_is_told_as_it_says(
    redis: Redis,
    pump: OutboxPump,
    notifications: NotificationService,
    fields: dict[str, Any],
    told: tuple[str, str],
) -> None:
    """It leads to the task, and its end is told besides."""
    queue = QueueService(redis)
    task = await queue.enqueue_task("alice", new_task("nightly", "report"))
    claim = await claim_one(queue, "report")
    assert await queue.add_note(task.task_id, claim.token, fields)
    await queue.ack_task(task.task_id, token=claim.token)
    await pump.pump(0)
    end, note = (await notifications.find("alice")).items
    assert end.title == "nightly: completed"
    assert (note.title, note.severity) == told
    assert note.content == fields.get("content")
    assert (note.link, note.source) == (f"/?task={task.task_id}", "report")
    assert note.metadata == {"task_id": task.task_id, "kind": "report", "label": "nightly"}


@pytest.mark.gen_test
async def test_lag_is_the_age_of_the_oldest_end_that_is_not_told(
    redis: Redis, pump: OutboxPump
) -> None:
    assert await read_lag(redis, "rtq") == 0
    seconds, _ = await redis.time()
    await redis.xadd(STREAM, {"event_id": "e1", "user_id": "alice"}, id=f"{seconds - 60}000-0")
    await end_a_task(redis)
    assert 60 <= await read_lag(redis, "rtq") < 90
    await pump.pump(0)
    assert await read_lag(redis, "rtq") == 0


@pytest.mark.gen_test
async def test_entry_read_by_a_pump_that_was_killed_is_moved(
    redis: Redis, notifications: NotificationService, webhooks: WebhookService
) -> None:
    """By the same process after its restart, and only once however often."""
    await end_a_task(redis)
    await make_pump(redis, notifications, webhooks)._ensure_group()
    await redis.xreadgroup("notifications", "a", {STREAM: ">"})
    assert await make_pump(redis, notifications, webhooks).pump(0) == 1
    assert await unread(notifications, "alice") == 1
    assert await redis.xlen(STREAM) == 0


@pytest.mark.gen_test
async def test_notification_stored_before_the_crash_is_not_doubled(
    redis: Redis, pump: OutboxPump, notifications: NotificationService
) -> None:
    await end_a_task(redis)
    entries: Any = await redis.xrange(STREAM)
    await pump.pump(0)
    await redis.xadd(STREAM, entries[0][1])
    await pump.pump(0)
    assert await unread(notifications, "alice") == 1


@pytest.mark.gen_test
async def test_task_that_is_run_again_is_told_of_again_and_leads_to_the_task(
    redis: Redis, pump: OutboxPump, notifications: NotificationService
) -> None:
    """Its second end is another event; the link and the metadata still name the task."""
    queue = QueueService(redis)
    task = await queue.enqueue_task("alice", new_task(max_attempts=1))
    await die(queue, task.task_id)
    await queue.rerun_task(task.task_id)
    await die(queue, task.task_id)
    assert await pump.pump(0) == 2
    told = (await notifications.find("alice")).items
    assert [one.link for one in told] == [f"/?task={task.task_id}"] * 2
    assert [one.metadata["task_id"] for one in told] == [task.task_id] * 2


async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy from one connection to another until it ends."""
    with contextlib.closing(writer), contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


@contextlib.asynccontextmanager
async def forwarding(port: int, url: str) -> AsyncIterator[None]:
    """Answer at a port as the MongoDB server at `url` does."""
    there = urlsplit(url)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(there.hostname, there.port)
        await asyncio.gather(join(reader, far_writer), join(far_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()


@pytest.mark.gen_test
async def test_entry_waits_while_mongodb_is_away(
    redis: Redis,
    notifications: NotificationService,
    webhooks: WebhookService,
    stores: StoreAddresses,
) -> None:
    """The pump goes on by itself when it is back, and the notification is there once."""
    port = free_port()
    here = re.sub(r"127\.0\.0\.1:\d+", f"127.0.0.1:{port}", stores.mongodb_url)
    async with open_database(here, "tornado_rt") as away:
        pump = make_pump(redis, NotificationService(away, Published()), webhooks)
        await end_a_task(redis)
        with capture_logs() as logged:
            job = asyncio.create_task(pump.run())
            await until(lambda: logged)
        assert logged[0]["event"] == "outbox_waits"
        assert await redis.xlen(STREAM) == 1
        async with forwarding(port, stores.mongodb_url):
            await until(lambda: redis.xlen(STREAM), equal=0)
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
            # It says goodbye through the forwarder, which runs on this loop.
            await asyncio.to_thread(away.client.close)
    assert await unread(notifications, "alice") == 1


@pytest.mark.gen_test
async def test_flush_moves_what_is_there(
    redis: Redis, pump: OutboxPump, notifications: NotificationService
) -> None:
    for _ in range(3):
        await end_a_task(redis)
    await pump.flush(5)
    assert await unread(notifications, "alice") == 3


@pytest.mark.gen_test
async def test_end_of_a_task_is_posted_to_its_address(
    redis: Redis, notifications: NotificationService, database: Any
) -> None:
    """Without its user, and with its time as everywhere on the wire."""
    received = Received()
    async with receiving(received) as url, delivered(redis, database) as webhooks:
        pump = make_pump(redis, notifications, webhooks)
        done = await end_a_task(redis, callback_url=url, result={"summary": "buy it"})
        await pump.pump(0)
        await until(lambda: received.requests)
    posted = orjson.loads(received.requests[0].body)
    assert datetime.fromisoformat(posted.pop("ended_at")).tzinfo == UTC
    assert posted == {
        "event_id": done,
        "kind": "task",
        "task_kind": "analysis",
        "task_id": done,
        "batch_id": "",
        "label": "AAPL",
        "symbol": "AAPL",
        "tags": [],
        "status": "completed",
        "result": {"summary": "buy it"},
        "error": None,
    }


@pytest.mark.gen_test
async def test_end_is_handed_to_the_deliveries_once_before_its_entry_is_removed(
    redis: Redis, notifications: NotificationService, webhooks: WebhookService
) -> None:
    """A pump that was killed after the hand-over hands it over again."""
    made = await webhooks.create("alice", WebhookRequest(url="http://127.0.0.1:1/"))
    await end_a_task(redis, callback_url="http://127.0.0.1:1/")
    entries: Any = await redis.xrange(STREAM)
    for _ in range(2):
        await make_pump(redis, notifications, webhooks).pump(0)
        await redis.xadd(STREAM, entries[0][1])
    waiting = await QueueService(redis, name="rtq-deliveries").list_tasks("alice")
    assert sorted(one.params["webhook_id"] for one in waiting.items) == ["", made["id"]]


@pytest.mark.gen_test
async def test_callback_over_the_bound_is_named_on_its_notification(
    redis: Redis, notifications: NotificationService, database: Any
) -> None:
    webhooks = make_webhooks(redis, database, max_waiting_per_user=1)
    pump = make_pump(redis, notifications, webhooks)
    for label in "AB":
        await end_a_task(redis, label, callback_url="http://127.0.0.1:1/")
        await pump.pump(0)
    second, first = (await notifications.find("alice")).items
    assert "callback" not in first.metadata
    assert second.metadata["callback"] == "not sent: too many of yours wait already"
    assert b'rt_deliveries_total{kind="webhook",outcome="dropped"} 1.0' in pump._metrics.render()


@pytest.mark.gen_test
async def test_webhook_is_told_of_an_end_without_a_large_result(
    redis: Redis, notifications: NotificationService, webhooks: WebhookService
) -> None:
    await webhooks.create("alice", WebhookRequest(url="http://127.0.0.1:1/"))
    pump = make_pump(redis, notifications, webhooks)
    for result in ({"a": 1}, {"a": "x" * 20_000}):
        await end_a_task(redis, result=result)
        await pump.pump(0)
    waiting = await QueueService(redis, name="rtq-deliveries").list_tasks("alice")
    large, small = (orjson.loads(one.params["body"])["data"] for one in waiting.items)
    assert (small["result"], "result_omitted" in small) == ({"a": 1}, False)
    assert (large["result"], large["result_omitted"]) == (None, True)
