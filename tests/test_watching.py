"""The scripts tell the changes of a user's tasks to those who watch them."""

import contextlib
import random
from collections.abc import Callable, Coroutine
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis

from services.queue import Claim, Idempotency, Outcome, QueueError, QueueService, TaskState
from services.queue.watching import WATCH_SECONDS
from tests.queueing import (
    claim,
    end_delays,
    enqueue,
    expire_leases,
    give_up,
    register,
    several,
)
from tornado_rt.protocol import Cursor, ResyncReason

WATCH = "{rtq}:watch:a"


class Watcher:
    """Keeps what a client keeps: a list that the changes keep up to date."""

    def __init__(self, queue: QueueService, user: str = "a") -> None:
        self.queue = queue
        self.user = user
        self.items: dict[str, dict[str, Any]] = {}
        self.cursor: Cursor | None = None

    async def look(self) -> list[dict[str, Any]]:
        """Take what has changed; return the messages."""
        changes = await self.queue.read_changes(self.user, self.cursor)
        assert changes.resync is None
        self.cursor = changes.cursor
        told = [message.fields() for message in changes.messages]
        for message in told:
            self.items |= {item["task_id"]: item for item in message["items"]}
            for task_id in message["deleted"]:
                self.items.pop(task_id, None)
        return told

    async def states(self) -> list[str]:
        """Return the states of the tasks in the next messages."""
        return [item["status"] for message in await self.look() for item in message["items"]]


async def watching(queue: QueueService) -> Watcher:
    watcher = Watcher(queue)
    assert await watcher.look() == []
    return watcher


@pytest.mark.gen_test
async def test_each_state_of_a_task_is_told_once(queue: QueueService) -> None:
    await register(queue)
    watcher = await watching(queue)
    task = await enqueue(queue)
    [made] = (await watcher.look())[0]["items"]
    assert made["task_id"] == task
    assert (made["status"], made["position"], made["kind"], made["label"]) == (
        "queued",
        1,
        "fast",
        "A",
    )
    [first] = await claim(queue)
    assert await watcher.states() == ["processing"]
    assert await give_up(queue, first, error="busy", delay=60.0)
    [delayed] = (await watcher.look())[0]["items"]
    assert (delayed["status"], delayed["error"], delayed["attempt"]) == ("delayed", "busy", 1)
    assert "run_at" in delayed
    assert await watcher.look() == []
    await queue.cancel_task(task)
    [ended] = (await watcher.look())[0]["items"]
    assert ended["status"] == "cancelled"
    assert ended["ended_at"] >= made["created_at"]
    await queue.rerun_task(task)
    assert await watcher.states() == ["queued"]
    await queue.cancel_task(task)
    assert await watcher.states() == ["cancelled"]
    assert await queue.purge_tasks([task], TaskState.CANCELLED) == 1
    assert await watcher.look() == [{"items": [], "deleted": [task]}]


@pytest.mark.gen_test
async def test_only_whole_percents_are_told(queue: QueueService) -> None:
    await register(queue)
    watcher = await watching(queue)
    await enqueue(queue)
    [one] = await claim(queue)
    await watcher.look()
    told = []
    for percent in (0.5, 0.9, 1.0, 1.5, 7.25, 7.5):
        fragment = b'"progress":%.2f' % percent
        assert await queue.report_progress(one.task.task_id, one.token, fragment, percent)
        told += [item["progress"] for told in await watcher.look() for item in told["items"]]
    assert told == [1.0, 7.25]


@pytest.mark.gen_test
async def test_batch_is_told_in_parts(queue: QueueService) -> None:
    watcher = await watching(queue)
    batch = await queue.create_batch("a", several(*"x" * 120))
    told = await watcher.look()
    assert [len(one["items"]) for one in told] == [50, 50, 20]
    assert set(watcher.items) == set(batch.task_ids)
    assert {item["batch_id"] for item in watcher.items.values()} == {batch.batch_id}
    await queue.cancel_batch(batch.batch_id)
    await watcher.look()
    assert {item["status"] for item in watcher.items.values()} == {"cancelled"}


@pytest.mark.gen_test
async def test_ended_tasks_that_are_too_many_are_told_as_deleted(
    make_queue: Callable[..., QueueService],
) -> None:
    queue = make_queue(kept_per_user=2)
    watcher = await watching(queue)
    tasks = [await enqueue(queue) for _ in range(4)]
    for task in tasks:
        await queue.cancel_task(task)
    await watcher.look()
    assert set(watcher.items) == set(tasks[2:])


@pytest.mark.gen_test
async def test_nothing_is_kept_of_those_who_do_not_watch(queue: QueueService, redis: Redis) -> None:
    await enqueue(queue, "b")
    assert await redis.keys("{rtq}:watch*") == []
    await watching(queue)
    await enqueue(queue, "b")
    assert await redis.keys("{rtq}:changes:*") == []
    await enqueue(queue, "a")
    for key in (WATCH, "{rtq}:changes:a", "{rtq}:watching"):
        assert 0 < await redis.pttl(key) <= WATCH_SECONDS * 1000, key


@pytest.mark.gen_test
async def test_gap_that_is_not_kept_is_a_resync(
    make_queue: Callable[..., QueueService], redis: Redis
) -> None:
    queue = make_queue(max_events=3)
    before = (await queue.read_changes("a", None)).cursor
    for _ in range(4):
        await enqueue(queue)
    changes = await queue.read_changes("a", before)
    assert (changes.resync, changes.messages) == (ResyncReason.TRIMMED, ())
    one_later = attrs.evolve(before, offset=before.offset + 1)
    assert len((await queue.read_changes("a", one_later)).messages) == 3
    nothing = attrs.evolve(before, offset=0)
    assert (await queue.read_changes("a", nothing)).resync == ResyncReason.TRIMMED
    ahead = attrs.evolve(before, offset=99)
    assert (await queue.read_changes("a", ahead)).resync == ResyncReason.EPOCH
    # Nobody read for long.
    await redis.delete(WATCH)
    assert await queue.read_change_heads(["a", "b"]) == {}
    again = await queue.read_changes("a", changes.cursor)
    assert again.resync == ResyncReason.EPOCH
    assert await queue.read_change_heads(["a", "b"]) == {"a": again.cursor}


@pytest.mark.gen_test
async def test_place_before_the_first_change_is_a_resync(queue: QueueService) -> None:
    """A client that has a resync, and not yet the list behind it, stands there."""
    cursor = (await queue.read_changes("a", None)).cursor
    begin = attrs.evolve(cursor, offset=0)
    assert (await queue.read_changes("a", begin)).resync == ResyncReason.TRIMMED
    await enqueue(queue)
    assert (await queue.read_changes("a", begin)).resync == ResyncReason.TRIMMED
    assert len((await queue.read_changes("a", cursor)).messages) == 1


@pytest.mark.gen_test
async def test_reading_keeps_a_watch(queue: QueueService, redis: Redis) -> None:
    await watching(queue)
    await enqueue(queue)
    for key in (WATCH, "{rtq}:changes:a", "{rtq}:watching"):
        await redis.pexpire(key, 60_000)
    await queue.read_change_heads(["a"])
    for key in (WATCH, "{rtq}:changes:a", "{rtq}:watching"):
        assert await redis.pttl(key) > 60_000, key


class Walk:
    """Random steps of a queue."""

    def __init__(self, queue: QueueService, redis: Redis, seed: int) -> None:
        self.queue = queue
        self.redis = redis
        self.random = random.Random(seed)
        self.claims: list[Claim] = []
        self.tasks: list[str] = []
        self.batches: list[str] = []

    async def step(self) -> None:
        """Do one of the steps; what the queue refuses changes nothing."""
        steps: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            self.submit,
            self.submit,
            self.submit_batch,
            self.claim,
            self.claim,
            self.end,
            self.end,
            self.give_up,
            self.report,
            self.cancel,
            self.rerun,
            self.discard,
            self.release,
            self.keep_up,
        ]
        with contextlib.suppress(QueueError):
            await self.random.choice(steps)()

    def one(self) -> str:
        return self.random.choice(self.tasks or ["none"])

    def a_claim(self) -> Claim | None:
        if not self.claims:
            return None
        return self.claims.pop(self.random.randrange(len(self.claims)))

    async def submit(self) -> None:
        delay = self.random.choice([0.0, 0.0, 60.0])
        key = self.random.choice(["", "", "k"])
        once = Idempotency(str(self.random.randrange(20)), b"same")
        self.tasks.append(await enqueue(self.queue, delay=delay, key=key, once=once))

    async def submit_batch(self) -> None:
        labels = "x" * self.random.randint(1, 5)
        self.tasks += (await self.queue.create_batch("a", several(*labels))).task_ids

    async def claim(self) -> None:
        self.claims += await claim(self.queue, self.random.randint(1, 4))

    async def end(self) -> None:
        if one := self.a_claim():
            success = self.random.random() < 0.7
            await self.queue.ack_task(one.task.task_id, success, token=one.token)

    async def give_up(self) -> None:
        if one := self.a_claim():
            outcome = self.random.choice([Outcome.RETRY, Outcome.ERROR])
            await give_up(self.queue, one, outcome, delay=self.random.choice([0.0, 60.0]))

    async def report(self) -> None:
        for one in self.claims:
            percent = self.random.uniform(0, 100)
            fragment = b'"progress":%.2f' % percent
            await self.queue.report_progress(one.task.task_id, one.token, fragment, percent)

    async def cancel(self) -> None:
        await self.queue.cancel_task(self.one())

    async def rerun(self) -> None:
        await self.queue.rerun_task(self.one())

    async def discard(self) -> None:
        await self.queue.discard_task(self.one())

    async def release(self) -> None:
        if one := self.a_claim():
            await self.queue.release_task(one.task.task_id, one.token)

    async def keep_up(self) -> None:
        if self.random.random() < 0.5:
            await expire_leases(self.redis)
        await end_delays(self.redis)
        await self.queue.keep_up()


@pytest.mark.gen_test
@pytest.mark.parametrize("seed", range(4))
async def test_list_that_follows_the_changes_is_the_list(
    make_queue: Callable[..., QueueService], redis: Redis, seed: int
) -> None:
    queue = make_queue(kept_per_user=20, user_limit=4, global_limit=6, max_events=1000)
    await register(queue)
    watcher, walk = await watching(queue), Walk(queue, redis, seed)
    for number in range(250):
        await walk.step()
        if number % 10:
            continue
        await watcher.look()
        there = {one.task_id: one for one in (await queue.list_tasks("a", limit=1000)).items}
        assert set(watcher.items) == set(there)
        for task_id, item in watcher.items.items():
            task = there[task_id]
            assert item["status"] == task.status
            assert item["attempt"] == task.attempt
            assert item.get("batch_id") == task.batch_id
            assert int(item["progress"]) == int(task.progress), (item, task)
            if task.error:
                assert item["error"] == task.error
            for name in ("started_at", "ended_at", "run_at"):
                assert (name in item) == (getattr(task, name) is not None), (name, item, task)
    assert len(walk.tasks) > 50
