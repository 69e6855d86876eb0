"""Attempts that fail, and tasks that are run again: what each of them leaves."""

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from redis.asyncio import Redis

from services.finding import TaskFilter
from services.operating import KindNotFound, Operator, Rerun
from services.queue import (
    Claim,
    Conflict,
    NotEnded,
    OnConflict,
    Outcome,
    Priority,
    Purged,
    QueueFull,
    QueueService,
    TaskNotFound,
    TaskState,
    Unique,
)
from tests.queueing import (
    KIND,
    claim,
    end,
    end_delays,
    enqueue,
    expire_leases,
    give_up,
    new,
    read,
    register,
    several,
    started,
)
from tests.waiting import until
from tornado_rt.protocol import iso_time

pytestmark = pytest.mark.usefixtures("invariants")

MakeQueue = Callable[..., QueueService]
MOST_ATTEMPTS = 50
MOST_REASON = 500


async def outcomes(queue: QueueService, task_id: str) -> list[tuple[int, str, str | None]]:
    """Return number, outcome and error of a task's ended attempts."""
    attempts = (await read(queue, task_id)).attempts
    return [(one["attempt"], one["outcome"], one["error"]) for one in attempts]


async def next_moment(redis: Redis) -> float:
    """Wait until Redis's clock has moved on by a millisecond, which times are told in."""

    async def now() -> float:
        seconds, micros = await redis.time()
        return float(seconds + micros / 1e6)

    since = await now()

    async def later() -> float:
        moment = await now()
        return moment if moment > since + 0.002 else 0.0

    return await until(later)


# Ends of an attempt


@pytest.mark.parametrize(
    ("outcome", "final"), [(Outcome.ERROR, TaskState.FAILED), (Outcome.RETRY, TaskState.DEAD)]
)
@pytest.mark.gen_test
async def test_task_is_tried_as_often_as_it_may(
    queue: QueueService, outcome: Outcome, final: TaskState
) -> None:
    """After an error it has failed in the end, after a wish for another attempt it is dead."""
    task_id = await enqueue(queue, max_attempts=3)
    for number in (1, 2, 3):
        [owned] = await claim(queue)
        assert owned.task.attempt == number
        assert (await read(queue, task_id)).status == "processing"
        assert await give_up(queue, owned, outcome, f"error {number}")
    task = await read(queue, task_id)
    assert (task.status, task.error, task.attempt) == (final, "error 3", 3)
    assert await outcomes(queue, task_id) == [(1, outcome, "error 1"), (2, outcome, "error 2")]
    assert await claim(queue) == []
    assert [dead.task_id for dead in await queue.list_dead()] == (
        [task_id] if final == "dead" else []
    )


@pytest.mark.gen_test
async def test_last_of_different_ends_decides(queue: QueueService, redis: Redis) -> None:
    for last, final in ((Outcome.ERROR, "failed"), (Outcome.RETRY, "dead"), (None, "dead")):
        task_id = await enqueue(queue, max_attempts=3)
        await give_up(queue, (await claim(queue))[0], Outcome.RETRY, "busy")
        await give_up(queue, (await claim(queue))[0], Outcome.ERROR, "broken")
        [owned] = await claim(queue)
        if last:
            await give_up(queue, owned, last, "last")
        else:
            await expire_leases(redis)
            await queue.cleanup_expired_tasks()
        assert (await read(queue, task_id)).status == final
        assert await outcomes(queue, task_id) == [(1, "retry", "busy"), (2, "error", "broken")]


@pytest.mark.gen_test
async def test_failure_that_is_final_asks_for_no_other_attempt(queue: QueueService) -> None:
    task_id = await enqueue(queue, max_attempts=3)
    await end(queue, *await claim(queue), success=False)
    task = await read(queue, task_id)
    assert (task.status, task.attempt, task.attempts) == ("failed", 1, ())


@pytest.mark.gen_test
async def test_attempt_says_when_it_began_and_ended(queue: QueueService, redis: Redis) -> None:
    """Lost ones too; one that was handed back did not count, and is not told."""
    task_id = await enqueue(queue, max_attempts=9)
    [owned] = await claim(queue)
    await queue.release_task(task_id, owned.token)
    moments = []
    for ending in ("error", "lost"):
        began = await next_moment(redis)
        [owned] = await claim(queue)
        assert owned.task.started_at is not None
        assert owned.task.started_at >= began
        ended = await next_moment(redis)
        if ending == "error":
            await give_up(queue, owned, Outcome.ERROR, "broken", delay=60)
            await end_delays(redis)
        else:
            await expire_leases(redis)
        await queue.keep_up()
        moments.append((owned.task.started_at, ended))
    attempts = (await read(queue, task_id)).attempts
    assert [one["outcome"] for one in attempts] == ["error", "lost"]
    assert attempts[1]["error"] == "the worker was lost"
    for one, (started_at, ended) in zip(attempts, moments, strict=True):
        assert one["started_at"] == iso_time(datetime.fromtimestamp(started_at).astimezone())
        assert datetime.fromisoformat(one["ended_at"]).timestamp() >= ended - 0.001


async def _take(queue: QueueService, redis: Redis, task_id: str, seconds: float) -> Claim:
    """Claim a task that has run for some seconds."""
    [owned] = await claim(queue)
    began = (owned.task.started_at or 0.0) - seconds
    await redis.hset(f"{queue.prefix}task:{task_id}", "started_at", f"{began:.6f}")
    return owned


@pytest.mark.gen_test
async def test_time_of_all_attempts_is_kept(queue: QueueService, redis: Redis) -> None:
    """Of more than the task keeps; of lost ones, and of those that were handed back."""
    task_id = await enqueue(queue, max_attempts=1000)
    owned = await _take(queue, redis, task_id, 1000)
    await queue.release_task(task_id, owned.token)
    assert 1000 <= (await read(queue, task_id)).used_seconds < 1100
    for _ in range(MOST_ATTEMPTS + 3):
        await give_up(queue, await _take(queue, redis, task_id, 100), Outcome.ERROR)
    await _take(queue, redis, task_id, 1000)
    await expire_leases(redis)
    await queue.keep_up()
    assert 7300 <= (await read(queue, task_id)).used_seconds < 7400


@pytest.mark.gen_test
async def test_task_that_is_run_again_has_used_no_time(queue: QueueService, redis: Redis) -> None:
    task_id = await enqueue(queue, max_attempts=2)
    for _ in range(2):
        await give_up(queue, await _take(queue, redis, task_id, 100), Outcome.ERROR)
    await queue.rerun_task(task_id)
    assert (await read(queue, task_id)).used_seconds == 0
    await give_up(queue, await _take(queue, redis, task_id, 30), Outcome.ERROR)
    assert 30 <= (await read(queue, task_id)).used_seconds < 60


@pytest.mark.gen_test
async def test_time_of_a_task_of_an_earlier_version_is_that_of_the_attempts_it_has(
    queue: QueueService, redis: Redis
) -> None:
    """Up to the end that it was run again from."""
    task_id = await enqueue(queue, max_attempts=9)
    await give_up(queue, await _take(queue, redis, task_id, 1000), Outcome.FAILED)
    await queue.rerun_task(task_id)
    for _ in range(2):
        await give_up(queue, await _take(queue, redis, task_id, 100), Outcome.ERROR)
    await redis.hdel(f"{queue.prefix}task:{task_id}", "used")
    assert 200 <= (await read(queue, task_id)).used_seconds < 300
    await give_up(queue, await _take(queue, redis, task_id, 100), Outcome.ERROR)
    assert 300 <= (await read(queue, task_id)).used_seconds < 400


@pytest.mark.gen_test
async def test_oldest_attempts_and_the_ends_of_long_reasons_are_let_go(
    queue: QueueService,
) -> None:
    task_id = await enqueue(queue, max_attempts=1000)
    for number in range(MOST_ATTEMPTS + 3):
        [owned] = await claim(queue)
        await give_up(queue, owned, Outcome.ERROR, f"{number:02}" + "\u2603" * MOST_REASON)
    attempts = (await read(queue, task_id)).attempts
    assert [one["attempt"] for one in attempts] == list(range(4, MOST_ATTEMPTS + 4))
    # Two bytes of the number, 165 of three each, and the ellipsis has three.
    assert attempts[0]["error"] == "03" + "\u2603" * 165 + "…"


@pytest.mark.parametrize("character", ["x", "é", "\u2603", "\U0001f4a5"])
@pytest.mark.parametrize("before", range(4))
@pytest.mark.gen_test
async def test_long_reason_is_cut_between_two_characters(
    queue: QueueService, character: str, before: int
) -> None:
    """The ellipsis comes after all that has room before it; a reason that has room is whole."""
    size = len(character.encode())
    whole = "a" * (MOST_REASON % size) + character * (MOST_REASON // size)
    long = "a" * before + character * (MOST_REASON + 1)
    task_id = await enqueue(queue, max_attempts=9)
    for reason in (whole, long):
        await give_up(queue, (await claim(queue))[0], Outcome.ERROR, reason)
    told = [one["error"] for one in (await read(queue, task_id)).attempts]
    room = MOST_REASON - len("…".encode()) - before
    assert told == [whole, "a" * before + character * (room // size) + "…"]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("error", "told"),
    [
        ('the "disk" is full\n', 'the "disk" is full\n'),
        ("", None),
        ("\u2603" * MOST_REASON, "\u2603" * 165 + "…"),
        ("x" + "\u2603" * MOST_REASON, "x" + "\u2603" * 165 + "…"),
        ("xxx" + "\U0001f680" * MOST_REASON, "xxx" + "\U0001f680" * 123 + "…"),
    ],
)
async def test_task_that_waits_for_another_attempt_shows_why(
    queue: QueueService, redis: Redis, error: str, told: str | None
) -> None:
    """While it waits: neither before its first attempt nor in the next one."""

    async def shown() -> str | None:
        snapshot = json.loads((await read(queue, task_id)).snapshot)
        found: str | None = snapshot.get("error")
        return found

    task_id = await enqueue(queue, max_attempts=9)
    assert await shown() is None
    [owned] = await claim(queue)
    await give_up(queue, owned, Outcome.ERROR, error, delay=60)
    assert await shown() == told
    await end_delays(redis)
    await queue.keep_up()
    assert await shown() == told
    [owned] = await claim(queue)
    assert await shown() is None
    await queue.release_task(task_id, owned.token)
    assert await shown() == told
    await queue.cancel_task(task_id)
    await queue.rerun_task(task_id)
    assert await shown() is None


@pytest.mark.gen_test
async def test_end_that_is_told_twice_counts_once(queue: QueueService) -> None:
    task_id = await enqueue(queue, max_attempts=9)
    [owned] = await claim(queue)
    for _ in range(2):
        assert await give_up(queue, owned, Outcome.ERROR, "broken")
    assert await outcomes(queue, task_id) == [(1, "error", "broken")]
    assert not await give_up(queue, owned.__class__(owned.task, "9999"), Outcome.ERROR)


# Run again


async def _fail(queue: QueueService, redis: Redis, task_id: str) -> None:
    await give_up(queue, (await claim(queue))[0], Outcome.ERROR, "broken")


async def _fail_for_good(queue: QueueService, redis: Redis, task_id: str) -> None:
    [owned] = await claim(queue)
    await queue.ack_task(task_id, False, token=owned.token, error="broken")


async def _die(queue: QueueService, redis: Redis, task_id: str) -> None:
    await give_up(queue, (await claim(queue))[0], Outcome.RETRY, "broken")


async def _be_lost(queue: QueueService, redis: Redis, task_id: str) -> None:
    await claim(queue)
    await expire_leases(redis)
    await queue.cleanup_expired_tasks()


async def _be_cancelled(queue: QueueService, redis: Redis, task_id: str) -> None:
    await claim(queue)
    await queue.cancel_task(task_id)


ENDS: dict[str, tuple[Any, str, str | None]] = {
    "failed": (_fail, "failed", "broken"),
    "failed for good": (_fail_for_good, "failed", "broken"),
    "dead": (_die, "dead", "broken"),
    "lost": (_be_lost, "dead", "the worker was lost"),
    "cancelled": (_be_cancelled, "cancelled", None),
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.gen_test
async def test_task_that_ended_badly_is_run_again_with_its_history(
    queue: QueueService, redis: Redis, how: str
) -> None:
    """It has all its attempts, nothing of its end, and tells how each of them ended and when."""
    ending, final, error = ENDS[how]
    task_id = await enqueue(queue, max_attempts=2)
    await give_up(queue, (await claim(queue))[0], Outcome.ERROR, "first")
    await ending(queue, redis, task_id)
    ended = await read(queue, task_id)
    assert (ended.status, ended.error) == (final, error)
    await next_moment(redis)
    again = await queue.rerun_task(task_id, "a")
    assert (again.status, again.attempt, again.position) == ("queued", 0, 1)
    assert (again.error, again.result, again.ended_at, again.started_at) == (None,) * 4
    assert again.progress == 0
    assert await outcomes(queue, task_id) == [(1, "error", "first"), (2, final, error)]
    last = again.attempts[-1]
    assert ended.started_at is not None
    assert ended.ended_at is not None
    assert last["started_at"] == iso_time(datetime.fromtimestamp(ended.started_at).astimezone())
    assert last["ended_at"] == iso_time(datetime.fromtimestamp(ended.ended_at).astimezone())
    for number in (1, 2):
        [owned] = await claim(queue)
        assert owned.task.attempt == number
        await give_up(queue, owned, Outcome.ERROR, f"again {number}")
    assert (await read(queue, task_id)).status == "failed"
    assert await outcomes(queue, task_id) == [
        (1, "error", "first"),
        (2, final, error),
        (1, "error", "again 1"),
    ]


@pytest.mark.gen_test
async def test_task_cancelled_before_it_began_is_run_again(queue: QueueService) -> None:
    """It had no attempt: nothing is told of one."""
    task_id = await enqueue(queue)
    delayed = await enqueue(queue, delay=60.0)
    for one in (task_id, delayed):
        await queue.cancel_task(one)
        assert (await queue.rerun_task(one)).status == "queued"
        assert await outcomes(queue, one) == []
    assert await started(queue) == [task_id, delayed]


@pytest.mark.gen_test
async def test_task_cancelled_between_two_attempts_is_run_again(queue: QueueService) -> None:
    """The attempt that had ended is told once."""
    task_id = await enqueue(queue)
    await give_up(queue, (await claim(queue))[0], Outcome.ERROR, "broken", delay=60)
    await queue.cancel_task(task_id)
    await queue.rerun_task(task_id)
    assert await outcomes(queue, task_id) == [(1, "error", "broken")]


@pytest.mark.gen_test
async def test_task_that_waits_runs_or_is_done_is_not_run_again(queue: QueueService) -> None:
    """The refusal names its state."""
    delayed = await enqueue(queue, delay=60.0)
    task_id = await enqueue(queue)
    for one, status in ((delayed, "delayed"), (task_id, "queued")):
        with pytest.raises(NotEnded, match=f"{one} is {status}"):
            await queue.rerun_task(one)
    claims = await claim(queue)
    with pytest.raises(NotEnded, match="processing"):
        await queue.rerun_task(task_id)
    await end(queue, *claims)
    with pytest.raises(NotEnded, match="completed"):
        await queue.rerun_task(task_id)
    assert (await queue.stats()).completed == 1


@pytest.mark.gen_test
async def test_anothers_task_is_not_run_again(queue: QueueService) -> None:
    task_id = await enqueue(queue)
    await queue.cancel_task(task_id)
    with pytest.raises(TaskNotFound):
        await queue.rerun_task(task_id, "b")
    with pytest.raises(TaskNotFound):
        await queue.rerun_task("no")
    assert (await read(queue, task_id)).status == "cancelled"


@pytest.mark.gen_test
async def test_task_run_again_keeps_its_place_priority_and_key(queue: QueueService) -> None:
    await register(queue, key_limit=1)
    more: dict[str, Any] = {"priority": Priority.HIGH, "key": "x"}
    first = await enqueue(queue, **more)
    later = [await enqueue(queue, **more), await enqueue(queue)]
    await queue.cancel_task(first)
    again = await queue.rerun_task(first)
    assert (again.priority, again.key, again.position) == (Priority.HIGH, "x", 1)
    assert await started(queue) == [first, later[1]]


@pytest.mark.gen_test
async def test_what_earlier_attempts_kept_is_there_when_run_again(
    queue: QueueService, redis: Redis
) -> None:
    task_id = await enqueue(queue, max_attempts=1)
    [owned] = await claim(queue)
    assert not owned.kept
    await queue.keep_result(task_id, owned.token, "probe", b"1")
    await queue.report_progress(task_id, owned.token, b'"progress":5.0', 5.0, state=b'{"x":1}')
    await give_up(queue, owned, Outcome.ERROR)
    await queue.rerun_task(task_id)
    [owned] = await claim(queue)
    assert owned.kept
    kept = await queue.read_kept(task_id)
    assert (kept.results, kept.state) == ({"probe": b"1"}, b'{"x":1}')


@pytest.mark.gen_test
async def test_two_who_run_it_again_at_once_run_it_once(make_queue: MakeQueue) -> None:
    queues = [make_queue() for _ in range(3)]
    task_id = await enqueue(queues[0], max_attempts=1)
    await give_up(queues[0], (await claim(queues[0]))[0])
    asked = [queue.rerun_task(task_id) for queue in queues for _ in range(3)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(isinstance(answer, NotEnded) for answer in answers) == len(asked) - 1
    assert (await queues[0].stats()).queued == 1


@pytest.mark.gen_test
async def test_each_end_is_news_of_its_own(queue: QueueService, redis: Redis) -> None:
    task_id = await enqueue(queue, max_attempts=1)
    for _ in range(3):
        await give_up(queue, (await claim(queue))[0])
        await queue.rerun_task(task_id)
    told = [fields[b"event_id"].decode() for _, fields in await redis.xrange("{rtq}:outbox")]
    assert told == [task_id, f"{task_id}:1", f"{task_id}:2"]


@pytest.mark.gen_test
async def test_owner_runs_no_more_again_than_may_wait(make_queue: MakeQueue) -> None:
    """Delayed tasks count. A refused task stays as it was, and its unique key is not told."""
    queue = make_queue(max_waiting_per_user=2)
    ids = []
    for number in range(3):
        ids.append(await enqueue(queue, unique=Unique(key=f"k{number}")))
        await queue.cancel_task(ids[-1])
    delayed = await enqueue(queue, delay=60.0)
    assert (await queue.rerun_task(ids[0], "a")).status == "queued"
    for task_id in ids[1:]:
        with pytest.raises(QueueFull, match="at most 2 tasks of a user may wait") as refused:
            await queue.rerun_task(task_id, "a")
        assert refused.value.retry_after == 5.0
    assert (await queue.get_user_queue_status("a")).waiting == 2
    assert (await read(queue, ids[1])).status == "cancelled"
    await queue.cancel_task(delayed)
    other = await queue.enqueue_task("a", new(unique=Unique(key="k1")))
    assert other.task_id != ids[1]


@pytest.mark.gen_test
async def test_operator_runs_again_what_a_user_has_no_room_for(make_queue: MakeQueue) -> None:
    queue = make_queue(max_waiting_per_user=1)
    task_id = await enqueue(queue)
    await queue.cancel_task(task_id)
    await enqueue(queue)
    assert (await queue.rerun_task(task_id)).status == "queued"
    assert (await queue.get_user_queue_status("a")).waiting == 2


@pytest.mark.gen_test
async def test_unique_key_is_its_own_again_or_anothers(queue: QueueService) -> None:
    """Two tasks under one key never both wait or run."""
    unique = Unique(key="k", on_conflict=OnConflict.RETURN)
    first = await queue.enqueue_task("a", new(unique=unique))
    await queue.cancel_task(first.task_id)
    second = await queue.enqueue_task("a", new(unique=unique))
    assert second.task_id != first.task_id
    for _ in range(2):
        with pytest.raises(Conflict) as refused:
            await queue.rerun_task(first.task_id)
        assert refused.value.task_id == second.task_id
        await claim(queue)
    assert (await read(queue, first.task_id)).status == "cancelled"
    await queue.cancel_task(second.task_id)
    await queue.rerun_task(first.task_id)
    again = await queue.enqueue_task("a", new(unique=unique))
    assert again.task_id == first.task_id


# Tasks that an operator runs again, and looks at


@pytest.mark.gen_test
async def test_ended_tasks_of_a_kind_that_is_gone_are_run_again_and_purged(
    queue: QueueService,
) -> None:
    """Nobody has registered it; a kind of which there is nothing at all is none."""
    operator = Operator(queue)
    ids = [await enqueue(queue, max_attempts=1) for _ in range(3)]
    for one in await claim(queue):
        await give_up(queue, one)
    assert await operator.rerun_all(None, TaskFilter(kind=KIND, limit=1)) == Rerun(1)
    found = await operator.list_dead(KIND, "a", 10)
    assert [task.task_id for task in found] == ids[1::-1]
    assert await operator.purge(TaskState.DEAD, KIND, "", 0) == Purged(2)
    for verb in (
        operator.rerun_all(None, TaskFilter(kind="typo")),
        operator.list_dead("typo", "", 10),
        operator.purge(TaskState.DEAD, "typo", "", 0),
    ):
        with pytest.raises(KindNotFound, match="there is no kind typo"):
            await verb


@pytest.mark.gen_test
async def test_dead_tasks_are_found_behind_those_of_others(queue: QueueService) -> None:
    """A page is 200."""
    operator = Operator(queue)
    ids = [await enqueue(queue, "b", max_attempts=1) for _ in range(2)]
    await queue.create_batch("a", several(*"A" * 250, max_attempts=1))
    for _ in range(26):
        for one in await claim(queue):
            await give_up(queue, one)
    assert [task.task_id for task in await operator.list_dead("", "b", 10)] == ids[::-1]
    assert len(await operator.list_dead(KIND, "", 230)) == 230
