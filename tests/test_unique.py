"""Unique keys: how long each holds, and what becomes of a task that meets another."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from services.queue import (
    Conflict,
    Idempotency,
    OnConflict,
    QueueFull,
    QueueService,
    Task,
    TaskState,
    Unique,
)
from tests.queueing import (
    claim,
    end,
    end_delays,
    enqueue,
    expire_leases,
    give_up,
    new,
    read,
    started,
)
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("invariants")

MakeQueue = Callable[..., QueueService]
SCOPES = ["waiting", "running", 60.0]


async def submit(
    queue: QueueService,
    scope: str | float = "running",
    on_conflict: OnConflict = OnConflict.RETURN,
    *,
    user: str = "a",
    key: str = "k",
    **more: Any,
) -> Task:
    unique = Unique(key=key, scope=scope, on_conflict=on_conflict)
    delay = more.pop("delay", 0.0)
    return await queue.enqueue_task(user, new(unique=unique, **more), delay=delay)


async def meets(queue: QueueService, scope: str | float, first: Task) -> bool:
    """Say whether one more meets the first, returned and rejected; change nothing that it meets."""
    again = await submit(queue, scope)
    if again.task_id != first.task_id:
        await queue.cancel_task(again.task_id)
        return False
    with pytest.raises(Conflict) as refused:
        await submit(queue, scope, OnConflict.REJECT)
    assert refused.value.task_id == first.task_id
    return True


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("delay", [0.0, 60.0])
@pytest.mark.gen_test
async def test_one_that_waits_is_returned(
    queue: QueueService, redis: Redis, scope: Any, delay: float
) -> None:
    """With all that is known of it, and nothing is added; also while it is delayed."""
    first = await submit(queue, scope, delay=delay, params={"x": 1})
    again = await submit(queue, scope, params={"x": 2})
    assert (again.task_id, again.params, again.status) == (
        first.task_id,
        {"x": 1},
        "delayed" if delay else "queued",
    )
    assert again.position == first.position
    stats = await queue.stats()
    assert stats.queued + stats.delayed == 1
    assert await redis.xlen("{rtq}:outbox") == 0


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("delay", [0.0, 60.0])
@pytest.mark.gen_test
async def test_one_that_waits_is_replaced(
    queue: QueueService, redis: Redis, scope: Any, delay: float
) -> None:
    """It is cancelled, which is no news to its user; the later one has its own parameters."""
    first = await submit(queue, scope, delay=delay, params={"x": 1})
    later = await submit(queue, scope, OnConflict.REPLACE, params={"x": 2})
    assert later.task_id != first.task_id
    assert (await read(queue, first.task_id)).status == "cancelled"
    [(_, told)] = await redis.xrange("{rtq}:outbox")
    assert (told[b"task_id"].decode(), told[b"status"]) == (first.task_id, b"cancelled")
    # For its callback alone.
    assert told[b"notify"] == b"c"
    [owned] = await claim(queue)
    assert (owned.task.task_id, owned.task.params) == (later.task_id, {"x": 2})


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.gen_test
async def test_one_that_waits_has_the_later_one_refused(queue: QueueService, scope: Any) -> None:
    first = await submit(queue, scope)
    with pytest.raises(Conflict) as refused:
        await submit(queue, scope, OnConflict.REJECT)
    assert refused.value.task_id == first.task_id
    assert first.task_id in str(refused.value)
    assert (await queue.stats()).queued == 1


@pytest.mark.gen_test
async def test_key_while_waiting_is_free_at_the_start(queue: QueueService) -> None:
    """So one runs and one waits, and no more."""
    first = await submit(queue, "waiting")
    [owned] = await claim(queue)
    second = await submit(queue, "waiting")
    assert second.task_id != first.task_id
    assert await meets(queue, "waiting", second)
    replaced = await submit(queue, "waiting", OnConflict.REPLACE)
    assert (await read(queue, first.task_id)).status == "processing"
    assert (await read(queue, second.task_id)).status == "cancelled"
    await end(queue, owned)
    assert await started(queue) == [replaced.task_id]


@pytest.mark.gen_test
async def test_key_while_running_holds_until_the_end(queue: QueueService, redis: Redis) -> None:
    """Through each state that is not the end: running, handed back, given up, lost."""
    first = await submit(queue, max_attempts=9)
    [owned] = await claim(queue)
    assert await meets(queue, "running", first)
    await queue.release_task(first.task_id, owned.token)
    assert await meets(queue, "running", first)
    [owned] = await claim(queue)
    await give_up(queue, owned, delay=60)
    assert await meets(queue, "running", first)
    await end_delays(redis)
    await queue.keep_up()
    await claim(queue)
    await expire_leases(redis)
    await queue.keep_up()
    assert await meets(queue, "running", first)
    [owned] = await claim(queue)
    await end(queue, owned)
    assert not await meets(queue, "running", first)


@pytest.mark.parametrize("ending", ["completed", "failed", "dead", "cancelled", "deleted"])
@pytest.mark.gen_test
async def test_key_while_running_is_free_whatever_the_end(queue: QueueService, ending: str) -> None:
    first = await submit(queue, max_attempts=1)
    [owned] = await claim(queue)
    if ending == "cancelled":
        await queue.cancel_task(first.task_id)
    elif ending == "dead":
        await give_up(queue, owned)
    else:
        await end(queue, owned, success=ending == "completed")
    if ending == "deleted":
        await queue.discard_task(first.task_id)
    second = await submit(queue, on_conflict=OnConflict.REJECT)
    assert second.task_id != first.task_id
    assert await meets(queue, "running", second)


@pytest.mark.gen_test
async def test_keys_scope_ends_when_either_of_the_two_says_so(queue: QueueService) -> None:
    """The one that has it, or the one that asks for it."""
    waiting = await submit(queue, "waiting")
    assert await meets(queue, "running", waiting)
    await claim(queue)
    # It had the key for as long as it waited, for every caller.
    running = await submit(queue, "running")
    assert running.task_id != waiting.task_id
    [owned] = await claim(queue)
    assert await meets(queue, 60.0, running)
    assert (await submit(queue, "waiting")).task_id != running.task_id
    await end(queue, owned)
    await queue.purge(TaskState.QUEUED)
    timed = await submit(queue, 60.0)
    [owned] = await claim(queue)
    assert await meets(queue, "running", timed)
    await end(queue, owned)
    assert await meets(queue, 60.0, timed)
    # It asks for one that waits or runs, and that one does no more.
    assert (await submit(queue, "running")).task_id != timed.task_id


@pytest.mark.gen_test
async def test_running_one_is_cancelled_for_the_one_that_replaces_it(
    queue: QueueService, redis: Redis
) -> None:
    """Its worker is told, and its end changes nothing any more."""
    first = await submit(queue)
    [owned] = await claim(queue)
    async with redis.pubsub(ignore_subscribe_messages=True) as pubsub:
        await pubsub.subscribe("rt:workers")
        await pubsub.get_message(timeout=20)
        later = await submit(queue, on_conflict=OnConflict.REPLACE)
        message = await pubsub.get_message(timeout=20)
    told = {"type": "cancel", "data": {"task_id": first.task_id}}
    assert json.loads(message["data"]) == told
    assert not await queue.ack_task(first.task_id, token=owned.token)
    assert await started(queue) == [later.task_id]


@pytest.mark.gen_test
async def test_key_for_some_seconds_holds_whatever_becomes_of_the_task(
    queue: QueueService, redis: Redis
) -> None:
    """Then it is free, though the task may be there."""
    first = await submit(queue, 60.0)
    [owned] = await claim(queue)
    assert await meets(queue, 60.0, first)
    await end(queue, owned)
    assert (await submit(queue, 60.0)).status == "completed"
    assert await meets(queue, 60.0, first)
    [key] = await redis.keys("{rtq}:unique:*")
    assert 59_000 < await redis.pttl(key) <= 60_000
    await redis.pexpire(key, 1)

    async def is_gone() -> bool:
        return not await redis.exists(key)

    await until(is_gone)
    assert not await meets(queue, 60.0, first)


@pytest.mark.gen_test
async def test_later_ones_put_off_the_first_when_they_replace_it(
    queue: QueueService, redis: Redis
) -> None:
    """Debounced: what is submitted last runs, its time after it was submitted."""
    for number in range(5):
        last = await submit(
            queue, "waiting", OnConflict.REPLACE, delay=30.0, params={"number": number}
        )
    stats = await queue.stats()
    assert (stats.delayed, stats.cancelled) == (1, 4)
    await end_delays(redis)
    await queue.keep_up()
    [owned] = await claim(queue)
    assert (owned.task.task_id, owned.task.params) == (last.task_id, {"number": 4})


@pytest.mark.gen_test
async def test_key_is_its_users_and_its_kinds(queue: QueueService) -> None:
    first = await submit(queue)
    others = [
        await submit(queue, user="b"),
        await submit(queue, kind="other"),
        await submit(queue, key="another"),
        (await queue.enqueue_task("a", new())),
        await submit(queue, user="a\0k", key=""),
        await submit(queue, user="a", key="\0k"),
    ]
    assert len({first.task_id, *(other.task_id for other in others)}) == 7


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.gen_test
async def test_one_key_is_given_once_of_many_at_the_same_moment(
    make_queue: MakeQueue, scope: Any
) -> None:
    queues = [make_queue() for _ in range(3)]
    made = await asyncio.gather(*(submit(queue, scope) for queue in queues for _ in range(40)))
    assert len({task.task_id for task in made}) == 1
    refused = await asyncio.gather(
        *(submit(queue, scope, OnConflict.REJECT) for queue in queues for _ in range(40)),
        return_exceptions=True,
    )
    assert all(isinstance(one, Conflict) for one in refused)
    replaced = await asyncio.gather(
        *(submit(queue, scope, OnConflict.REPLACE) for queue in queues for _ in range(20))
    )
    assert len({task.task_id for task in replaced}) == 60
    assert len(await started(queues[0], 100)) == 1


@pytest.mark.gen_test
async def test_repeated_request_is_no_conflict_with_itself(queue: QueueService) -> None:
    """redis-py sends a command again when its reply was lost."""
    unique = Unique(key="k", on_conflict=OnConflict.REJECT)
    first = await queue.enqueue_task("a", new(unique=unique), task_id="t")
    again = await queue.enqueue_task("a", new(unique=unique), task_id="t")
    assert again.task_id == first.task_id


@pytest.mark.gen_test
async def test_full_line_takes_one_in_place_of_another(make_queue: MakeQueue) -> None:
    """That adds none; one in place of a running one does."""
    queue = make_queue(max_waiting_per_user=2)
    first = await submit(queue)
    await enqueue(queue)
    second = await submit(queue, on_conflict=OnConflict.REPLACE)
    assert (await read(queue, first.task_id)).status == "cancelled"
    assert len(await claim(queue, 1)) == 1
    await enqueue(queue)
    with pytest.raises(QueueFull):
        await enqueue(queue)
    await queue.cancel_task(second.task_id)
    third = await submit(queue)
    with pytest.raises(QueueFull):
        await submit(queue, key="another", on_conflict=OnConflict.REPLACE)
    assert (await submit(queue)).task_id == third.task_id


@pytest.mark.gen_test
@pytest.mark.parametrize("on_conflict", list(OnConflict))
async def test_key_of_some_seconds_outlives_its_task(
    make_queue: MakeQueue, on_conflict: OnConflict
) -> None:
    """A throttle must not depend on the number of ended tasks that are kept."""
    queue = make_queue(kept_per_user=1)
    first = await submit(queue, 3600.0)
    for owned in await claim(queue):
        await end(queue, owned)
    await enqueue(queue)
    for owned in await claim(queue):
        await end(queue, owned)
    assert await queue.get_task(first.task_id) is None
    if on_conflict == OnConflict.REPLACE:
        assert (await submit(queue, 3600.0, on_conflict)).task_id != first.task_id
        return
    with pytest.raises(Conflict) as refused:
        await submit(queue, 3600.0, on_conflict)
    assert refused.value.task_id == first.task_id


@pytest.mark.gen_test
async def test_key_of_a_request_remembers_the_task_that_it_was_given(queue: QueueService) -> None:
    """Also the one that was there under the unique key: the same request gets it again."""
    first = await submit(queue)
    once = Idempotency("k1", b"body")
    task = new(unique=Unique(key="k"))
    given = await queue.enqueue_task("a", task, once=once)
    assert given.task_id == first.task_id
    [owned] = await claim(queue)
    await end(queue, owned)
    again = await queue.enqueue_task("a", task, once=once)
    assert (again.task_id, again.status) == (first.task_id, "completed")


@pytest.mark.gen_test
async def test_task_that_cannot_be_read_leaves_its_key_free(
    queue: QueueService, redis: Redis
) -> None:
    for scope in SCOPES:
        first = await submit(queue, scope)
        await redis.hset(f"{{rtq}}:task:{first.task_id}", "made", b"x")
        second = await submit(queue, scope, OnConflict.REJECT)
        assert second.task_id != first.task_id
        assert await started(queue) == [second.task_id]
        await queue.cancel_task(second.task_id)
        await queue.discard_task(first.task_id)
        await redis.delete(*await redis.keys("{rtq}:unique:*") or ["none"])
