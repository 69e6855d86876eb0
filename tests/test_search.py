"""Search over all tasks: each condition, pages, states that change, tasks that go, older data."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis

from services.queue import QueueService, Search, TaskState
from services.queue.terms import asked_terms, word_terms
from tests.queueing import KIND, claim, end, enqueue, register, several

FAILED, DEAD = TaskState.FAILED, TaskState.DEAD


@pytest.fixture
def kept(make_queue: Callable[..., QueueService], invariants: None) -> QueueService:
    """A queue that keeps all that has ended."""
    return make_queue(kept_per_user=0)


async def found(queue: QueueService, **wanted: Any) -> list[str]:
    """Return the ids of all pages, the newest first."""
    search, ids = Search(**wanted), list[str]()
    while True:
        page = await queue.search(search)
        ids += [one.task_id for one in page.items]
        if page.next is None:
            return ids
        search = attrs.evolve(search, before=page.next)


@pytest.mark.gen_test
async def test_each_condition_finds_what_it_names(kept: QueueService) -> None:
    await register(kept)
    first = await enqueue(kept, "ann", "Monthly report of Zürich", tags=["eu", "night"])
    second = await enqueue(kept, "bob", "monthly REPORT of Oslo", tags=["eu"])
    third = await enqueue(kept, "bob", "video_42.mp4", kind="other")
    batch = await kept.create_batch("ann", several("one", "two"))
    assert await found(kept, words="report") == [second, first]
    assert await found(kept, words="MONTHLY zürich") == [first]
    assert await found(kept, words="42") == [third]
    assert await found(kept, words="repo") == []
    assert await found(kept, user="bob") == [third, second]
    assert await found(kept, user="bob", words="report") == [second]
    assert await found(kept, kind="other") == [third]
    assert await found(kept, tag="eu") == [second, first]
    assert await found(kept, tag="night", user="bob") == []
    assert await found(kept, batch=batch.batch_id) == batch.task_ids[::-1]
    assert len(await found(kept)) == 5
    assert await found(kept, words="-") == []


@pytest.mark.gen_test
async def test_an_id_finds_its_task_under_the_other_conditions(kept: QueueService) -> None:
    await register(kept)
    task_id = await enqueue(kept, "ann", "report", tags=["eu"])
    named = await enqueue(kept, "bob", f"again {task_id}")
    assert await found(kept, words=task_id) == [task_id, named]
    assert await found(kept, words=task_id, user="ann", tag="eu", kind=KIND) == [task_id]
    assert await found(kept, words=task_id, user="carl") == []
    assert await found(kept, words=task_id, statuses=(FAILED,)) == []


@pytest.mark.gen_test
async def test_words_of_an_error_find_the_task_also_when_it_runs_again(kept: QueueService) -> None:
    await register(kept)
    task_id = await enqueue(kept, label="report")
    [one] = await claim(kept)
    assert await kept.ack_task(task_id, False, token=one.token, error="Timeout of host-7")
    assert await found(kept, words="timeout report") == [task_id]
    await kept.rerun_task(task_id)
    assert await found(kept, words="host", statuses=(TaskState.QUEUED,)) == [task_id]


@pytest.mark.gen_test
async def test_states_are_followed(kept: QueueService) -> None:
    """Into an end, back by a retry, and into another end."""
    await register(kept)
    ids = [await enqueue(kept, label=f"task {n}") for n in range(600)]
    later = await enqueue(kept, delay=60)
    claims = await claim(kept, 40)
    await end(kept, *claims[:20])
    await end(kept, *claims[20:30], success=False)
    await kept.cancel_task(ids[599])
    expected = {
        "completed": ids[:20][::-1],
        "failed": ids[20:30][::-1],
        "processing": ids[30:40][::-1],
        "cancelled": [ids[599]],
        "delayed": [later],
        "queued": ids[40:599][::-1],
    }
    for state, wanted in expected.items():
        assert await found(kept, statuses=(TaskState(state),), limit=37) == wanted, state
    both = await found(kept, statuses=(FAILED, TaskState.PROCESSING))
    assert both == expected["processing"] + expected["failed"]
    await kept.rerun_task(ids[25])
    assert ids[25] not in await found(kept, statuses=(FAILED,))
    waiting = (TaskState.QUEUED, TaskState.DELAYED, TaskState.PROCESSING)
    assert ids[25] in await found(kept, statuses=waiting, words="25")
    [again] = [one for one in await claim(kept, 1) if one.task.task_id == ids[25]]
    await end(kept, again)
    assert await found(kept, statuses=(TaskState.COMPLETED,), words="25") == [ids[25]]


@pytest.mark.gen_test
async def test_pages_bring_each_task_once(kept: QueueService) -> None:
    await register(kept)
    labels = [f"{'odd' if n % 2 else 'even'} {n}" for n in range(900)]
    batch = await kept.create_batch("ann", several(*labels))
    odd = [id_ for n, id_ in enumerate(batch.task_ids) if n % 2][::-1]
    for limit in (1, 7, 50, 200):
        assert await found(kept, words="odd", limit=limit) == odd


@pytest.mark.gen_test
async def test_time_bounds_are_met(kept: QueueService) -> None:
    await register(kept)
    old = [await enqueue(kept, label=f"old {n}") for n in range(3)]
    fresh = [await enqueue(kept, label=f"fresh {n}") for n in range(3)]
    border = (await kept.get_task(fresh[0])).created_at  # type: ignore[union-attr]
    assert await found(kept, since=border) == fresh[::-1]
    assert await found(kept, until=border) == old[::-1]
    assert await found(kept, since=border + 60) == []
    assert await found(kept, until=1.0) == []


@pytest.mark.gen_test
async def test_nothing_is_left_of_tasks_that_are_gone(
    make_queue: Callable[..., QueueService], redis: Redis, invariants: None
) -> None:
    """Neither what upkeep deletes, nor what the bound of a user's tasks lets go."""
    queue = make_queue(kept_per_user=5)
    await register(queue)
    for _ in range(30):
        await queue.create_batch("ann", several(*(f"report {n}" for n in range(20))))
    while claims := await claim(queue, 50):
        await end(queue, *claims)
    assert len(await found(queue, words="report")) == 5
    blocks = await redis.zrange("{rtq}:found", 0, -1)
    assert len(blocks) == 1
    assert [key async for key in redis.scan_iter("{rtq}:found:*")] == [b"{rtq}:found:" + blocks[0]]
    for member in await redis.zrange("{rtq}:ended", 0, -1):
        await redis.zadd("{rtq}:ended", {member: 1})
    await queue.keep_up()
    assert await redis.keys("{rtq}:found*") + await redis.keys("{rtq}:shelf*") == []


@pytest.mark.gen_test
async def test_tasks_of_an_earlier_version_are_found_again(
    kept: QueueService, redis: Redis
) -> None:
    """It keeps no terms, and deletes without a word: what is left of those goes too."""
    await register(kept)
    ids = [await enqueue(kept, "ann", f"report {n}", tags=["eu"]) for n in range(300)]
    claims = await claim(kept, 10)
    assert await kept.ack_task(ids[0], False, token=claims[0].token, error="broken pipe")
    await redis.delete(*await redis.keys("{rtq}:found*"), *await redis.keys("{rtq}:shelf*"))
    assert await found(kept, words="report") == []
    # Half of them was made after the update.
    await enqueue(kept, "ann", "report of today")
    assert await kept.find_again() == 300
    assert await kept.find_again() == 0
    assert len(await found(kept, words="report")) == 301
    assert len(await found(kept, user="ann", tag="eu", kind=KIND)) == 300
    assert await found(kept, words="broken", statuses=(FAILED,)) == [ids[0]]
    await redis.hset("{rtq}:found:9999", "wreport", "\x01")
    await redis.zadd("{rtq}:found", {"9999": 9999})
    await kept.find_again()
    assert not await redis.exists("{rtq}:found:9999")
    assert len(await redis.zrange("{rtq}:found", 0, -1)) == 2


@pytest.mark.gen_test
async def test_block_is_made_anew_when_most_of_it_is_gone(kept: QueueService, redis: Redis) -> None:
    await register(kept)
    ids = [await enqueue(kept, "ann", f"only{n} report") for n in range(200)]
    for claims in [await claim(kept, 150)]:
        await end(kept, *claims, success=False)
    for task_id in ids[:150]:
        await kept.discard_task(task_id)
    assert len(await found(kept, words="report")) == 50
    terms = await redis.hlen("{rtq}:found:0")
    await kept.find_again()
    assert await redis.hlen("{rtq}:found:0") < terms - 100
    assert await found(kept, words="report") == ids[150:][::-1]
    assert await found(kept, words="only199") == [ids[199]]


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("Order 77", "77"),
        ("股票分析 AAPL", "票分"),
        ("股票分析", "析"),
        ("日本語のレポート", "レポート"),
        ("ＦＵＬＬ width", "full"),
        ("STRASSE", "straße"),
        ("a_b-c.d", "B C"),
    ],
)
def test_words_are_found_in_text(text: str, asked: str) -> None:
    assert set(asked_terms(asked)) <= set(word_terms(text))
    assert asked_terms(asked)


@pytest.mark.parametrize(("text", "asked"), [("report", "repo"), ("股票分析", "票析"), ("a", "b")])
def test_other_words_are_not_found(text: str, asked: str) -> None:
    assert not set(asked_terms(asked)) <= set(word_terms(text))


def test_words_of_a_task_are_bounded() -> None:
    long = " ".join(f"word{n}" for n in range(1000)) + "x" * 10_000
    assert len(word_terms(long)) == 32
    assert all(len(term) <= 41 for term in word_terms("y" * 10_000))
