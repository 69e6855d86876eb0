"""Bounds of a user's ended work, and records that cannot be read, on a real Redis."""

import itertools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgpack
import pytest
from redis.asyncio import Redis

from services.queue import (
    BatchNotFound,
    Idempotency,
    KeyReused,
    KindEntry,
    KindLimits,
    QueueService,
    TaskState,
)
from tests.queueing import KIND, claim, end, enqueue, give_up, ids_of, read, several, started
from tests.waiting import until
from tornado_rt.protocol import Cursor, ResyncReason
from tornado_rt.work import Plan, Step

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
    assert await ids_of(queue, "a") == ids[2::-1]
    left = [key.decode() for key in await redis.keys("*")]
    assert not [key for key in left if ids[3] in key or ids[4] in key]
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_every_way_to_end_is_bounded(make_queue: MakeQueue) -> None:
    """Completed, failed, cancelled and dead; the dead are counted apart, for an operator."""
    queue = make_queue(kept_per_user=2)
    dead = [await enqueue(queue, max_attempts=1) for _ in range(3)]
    for owned in await claim(queue, 10):
        await give_up(queue, owned, error="x")
    ids = [await enqueue(queue) for _ in range(6)]
    claims = await claim(queue, 4)
    for owned, success in zip(claims, (True, False, True, False), strict=True):
        await queue.ack_task(owned.task.task_id, success, token=owned.token)
    for task_id in ids[4:]:
        await queue.cancel_task(task_id)
    assert await there(queue, dead) == [False, True, True]
    assert await there(queue, ids) == [False] * 4 + [True] * 2
    assert [task.task_id for task in await queue.list_dead()] == dead[:0:-1]
    assert await queue.check_invariants() == []
    await queue.rerun_task(dead[1])
    await queue.discard_task(dead[2])
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_lease_that_ran_out_for_the_last_time_is_bounded_too(
    make_queue: MakeQueue, redis: Redis
) -> None:
    queue = make_queue(kept_per_user=2)
    ids = sorted([await enqueue(queue, max_attempts=1) for _ in range(4)])
    await claim(queue, 10)
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
    batch = await queue.create_batch("a", several(*"A" * 450))
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
    made = await queue.create_batch("a", several(*"A" * 5))
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
    made = [await queue.create_batch("a", several("A")) for _ in range(4)]
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
    made = await queue.create_batch("a", several(*"A" * 6))
    await end(queue, *await claim(queue, 10))
    read = await queue.get_batch(made.batch_id)
    assert read is not None
    assert (read.status, read.task_ids) == ("completed", made.task_ids[4:])
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_cancel_of_a_large_batch_is_done_in_parts(make_queue: MakeQueue) -> None:
    """And whole when it is answered."""
    queue = make_queue(kept_per_user=0)
    made = await queue.create_batch("a", several(*"A" * 450))
    cancelled = await queue.cancel_batch(made.batch_id)
    assert cancelled.status == "cancelled"
    assert (await queue.stats()).cancelled == 450
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_logs_of_older_ended_tasks_go(make_queue: MakeQueue, redis: Redis) -> None:
    """A subscriber that comes back to one gets its state, and the reason why not more."""
    queue = make_queue(kept_per_user=1000)
    ids = [await enqueue(queue) for _ in range(102)]
    for owned in await claim(queue, 200):
        await queue.report_progress(owned.task.task_id, owned.token, b'"progress":5.0', 5.0)
        await end(queue, owned)
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
    first = await enqueue(queue, "b", once=Idempotency("k0", b"r"))
    ids = [await enqueue(queue, once=Idempotency(f"k{number}", b"r")) for number in range(3)]
    assert [await enqueue(queue, once=Idempotency(f"k{number}", b"r")) for number in (1, 2)] == ids[
        1:
    ]
    assert await enqueue(queue, once=Idempotency("k0", b"r")) not in ids
    assert await enqueue(queue, "b", once=Idempotency("k0", b"r")) == first
    batch = await queue.create_batch("a", several("A"), once=Idempotency("k3", b"r"))
    again = await queue.create_batch("a", several("A"), once=Idempotency("k3", b"r"))
    assert again.batch_id == batch.batch_id
    with pytest.raises(KeyReused):
        await queue.create_batch("a", several("B"), once=Idempotency("k3", b"other"))
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
        batch = await queue.create_batch("a", several(*"A" * 60))
        await queue.cancel_batch(batch.batch_id)
    await redis.delete("{rtq}:ended:a", "{rtq}:ended_batches:a", "{rtq}:listed")
    queue.kept_per_user = 2

    async def all_are_listed() -> bool:
        due_in = (await queue.keep_up()).due_in
        return due_in is None

    await until(all_are_listed, what="all are listed")
    assert (await queue.stats()).cancelled == 2
    assert await redis.zcard("{rtq}:ended_batches:a") == 2
    assert int(await redis.get("{rtq}:listed") or 0) == 2
    assert await queue.check_invariants() == []


# Where the fields of `made` stand.
KIND_AT, LEVEL_AT, KEY_AT, ATTEMPTS_AT, EXPECTED_AT, PLAN_AT = 4, 5, 6, 7, 8, 11


def remade(place: int, value: Any) -> Callable[[Redis, str], Awaitable[None]]:
    """Return what changes one field of `made`."""

    async def change(redis: Redis, key: str) -> None:
        made: Any = msgpack.unpackb(await redis.hget(key, "made"), raw=True)
        made[place] = value
        await redis.hset(key, "made", msgpack.packb(made, use_bin_type=False))

    return change


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
    "level": remade(LEVEL_AT, "7"),
    "no level": remade(LEVEL_AT, ""),
    "level of text": remade(LEVEL_AT, "high"),
    "level of another type": remade(LEVEL_AT, 2),
    "kind of another type": remade(KIND_AT, [1]),
    "number for a kind": remade(KIND_AT, 5),
    "key of another type": remade(KEY_AT, {"a": 1}),
    "no key": remade(KEY_AT, None),
    "attempts of another type": remade(ATTEMPTS_AT, 3),
    "plan of another type": remade(PLAN_AT, ["a"]),
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
        claims = await claim(queue, 3)
        ran += [owned.task.task_id for owned in claims]
        await end(queue, *claims)
    assert sorted(ran) == sorted([first, *others])
    assert await queue.get_task(broken) is None
    assert broken not in await ids_of(queue, "a")
    assert (await queue.get_user_queue_status("a")).waiting == 0
    faults = await queue.check_invariants()
    assert faults == [f"task {broken} cannot be read and was set aside"]
    await queue.discard_task(broken)
    assert await queue.check_invariants() == []


MISLEADING = {
    "another kind": remade(KIND_AT, "other"),
    "a kind that nobody knows": remade(KIND_AT, "\u2603\n"),
    "another level": remade(LEVEL_AT, "0"),
    "another key": remade(KEY_AT, "x"),
    "a key with a line break": remade(KEY_AT, "a\nb"),
}


@pytest.mark.gen_test
@pytest.mark.parametrize("how", MISLEADING)
@pytest.mark.parametrize("order", ["fifo", "fair"])
async def test_waiting_task_that_belongs_elsewhere_stops_nobody(
    make_queue: MakeQueue, redis: Redis, how: str, order: Any
) -> None:
    """Its record can be read, and names another line than the one that it stands in."""
    queue = make_queue(user_limit=2, order=order)
    await queue.register_kinds([KindEntry(kind=KIND, limits=KindLimits(key_limit=1, limit=9))])
    first = await enqueue(queue)
    misled = await enqueue(queue)
    others = [await enqueue(queue, user) for user in ("a", "b", "a", "b")]
    await MISLEADING[how](redis, f"{{rtq}}:task:{misled}")
    ran = []
    for _ in range(6):
        claims = await claim(queue, 3, "other", KIND)
        ran += [owned.task.task_id for owned in claims]
        await end(queue, *claims)
    assert sorted(set(ran) - {misled}) == sorted([first, *others])
    later = [await enqueue(queue, user) for user in ("a", "b")]
    assert sorted(await started(queue)) == sorted(later)
    assert (await queue.stats()).queued == 0


@pytest.mark.gen_test
@pytest.mark.parametrize("how", BREAKS)
@pytest.mark.parametrize("state", ["processing", "delayed", "ended", "dead"])
async def test_broken_task_in_any_state_stops_no_upkeep(
    make_queue: MakeQueue, redis: Redis, how: str, state: str
) -> None:
    """Upkeep does all else that is due, and the user's slot is free again."""
    queue = make_queue(user_limit=2, retention_seconds=60)
    more = {"delay": 1000.0 * (state == "delayed"), "max_attempts": 1}
    ids = [await enqueue(queue, **more) for _ in range(2)]
    claims = await claim(queue, 10)
    if state == "dead":
        for owned in claims:
            await give_up(queue, owned, error="x")
    if state == "ended":
        await end(queue, *claims)
    await BREAKS[how](redis, f"{{rtq}}:task:{ids[0]}")
    zset = {"processing": "processing", "delayed": "delayed"}.get(state, "ended")
    for task_id in ids:
        await redis.zadd(f"{{rtq}}:{zset}", {task_id: 1})
    assert await ids_of(queue, "a") == ids[1:]
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
    "field",
    [
        *("started_at", "ended_at", "result", "error", "fragment", "another", "attempts"),
        *("plans", "state", "kept"),
    ],
)
async def test_field_that_cannot_be_read_spoils_no_list(
    make_queue: MakeQueue, redis: Redis, field: str
) -> None:
    """Nor its task: it is read without it, and ends."""
    queue = make_queue()
    task_id = await enqueue(queue)
    [owned] = await claim(queue, 1)
    await redis.hset(f"{{rtq}}:task:{task_id}", field, b"{\xff")
    [listed] = (await queue.list_tasks("a")).items
    assert (listed.task_id, listed.status) == (task_id, TaskState.PROCESSING)
    assert json.loads(listed.snapshot)["task_id"] == task_id
    assert await read_as_json(queue, task_id) == (task_id, None)
    await end(queue, owned)
    assert (await queue.stats()).completed == 1
    assert len(await ids_of(queue, "a")) == 1
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
    "line:2fast:a",
    "line:2keyed:a",
    "lane:2keyed:a\nx",
    "held:keyed\nx",
    "kept:{task}",
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
    queue = make_queue(user_limit=2, kept_per_user=2)
    await queue.register_kinds([KindEntry(kind="keyed", limits=KindLimits(key_limit=1))])
    made = await queue.create_batch("a", several("A", "B", "C", max_attempts=1))
    keyed = [await enqueue(queue, user, kind="keyed", key="x") for user in "aaab"]
    assert await started(queue, 1, "keyed") == keyed[:1]
    # Those of the key are held back, and the user is found at their limit.
    [first] = await claim(queue, 5, KIND, "keyed")
    await queue.keep_result(made.task_ids[0], first.token, "step", b"1")
    await queue.report_progress(made.task_ids[0], first.token, b'"progress":5.0', 5.0)
    lost = "{rtq}:" + key.format(task=made.task_ids[0], batch=made.batch_id)
    await redis.delete(lost)
    if how == "string":
        await redis.set(lost, "x")
    await redis.zadd("{rtq}:processing", {made.task_ids[0]: 1})
    other = await enqueue(queue, "b")
    claims = await claim(queue, 5, KIND, "keyed")
    assert [owned.task.task_id for owned in claims] == [other]
    await end(queue, *claims)
    assert await queue.cleanup_expired_tasks() == 1
    assert await queue.get_task(made.task_ids[0]) is not None
    later = await enqueue(queue, once=Idempotency("k", b"r"))
    for _ in range(3):
        await end(queue, *await claim(queue, 5))
        await queue.keep_up()
    found = await queue.get_task(later)
    assert (found and found.status) == TaskState.COMPLETED
    assert (await queue.get_user_queue_status("b")).processing == 0
    await queue.cancel_batch(made.batch_id)
    await queue.check_invariants()


GARBAGE = {
    "text": b"x",
    "no msgpack": b"\xc1\xff garbage",
    "a list": msgpack.packb([1, {"limit": "x"}]),
    "limits of other types": msgpack.packb(
        {
            **dict.fromkeys(("limit", "user_limit", "key_limit", "global_limit"), "x"),
            "rate": 5,
            "key_rate": [0, "s"],
            "order": ["fifo"],
        }
    ),
    "rates of no numbers": msgpack.packb({"limit": {}, "rate": ["x", {}], "key_rate": []}),
    "JSON": b'{"kinds": 7, "title": [], "version": {}, "description": "x"}',
    "time and JSON": b'99999999999 {"kinds": {"a": [1]}}',
    "time and list": b"99999999999 [[]]",
}


@pytest.mark.gen_test
@pytest.mark.parametrize("what", GARBAGE)
@pytest.mark.parametrize(
    "hash_",
    ["limits", "own_limits", "changed_limits", "kinds", "kind_versions", "workers", "plans"],
)
async def test_garbage_in_what_is_known_of_kinds_stops_nobody(
    make_queue: MakeQueue, redis: Redis, hash_: str, what: str
) -> None:
    """Tasks of all kinds start and end, the kinds are read, and limits can be set again."""
    queue, plan = make_queue(), Plan((Step("one"),))
    await queue.register_kinds([KindEntry(kind=kind) for kind in (KIND, "other")])
    prefix = queue.prefix
    for field in ("", KIND, "w", plan.digest, b"\xff"):
        await redis.hset(prefix + hash_, field, GARBAGE[what])
    ids = [await enqueue(queue, kind=kind, key="x", plan=plan) for kind in ("other", KIND)]
    claims = await claim(queue, 10, "other", KIND)
    assert sorted(owned.task.task_id for owned in claims) == sorted(ids)
    assert (await read(queue, ids[0])).waiting_for == ""
    await end(queue, *claims)
    await queue.keep_up()
    await queue.announce_worker("w2", [KIND])
    assert {KIND, "other"} <= {state.entry.kind for state in await queue.read_kinds()}
    for kind in (KIND, ""):
        await queue.set_limits(kind, None)
        await queue.set_limits(kind, {"user_limit": 1})
    await queue.register_kinds([KindEntry(kind=KIND, limits=KindLimits(limit=5))])
    await enqueue(queue)
    await enqueue(queue)
    assert len(await claim(queue)) == 1
    found = {state.entry.kind: state for state in await queue.read_kinds()}
    assert found[KIND].limits["user_limit"] == 1
    assert (found[KIND].limits["limit"], found[KIND].workers) == (5, 1)
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
@pytest.mark.parametrize("what", GARBAGE)
async def test_garbage_for_attempts_stops_no_other(
    make_queue: MakeQueue, redis: Redis, what: str
) -> None:
    """The task itself goes on too: the garbage is left out."""
    queue = make_queue()
    ids = [await enqueue(queue, user, max_attempts=9) for user in "abc"]
    claims = await claim(queue)
    for task_id in ids[:2]:
        await redis.hset(f"{{rtq}}:task:{task_id}", "attempts", GARBAGE[what])
    assert (await read(queue, ids[0])).attempts == ()
    await give_up(queue, claims[0], error="busy")
    await redis.zadd("{rtq}:processing", dict.fromkeys(ids[1:], 1))
    assert await queue.cleanup_expired_tasks() == 2
    told = [[one["error"] for one in (await read(queue, one)).attempts] for one in ids]
    lost = ["the worker was lost"]
    assert told == [["busy"], lost, lost]
    assert sorted(await started(queue)) == sorted(ids)


@pytest.mark.gen_test
async def test_user_whose_place_aside_is_lost_stops_no_other(
    make_queue: MakeQueue, redis: Redis
) -> None:
    queue = make_queue(user_limit=1)
    ids = [await enqueue(queue, user) for user in "aab"]
    claims = await claim(queue)
    assert [owned.task.task_id for owned in claims] == [ids[0], ids[2]]
    await redis.delete("{rtq}:parked:a")
    await end(queue, *claims)
    others = [await enqueue(queue, user) for user in "bc"]
    assert await started(queue) == others
    await queue.cancel_task(ids[1])
    later = await enqueue(queue)
    assert await started(queue) == [later]


@pytest.mark.gen_test
async def test_batch_with_a_broken_task_ends(make_queue: MakeQueue, redis: Redis) -> None:
    """The task that nobody can run counts as failed."""
    queue = make_queue()
    made = await queue.create_batch("a", several(*"A" * 3))
    await redis.hdel(f"{{rtq}}:task:{made.task_ids[1]}", "made")
    await end(queue, *await claim(queue, 10))
    read = await queue.get_batch(made.batch_id)
    assert read is not None
    shown = json.loads(read.snapshot)
    assert (shown["status"], shown["completed"], shown["failed"]) == ("partial", 2, 1)


@pytest.mark.gen_test
@pytest.mark.parametrize("field", ["total", "progress_sum", "head"])
async def test_task_of_a_broken_batch_ends(make_queue: MakeQueue, redis: Redis, field: str) -> None:
    queue = make_queue()
    made = await queue.create_batch("a", several(*"A" * 2))
    await redis.hset(f"{{rtq}}:batch:{made.batch_id}", field, "x")
    if field == "head":
        await redis.hdel(f"{{rtq}}:batch:{made.batch_id}", field)
    claims = await claim(queue, 10)
    await end(queue, *claims)
    assert (await queue.stats()).completed == 2
    assert await queue.get_batch(made.batch_id) is None


@pytest.mark.gen_test
async def test_users_of_any_name_are_kept_apart(make_queue: MakeQueue) -> None:
    """Their ids may look like names of keys."""
    queue = make_queue(user_limit=1, kept_per_user=1)
    ids = {user: [await enqueue(queue, user) for _ in range(3)] for user in USER_IDS}
    for round_ in itertools.count():
        claims = await claim(queue, 100)
        if not claims:
            break
        assert [owned.task.task_id for owned in claims] == [own[round_] for own in ids.values()]
        assert await queue.check_invariants() == []
        await end(queue, *claims)
    for user, own in ids.items():
        assert await ids_of(queue, user) == own[2:]
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "error", ['"}\\', "\x00\x1f\x7f", "\u2028 \U0001f680", "\ud800", "</script>"]
)
async def test_error_of_any_text_is_json(make_queue: MakeQueue, error: str) -> None:
    queue = make_queue()
    task_id = await enqueue(queue)
    [owned] = await claim(queue, 1)
    await queue.ack_task(task_id, False, token=owned.token, error=error)
    replay = await queue.read_events("task", task_id)
    assert replay.finished is not None
    assert replay.finished.fields()["error"] == error.encode(errors="replace").decode()
