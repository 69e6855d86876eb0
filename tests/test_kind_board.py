"""All processes share the kinds: entries, limits, pauses, workers, and who claims which kind."""

import json
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import attrs
import msgpack
import pytest
from redis.asyncio import Redis

from services.operating import Operator
from services.queue import (
    Ack,
    KindEntry,
    KindLimits,
    KindState,
    LimitsRefused,
    Outcome,
    Priority,
    Purged,
    QueueLimits,
    QueueService,
    TaskState,
    TooManyToCheck,
)
from settings import QueueOrder
from tests.queueing import (
    KIND,
    claim,
    end,
    end_delays,
    enqueue,
    give_up,
    new,
    read,
    register,
    several,
    started,
)

pytestmark = pytest.mark.usefixtures("invariants")

MakeQueue = Callable[..., QueueService]


async def state_of(queue: QueueService, kind: str = KIND) -> KindState:
    """Read how a kind stands."""
    [found] = [state for state in await queue.read_kinds() if state.entry.kind == kind]
    return found


async def limits_of(queue: QueueService, kind: str = KIND) -> dict[str, Any]:
    """Read the limits that hold."""
    return dict((await state_of(queue, kind)).limits)


# Entries of kinds


@pytest.mark.gen_test
async def test_kind_is_known_to_all_as_it_was_registered(make_queue: MakeQueue) -> None:
    described = {"params_schema": {"type": "object"}, "shown": ["path"], "text": "\u2603"}
    limits = KindLimits(limit=8, user_limit=2, key_limit=1, rate="10/m", key_rate="5/30s")
    entry = KindEntry(kind=KIND, title="A \u2603", version=3, description=described, limits=limits)
    await make_queue().register_kinds([entry, KindEntry(kind="other")])
    found = await state_of(make_queue())
    assert found.entry == attrs.evolve(entry, limits=KindLimits())
    assert found.limits == attrs.asdict(limits)
    assert (found.changed, found.paused, found.queued, found.running) == ({}, False, 0, 0)
    assert (found.workers, found.oldest_seconds) == (0, None)
    assert await limits_of(make_queue(), "other") == attrs.asdict(KindLimits())


@pytest.mark.gen_test
async def test_latest_version_stays_whoever_registers_later(make_queue: MakeQueue) -> None:
    """The last process counts among those of one version; the limits come and go with it."""

    async def come(version: int, limit: int) -> tuple[int, int]:
        entry = KindEntry(kind=KIND, version=version, limits=KindLimits(limit=limit))
        await make_queue().register_kinds([entry])
        found = await state_of(make_queue())
        return found.entry.version, found.limits["limit"]

    assert await come(2, 5) == (2, 5)
    assert await come(1, 9) == (2, 5)
    assert await come(2, 6) == (2, 6)
    assert await come(10, 7) == (10, 7)
    assert await come(9, 8) == (10, 7)


@pytest.mark.gen_test
async def test_admins_change_wins_until_it_is_dropped(make_queue: MakeQueue) -> None:
    """Over every version; other limits go with the code."""
    queue = make_queue()
    await register(queue, limit=5, user_limit=2, rate="10/m")
    await queue.set_limits(KIND, {"limit": 1, "rate": ""})
    await queue.set_limits(KIND, {"key_rate": "3/90s"})
    await make_queue().register_kinds(
        [KindEntry(kind=KIND, version=7, limits=KindLimits(limit=50, user_limit=3, rate="1/s"))]
    )
    changed = {"limit": 1, "rate": "", "key_rate": "3/90s"}
    found = await state_of(queue)
    assert found.changed == changed
    assert found.limits == attrs.asdict(KindLimits(user_limit=3)) | changed
    await make_queue().set_limits(KIND, None)
    found = await state_of(queue)
    assert found.changed == {}
    assert found.limits == attrs.asdict(KindLimits(limit=50, user_limit=3, rate="1/s"))


@pytest.mark.gen_test
async def test_change_holds_for_a_kind_that_nobody_has_registered(queue: QueueService) -> None:
    """Its tasks may come before its worker does, and its registration changes nothing of it."""
    await queue.register_kinds()
    await queue.set_limits(KIND, {"limit": 1})
    await enqueue(queue)
    await enqueue(queue)
    assert (await limits_of(queue))["limit"] == 1
    await register(queue, limit=9)
    assert len(await claim(queue)) == 1


@pytest.mark.gen_test
async def test_limits_over_all_kinds_are_the_settings_or_an_admins(make_queue: MakeQueue) -> None:
    queue = make_queue(user_limit=4, global_limit=9, order=QueueOrder.FAIR)
    await queue.register_kinds()
    assert await limits_of(queue, "") == {"user_limit": 4, "global_limit": 9, "order": "fair"}
    await queue.set_limits("", {"global_limit": 2})
    await make_queue(user_limit=7).register_kinds()
    found = await state_of(queue, "")
    assert found.limits == {"user_limit": 7, "global_limit": 2, "order": "fifo"}
    assert found.changed == {"global_limit": 2}
    await queue.set_limits("", None)
    assert (await limits_of(queue, ""))["global_limit"] == 0


@pytest.mark.gen_test
async def test_users_limit_is_told_as_it_holds(make_queue: MakeQueue, redis: Redis) -> None:
    queue = make_queue(user_limit=3)
    assert (await queue.get_user_queue_status("a")).limit == 3
    await queue.register_kinds()
    await queue.set_limits("", {"user_limit": 7})
    assert (await queue.get_user_queue_status("a")).limit == 7
    assert (await make_queue(user_limit=5).get_user_queue_status("a")).limit == 7
    await redis.hset("{rtq}:limits", "", b"x")
    assert (await queue.get_user_queue_status("a")).limit == 3
    await queue.register_again()


@pytest.mark.gen_test
async def test_two_services_with_other_limits_do_not_overwrite_each_other(
    make_queue: MakeQueue,
) -> None:
    """The first claim says which hold, where none are known; all claims keep to them."""
    first, second = make_queue(user_limit=1), make_queue(user_limit=5)
    ids = [await enqueue(second) for _ in range(4)]
    assert await started(first) == ids[:1]
    for _ in range(3):
        assert await started(second) == []
        assert await started(first) == []
    assert (await limits_of(first, "")) == (await limits_of(second, ""))
    assert (await limits_of(second, ""))["user_limit"] == 1
    await second.register_again()
    assert await started(second) == []


@pytest.mark.gen_test
async def test_emptied_redis_learns_kinds_and_limits_at_the_next_claim(
    make_queue: MakeQueue, redis: Redis
) -> None:
    queue = make_queue(user_limit=1)
    await queue.register_kinds([KindEntry(kind=KIND, title="T", limits=KindLimits(limit=3))])
    await redis.flushall()
    for user in "aabbccdd":
        await enqueue(queue, user)
    assert len(await claim(queue)) == 3
    found = await state_of(queue)
    assert (found.entry.title, found.limits["limit"]) == ("T", 3)


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        (KIND, {"global_limit": 1}, "there is no limit global_limit: there are limit, user_limit"),
        (KIND, {"x" * 1000: 1}, f"there is no limit {'x' * 59}…: there"),
        (KIND, {"limit": -1}, "limit must be an integer from 0 to 1000000"),
        (KIND, {"limit": 10**9}, "limit must be an integer"),
        (KIND, {"limit": True}, "limit must be an integer"),
        (KIND, {"limit": "5"}, "limit must be an integer"),
        (KIND, {"limit": 1.5}, "limit must be an integer"),
        (KIND, {"limit": math.nan}, "limit must be an integer"),
        (KIND, {"user_limit": None}, "user_limit must be an integer"),
        (KIND, {"rate": "5 a minute"}, "rate: a rate is text as"),
        (KIND, {"rate": 5}, "rate: a rate is text as"),
        (KIND, {"key_rate": "0/s"}, "key_rate: a rate is text as"),
        ("", {"limit": 1}, "there is no limit limit: there are user_limit, global_limit, order"),
        ("", {"order": "lifo"}, "order must be one of fifo, fair"),
        ("", {"order": []}, "order must be one of fifo, fair"),
        ("", {"user_limit": 1, "global_limit": -1}, "global_limit must be an integer"),
    ],
)
@pytest.mark.gen_test
async def test_limit_that_is_none_is_refused_in_words(
    queue: QueueService, kind: str, changes: dict[str, Any], words: str
) -> None:
    """And nothing is changed."""
    await register(queue)
    with pytest.raises(LimitsRefused, match=words):
        await queue.set_limits(kind, changes)
    assert (await state_of(queue, kind)).changed == {}


# Claims by kind


@pytest.mark.gen_test
async def test_claims_get_tasks_of_their_kinds_alone(queue: QueueService) -> None:
    ids = {kind: await enqueue(queue, kind=kind) for kind in ("a", "b", "c", "a.b")}
    assert await started(queue, 9, "b") == [ids["b"]]
    assert await started(queue, 9, "b", "nothing") == []
    assert (await queue.claim("w", 9, kinds=[])).claims == []
    assert await started(queue, 9, "c", "a") == [ids["a"], ids["c"]]
    assert await started(queue, 9, "a.b", "a") == [ids["a.b"]]


@pytest.mark.gen_test
async def test_kind_that_is_named_twice_is_claimed_from_once(queue: QueueService) -> None:
    for order in QueueOrder:
        await queue.register_kinds()
        await queue.set_limits("", {"order": order})
        ids = [await enqueue(queue) for _ in range(3)]
        assert await started(queue, 9, KIND, KIND, KIND) == ids


@pytest.mark.gen_test
async def test_kind_that_nobody_serves_waits(queue: QueueService) -> None:
    """And is counted, with how long the oldest has waited."""
    await enqueue(queue, kind="unknown")
    await enqueue(queue, kind="unknown")
    assert await claim(queue, 9, KIND) == []
    found = await state_of(queue, "unknown")
    assert (found.queued, found.running, found.workers) == (2, 0, 0)
    assert found.oldest_seconds is not None
    assert 0 <= found.oldest_seconds < 25
    assert found.entry == KindEntry(kind="unknown")


async def grow_older(redis: Redis, queue: QueueService, *task_ids: str) -> None:
    """Have tasks submitted 5000 s earlier than they were."""
    for task_id in task_ids:
        key = f"{queue.prefix}task:{task_id}"
        made = msgpack.unpackb(await redis.hget(key, "made"), raw=True)
        made[2] = b"%f" % (float(made[2]) - 5000)
        await redis.hset(key, "made", msgpack.packb(made, use_bin_type=False))


@pytest.mark.gen_test
async def test_wait_is_the_time_in_the_line(queue: QueueService, redis: Redis) -> None:
    """Neither a delay nor an earlier attempt counts."""
    ended, again = await enqueue(queue, label="A"), await enqueue(queue, label="B")
    claims = await claim(queue)
    await end(queue, claims[0], success=False)
    delayed = await enqueue(queue, delay=1000)
    stays = await enqueue(queue)
    await grow_older(redis, queue, ended, again, delayed, stays)
    await queue.rerun_task(ended)
    await queue.release_task(again, claims[1].token)
    await end_delays(redis)
    await queue.keep_up()
    oldest = (await state_of(queue)).oldest_seconds
    assert oldest is not None
    assert 5000 <= oldest < 5025
    waited = {one.task.task_id: one.waited for one in await claim(queue)}
    assert 5000 <= waited.pop(stays) < 5025
    assert set(waited) == {ended, again, delayed}
    assert max(waited.values()) < 25


@pytest.mark.gen_test
async def test_kinds_are_counted_over_all_priorities(queue: QueueService) -> None:
    for priority in Priority:
        await enqueue(queue, priority=priority)
    await enqueue(queue, kind="other")
    await claim(queue, 2)
    found = await state_of(queue)
    assert (found.queued, found.running) == (3, 2)
    assert (await state_of(queue, "other")).queued == 1
    for owned in await claim(queue):
        await end(queue, owned)
    found = await state_of(queue)
    assert (found.queued, found.running, found.oldest_seconds) == (0, 2, None)


# Paused kinds


@pytest.mark.gen_test
async def test_paused_kind_starts_nothing_and_ends_what_runs(queue: QueueService) -> None:
    """Others go on; what runs may report, end, and be given up."""
    await register(queue)
    for _ in range(4):
        await enqueue(queue)
    other = await enqueue(queue, kind="other")
    claims = await claim(queue, 2)
    assert await queue.pause(KIND) == 2
    assert await started(queue, 9, KIND, "other") == [other]
    first, second = claims
    assert await queue.report_progress(first.task.task_id, first.token, b'"progress":5.0', 5)
    assert await queue.extend_task(first.task.task_id, first.token)
    await end(queue, first)
    assert await give_up(queue, second)
    assert await claim(queue) == []
    found = await state_of(queue)
    assert (found.paused, found.running, found.queued) == (True, 0, 3)
    assert await queue.pause(KIND) == 0
    await queue.resume(KIND)
    assert len(await claim(queue)) == 3
    assert not (await state_of(queue)).paused


@pytest.mark.gen_test
async def test_all_kinds_are_paused_at_once(make_queue: MakeQueue) -> None:
    """For every process; a kind that was paused by itself stays so."""
    queue = make_queue()
    ids = [await enqueue(queue, kind=kind) for kind in (KIND, "other")]
    await claim(queue, 0)
    await queue.pause("other")
    assert await queue.pause() == 0
    assert await make_queue().claim("w", 9, kinds=[KIND, "other"]) == (
        await queue.claim("w", 9, kinds=[KIND])
    )
    assert (await state_of(queue, "")).paused
    await make_queue().resume()
    assert await started(queue, 9, KIND, "other") == ids[:1]
    await queue.resume("other")
    assert await started(queue, 9, KIND, "other") == ids[1:]


@pytest.mark.gen_test
async def test_resumed_kind_wakes_the_workers(queue: QueueService, redis: Redis) -> None:
    await queue.pause(KIND)
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe("rt:workers")
        await pubsub.get_message(timeout=20)
        await queue.resume(KIND)
        message = await pubsub.get_message(timeout=20)
    assert json.loads(message["data"])["type"] == "wake"


@pytest.mark.gen_test
async def test_changed_limits_wake_the_workers(queue: QueueService, redis: Redis) -> None:
    for kind, changes in ((KIND, {"limit": 2}), ("", {"user_limit": 2}), (KIND, None)):
        async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
            await pubsub.subscribe("rt:workers")
            await pubsub.get_message(timeout=20)
            await queue.set_limits(kind, changes)
            message = await pubsub.get_message(timeout=20)
        assert json.loads(message["data"])["type"] == "wake"


# Purged tasks


@pytest.mark.gen_test
async def test_purge_cancels_what_waits_and_deletes_what_ended(
    queue: QueueService, redis: Redis
) -> None:
    """Tasks of one state, kind and user go; all others stay."""
    for kind in (KIND, "other"):
        for user in "ab":
            for _ in range(3):
                await enqueue(queue, user, kind=kind)
            await enqueue(queue, user, kind=kind, delay=60.0)
    assert await queue.purge(TaskState.QUEUED, kind=KIND, user_id="a") == Purged(3)
    assert await queue.purge(TaskState.DELAYED, kind="other") == Purged(2)
    stats = await queue.stats()
    assert (stats.queued, stats.delayed, stats.cancelled) == (9, 2, 5)
    assert await redis.xlen("{rtq}:outbox") == 5
    assert await queue.purge(TaskState.CANCELLED, user_id="a") == Purged(4)
    assert await queue.purge(TaskState.CANCELLED) == Purged(1)
    assert await queue.purge(TaskState.COMPLETED) == Purged(0)
    assert (await queue.stats()).cancelled == 0
    with pytest.raises(ValueError, match="cancel them"):
        await queue.purge(TaskState.PROCESSING)
    assert len(await claim(queue, 20, KIND, "other")) == 9


@pytest.mark.gen_test
async def test_each_process_makes_its_kinds_known_again_in_an_emptied_redis(
    make_queue: MakeQueue, redis: Redis
) -> None:
    """The limits of each process's kinds hold again as soon as it claims, in any order."""
    queues = {kind: make_queue() for kind in ("x", "y", "z")}
    for kind, queue in queues.items():
        await register(queue, kind, limit=1)
    await redis.flushall()
    for kind in ("x", "y"):
        for _ in range(3):
            await enqueue(queues["x"], kind=kind)
    for kind in ("x", "y"):
        assert len((await queues[kind].claim("w", 5, kinds=[kind])).claims) == 1
    # One that never claims does so when it says that it lives, or looks.
    await queues["z"].announce_worker("w", ["z"])
    assert {state.entry.kind for state in await queues["x"].read_kinds()} == {"", "x", "y", "z"}
    await redis.flushall()
    assert {state.entry.kind for state in await queues["y"].read_kinds()} == {"", "y"}


@pytest.mark.gen_test
async def test_purge_of_many_goes_on_to_the_last_or_to_its_limit(queue: QueueService) -> None:
    """Past those that it does not name, in parts."""
    for user in "aba":
        await queue.create_batch(user, several(*"A" * 450))
    assert await queue.purge(TaskState.QUEUED, user_id="a", limit=250) == Purged(250)
    assert await queue.purge(TaskState.QUEUED, user_id="b", limit=205) == Purged(205)
    assert await queue.purge(TaskState.QUEUED, user_id="b") == Purged(245)
    stats = await queue.stats()
    assert (stats.queued, stats.cancelled) == (650, 700)
    assert await queue.purge(TaskState.CANCELLED, user_id="b") == Purged(450)
    assert await queue.purge(TaskState.QUEUED, limit=1) == Purged(1)
    assert (await queue.stats()).cancelled == 251


@pytest.mark.gen_test
async def test_purge_whose_time_is_over_says_where_another_goes_on(queue: QueueService) -> None:
    """Each goes on behind what stays: here the first 200 are of somebody else."""
    for user in "ab":
        await queue.create_batch(user, several(*"A" * 200))
    place, counts = "", []
    while place is not None:
        part = await queue.purge(TaskState.QUEUED, user_id="b", after=place, seconds=0)
        counts.append(part.count)
        place = part.next
    assert counts == [0, 200, 0]
    assert (await queue.stats()).queued == 200


@pytest.mark.gen_test
@pytest.mark.parametrize("state", [TaskState.QUEUED, TaskState.DELAYED, TaskState.CANCELLED])
async def test_purge_leaves_nothing_behind_while_others_go(
    queue: QueueService, state: TaskState
) -> None:
    """Ranks move with each task that starts, comes due or is deleted; of one time are many."""
    for user in "ab" * 3:
        for task in several(*"A" * 150):
            await queue.enqueue_task(user, task, delay=100.0 if state == "delayed" else 0.0)
        if state == TaskState.CANCELLED:
            await queue.purge(TaskState.QUEUED, user_id=user)
    place, purged = "", 0
    while place is not None:
        part = await queue.purge(state, user_id="b", after=place, seconds=0)
        place, purged = part.next, purged + part.count
        # Of the others the first go.
        first = (await queue.list_tasks("a", statuses=[state], limit=1000)).items[-40:]
        if state == TaskState.QUEUED:
            await claim(queue, 40)
        elif state == TaskState.CANCELLED:
            await queue.purge(state, user_id="a", limit=40)
        else:
            for task in first:
                await queue.cancel_task(task.task_id)
    left = (await queue.list_tasks("b", statuses=[state], limit=1000)).items
    ran = len((await queue.list_tasks("b", statuses=["processing"], limit=1000)).items)
    assert (left, purged + ran) == ([], 450)


@pytest.mark.gen_test
async def test_purge_by_tag_leaves_what_has_not_the_tag(queue: QueueService) -> None:
    """Tasks of one state, kind and user go, over more than one page, to its limit or its time."""
    operator = Operator(queue)
    for user, tags in (("a", ["drop"]), ("a", ["keep"]), ("a", []), ("b", ["keep", "drop"])):
        await queue.create_batch(user, several(*"A" * 210, tags=tags))
    await enqueue(queue, "a", kind="other", tags=["drop"])
    purge = partial(operator.purge, TaskState.QUEUED, tag="drop")
    assert await purge("other", "b", 0) == Purged(0)
    assert await purge("other", "", 0) == Purged(1)
    assert await purge(KIND, "a", 205) == Purged(205)
    assert await purge("", "", 0) == Purged(215)
    assert (await queue.stats()).queued == 420
    assert await operator.purge(TaskState.CANCELLED, KIND, "b", 0, tag="keep") == Purged(210)
    place, counts = "", []
    while place is not None:
        part = await operator.purge(
            TaskState.CANCELLED, "", "", 0, tag="drop", after=place, seconds=0
        )
        counts.append(part.count)
        place = part.next
    assert sum(counts) == 211
    assert len(counts) > 1
    stats = await queue.stats()
    assert (stats.queued, stats.cancelled) == (420, 0)
    with pytest.raises(ValueError, match="cancel them"):
        await operator.purge(TaskState.PROCESSING, "", "", 0, tag="drop")


@pytest.mark.gen_test
async def test_named_tasks_are_purged_in_that_state_alone(queue: QueueService) -> None:
    """One that has started meanwhile stays."""
    runs, waits = [await enqueue(queue) for _ in range(2)]
    assert await started(queue, 1) == [runs]
    assert await queue.purge_tasks([runs, waits, "none"], TaskState.QUEUED) == 1
    assert (await read(queue, runs)).status == "processing"
    assert (await read(queue, waits)).status == "cancelled"


@pytest.mark.gen_test
async def test_check_reads_no_more_tasks_than_it_may(queue: QueueService) -> None:
    await queue.create_batch("a", several(*"A" * 30))
    with pytest.raises(TooManyToCheck, match="30 tasks"):
        await queue.check_invariants(29)
    assert await queue.check_invariants(30) == []


@pytest.mark.gen_test
async def test_purge_deletes_failed_and_dead_tasks_each_for_itself(queue: QueueService) -> None:
    failed, dead = [await enqueue(queue, max_attempts=1) for _ in range(2)]
    claims = await claim(queue)
    await end(queue, claims[0], success=False)
    await give_up(queue, claims[1])
    assert await queue.purge(TaskState.DEAD) == Purged(1)
    assert await queue.get_task(dead) is None
    assert (await read(queue, failed)).status == "failed"
    assert await queue.purge(TaskState.FAILED) == Purged(1)
    assert attrs.asdict(await queue.stats()) == dict.fromkeys(TaskState, 0)


# Live workers


@pytest.mark.gen_test
async def test_workers_of_a_kind_are_counted_while_they_say_so(
    queue: QueueService, redis: Redis
) -> None:
    await register(queue)
    await register(queue, "other")

    async def workers() -> list[int]:
        return [(await state_of(queue, kind)).workers for kind in (KIND, "other")]

    assert await workers() == [0, 0]
    await queue.announce_worker("one", [KIND], {"pid": 1})
    await queue.announce_worker("two", [KIND, "other"])
    await queue.announce_worker("two", [KIND, "other"])
    assert await workers() == [2, 1]
    await queue.withdraw_worker("one")
    assert await workers() == [1, 1]
    told: Any = await redis.hget("{rtq}:workers", "two")
    _, _, info = told.partition(b" ")
    await redis.hset("{rtq}:workers", "two", b"%f " % (time.time() - 31) + info)
    assert await workers() == [0, 0]
    await queue.announce_worker("three", ["other"])
    assert await redis.hkeys("{rtq}:workers") == [b"three"]
    await queue.expire_claims(["three"])
    assert await workers() == [0, 0]


@pytest.mark.gen_test
async def test_limits_of_our_own_settings_are_those_of_the_constructor(
    make_queue: MakeQueue,
) -> None:
    limits = QueueLimits(user_limit=4, global_limit=9, order=QueueOrder.FAIR)
    queue = make_queue(**attrs.asdict(limits))
    assert queue.limits == limits
    assert (await queue.enqueue_task("a", new())).status == "queued"


@pytest.mark.parametrize("kind", ["other", KIND])
@pytest.mark.gen_test
async def test_other_worker_is_woken_though_the_first_takes_another_task(
    queue: QueueService, redis: Redis, kind: str
) -> None:
    """A freed slot is free for the user, whose next task the first worker does not take.

    It is of a kind that the first one has not, or behind what the first one's last slot is for.
    """
    await queue.register_kinds()
    await queue.set_limits("", {"user_limit": 1})
    await enqueue(queue, "a")
    [owned] = await claim(queue)
    waiting = await enqueue(queue, "a", kind=kind)
    assert await started(queue, 9, kind) == []
    await enqueue(queue, "b", priority=Priority.HIGH)
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe("rt:workers")
        await pubsub.get_message(timeout=20)
        ack = Ack(owned.task.task_id, owned.token, Outcome.COMPLETED)
        assert len((await queue.claim("w", 1, [ack], kinds=[KIND])).claims) == 1
        message = await pubsub.get_message(timeout=20)
    assert message is not None
    assert json.loads(message["data"])["type"] == "wake"
    assert await started(queue, 9, kind) == [waiting]
