"""Counts of attempts: the outcome of each task, once."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis

from services.queue import Ack, Claimed, Job, NewTask, Outcome, QueueService, TaskState
from services.worker.claims import Claims
from services.worker.outcomes import Outcomes
from services.worker.upkeep import WorkerUpkeep
from tests.queueing import KIND, claim, enqueue, expire_leases, give_up, read
from tests.waiting import until
from tests.working import ended, working
from tornado_rt.metrics import Metrics
from tornado_rt.redis import is_outage
from tornado_rt.work import Kind, Retry, Run, TaskError
from tornado_rt.work.attempts.outages import Outages


@attrs.frozen
class Deed:
    """The deed of a task."""

    how: str


deeds = Kind("deed", Deed, backoff=(0.01, 0.01))


@deeds.handler
async def do_deed(params: Deed, run: Run) -> None:
    if params.how == "retry":
        raise Retry("busy", delay=0.01)
    if params.how == "raise":
        raise ValueError("wrong")
    if params.how == "give up":
        raise TaskError("cannot be done")
    if params.how == "wait":
        await asyncio.Event().wait()


@pytest.fixture
def queue(redis: Redis) -> QueueService:
    return QueueService(redis, user_limit=0, global_limit=0)


def deed(how: str, max_attempts: int = 1, **job: Any) -> NewTask:
    made = Job(label=how, params={"how": how}, **job)
    return NewTask(kind="deed", job=made, first=b'"progress":0.0', max_attempts=max_attempts)


async def submit(queue: QueueService, new: NewTask) -> str:
    return (await queue.enqueue_task("alice", new)).task_id


def counted(metrics: Metrics, name: str) -> dict[str, float]:
    """Return the values of a metric by their labels."""
    found = {}
    for line in metrics.render().decode().splitlines():
        if line.startswith(name + "{"):
            labels, _, value = line.removeprefix(name).rpartition(" ")
            found[labels] = float(value)
    return found


def of_deeds(**outcomes: float) -> dict[str, float]:
    return {f'{{kind="deed",outcome="{name}"}}': n for name, n in outcomes.items()}


@pytest.mark.gen_test
async def test_attempts_are_counted_by_what_became_of_their_tasks(
    redis: Redis, queue: QueueService
) -> None:
    """An attempt that asked for another one, which there is not any more, is no retry."""
    metrics = Metrics()
    async with working(redis, queue, deeds, metrics=metrics):
        cancelled = await submit(queue, deed("wait"))

        async def runs() -> bool:
            return (await read(queue, cancelled)).status == TaskState.PROCESSING

        await until(runs)
        await queue.cancel_task(cancelled)
        for new in (
            deed("retry", 1),
            deed("retry", 2),
            deed("raise", 1),
            deed("raise", 2),
            deed("wait", 1, timeout=0.05),
            deed("give up", 3),
            deed("nothing", 1),
        ):
            await ended(queue, await submit(queue, new))
        wanted = of_deeds(cancelled=1, dead=2, failed=4, retry=1, error=1, completed=1)
        await until(lambda: counted(metrics, "rt_tasks_total"), equal=wanted)
    assert counted(metrics, "rt_task_retries_total") == {'{kind="deed"}': 2}
    assert counted(metrics, "rt_task_run_seconds_count") == {'{kind="deed"}': 10}
    assert counted(metrics, "rt_task_wait_seconds_count") == {'{kind="deed"}': 10}


@pytest.mark.gen_test
async def test_task_with_bad_params_counts_as_failed(redis: Redis, queue: QueueService) -> None:
    metrics = Metrics()
    bad = attrs.evolve(deed("nothing", 3), job=Job(label="bad", params={"no": "such"}))
    async with working(redis, queue, deeds, metrics=metrics):
        task = await ended(queue, await submit(queue, bad))
        assert task.error is not None
        assert task.error.startswith("bad params: ")
        await until(lambda: counted(metrics, "rt_tasks_total"), equal=of_deeds(failed=1))
    assert counted(metrics, "rt_task_retries_total") == {}


@pytest.mark.gen_test
async def test_attempts_of_a_lost_worker_are_counted_by_who_hands_them_back(
    redis: Redis, queue: QueueService
) -> None:
    """By kind: one that another follows, and one that was the last."""
    metrics = Metrics()
    await enqueue(queue, max_attempts=2)
    await enqueue(queue, max_attempts=1, kind="other")
    assert len(await claim(queue, 2, KIND, "other")) == 2
    await expire_leases(redis)
    announce = partial(queue.announce_worker, "w", [])
    upkeep = WorkerUpkeep(queue, announce, roster=None, outages=Outages(is_outage), metrics=metrics)
    running = asyncio.create_task(upkeep.run())
    lost, dead = f'{{kind="{KIND}",outcome="lost"}}', '{kind="other",outcome="dead"}'
    await until(lambda: counted(metrics, "rt_tasks_total"), equal={lost: 1, dead: 1})
    upkeep.finish()
    await running
    assert counted(metrics, "rt_task_retries_total") == {f'{{kind="{KIND}"}}': 1}


@pytest.mark.gen_test
async def test_repeated_end_says_the_same(queue: QueueService) -> None:
    """Also when another has the task meanwhile; one that was not ours says nothing."""
    ways = {"again": (Outcome.ERROR, 3), "failed": (Outcome.ERROR, 1), "dead": (Outcome.RETRY, 1)}
    for label, (_, most) in ways.items():
        await enqueue(queue, label=label, max_attempts=most)
    claims = {one.task.label: one for one in await claim(queue)}
    acks = [
        Ack(claims[label].task.task_id, claims[label].token, outcome, error="why")
        for label, (outcome, _) in ways.items()
    ]
    acks.append(Ack(acks[0].task_id, "stale", Outcome.COMPLETED))
    for _ in range(2):
        told = await queue.claim("w1", 1, acks, kinds=[KIND])
        assert told.became == ["error", "failed", "dead", ""]
        assert told.owned == [True, True, True, False]


class ForgetfulQueue(QueueService):
    """Of the requests that hand in an end, the answer to the one of the number `lost` is lost.

    `spoilt`: one that hands in more ends than one is refused.
    """

    lost = 0
    spoilt = False
    _asked = -1

    async def claim(
        self, worker_id: str, count: int, acks: Sequence[Ack] = (), *rest: Any, **more: Any
    ) -> Claimed:
        if self.spoilt and len(acks) > 1:
            raise ValueError("spoilt")
        claimed = await super().claim(worker_id, count, acks, *rest, **more)
        self._asked += bool(acks)
        if acks and self._asked == self.lost:
            raise ConnectionError("the answer was lost")
        return claimed


@pytest.mark.gen_test
@pytest.mark.parametrize("spoilt", [False, True])
async def test_request_repeated_after_a_lost_answer_counts_once(redis: Redis, spoilt: bool) -> None:
    """Also one whose ends are handed in one by one, of which the first was answered."""
    queue, told = ForgetfulQueue(redis, user_limit=0, global_limit=0), []
    queue.lost, queue.spoilt = int(spoilt), spoilt
    for _ in range(2):
        await enqueue(queue)
    claims = Claims(queue, "w1", [KIND])
    for one in (await claims.take(2)).claims:
        claims.hand_in(Ack(one.task.task_id, one.token, Outcome.COMPLETED), told.append)
    with pytest.raises(ConnectionError):
        await claims.take(0)
    assert len(told) == int(spoilt)
    await claims.take(0)
    assert told == ["completed", "completed"]


@pytest.mark.gen_test
async def test_cancellation_that_comes_around_the_end_of_an_attempt_counts_once(
    queue: QueueService,
) -> None:
    """Whether the message of it comes before the answer to the end, or behind it."""
    for message_first in (True, False):
        metrics = Metrics()
        outcomes = Outcomes(metrics)
        task_id = await enqueue(queue, kind="deed")
        [one] = await claim(queue, 1, "deed")
        taken = outcomes.ended(one, 0.5)
        await queue.cancel_task(task_id)
        if message_first:
            outcomes.cancelled(task_id)
        ack = Ack(task_id, one.token, Outcome.COMPLETED)
        taken((await queue.claim("w1", 0, [ack], kinds=())).became[0])
        if not message_first:
            outcomes.cancelled(task_id)
        outcomes.cancelled(task_id)
        assert counted(metrics, "rt_tasks_total") == of_deeds(cancelled=1)


@pytest.mark.gen_test
async def test_end_of_an_attempt_that_another_one_followed_is_not_counted_as_cancelled(
    queue: QueueService,
) -> None:
    """Its task runs again, here, and is cancelled then."""
    metrics = Metrics()
    outcomes = Outcomes(metrics)
    task_id = await enqueue(queue, kind="deed")
    [first] = await claim(queue, 1, "deed")
    outcomes.ended(first, 0.5)
    assert await give_up(queue, first)
    outcomes.began(task_id)
    outcomes.cancelled(task_id)
    assert counted(metrics, "rt_tasks_total") == {}
