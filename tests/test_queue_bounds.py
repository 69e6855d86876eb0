"""Bounds of a user's ended work, and records that cannot be read, on a real Redis."""

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from services.queue import BatchNotFound, Claim, KeyReused, Once, QueueService, TaskState
from tests.waiting import until
from tornado_rt.protocol import Cursor, ResyncReason

PLAN = b'"progress":0.0,"message":"Waiting"'
MakeQueue = Callable[..., QueueService]
USER_IDS = [
    "a:b",
    "tasks:a",
    "waiting",
    "{rtq}",
    "}{",
    "a\nb",
    "\u2603 \U0001f680",
    "a*?[b]",
    "1",
    " ",
]


async def enqueue(queue: QueueService, user: str = "a", **more: Any) -> str:
    return (await queue.enqueue_task(user, "AAPL", {}, plan=PLAN, **more)).task_id


async def end(queue: QueueService, *claims: Claim) -> None:
    for claim in claims:
        await queue.ack_task(claim.task.task_id, token=claim.token)


async def there(queue: QueueService, ids: list[str]) -> list[bool]:
    return [await queue.get_task(id_) is not None for id_ in ids]


@pytest.mark.gen_test
async def test_oldest_ended_tasks_of_a_user_go_first(make_queue: MakeQueue, redis: Redis) -> None:
    """By when they ended, not when they were submitted; nothing of them is left; others' stay."""
    queue = make_queue(kept_per_user=3)
    other = await enqueue(queue, "b")
    ids = [await enqueue(queue) for _ in range(5)]
    await queue.cancel_task(other)
    for number in (4, 3, 2, 1, 0):
        await queue.cancel_task(ids[number])
    assert await there(queue, ids) == [True, True, True, False, False]
    assert await there(queue, [other]) == [True]
    assert (await queue.stats()).cancelled == 4
    assert [task.task_id for task in await queue.list_tasks("a")] == ids[2::-1]
    left = [key.decode() for key in await redis.keys("*")]
    assert not [key for key in left if ids[3] in key or ids[4] in key]
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_every_way_to_end_is_bounded(make_queue: MakeQueue) -> None:
    """Completed, failed, cancelled and dead; the dead are counted apart, for an operator."""
    queue = make_queue(kept_per_user=2, max_attempts=1)
    dead = [await enqueue(queue) for _ in range(3)]
    for claim in await queue.claim("w", 10):
        await queue.retry_task(claim.task.task_id, token=claim.token, error="x")
    ids = [await enqueue(queue) for _ in range(6)]
    claims = await queue.claim("w", 4)
    for claim, success in zip(claims, (True, False, True, False), strict=True):
        await queue.ack_task(claim.task.task_id, success, token=claim.token)
    for task_id in ids[4:]:
        await queue.cancel_task(task_id)
    assert await there(queue, dead) == [False, True, True]
    assert await there(queue, ids) == [False] * 4 + [True] * 2
    assert [task.task_id for task in await queue.list_dead()] == dead[:0:-1]
    assert await queue.check_invariants() == []
    await queue.revive_task(dead[1])
    await queue.discard_task(dead[2])
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_lease_that_ran_out_for_the_last_time_is_bounded_too(
    make_queue: MakeQueue, redis: Redis
) -> None:
    queue = make_queue(kept_per_user=2, max_attempts=1)
    ids = sorted([await enqueue(queue) for _ in range(4)])
    await queue.claim("w", 10)
    for task_id in ids:
        await redis.zadd("{rtq}:processing", {task_id: 1})
    assert await queue.cleanup_expired_tasks() == 4
    assert await there(queue, ids) == [False, False, True, True]
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_no_bound_keeps_all(make_queue: MakeQueue) -> None:
    queue = make_queue(kept_per_user=0)
    ids = [await enqueue(queue) for _ in range(20)]
    for task_id in ids:
        await queue.cancel_task(task_id)
    assert all(await there(queue, ids))


@pytest.mark.gen_test
async def test_bound_that_was_lowered_holds_from_the_next_end_on(make_queue: MakeQueue) -> None:
    """200 old ones go with each script at most, so that none holds up all."""
    queue = make_queue(kept_per_user=1000)
    batch = await queue.create_batch("a", ["A"] * 450, {}, plan=PLAN)
    await queue.cancel_batch(batch.batch_id)
    queue.kept_per_user = 10
    counts = []
    for _ in range(3):
        await queue.cancel_task(await enqueue(queue))
        counts.append((await queue.stats()).cancelled)
    assert counts == [250, 50, 10]
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_batch_outlives_its_tasks_and_reads_as_before(make_queue: MakeQueue) -> None:
    """It tells how it ended; its list names the tasks that are there."""
    queue = make_queue(kept_per_user=3)
    made = await queue.create_batch("a", ["A"] * 5, {}, plan=PLAN)
    ended = await queue.cancel_batch(made.batch_id)
    assert (ended.status, len(ended.task_ids)) == ("cancelled", 5)
    read = await queue.get_batch(made.batch_id)
    assert read is not None
    assert await there(queue, read.task_ids) == [True] * 3
    for _ in range(3):
        await queue.cancel_task(await enqueue(queue))
    read = await queue.get_batch(made.batch_id)
    assert read is not None
    shown = json.loads(read.snapshot)
    assert (read.task_ids, read.status, shown["total"], shown["cancelled"]) == (
        [],
        "cancelled",
        5,
        5,
    )
    replay = await queue.read_events("batch", made.batch_id)
    assert replay.finished is not None
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_ended_batches_of_a_user_are_bounded(make_queue: MakeQueue, redis: Redis) -> None:
    queue = make_queue(kept_per_user=2)
    made = [await queue.create_batch("a", ["A"], {}, plan=PLAN) for _ in range(4)]
    for batch in made:
        await queue.cancel_batch(batch.batch_id)
    found = [await queue.get_batch(batch.batch_id) is not None for batch in made]
    assert found == [False, False, True, True]
    left = [key.decode() for key in await redis.keys("*")]
    assert not [key for key in left if made[0].batch_id in key]
    with pytest.raises(BatchNotFound):
        await queue.cancel_batch(made[0].batch_id)


@pytest.mark.gen_test
async def test_batch_larger_than_the_bound_ends_as_it_should(make_queue: MakeQueue) -> None:
    queue = make_queue(kept_per_user=2)
    made = await queue.create_batch("a", ["A"] * 6, {}, plan=PLAN)
    await end(queue, *await queue.claim("w", 10))
    read = await queue.get_batch(made.batch_id)
    assert read is not None
    assert (read.status, read.task_ids) == ("completed", made.task_ids[4:])
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_cancel_of_a_large_batch_is_done_in_parts(make_queue: MakeQueue) -> None:
    """And whole when it is answered."""
    queue = make_queue(kept_per_user=0)
    made = await queue.create_batch("a", ["A"] * 450, {}, plan=PLAN)
    cancelled = await queue.cancel_batch(made.batch_id)
    assert cancelled.status == "cancelled"
    assert (await queue.stats()).cancelled == 450
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_logs_of_older_ended_tasks_go(make_queue: MakeQueue, redis: Redis) -> None:
    """A subscriber that comes back to one gets its state, and the reason why not more."""
    queue = make_queue(kept_per_user=1000)
    ids = [await enqueue(queue) for _ in range(102)]
    for claim in await queue.claim("w", 200):
        await queue.report_progress(claim.task.task_id, claim.token, b'"progress":5.0', 5.0)
        await end(queue, claim)
    assert len(await redis.keys("{rtq}:log:task:*")) == 100
    epoch = (await queue.read_events("task", ids[0])).cursor.epoch
    replay = await queue.read_events("task", ids[0], Cursor(epoch, 1))
    assert (replay.resync, replay.messages) == (ResyncReason.TRIMMED, [])
    assert replay.finished is not None
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_oldest_idempotency_keys_of_a_user_are_forgotten(
    make_queue: MakeQueue, redis: Redis
) -> None:
    queue = make_queue(idempotency_keys_per_user=2)
    first = await enqueue(queue, "b", once=Once("k0", b"r"))
    ids = [await enqueue(queue, once=Once(f"k{number}", b"r")) for number in range(3)]
    assert [await enqueue(queue, once=Once(f"k{number}", b"r")) for number in (1, 2)] == ids[1:]
    assert await enqueue(queue, once=Once("k0", b"r")) not in ids
    assert await enqueue(queue, "b", once=Once("k0", b"r")) == first
    batch = await queue.create_batch("a", ["A"], {}, plan=PLAN, once=Once("k3", b"r"))
    again = await queue.create_batch("a", ["A"], {}, plan=PLAN, once=Once("k3", b"r"))
    assert again.batch_id == batch.batch_id
    with pytest.raises(KeyReused):
        await queue.create_batch("a", ["B"], {}, plan=PLAN, once=Once("k3", b"other"))
    keys = await redis.keys("{rtq}:once*")
    assert len(keys) == 2 + 1 + 2
    assert all([await redis.pttl(key) > 0 for key in keys])


@pytest.mark.gen_test
async def test_what_an_earlier_version_ended_is_listed_and_bounded_by_upkeep(
    make_queue: MakeQueue, redis: Redis
) -> None:
    """It knows no lists of a user's ended tasks and batches."""
    queue = make_queue(kept_per_user=0, retention_seconds=0)
    for _ in range(5):
        batch = await queue.create_batch("a", ["A"] * 60, {}, plan=PLAN)
        await queue.cancel_batch(batch.batch_id)
    await redis.delete("{rtq}:ended:a", "{rtq}:ended_batches:a", "{rtq}:listed")
    queue.kept_per_user = 2

    async def all_are_listed() -> bool:
        due_in = (await queue.keep_up()).due_in
        return due_in is None

    await until(all_are_listed, 5, "all are listed")
    assert (await queue.stats()).cancelled == 2
    assert await redis.zcard("{rtq}:ended_batches:a") == 2
    assert int(await redis.get("{rtq}:listed") or 0) == 2
    assert await queue.check_invariants() == []


BREAKS: dict[str, Any] = {
    "no made": lambda redis, key: redis.hdel(key, "made"),
    "garbage": lambda redis, key: redis.hset(key, "made", b"\xc1\xff garbage"),
    "empty": lambda redis, key: redis.hset(key, "made", b""),
    "no list": lambda redis, key: redis.hset(key, "made", b"\x01"),
    "short": lambda redis, key: redis.hset(key, "made", b"\x91\xa1a"),
    "attempt": lambda redis, key: redis.hset(key, "attempt", "x"),
    "fraction": lambda redis, key: redis.hset(key, "attempt", "1.5"),
    "number": lambda redis, key: redis.hset(key, "event_seq", "x"),
    "long number": lambda redis, key: redis.hset(key, "event_seq", "1e300"),
    "share": lambda redis, key: redis.hset(key, "percent", "nan"),
    "status": lambda redis, key: redis.hset(key, "status", "odd"),
    "gone": lambda redis, key: redis.delete(key),
    "string": lambda redis, key: redis.set(key, "x"),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("order", ["fifo", "fair"])
async def test_broken_waiting_task_stops_nobody(
    make_queue: MakeQueue, redis: Redis, how: str, order: Any
) -> None:
    """It is set aside and told; the others of its user and of all go on."""
    queue = make_queue(user_limit=2, order=order)
    first = await enqueue(queue)
    broken = await enqueue(queue)
    others = [await enqueue(queue, user) for user in ("a", "b", "a", "b")]
    await BREAKS[how](redis, f"{{rtq}}:task:{broken}")
    ran = []
    for _ in range(4):
        claims = await queue.claim("w", 3)
        ran += [claim.task.task_id for claim in claims]
        await end(queue, *claims)
    assert sorted(ran) == sorted([first, *others])
    assert await queue.get_task(broken) is None
    assert broken not in [task.task_id for task in await queue.list_tasks("a")]
    assert (await queue.get_user_queue_status("a")).waiting == 0
    faults = await queue.check_invariants()
    assert faults == [f"task {broken} cannot be read and was set aside"]
    await queue.discard_task(broken)
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("state", ["processing", "delayed", "ended", "dead"])
async def test_broken_task_in_any_state_stops_no_upkeep(
    make_queue: MakeQueue, redis: Redis, how: str, state: str
) -> None:
    """Upkeep does all else that is due, and the user's slot is free again."""
    queue = make_queue(user_limit=2, max_attempts=1, retention_seconds=60)
    ids = [await enqueue(queue, delay=1000.0 * (state == "delayed")) for _ in range(2)]
    claims = await queue.claim("w", 10)
    if state == "dead":
        for claim in claims:
            await queue.retry_task(claim.task.task_id, token=claim.token, error="x")
    if state == "ended":
        await end(queue, *claims)
    await BREAKS[how](redis, f"{{rtq}}:task:{ids[0]}")
    zset = {"processing": "processing", "delayed": "delayed"}.get(state, "ended")
    for task_id in ids:
        await redis.zadd(f"{{rtq}}:{zset}", {task_id: 1})
    assert [task.task_id for task in await queue.list_tasks("a")] == ids[1:]
    assert len(await queue.list_dead()) == (state == "dead")
    await queue.keep_up()
    await queue.keep_up()
    found = await queue.get_task(ids[1])
    wanted = {"processing": TaskState.DEAD, "delayed": TaskState.QUEUED}.get(state)
    assert (found and found.status) == wanted
    status = await queue.get_user_queue_status("a")
    assert (status.processing, status.waiting) == (0, int(state == "delayed"))
    assert await redis.smembers("{rtq}:broken") == {ids[0].encode()}


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "field", ["started_at", "ended_at", "result", "error", "fragment", "another"]
)
async def test_field_that_cannot_be_read_spoils_no_list(
    make_queue: MakeQueue, redis: Redis, field: str
) -> None:
    """Nor its task: it is read without it, and ends."""
    queue = make_queue()
    task_id = await enqueue(queue)
    [claim] = await queue.claim("w", 1)
    await redis.hset(f"{{rtq}}:task:{task_id}", field, b"{\xff")
    [listed] = await queue.list_tasks("a")
    assert (listed.task_id, listed.status) == (task_id, TaskState.PROCESSING)
    assert json.loads(listed.snapshot)["task_id"] == task_id
    assert await read_as_json(queue, task_id) == (task_id, None)
    await end(queue, claim)
    assert (await queue.stats()).completed == 1
    assert len(await queue.list_tasks("a")) == 1
    await redis.hset(f"{{rtq}}:task:{task_id}", field, b"{\xff")
    assert await read_as_json(queue, task_id) == (task_id, task_id)


async def read_as_json(queue: QueueService, task_id: str) -> tuple[str, str | None]:
    """Read a task's events anew and from each cursor on; return whose state and end they are."""
    first = await queue.read_events("task", task_id)
    for offset in range(1, first.cursor.offset + 1):
        replay = await queue.read_events("task", task_id, Cursor(first.cursor.epoch, offset))
        for message in replay.messages:
            json.loads(message.data)
    ended = first.finished and json.loads(first.finished.data)["task_id"]
    return json.loads(first.snapshot.data)["task_id"], ended


KEYS_OF_ONE = [
    "log:task:{task}",
    "tasks:a",
    "waiting:a",
    "ended:a",
    "dead:a",
    "once_of:a",
    "batch_tasks:{batch}",
    "log:batch:{batch}",
    "ended_batches:a",
]


@pytest.mark.gen_test
@pytest.mark.parametrize("key", KEYS_OF_ONE)
@pytest.mark.parametrize("how", ["string", "gone"])
async def test_key_of_one_user_that_is_lost_stops_no_other(
    make_queue: MakeQueue, redis: Redis, key: str, how: str
) -> None:
    """Another program wrote it as something else, or deleted it."""
    queue = make_queue(user_limit=1, max_attempts=1, kept_per_user=2)
    made = await queue.create_batch("a", ["A", "B", "C"], {}, plan=PLAN)
    [first] = await queue.claim("w", 1)
    await queue.report_progress(made.task_ids[0], first.token, b'"progress":5.0', 5.0)
    lost = "{rtq}:" + key.format(task=made.task_ids[0], batch=made.batch_id)
    await redis.delete(lost)
    if how == "string":
        await redis.set(lost, "x")
    await redis.zadd("{rtq}:processing", {made.task_ids[0]: 1})
    other = await enqueue(queue, "b")
    claims = await queue.claim("w", 5)
    assert [claim.task.task_id for claim in claims] == [other]
    await end(queue, *claims)
    assert await queue.cleanup_expired_tasks() == 1
    assert await queue.get_task(made.task_ids[0]) is not None
    later = await enqueue(queue, once=Once("k", b"r"))
    for _ in range(3):
        await end(queue, *await queue.claim("w", 5))
        await queue.keep_up()
    found = await queue.get_task(later)
    assert (found and found.status) == TaskState.COMPLETED
    assert (await queue.get_user_queue_status("b")).processing == 0
    await queue.cancel_batch(made.batch_id)
    await queue.check_invariants()


@pytest.mark.gen_test
async def test_batch_with_a_broken_task_ends(make_queue: MakeQueue, redis: Redis) -> None:
    """The task that nobody can run counts as failed."""
    queue = make_queue()
    made = await queue.create_batch("a", ["A"] * 3, {}, plan=PLAN)
    await redis.hdel(f"{{rtq}}:task:{made.task_ids[1]}", "made")
    await end(queue, *await queue.claim("w", 10))
    read = await queue.get_batch(made.batch_id)
    assert read is not None
    shown = json.loads(read.snapshot)
    assert (shown["status"], shown["completed"], shown["failed"]) == ("partial", 2, 1)


@pytest.mark.gen_test
@pytest.mark.parametrize("field", ["total", "progress_sum", "head"])
async def test_task_of_a_broken_batch_ends(make_queue: MakeQueue, redis: Redis, field: str) -> None:
    queue = make_queue()
    made = await queue.create_batch("a", ["A"] * 2, {}, plan=PLAN)
    await redis.hset(f"{{rtq}}:batch:{made.batch_id}", field, "x")
    if field == "head":
        await redis.hdel(f"{{rtq}}:batch:{made.batch_id}", field)
    claims = await queue.claim("w", 10)
    await end(queue, *claims)
    assert (await queue.stats()).completed == 2
    assert await queue.get_batch(made.batch_id) is None


@pytest.mark.gen_test
async def test_users_of_any_name_are_kept_apart(make_queue: MakeQueue) -> None:
    """Whatever their ids have in common with the names of keys."""
    queue = make_queue(user_limit=1, kept_per_user=1)
    ids = {user: [await enqueue(queue, user) for _ in range(3)] for user in USER_IDS}
    for round_ in itertools.count():
        claims = await queue.claim("w", 100)
        if not claims:
            break
        assert [claim.task.task_id for claim in claims] == [own[round_] for own in ids.values()]
        assert await queue.check_invariants() == []
        await end(queue, *claims)
    for user, own in ids.items():
        assert [task.task_id for task in await queue.list_tasks(user)] == own[2:]
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "error", ['"}\\', "\x00\x1f\x7f", "\u2028 \U0001f680", "\ud800", "</script>"]
)
async def test_error_of_any_text_is_json(make_queue: MakeQueue, error: str) -> None:
    queue = make_queue()
    task_id = await enqueue(queue)
    [claim] = await queue.claim("w", 1)
    await queue.ack_task(task_id, False, token=claim.token, error=error)
    replay = await queue.read_events("task", task_id)
    assert replay.finished is not None
    assert replay.finished.fields()["error"] == error.encode(errors="replace").decode()
