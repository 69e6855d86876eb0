"""Requests for tasks of which a part is spoilt, on the real queue."""

from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from services.analysis import AnalysisTask
from services.queue import Ack, Outcome, QueueService, TaskState
from services.worker.claims import Claims
from tests.waiting import until
from tests.working import ANALYSIS, ended, enqueue, outcomes_beside_another, working

MADE = "{rtq}:task:"


@pytest.fixture
def queue(redis: Redis) -> QueueService:
    return QueueService(redis, user_limit=0, global_limit=0)


async def claim(queue: QueueService, claims: Claims, *symbols: str) -> list[Ack]:
    """Put tasks into the line and claim them; return a good end of each."""
    for symbol in symbols:
        await enqueue(queue, symbol)
    taken = (await claims.take(len(symbols))).claims
    return [Ack(one.task.task_id, one.token, Outcome.COMPLETED, result={}) for one in taken]


async def states(queue: QueueService, acks: list[Ack]) -> list[tuple[str, str | None]]:
    tasks = [await queue.get_task(ack.task_id) for ack in acks]
    return [(task.status.value, task.error) for task in tasks if task is not None]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("spoilt", "told"),
    [
        ({"result": {"x": {1}}}, "TypeError: Type is not JSON serializable: set"),
        ({"result": {"x": 2**64}}, "TypeError: Integer exceeds 64-bit range"),
        ({"outcome": Outcome.RETRY, "delay": "soon"}, "ResponseError: "),
        ({"fragment": "\ud800"}, "UnicodeEncodeError: "),
        ({"fragment": object()}, ""),
    ],
)
async def test_end_that_is_refused_spoils_no_other(
    queue: QueueService, spoilt: dict[str, Any], told: str
) -> None:
    """It fails with the reason; what is claimed in the same request is claimed."""
    claims = Claims(queue, "w", [ANALYSIS])
    acks = await claim(queue, claims, "A", "B", "C")
    fields = {"result": {}, "outcome": Outcome.COMPLETED, **spoilt}
    acks[1] = Ack(acks[1].task_id, acks[1].token, **fields)
    await enqueue(queue, "NEXT")
    for ack in acks:
        claims.hand_in(ack)
    with capture_logs() as logged:
        [following] = (await claims.take(1)).claims
    assert following.task.label == "NEXT"
    first, second, third = await states(queue, acks)
    assert first == third == ("completed", None)
    assert second[0] == "failed"
    assert second[1] is not None
    assert second[1].startswith(f"the end of this attempt could not be kept: {told}")
    assert [one["event"] for one in logged] == ["ack_refused"]
    assert (claims.asked, claims.waiting) == (0, False)
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_end_of_a_task_whose_key_was_overwritten_spoils_no_other(
    redis: Redis, queue: QueueService
) -> None:
    claims = Claims(queue, "w", [ANALYSIS])
    acks = await claim(queue, claims, "A", "B")
    await redis.set(MADE + acks[0].task_id, "text")
    await enqueue(queue, "NEXT")
    for ack in acks:
        claims.hand_in(ack)
    [following] = (await claims.take(1)).claims
    assert following.task.label == "NEXT"
    assert await states(queue, acks[1:]) == [("completed", None)]
    assert not claims.waiting


@pytest.mark.gen_test
async def test_overwritten_key_neither_stops_the_lanes_nor_spins(
    redis: Redis, queue: QueueService
) -> None:
    async def work(task: AnalysisTask, progress: Any) -> dict[str, Any]:
        if task.symbol == "BAD":
            await redis.set(MADE + task.task_id, "text")
        return {}

    async with working(redis, queue, work, concurrency=1):
        for _ in range(3):
            await enqueue(queue, "BAD")
        good = await ended(queue, await enqueue(queue, "GOOD", "bob"))
        assert good.status == TaskState.COMPLETED
        before = await scripts_run(redis)
        probes = await published(redis)

        async def two_probes_more() -> bool:
            return await published(redis) >= probes + 2

        await until(two_probes_more)
        assert await scripts_run(redis) - before < 40


async def scripts_run(redis: Redis) -> int:
    stats = await redis.info("commandstats")
    return int(stats["cmdstat_evalsha"]["calls"])


async def published(redis: Redis) -> int:
    stats = await redis.info("commandstats")
    return int(stats.get("cmdstat_publish", {"calls": 0})["calls"])


@pytest.mark.gen_test
async def test_task_that_cannot_be_read_fails_alone_in_its_claim(
    redis: Redis, queue: QueueService
) -> None:
    """Its job is no JSON: a program of another wrote it."""

    async def work(task: AnalysisTask, progress: Any) -> dict[str, Any]:
        return {}

    bad = await enqueue(queue, "BAD")
    made = await redis.hget(MADE + bad, "made")
    assert made is not None
    assert made.count(b'{"label"') == 1
    await redis.hset(MADE + bad, "made", made.replace(b'{"label"', b'{,label"'))
    async with working(redis, queue, work, concurrency=4):
        await outcomes_beside_another(queue, "A", "B")
        failed = await ended(queue, bad)
    assert failed.status == TaskState.FAILED
    assert failed.error is not None
    assert failed.error.startswith("the task cannot be read: ")
    assert {one.task_id for one in (await queue.list_tasks("alice")).items} >= {bad}
