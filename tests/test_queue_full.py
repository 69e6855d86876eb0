"""A queue on a Redis that takes no more memory: what ends, frees or reads goes on."""

from collections.abc import Iterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from tornado.ioloop import IOLoop

from services.queue import Ack, Outcome, QueueService, TaskState
from tests.queueing import KIND, claim, enqueue, read, several
from tornado_rt.redis import is_full


@pytest.fixture
def queue(redis: Redis, io_loop: IOLoop) -> Iterator[QueueService]:
    """A queue whose Redis may be filled by `fill`."""
    yield QueueService(redis, user_limit=1, global_limit=0)
    io_loop.run_sync(lambda: redis.config_set("maxmemory", 0))


async def fill(redis: Redis) -> None:
    """Let Redis refuse each command that takes memory."""
    await redis.config_set("maxmemory", 1)
    with pytest.raises(ResponseError) as refused:
        await redis.set("more", "x")
    assert is_full(refused.value)


@pytest.mark.gen_test
async def test_counts_are_told(redis: Redis, queue: QueueService) -> None:
    for _ in range(3):
        await enqueue(queue, "alice")
    await claim(queue, 1)
    await fill(redis)
    stats = await queue.stats()
    assert (stats.queued, stats.processing, stats.completed) == (2, 1, 0)
    status = await queue.get_user_queue_status("alice")
    assert (status.waiting, status.processing, status.limit) == (2, 1, 1)


@pytest.mark.gen_test
async def test_batch_is_cancelled(redis: Redis, queue: QueueService) -> None:
    batch = await queue.create_batch("alice", several("A", "B", "C"))
    await claim(queue, 1)
    await fill(redis)
    assert (await queue.cancel_batch(batch.batch_id, "alice")).status == "cancelled"
    assert (await queue.stats()).cancelled == 3
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_claim_is_extended_and_handed_back(redis: Redis, queue: QueueService) -> None:
    task_id = await enqueue(queue)
    [owned] = await claim(queue, 1)
    before = await redis.zscore("{rtq}:processing", task_id)
    await fill(redis)
    queue.visibility_seconds *= 2
    assert await queue.extend_task(task_id, owned.token)
    assert await redis.zscore("{rtq}:processing", task_id) > before
    assert await queue.release_task(task_id, owned.token)
    task = await read(queue, task_id)
    assert (task.status, task.attempt) == (TaskState.QUEUED, 0)
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_attempts_end_and_tasks_go_on(redis: Redis, queue: QueueService) -> None:
    """Completed, failed, retried, given up as lost, and deleted when dead."""
    await queue.set_limits("", {"user_limit": 0})
    ids = [await enqueue(queue, max_attempts=1) for _ in range(4)]
    done, failed, retried, lost = await claim(queue, 4)
    waiting = await enqueue(queue)
    await fill(redis)
    acks = [
        Ack(done.task.task_id, done.token, Outcome.COMPLETED, result={"x": 1}),
        Ack(failed.task.task_id, failed.token, Outcome.FAILED, error="no"),
        Ack(retried.task.task_id, retried.token, Outcome.RETRY, error="busy"),
    ]
    [owned] = (await queue.claim("w1", 1, acks, kinds=[KIND])).claims
    assert owned.task.task_id == waiting
    assert await queue.expire_claims(["w1"]) == 2
    assert await queue.cleanup_expired_tasks() == 2
    assert lost.task.task_id in ids
    states = [(await read(queue, one)).status for one in ids]
    assert states == ["completed", "failed", "dead", "dead"]
    await queue.discard_task(ids[2])
    assert await queue.check_invariants() == []
