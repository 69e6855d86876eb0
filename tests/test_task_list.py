"""Lists of tasks: by kind, state, tag, batch, time and words, part by part."""

from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from services.queue import QueueService, TaskPage
from tests.queueing import KIND, claim, end, enqueue, expire_leases, ids_of, read, several

pytestmark = pytest.mark.usefixtures("invariants")

MakeQueue = Callable[..., QueueService]
EVERYBODY = ""


async def pages_of(queue: QueueService, user: str, **asked: Any) -> list[TaskPage]:
    """Read a list to its end, part by part."""
    pages = [await queue.list_tasks(user, **asked)]
    while pages[-1].next is not None:
        pages.append(await queue.list_tasks(user, before=pages[-1].next, **asked))
    return pages


async def all_of(queue: QueueService, user: str, **asked: Any) -> list[str]:
    """Read a list to its end; return the ids."""
    return [task.task_id for page in await pages_of(queue, user, **asked) for task in page.items]


@pytest.mark.gen_test
async def test_newest_come_first_and_each_user_sees_his_own(queue: QueueService) -> None:
    ids = {user: [await enqueue(queue, user) for _ in range(3)] for user in "ab"}
    assert await ids_of(queue, "a") == ids["a"][::-1]
    assert await ids_of(queue, "b", limit=2) == ids["b"][:0:-1]
    assert await ids_of(queue, "c") == []
    assert await ids_of(queue, EVERYBODY) == [*ids["b"][::-1], *ids["a"][::-1]]


@pytest.mark.gen_test
async def test_filters_hold_alone_and_together(queue: QueueService) -> None:
    ids = {
        "film": await enqueue(queue, "a", "Film of Ann", kind="video", tags=["big", "x"]),
        "second": await enqueue(queue, "a", "film of Ben", tags=["big"]),
        "report": await enqueue(queue, "a", "Report \u00dc", kind="report", delay=60.0),
        "done": await enqueue(queue, "a", "Film, done", kind="video"),
    }
    batch = await queue.create_batch("a", several("Film 1", "Film 2", kind="video"))
    await queue.cancel_task(ids["done"])
    [owned] = await claim(queue, 1, "video")
    assert owned.task.task_id == ids["film"]

    async def found(**asked: Any) -> set[str]:
        names = {task_id: name for name, task_id in ids.items()}
        names |= dict(zip(batch.task_ids, ("first", "last"), strict=True))
        return {names[one] for one in await all_of(queue, "a", **asked)}

    assert await found(kind="video") == {"film", "done", "first", "last"}
    assert await found(kind="nothing") == set()
    assert await found(statuses=["delayed"]) == {"report"}
    assert await found(statuses=["queued", "processing"]) == {"film", "second", "first", "last"}
    assert await found(tag="big") == {"film", "second"}
    assert await found(tag="bi") == set()
    assert await found(batch_id=batch.batch_id) == {"first", "last"}
    assert await found(batch_id="no") == set()
    assert await found(words="FILM") == {"film", "second", "done", "first", "last"}
    assert await found(words="ben film") == {"second"}
    assert await found(words="\u00fc") == {"report"}
    assert await found(words=ids["report"][2:9]) == {"report"}
    assert await found(words="%*[") == set()
    assert await found(kind="video", statuses=["processing"], tag="x", words="ann") == {"film"}
    assert await found(kind="video", statuses=["queued"], tag="x") == set()


@pytest.mark.gen_test
async def test_list_is_bounded_by_when_tasks_were_made(queue: QueueService) -> None:
    """From a time on, and before one; both are as the task tells them."""
    ids = [await enqueue(queue) for _ in range(3)]
    made = [(await read(queue, task_id)).created_at for task_id in ids]
    assert await ids_of(queue, "a", since=made[1]) == ids[:0:-1]
    assert await ids_of(queue, "a", until=made[1]) == ids[:1]
    assert await ids_of(queue, "a", since=made[1], until=made[2]) == [ids[1]]
    assert await ids_of(queue, "a", since=made[2] + 1) == []
    # The epoch is a time as any other.
    assert await ids_of(queue, "a", until=0.0) == []
    assert await ids_of(queue, "a", until=-1.0) == []
    assert await ids_of(queue, "a", since=0.0, until=made[1]) == ids[:1]


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
@pytest.mark.gen_test
async def test_parts_of_a_list_are_the_list(queue: QueueService, limit: int) -> None:
    """Each once and in order, also where few fit; what comes meanwhile is in none of them."""
    ids = []
    for number in range(20):
        ids.append(await enqueue(queue, "a", f"T{number}", tags=["even"] * (number % 2 == 0)))
        await enqueue(queue, "b")
    assert await all_of(queue, "a", limit=limit) == ids[::-1]
    even = [task_id for number, task_id in enumerate(ids) if number % 2 == 0]
    assert await all_of(queue, "a", limit=limit, tag="even") == even[::-1]
    assert len(await all_of(queue, EVERYBODY, limit=limit)) == 40
    first = await queue.list_tasks("a", limit=5)
    await enqueue(queue)
    await queue.cancel_task(ids[3])
    following = await queue.list_tasks("a", limit=5, before=str(first.next))
    assert [task.task_id for task in following.items] == ids[14:9:-1]
    assert await ids_of(queue, EVERYBODY, before="0") == []


@pytest.mark.gen_test
async def test_list_of_few_among_many_goes_on_to_the_last(queue: QueueService) -> None:
    """One request looks at 2,000; a part with fewer than were asked for says where it goes on."""
    wanted = await enqueue(queue, "a", "wanted")
    for _ in range(5):
        await queue.create_batch("a", several(*"A" * 1000))
    pages = await pages_of(queue, "a", words="wanted", limit=10)
    assert [len(page.items) for page in pages] == [0, 0, 1]
    assert pages[-1].items[0].task_id == wanted


@pytest.mark.gen_test
async def test_listed_task_is_the_task_as_it_is_read(queue: QueueService, redis: Redis) -> None:
    """In every state, with all that is known of it."""
    ids = [await enqueue(queue, max_attempts=1) for _ in range(4)]
    ids.append(await enqueue(queue, delay=60.0))
    done, failed, lost = await claim(queue, 3)
    await end(queue, done)
    await end(queue, failed, success=False)
    await expire_leases(redis)
    await queue.cleanup_expired_tasks()
    listed = (await queue.list_tasks("a")).items
    assert [task.status for task in listed] == ["delayed", "queued", "dead", "failed", "completed"]
    assert lost.task.task_id == listed[2].task_id
    for task in listed:
        assert task == await read(queue, task.task_id)


@pytest.mark.gen_test
async def test_deleted_tasks_are_in_no_list(make_queue: MakeQueue, redis: Redis) -> None:
    """Past their retention, over the number that is kept, discarded or purged."""
    queue = make_queue(kept_per_user=2, retention_seconds=60)
    ids = [await enqueue(queue) for _ in range(6)]
    for task_id in ids[:4]:
        await queue.cancel_task(task_id)
    assert await ids_of(queue, "a") == await ids_of(queue, EVERYBODY) == ids[:1:-1]
    await redis.zadd("{rtq}:ended", {ids[2]: 1})
    await queue.keep_up()
    assert await ids_of(queue, EVERYBODY) == [ids[5], ids[4], ids[3]]
    await queue.purge((await read(queue, ids[3])).status)
    assert await ids_of(queue, EVERYBODY, kind=KIND) == [ids[5], ids[4]]
