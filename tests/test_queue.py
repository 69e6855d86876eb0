"""The queue's scripts on a real Redis."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Literal

import attrs
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import ResponseError
from tornado.ioloop import IOLoop

from services.queue import (
    Ack,
    BatchState,
    Claim,
    Idempotency,
    KeyReused,
    KindEntry,
    KindLimits,
    NotEnded,
    Outcome,
    Priority,
    QueueFull,
    QueueService,
    TaskNotFound,
    TaskState,
    Unique,
)
from settings import QueueOrder
from tests.queue_model import new_task as smallest_task
from tests.queueing import (
    KIND,
    claim,
    end_delays,
    enqueue,
    expire_leases,
    give_up,
    ids_of,
    new,
    several,
    started,
)
from tests.waiting import until
from tornado_rt.protocol import Cursor, Message, ResyncReason, iso_time
from tornado_rt.redis import open_redis
from tornado_rt.stores import StoreAddresses
from tornado_rt.work import Plan, Step

pytestmark = pytest.mark.usefixtures("invariants")

MakeQueue = Callable[..., QueueService]
Play = Callable[[QueueService, Redis, str], Awaitable[None]]


async def snapshot_of(queue: QueueService, task_id: str) -> dict[str, Any]:
    task = await queue.get_task(task_id)
    assert task is not None
    snapshot: dict[str, Any] = json.loads(task.snapshot)
    return snapshot


async def event_types(queue: QueueService, kind: Literal["task", "batch"], id_: str) -> list[str]:
    """The events after the first one of all, which a new subscriber has in its snapshot."""
    epoch = (await queue.read_events(kind, id_)).cursor.epoch
    replay = await queue.read_events(kind, id_, Cursor(epoch, 1))
    return [message.type for message in replay.messages]


async def outbox(redis: Redis) -> list[dict[str, str]]:
    entries = await redis.xrange("{rtq}:outbox")
    return [{k.decode(): v.decode() for k, v in fields.items()} for _, fields in entries]


@pytest.mark.gen_test
async def test_waiting_task_knows_its_position(queue: QueueService) -> None:
    """Positions count from 1 over all users of a kind and move up as others start."""
    first = await queue.enqueue_task("alice", new("AAPL", {"x": 1}))
    second = await queue.enqueue_task("bob", new("MSFT"))
    assert (first.status, first.position, second.position) == (TaskState.QUEUED, 1, 2)
    assert first.params == {"x": 1}
    await claim(queue, 1)
    moved = await queue.get_task(second.task_id)
    assert moved is not None
    assert moved.position == 1
    snapshot = json.loads(moved.snapshot)
    assert (snapshot["status"], snapshot["position"], snapshot["label"]) == ("queued", 1, "MSFT")


@pytest.mark.gen_test
async def test_shown_parameter_takes_the_place_of_no_field(queue: QueueService) -> None:
    shown = {"task_id": "other", "kind": "other", "label": "other", "path": "a"}
    task = await queue.enqueue_task("alice", new("AAPL", shown=shown))
    snapshot = await snapshot_of(queue, task.task_id)
    told = {name: snapshot[name] for name in shown}
    assert told == {"task_id": task.task_id, "kind": KIND, "label": "AAPL", "path": "a"}


@pytest.mark.gen_test
async def test_tasks_start_in_the_order_submitted(queue: QueueService) -> None:
    ids = [await enqueue(queue, user) for user in ("a", "b", "a", "c", "b")]
    assert await started(queue) == ids


@pytest.mark.gen_test
async def test_user_at_his_limit_is_passed_over(make_queue: MakeQueue) -> None:
    """Others go on; their next task starts when one of theirs ends, before later ones."""
    queue = make_queue(user_limit=1)
    a1, a2, b1, b2 = [await enqueue(queue, user) for user in ("a", "a", "b", "b")]
    claims = await claim(queue)
    assert [c.task.task_id for c in claims] == [a1, b1]
    assert await started(queue) == []
    assert await queue.ack_task(b1, token=claims[1].token)
    assert await queue.ack_task(a1, token=claims[0].token)
    assert await started(queue) == [a2, b2]


@pytest.mark.gen_test
async def test_changed_limit_holds_from_the_next_claim(make_queue: MakeQueue) -> None:
    queue = make_queue(user_limit=1)
    ids = [await enqueue(queue, "a") for _ in range(3)]
    assert await started(queue) == ids[:1]
    assert await started(queue) == []
    await queue.set_limits("", {"user_limit": 2})
    assert await started(queue) == ids[1:2]


@pytest.mark.gen_test
async def test_thousands_may_wait_run_and_end_at_once(make_queue: MakeQueue) -> None:
    """Lua hands on only some thousands of arguments: a change of order finds all turns anew."""
    users, queue = 9000, make_queue(order=QueueOrder.FAIR)
    for start in range(0, users, 1000):
        await asyncio.gather(*(enqueue(queue, f"u{start + n}") for n in range(1000)))
    await started(queue, 0)
    await queue.set_limits("", {"user_limit": 1, "order": QueueOrder.FIFO})
    claims = await claim(queue, users)
    assert len(claims) == users
    acks = [Ack(c.task.task_id, c.token, Outcome.COMPLETED) for c in claims]
    await queue.claim("w1", 0, acks, kinds=[KIND])
    assert (await queue.stats()).completed == users


@pytest.mark.gen_test
async def test_global_limit_bounds_all_users(make_queue: MakeQueue) -> None:
    queue = make_queue(global_limit=2)
    for user in "abc":
        await enqueue(queue, user)
    assert len(await claim(queue)) == 2
    assert await claim(queue) == []


@pytest.mark.gen_test
async def test_fair_order_takes_users_in_turn(make_queue: MakeQueue) -> None:
    """A user's thousand tasks do not bury another's one; each user's own stay in order."""
    queue = make_queue(order=QueueOrder.FAIR)
    many = [await enqueue(queue, "many") for _ in range(4)]
    one = await enqueue(queue, "one")
    assert await started(queue, 1) == [many[0]]
    two = await enqueue(queue, "two")
    assert await started(queue) == [one, many[1], two, many[2], many[3]]
    assert (await queue.stats()).queued == 0


@pytest.mark.gen_test
async def test_full_line_refuses(make_queue: MakeQueue) -> None:
    """The bound counts delayed tasks too; another user is not bound by it."""
    queue = make_queue(max_waiting_per_user=2)
    await enqueue(queue, "a")
    await enqueue(queue, "a", delay=100.0)
    with pytest.raises(QueueFull) as full:
        await enqueue(queue, "a")
    assert full.value.retry_after > 0
    with pytest.raises(QueueFull):
        await queue.create_batch("b", [new("AAPL")] * 3)
    await enqueue(queue, "b")
    assert (await queue.get_user_queue_status("a")).waiting == 2


@pytest.mark.gen_test
async def test_completed_task_keeps_its_result(queue: QueueService, redis: Redis) -> None:
    task_id = await enqueue(queue, "a")
    [owned] = await claim(queue)
    assert (owned.task.status, owned.task.attempt) == (TaskState.PROCESSING, 1)
    assert await queue.ack_task(
        task_id, token=owned.token, result={"x": 1}, fragment=b'"progress":100.0'
    )
    task = await queue.get_task(task_id)
    assert task is not None
    assert (task.status, task.result, task.error) == (TaskState.COMPLETED, {"x": 1}, None)
    assert json.loads(task.snapshot)["progress"] == 100
    replay = await queue.read_events("task", task_id)
    assert replay.finished is not None
    expected = {"task_id": task_id, "final_status": "completed", "result": {"x": 1}}
    assert replay.finished.fields() == expected
    assert await event_types(queue, "task", task_id) == ["progress"] * 2 + ["finished"]


@pytest.mark.gen_test
async def test_failed_task_says_why(queue: QueueService) -> None:
    task_id = await enqueue(queue, "a")
    [owned] = await claim(queue)
    await queue.ack_task(task_id, False, token=owned.token, error='no "data"\nfor ZZZ: é')
    replay = await queue.read_events("task", task_id)
    assert replay.finished is not None
    assert replay.finished.fields()["error"] == 'no "data"\nfor ZZZ: é'
    assert (await queue.stats()).failed == 1


@pytest.mark.gen_test
async def test_each_ended_task_makes_one_outbox_entry(queue: QueueService, redis: Redis) -> None:
    """This holds for every end, and however often the request is repeated."""
    done, cancelled = await enqueue(queue, "a"), await enqueue(queue, "a", "MSFT")
    await queue.cancel_task(cancelled)
    [owned] = await claim(queue)
    for _ in range(2):
        assert await queue.ack_task(done, token=owned.token, result={"x": 1})
    entries = await outbox(redis)
    assert [(e["event_id"], e["status"], json.loads(e["job"])["label"]) for e in entries] == [
        (cancelled, "cancelled", "MSFT"),
        (done, "completed", "A"),
    ]


@pytest.mark.gen_test
async def test_stale_token_changes_nothing(queue: QueueService, redis: Redis) -> None:
    """A worker whose lease ran out can neither end, keep, hand back nor report its old task."""
    task_id = await enqueue(queue, "a")
    [lost] = await claim(queue)
    await expire_leases(redis)
    assert await queue.cleanup_expired_tasks() == 1
    [owned] = await claim(queue)
    assert (owned.task.task_id, owned.task.attempt) == (task_id, 2)
    for token in (lost.token, "", "nonsense"):
        assert not await queue.ack_task(task_id, token=token, result={"x": 1})
        assert not await queue.extend_task(task_id, token)
        assert not await queue.release_task(task_id, token)
        assert not await queue.report_progress(task_id, token, b'"progress":99.0', 99)
    assert await queue.extend_task(task_id, owned.token)
    task = await queue.get_task(task_id)
    assert task is not None
    assert (task.status, task.progress) == (TaskState.PROCESSING, 0)


@pytest.mark.gen_test
async def test_lost_task_returns_to_the_head_of_its_line(queue: QueueService, redis: Redis) -> None:
    first, second = await enqueue(queue, "a"), await enqueue(queue, "a")
    await claim(queue, 1)
    await expire_leases(redis)
    await queue.cleanup_expired_tasks()
    assert await started(queue) == [first, second]


@pytest.mark.gen_test
async def test_task_is_dead_after_its_last_attempt(queue: QueueService, redis: Redis) -> None:
    task_id = await enqueue(queue, "a", max_attempts=2)
    for _ in range(2):
        [owned] = await claim(queue)
        await expire_leases(redis)
        await queue.cleanup_expired_tasks()
        assert not await queue.ack_task(task_id, token=owned.token)
    assert await started(queue) == []
    task = await queue.get_task(task_id)
    assert task is not None
    assert (task.status, task.error) == (TaskState.DEAD, "the worker was lost")


@pytest.mark.gen_test
async def test_released_task_is_first_again_and_its_attempt_not_counted(
    queue: QueueService,
) -> None:
    first, second = await enqueue(queue, "a"), await enqueue(queue, "a")
    [owned] = await claim(queue, 1)
    for _ in range(2):
        assert await queue.release_task(first, owned.token)
    claims = await claim(queue)
    assert [(c.task.task_id, c.task.attempt) for c in claims] == [(first, 1), (second, 1)]


@pytest.mark.gen_test
async def test_retry_waits_and_comes_back(queue: QueueService, redis: Redis) -> None:
    await enqueue(queue, "a", max_attempts=2)
    [owned] = await claim(queue)
    assert await give_up(queue, owned, delay=60)
    assert (await queue.stats()).delayed == 1
    await end_delays(redis)
    await queue.cleanup_expired_tasks()
    [again] = await claim(queue)
    assert again.task.attempt == 2
    assert await give_up(queue, again, delay=60)
    assert (await queue.stats()).dead == 1


@pytest.mark.gen_test
async def test_delayed_task_waits_for_its_time(queue: QueueService, redis: Redis) -> None:
    task = await queue.enqueue_task("a", new("AAPL"), delay=60)
    assert (task.status, task.position) == (TaskState.DELAYED, None)
    await queue.cleanup_expired_tasks()
    assert await started(queue) == []
    await redis.zadd("{rtq}:delayed", {task.task_id: 1})
    await queue.cleanup_expired_tasks()
    assert await started(queue) == [task.task_id]


@pytest.mark.gen_test
@pytest.mark.parametrize("state", ["queued", "delayed", "processing", "completed"])
async def test_cancel_in_each_state(queue: QueueService, state: str) -> None:
    """A task that has not ended ends as cancelled; an ended one stays."""
    task_id = await enqueue(queue, "a", delay=60.0 if state == "delayed" else 0.0)
    claims = await claim(queue) if state in ("processing", "completed") else []
    if state == "completed":
        await queue.ack_task(task_id, token=claims[0].token)
    task = await queue.cancel_task(task_id, "a")
    assert task.status == ("completed" if state == "completed" else "cancelled")
    if state == "processing":
        assert not await queue.ack_task(task_id, token=claims[0].token)
    assert await started(queue) == []


@pytest.mark.gen_test
async def test_another_user_cannot_cancel(queue: QueueService) -> None:
    task_id = await enqueue(queue, "a")
    with pytest.raises(TaskNotFound):
        await queue.cancel_task(task_id, "b")
    with pytest.raises(TaskNotFound):
        await queue.cancel_task("nothing")


@pytest.mark.gen_test
async def test_cancel_is_told_to_the_workers(queue: QueueService, redis: Redis) -> None:
    task_id = await enqueue(queue, "a")
    await claim(queue)
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe("rt:workers")
        await pubsub.get_message(timeout=20)
        await queue.cancel_task(task_id)
        message = await pubsub.get_message(timeout=20)
    assert json.loads(message["data"]) == {"type": "cancel", "data": {"task_id": task_id}}


@pytest.mark.gen_test
async def test_progress_never_goes_backwards(queue: QueueService, redis: Redis) -> None:
    task_id = await enqueue(queue, "a")
    [owned] = await claim(queue)
    for percent in (10, 40, 20, 40):
        fragment = f'"progress":{percent}.0'.encode()
        assert await queue.report_progress(task_id, owned.token, fragment, percent)
    task = await queue.get_task(task_id)
    assert task is not None
    assert json.loads(task.snapshot)["progress"] == 40
    assert len(await event_types(queue, "task", task_id)) == 3


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("ends", "final"),
    [
        (["completed", "completed"], BatchState.COMPLETED),
        (["completed", "failed"], BatchState.PARTIAL),
        (["failed", "failed"], BatchState.FAILED),
        (["failed", "cancelled"], BatchState.FAILED),
        (["cancelled", "cancelled"], BatchState.CANCELLED),
        (["completed", "cancelled"], BatchState.PARTIAL),
    ],
)
async def test_batch_ends_once(
    queue: QueueService, redis: Redis, ends: list[str], final: BatchState
) -> None:
    """As its tasks did, with one outbox entry for all of them."""
    batch = await queue.create_batch("a", several("AAPL", "MSFT"))
    assert batch.status == BatchState.QUEUED
    for owned, end in zip(await claim(queue), ends, strict=True):
        if end == "cancelled":
            await queue.cancel_task(owned.task.task_id)
        else:
            await queue.ack_task(owned.task.task_id, end == "completed", token=owned.token)
    ended = await queue.get_batch(batch.batch_id)
    assert ended is not None
    assert ended.status == final
    assert json.loads(ended.snapshot)["progress"] == 100
    assert (await event_types(queue, "batch", batch.batch_id)).count("finished") == 1
    entries = await outbox(redis)
    assert [(e["kind"], e["event_id"], e["status"]) for e in entries] == [
        ("batch", batch.batch_id, final)
    ]


@pytest.mark.gen_test
async def test_batch_counts_its_tasks(queue: QueueService) -> None:
    batch = await queue.create_batch("a", several("AAPL", "MSFT", "IBM", "GOOG"))
    [first, second] = await claim(queue, 2)
    await queue.ack_task(first.task.task_id, token=first.token)
    await queue.report_progress(second.task.task_id, second.token, b'"progress":50.0', 50)
    now = await queue.get_batch(batch.batch_id)
    assert now is not None
    snapshot = json.loads(now.snapshot)
    counters = ("total", "queued", "processing", "completed", "progress")
    assert [snapshot[name] for name in counters] == [4, 2, 1, 1, 37.5]
    assert snapshot["status"] == "processing"


@pytest.mark.gen_test
async def test_batch_says_when_it_changed_last(queue: QueueService, redis: Redis) -> None:
    """To read it is no change. A record of an earlier version knows when it ended, or was made."""
    batch_id = (await queue.create_batch("a", several("AAPL"))).batch_id
    key = f"{{rtq}}:batch:{batch_id}"

    async def told() -> str:
        batch = await queue.get_batch(batch_id)
        assert batch is not None
        moment: str = json.loads(batch.snapshot)["updated_at"]
        return moment

    async def stays() -> str:
        """Return what is told, now and by a later clock of Redis."""
        before, began = await told(), await redis.time()

        async def is_later() -> bool:
            return await redis.time() > (began[0], began[1] + 2000)

        await until(is_later)
        assert await told() == before
        return before

    moments = [await stays()]
    [owned] = await claim(queue)
    moments.append(await stays())
    await queue.report_progress(owned.task.task_id, owned.token, b'"progress":0.1', 0.1)
    moments.append(await stays())
    await queue.ack_task(owned.task.task_id, token=owned.token)
    moments.append(await stays())
    assert moments == sorted(set(moments))
    # The end in the log is the one that is read later.
    replay = await queue.read_events("batch", batch_id)
    assert json.loads(replay.snapshot.data)["updated_at"] == moments[-1]
    await redis.hdel(key, "changed_at")
    assert await stays() == moments[-1]
    await redis.hdel(key, "ended_at")
    assert await stays() == moments[0]


@pytest.mark.gen_test
async def test_batch_is_at_a_hundred_percent_when_all_of_it_is_done(queue: QueueService) -> None:
    batch = await queue.create_batch("a", several("A", "B", "C"))
    claims = await claim(queue, 3)

    async def progress() -> float:
        found = await queue.get_batch(batch.batch_id)
        assert found is not None
        return float(json.loads(found.snapshot)["progress"])

    for percent in (33.333333333333336, 99.97, 99.99999999999999):
        for one in claims:
            fragment = f'"progress":{percent}'.encode()
            assert await queue.report_progress(one.task.task_id, one.token, fragment, percent)
        assert await progress() == {33.333333333333336: 33.3, 99.97: 99.9}.get(percent, 100.0)
    for one in claims:
        await queue.ack_task(one.task.task_id, token=one.token)
    assert await progress() == 100


@pytest.mark.gen_test
async def test_large_batch_may_be_claimed_and_end_at_once(queue: QueueService) -> None:
    """Each of its tasks changes it, more often than Lua hands on arguments."""
    made = await queue.create_batch("a", several(*"A" * 3000))
    claims = await claim(queue, 3000)
    assert len(claims) == 3000
    acks = [Ack(c.task.task_id, c.token, Outcome.COMPLETED) for c in claims]
    await queue.claim("w1", 0, acks, kinds=[KIND])
    ended = await queue.get_batch(made.batch_id)
    assert ended is not None
    assert (ended.status, json.loads(ended.snapshot)["completed"]) == (BatchState.COMPLETED, 3000)


@pytest.mark.gen_test
async def test_cancelled_batch_cancels_what_has_not_ended(queue: QueueService) -> None:
    batch = await queue.create_batch("a", several("AAPL", "MSFT", "IBM"))
    [first, _] = await claim(queue, 2)
    await queue.ack_task(first.task.task_id, token=first.token)
    cancelled = await queue.cancel_batch(batch.batch_id, "a")
    assert cancelled.status == BatchState.PARTIAL
    assert (await queue.stats()).cancelled == 2


@pytest.mark.gen_test
async def test_repeated_requests_change_nothing(queue: QueueService, redis: Redis) -> None:
    """redis-py sends a command again when its reply was lost."""
    for _ in range(2):
        await enqueue(queue, "a", task_id="t1")
        await queue.create_batch("a", several("AAPL", "MSFT"), batch_id="b1")
    assert (await queue.stats()).queued == 3
    first, again = [await queue.claim("w1", 2, request="r", kinds=[KIND]) for _ in range(2)]
    assert first == again
    assert len(first.claims) == 2
    assert (await queue.stats()).processing == 2
    assert await redis.ttl("{rtq}:request:r") > 0


@pytest.mark.gen_test
async def test_claim_that_found_nothing_finds_nothing_when_it_is_done_again_late(
    queue: QueueService,
) -> None:
    """Redis stood still, and meets the request once more on a connection that was given up."""
    assert (await queue.claim("w1", 2, request="late", kinds=[KIND])).claims == []
    task_id = await enqueue(queue, "a")
    assert (await queue.claim("w1", 2, request="late", kinds=[KIND])).claims == []
    assert await started(queue, 2) == [task_id]


@pytest.mark.gen_test
async def test_claim_may_end_other_tasks_in_the_same_round_trip(make_queue: MakeQueue) -> None:
    queue = make_queue(user_limit=1)
    first, second = await enqueue(queue, "a"), await enqueue(queue, "a")
    [owned] = await claim(queue)
    ack = Ack(first, owned.token, Outcome.COMPLETED)
    claimed = await queue.claim("w1", 1, [ack], kinds=[KIND])
    assert [c.task.task_id for c in claimed.claims] == [second]


@pytest.mark.gen_test
async def test_replay_is_whole_or_says_why_not(make_queue: MakeQueue, redis: Redis) -> None:
    queue = make_queue(max_events=3)
    task_id = await enqueue(queue, "a")
    [owned] = await claim(queue)
    start = (await queue.read_events("task", task_id)).cursor
    for percent in (1, 2, 3):
        fragment = f'"progress":{percent}.0'.encode()
        await queue.report_progress(task_id, owned.token, fragment, percent)
    replay = await queue.read_events("task", task_id, start)
    assert [m.fields()["progress"] for m in replay.messages] == [1, 2, 3]
    assert [m.cursor for m in replay.messages] == [
        Cursor(start.epoch, start.offset + n) for n in (1, 2, 3)
    ]
    assert (await queue.read_events("task", task_id, replay.cursor)).messages == []
    trimmed = await queue.read_events("task", task_id, Cursor(start.epoch, 1))
    assert (trimmed.resync, trimmed.messages) == (ResyncReason.TRIMMED, [])
    for cursor in (Cursor("other", 1), Cursor(start.epoch, 99)):
        assert (await queue.read_events("task", task_id, cursor)).resync == ResyncReason.EPOCH


async def live_events(queue: QueueService, redis: Redis, play: Play) -> tuple[str, list[str]]:
    """Start and do what `play` does with a task that is watched; return what its watcher got."""
    task_id = await enqueue(queue, "a")
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe(f"rt:task:{task_id}")
        await pubsub.get_message(timeout=20)
        await play(queue, redis, task_id)
        await redis.publish(f"rt:task:{task_id}", "")
        got = []
        while message := await pubsub.get_message(timeout=5):
            if not message["data"]:
                return task_id, got
            got.append(message["data"].decode())
    raise AssertionError("the last message did not come")


async def _at_once(queue: QueueService, redis: Redis, task_id: str) -> None:
    [owned] = await claim(queue)
    await queue.ack_task(task_id, token=owned.token, fragment=b'"progress":100.0')


async def _with_reports(queue: QueueService, redis: Redis, task_id: str) -> None:
    [owned] = await claim(queue)
    for percent in (10, 20):
        await queue.report_progress(task_id, owned.token, b'"progress":%d.0' % percent, percent)
    await queue.ack_task(task_id, False, token=owned.token, error="no data")


async def _again_and_again(queue: QueueService, redis: Redis, task_id: str) -> None:
    [first] = await claim(queue)
    await queue.release_task(task_id, first.token)
    [second] = await claim(queue)
    await queue.report_progress(task_id, second.token, b'"progress":10.0', 10)
    await expire_leases(redis)
    await queue.cleanup_expired_tasks()
    [third] = await claim(queue)
    await give_up(queue, third, delay=60)
    await end_delays(redis)
    await queue.cleanup_expired_tasks()
    await claim(queue)


async def _cancelled_in_line(queue: QueueService, redis: Redis, task_id: str) -> None:
    await queue.cancel_task(task_id)


async def _dead_and_run_again(queue: QueueService, redis: Redis, task_id: str) -> None:
    for _ in range(3):
        await claim(queue)
        await expire_leases(redis)
        await queue.cleanup_expired_tasks()
    assert (await queue.stats()).dead == 1
    await queue.rerun_task(task_id)
    await claim(queue)


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "play", [_at_once, _with_reports, _again_and_again, _cancelled_in_line, _dead_and_run_again]
)
async def test_who_comes_back_gets_what_the_others_got(
    queue: QueueService, redis: Redis, play: Play
) -> None:
    """After any of the messages, with its id; also what is not logged, for the record tells it."""
    task_id, live = await live_events(queue, redis, play)
    messages = [Message.decode(envelope.encode()) for envelope in live]
    assert [m.cursor.offset for m in messages if m.cursor] == list(range(2, len(live) + 2))
    epoch = (await queue.read_events("task", task_id)).cursor.epoch
    for seen in range(len(live) + 1):
        replay = await queue.read_events("task", task_id, Cursor(epoch, seen + 1))
        assert (replay.resync, replay.messages) == (None, messages[seen:])


@pytest.mark.gen_test
async def test_events_are_the_same_whether_somebody_listens_or_not(
    queue: QueueService, redis: Redis
) -> None:
    """Also for a subscriber of a pattern."""
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.psubscribe("rt:task:*")
        await pubsub.get_message(timeout=20)
        task_id = await enqueue(queue, "a")
        await _at_once(queue, redis, task_id)
        types = []
        while "finished" not in types:
            message = await pubsub.get_message(timeout=20)
            types.append(Message.decode(message["data"]).type)
    assert types == await event_types(queue, "task", task_id)
    unwatched = await enqueue(queue, "a")
    await _at_once(queue, redis, unwatched)
    assert await event_types(queue, "task", unwatched) == types


@pytest.mark.gen_test
async def test_requests_of_the_same_moment_are_answered_each(make_queue: MakeQueue) -> None:
    """However many share a call, with whatever result."""
    queue = make_queue(max_waiting_per_user=20)
    once = Idempotency("k", b"request")
    asked = [queue.enqueue_task(f"u{n % 3}", new("A", {"n": n})) for n in range(63)]
    asked += [queue.enqueue_task("once", new("A"), once=once) for _ in range(2)]
    *answers, first, again = await asyncio.gather(*asked, return_exceptions=True)
    assert first.task_id == again.task_id
    made = {n: answer for n, answer in enumerate(answers) if not isinstance(answer, QueueFull)}
    assert all(task.params == {"n": n} and task.user_id == f"u{n % 3}" for n, task in made.items())
    assert Counter(task.user_id for task in made.values()) == {"u0": 20, "u1": 20, "u2": 20}
    line = sorted([*made.values(), first], key=lambda task: task.position)
    assert await started(queue, 100) == [task.task_id for task in line]


@pytest.mark.gen_test
async def test_nothing_is_left_of_what_is_past_its_retention(
    make_queue: MakeQueue, redis: Redis
) -> None:
    """But for what says how the queue stands, and the kinds; whatever the tasks made use of."""
    queue = make_queue(retention_seconds=60, user_limit=2)
    limits = KindLimits(key_limit=1, rate="100/1s", key_rate="1/1s")
    await queue.register_kinds([KindEntry(kind=KIND, limits=limits)])
    await queue.create_batch("a", several("AAPL", "MSFT"))
    await enqueue(queue, "b", unique=Unique(key="k"), plan=Plan((Step("one"),)))
    for level, priority in enumerate(Priority):
        for key in ("x", "y"):
            await enqueue(queue, f"u{level}", key=key, priority=priority, max_attempts=1)
    # More than are let in at once wait for one key, then some are cancelled.
    held = [await enqueue(queue, f"h{number}", key="x") for number in range(20)]
    for _ in range(2):
        for owned in await claim(queue, 50):
            await queue.keep_result(owned.task.task_id, owned.token, "step", b"1")
            await queue.report_progress(owned.task.task_id, owned.token, b'"progress":1.0', 1)
            await queue.add_note(owned.task.task_id, owned.token, {"title": "T"})
            await queue.ack_task(owned.task.task_id, token=owned.token)
        for task_id in held[:15]:
            await queue.cancel_task(task_id)
    for state in (TaskState.QUEUED, TaskState.DELAYED):
        await queue.purge(state)
    assert (await queue.stats()).processing == 0

    async def are_full_again() -> bool:
        for key in ("ended", "ended_batches", "plan_idle"):
            for member in await redis.zrange("{rtq}:" + key, 0, -1):
                await redis.zadd("{rtq}:" + key, {member: 1})
        await queue.keep_up()
        return not await redis.exists("{rtq}:buckets", "{rtq}:resting")

    await until(are_full_again)
    kept = {key.decode().removeprefix("{rtq}:") for key in await redis.keys("*")}
    requests = {key for key in kept if key.startswith("request:")}
    assert kept - requests == {
        *("seq", "tokens", "epoch", "limits", "own_limits", "pace", "outbox", "ends"),
        *("kinds", "kind_versions"),
    }


@pytest.mark.gen_test
async def test_user_finds_his_tasks_again(queue: QueueService) -> None:
    ids = [await enqueue(queue, "a") for _ in range(3)]
    await enqueue(queue, "b")
    assert await ids_of(queue, "a", limit=2) == [ids[2], ids[1]]


@pytest.mark.gen_test
async def test_same_idempotency_key_gives_the_same_task(queue: QueueService) -> None:
    """Another request under the key is refused; another user's key is their own."""
    once = Idempotency("k", b"request")
    first = await queue.enqueue_task("a", new("AAPL"), once=once)
    again = await queue.enqueue_task("a", new("AAPL"), once=once)
    assert again.task_id == first.task_id
    other = await queue.enqueue_task("b", new("AAPL"), once=once)
    assert other.task_id != first.task_id
    with pytest.raises(KeyReused):
        await queue.enqueue_task("a", new("IBM"), once=Idempotency("k", b"another"))
    batch = await queue.create_batch("a", several("IBM"), once=Idempotency("b", b"r"))
    same = await queue.create_batch("a", several("IBM"), once=Idempotency("b", b"r"))
    assert same.task_ids == batch.task_ids
    assert (await queue.stats()).queued == 3


@pytest.mark.gen_test
async def test_dead_task_is_listed_run_again_and_discarded(
    queue: QueueService, redis: Redis
) -> None:
    """Run again it has all its attempts again, and its second end is news again."""
    ids = [await enqueue(queue, "a", max_attempts=1) for _ in range(2)]
    await claim(queue)
    await expire_leases(redis)
    await queue.cleanup_expired_tasks()
    assert {task.task_id for task in await queue.list_dead()} == set(ids)
    assert (await queue.rerun_task(ids[0])).status == TaskState.QUEUED
    [owned] = await claim(queue)
    await queue.ack_task(ids[0], token=owned.token)
    shown = await event_types(queue, "task", ids[0])
    assert shown == [*["progress"] * 2, "finished", *["progress"] * 3, "finished"]
    events = [entry["event_id"] for entry in await outbox(redis)]
    assert sorted(events) == sorted([*ids, f"{ids[0]}:1"])
    await queue.discard_task(ids[1])
    assert await queue.get_task(ids[1]) is None
    for task_id, refusal in ((ids[0], NotEnded), (ids[1], TaskNotFound), ("no", TaskNotFound)):
        with pytest.raises(refusal):
            await queue.rerun_task(task_id)
        with pytest.raises(TaskNotFound):
            await queue.discard_task(task_id)


@pytest.mark.gen_test
async def test_task_run_again_after_its_batch_ended_goes_on_without_it(
    queue: QueueService, redis: Redis
) -> None:
    batch = await queue.create_batch("a", several("AAPL", "IBM", max_attempts=1))
    [first, second] = await claim(queue)
    await queue.ack_task(first.task.task_id, token=first.token)
    await expire_leases(redis)
    await queue.cleanup_expired_tasks()
    await queue.rerun_task(second.task.task_id)
    ended = await queue.get_batch(batch.batch_id)
    assert ended is not None
    assert (ended.status, ended.task_ids) == (BatchState.PARTIAL, [first.task.task_id])
    assert (await event_types(queue, "batch", batch.batch_id)).count("finished") == 1


@pytest.mark.gen_test
async def test_batch_tells_of_each_task_when_asked(queue: QueueService, redis: Redis) -> None:
    await queue.create_batch("a", several("AAPL", "IBM"), notify_each=True)
    for owned in await claim(queue):
        await queue.ack_task(owned.task.task_id, token=owned.token)
    assert [entry["kind"] for entry in await outbox(redis)] == ["task", "task", "batch"]


@pytest.mark.gen_test
async def test_task_starts_at_its_time(queue: QueueService) -> None:
    run_at = time.time() + 3600
    task = await queue.enqueue_task("a", new("AAPL"), run_at=run_at)
    assert task.status == TaskState.DELAYED
    snapshot = await snapshot_of(queue, task.task_id)
    assert snapshot["run_at"] == iso_time(datetime.fromtimestamp(run_at, UTC))
    upkeep = await queue.keep_up()
    assert upkeep.due_in == pytest.approx(3600, abs=5)


@pytest.mark.gen_test
async def test_expected_start_follows_the_pace(queue: QueueService, redis: Redis) -> None:
    """First what the enqueuer expects, then the mean of what the last tasks took."""
    await queue.announce_worker("w1", [KIND])
    await queue.enqueue_task("a", new("AAPL", expected_seconds=100))
    second = await queue.enqueue_task("a", new("IBM", expected_seconds=100))
    first = (await snapshot_of(queue, second.task_id))["starts_in"]
    assert first == pytest.approx(100, rel=0.2)
    await redis.hset("{rtq}:pace", KIND, 10)
    [_] = await claim(queue, 1)
    shown = await snapshot_of(queue, second.task_id)
    assert shown["starts_in"] == pytest.approx(10, rel=0.2)
    assert 0 < shown["starts_in_low"] < shown["starts_in"] < shown["starts_in_high"] < 25


@pytest.mark.gen_test
async def test_watchers_of_waiting_tasks_are_told_when_the_line_moves(
    queue: QueueService, redis: Redis
) -> None:
    """At most once a second in all, and nobody when it did not move."""
    _, watched = await enqueue(queue, "a"), await enqueue(queue, "a")
    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(f"rt:task:{watched}")
        await pubsub.get_message(timeout=20)
        assert await queue.publish_positions() == 1
        first = json.loads((await pubsub.get_message(timeout=20))["data"])
        assert (first["type"], first["data"]["position"]) == ("progress", 2)
        await claim(queue, 1)
        assert await queue.publish_positions() == -1
        await redis.delete("{rtq}:positions:pause")
        assert await queue.publish_positions() == 1
        second = json.loads((await pubsub.get_message(timeout=20))["data"])
        assert second["data"]["position"] == 1
        offsets = [int(one["id"].partition("-")[2]) for one in (first, second)]
        assert offsets[1] == offsets[0] + 1
        await redis.delete("{rtq}:positions:pause")
        assert await queue.publish_positions() == 0


@pytest.mark.gen_test
async def test_many_watchers_are_told_in_portions(
    queue: QueueService, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once a move, by whatever process goes on; a move amid the portions begins another."""
    monkeypatch.setattr("services.queue.operating.POSITIONS_COUNT", 2)
    first, *watched = [await enqueue(queue, "a") for _ in range(6)]

    async def told_of_a_move(expected: list[int]) -> dict[str, int]:
        for reply in expected:
            await redis.delete("{rtq}:positions:pause")
            assert await queue.publish_positions() == reply
        told = [json.loads(one["data"]) for one in await _all_messages(pubsub)]
        found = {one["data"]["task_id"]: one["data"]["position"] for one in told}
        assert len(found) == len(told)
        return found

    async with redis.pubsub() as pubsub:
        await pubsub.subscribe(*(f"rt:task:{id_}" for id_ in watched))
        for _ in watched:
            await pubsub.get_message(timeout=20)
        places = {id_: place for place, id_ in enumerate(watched, 2)}
        assert await told_of_a_move([-1, -1, 1, 0]) == places
        await queue.cancel_task(first, "a")
        assert len(await told_of_a_move([-1])) == 2
        await enqueue(queue, "a")
        assert len(await told_of_a_move([-1, -1])) == 3
        assert await told_of_a_move([-1, -1, 1, 0]) == {id_: n - 1 for id_, n in places.items()}


async def _all_messages(pubsub: PubSub) -> list[dict[str, Any]]:
    found = []
    while message := await pubsub.get_message(timeout=0.2):
        found.append(message)
    return found


STEPS = [
    *("enqueue", "batch", "claim", "ack", "fail", "retry", "release", "report", "cancel"),
    *("expire", "due", "limit", "order", "rerun", "discard"),
]


@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 5)), max_size=60))
@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_invariants_hold_after_every_step(
    io_loop: IOLoop, redis: Redis, make_queue: MakeQueue, steps: list[tuple[str, int]]
) -> None:
    """Random requests, also with stale tokens; no limit is ever exceeded."""

    async def run() -> None:
        await redis.flushall()
        queue = make_queue(user_limit=2, global_limit=4)
        await queue.register_kinds()
        claims: list[Claim] = []
        for step, number in steps:
            await _step(queue, redis, claims, step, number)
            assert await queue.check_invariants() == []
            assert (await queue.stats()).processing <= 4

    io_loop.run_sync(lambda: asyncio.wait_for(run(), 60))


async def _step(
    queue: QueueService, redis: Redis, claims: list[Claim], step: str, number: int
) -> None:
    user = f"u{number % 3}"
    owned = claims[number % len(claims)] if claims else None
    if step == "enqueue":
        await enqueue(queue, user, delay=float(number == 5) * 60, max_attempts=2)
    elif step == "batch":
        await queue.create_batch(user, several(*"A" * (number + 1), max_attempts=2))
    elif step == "claim":
        claims += await claim(queue, number)
    elif step == "expire":
        await expire_leases(redis)
        await queue.cleanup_expired_tasks()
    elif step == "due":
        await end_delays(redis)
        await queue.cleanup_expired_tasks()
    elif step == "limit":
        await queue.set_limits("", {"user_limit": number % 3})
    elif step == "order":
        await queue.set_limits("", {"order": list(QueueOrder)[number % 2]})
    elif step in ("rerun", "discard"):
        for task in (await queue.list_dead())[:number]:
            await (queue.rerun_task if step == "rerun" else queue.discard_task)(task.task_id)
    elif owned is not None and await queue.get_task(owned.task.task_id):
        await _on_claim(queue, owned, step, number)


async def _on_claim(queue: QueueService, owned: Claim, step: str, number: int) -> None:
    task_id, token = owned.task.task_id, owned.token
    if step == "cancel":
        await queue.cancel_task(task_id)
    elif step == "retry":
        await give_up(queue, owned, error="x", delay=number % 2 * 60.0)
    elif step == "release":
        await queue.release_task(task_id, token)
    elif step == "report":
        percent = number * 20
        await queue.report_progress(task_id, token, b'"progress":%d.0' % percent, percent)
    else:
        await queue.ack_task(task_id, step == "ack", token=token, error="x")


@pytest.mark.gen_test
@pytest.mark.parametrize(("outcome", "state"), [(Outcome.ERROR, "failed"), (Outcome.RETRY, "dead")])
async def test_last_state_of_a_last_attempt_is_shown(
    make_queue: Callable[..., QueueService], outcome: Outcome, state: str
) -> None:
    """It says why the task has failed."""
    queue = make_queue()
    await queue.enqueue_task("ann", attrs.evolve(smallest_task(), max_attempts=1), task_id="t")
    (claim,) = (await queue.claim("one", 1, kinds=["fast"])).claims
    fragment = b'"progress":40.0,"message":"no such file"'
    ack = Ack("t", claim.token, outcome, error="no such file", fragment=fragment)
    assert await queue.end_attempt(ack)
    shown = orjson.loads((await queue.get_task("t")).snapshot)  # type: ignore[union-attr]
    assert (shown["status"], shown["message"]) == (state, "no such file")


@pytest.mark.gen_test
async def test_large_batch_may_take_longer_than_an_answer(stores: StoreAddresses) -> None:
    """It is asked for again, and made once."""
    async with open_redis(stores.redis_url, answer_seconds=0.6) as redis:
        await redis.flushall()
        queue = QueueService(redis, max_waiting_per_user=0)
        tasks = [smallest_task()] * 6000
        async with Redis.from_url(stores.redis_url) as other:
            await other.execute_command("CLIENT", "PAUSE", "1500")
            batch = await queue.create_batch("ann", tasks)
        assert len(batch.task_ids) == 6000
        assert (await queue.stats()).queued == 6000


@pytest.mark.gen_test
async def test_large_batch_waits_for_a_script_that_runs(stores: StoreAddresses) -> None:
    """Redis refuses all commands meanwhile: BUSY."""
    async with open_redis(stores.redis_url, answer_seconds=5.0) as redis:
        await redis.flushall()
        queue = QueueService(redis, max_waiting_per_user=0)
        threshold = (await redis.config_get("lua-time-limit"))["lua-time-limit"]
        await redis.config_set("lua-time-limit", 20)
        async with Redis.from_url(stores.redis_url) as other:
            endless = asyncio.create_task(other.eval("while true do end", 0))
            try:
                await until(lambda: _is_busy(redis), pause=0)
                making = asyncio.create_task(queue.create_batch("ann", [smallest_task()] * 1000))
                # It was refused at least once before the script ends.
                await asyncio.wait({making}, timeout=0.5)
                assert not making.done()
            finally:
                await redis.script_kill()
                await asyncio.gather(endless, return_exceptions=True)
            assert len((await making).task_ids) == 1000
        await redis.config_set("lua-time-limit", threshold)
        assert (await queue.stats()).queued == 1000


async def _is_busy(redis: Redis) -> bool:
    try:
        await redis.ping()
    except ResponseError as error:
        return str(error).startswith("BUSY ")
    return False


@pytest.mark.gen_test
@pytest.mark.parametrize("outcome", list(Outcome))
async def test_task_of_a_stale_end_may_start_in_the_same_request(
    redis: Redis, make_queue: Callable[..., QueueService], outcome: Outcome
) -> None:
    """Its lease ran out, and its first owner hands in its end as it asks for more."""
    queue = make_queue()
    await queue.enqueue_task("ann", smallest_task(key="k"), task_id="t")
    (claim,) = (await queue.claim("one", 1, kinds=["fast"])).claims
    await redis.zadd(queue.prefix + "processing", {"t": 1})
    assert await queue.cleanup_expired_tasks() == 1
    late = [Ack("t", claim.token, outcome, error="late")]
    (again,) = (await queue.claim("one", 1, late, kinds=["fast"])).claims
    assert (again.task.task_id, again.task.attempt) == ("t", 2)
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
@pytest.mark.parametrize("outcome", list(Outcome))
async def test_two_ends_of_a_task_in_a_request_are_told_apart_by_their_tokens(
    make_queue: Callable[..., QueueService], outcome: Outcome
) -> None:
    """The one of an owner who is none any more does nothing, and does not disturb the other."""
    queue = make_queue()
    await queue.enqueue_task("ann", smallest_task(key="k"), task_id="t")
    (claim,) = (await queue.claim("one", 1, kinds=["fast"])).claims
    ends = [
        Ack("t", "0", Outcome.COMPLETED),
        Ack("t", claim.token, outcome, error="not yet" if outcome != Outcome.COMPLETED else None),
    ]
    answer = await queue.claim("one", 1, ends, kinds=["fast"])
    goes_on = outcome in (Outcome.ERROR, Outcome.RETRY)
    assert answer.became == ["", outcome.value]
    assert [one.task.attempt for one in answer.claims] == [2] * goes_on
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_what_each_claim_looks_at_is_no_list(
    make_queue: Callable[..., QueueService], redis: Redis
) -> None:
    """Redis would walk over it for each task; what makes it none leaves nothing behind."""
    queue = make_queue()
    limits = KindLimits(rate="100/1s", key_rate="100/1s")
    await queue.register_kinds([KindEntry(kind="fast", limits=limits)])
    for number in range(4):
        await queue.enqueue_task(f"user{number}", smallest_task(key="k"), task_id=f"t{number}")
    claims = (await queue.claim("one", 3, kinds=["fast"])).claims
    prefix = queue.prefix
    for zset, members in (
        ("processing", {b"t0", b"t1", b"t2"}),
        ("buckets", {b"fast", b"fast\nk"}),
    ):
        assert await redis.object("encoding", prefix + zset) == b"skiplist"
        assert set(await redis.zrange(prefix + zset, 0, -1)) == members
    for counts, fields in (("keys", [b"fast\nk"]), ("running", [b"fast"])):
        assert await redis.object("encoding", prefix + counts) == b"hashtable"
        assert await redis.hkeys(prefix + counts) == fields
    for one in claims:
        await queue.ack_task(one.task.task_id, token=one.token)
    assert await redis.exists(prefix + "processing", prefix + "keys") == 0
    assert await queue.check_invariants() == []
