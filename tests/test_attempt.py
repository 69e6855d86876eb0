"""One attempt by itself: whatever its handler does, it is over once, with one ending."""

import asyncio
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from services.queue import Ack, Outcome, QueueService, TaskState
from services.worker import Backoff, BadParams, Rules, TaskError
from tests.waiting import until
from tests.working import ANALYSIS, analysis
from tornado_rt.redis import is_outage
from tornado_rt.work import LeaseLost, Retry, Run
from tornado_rt.work.attempts.attempt import Attempt
from tornado_rt.work.attempts.endings import HANDED_BACK, LOST, Ending
from tornado_rt.work.attempts.link import Link, Reporter
from tornado_rt.work.attempts.outages import Outages


@pytest.fixture
def queue(redis: Redis) -> QueueService:
    return QueueService(redis, user_limit=0, global_limit=0)


@attrs.define(eq=False, slots=False)
class Prepared:
    """Runs a function; notes what it is told."""

    function: Callable[[Link], Any]
    rules: Rules
    link: Link
    stopped: bool = False

    async def run(self) -> Any:
        return await self.function(self.link)

    def stop(self) -> None:
        self.stopped = True

    def last_fragment(self, outcome: Outcome, error: str) -> bytes | None:
        return f'"message":"{outcome}"'.encode()

    def lesson(self) -> None:
        pass


@attrs.define
class Target:
    """Prepares a function, or raises."""

    function: Callable[[Link], Any]
    rules: Rules = attrs.field(factory=Rules)
    fault: Exception | None = None
    prepared: list[Prepared] = attrs.field(factory=list)

    def prepare(self, link: Link) -> Prepared:
        if self.fault is not None:
            raise self.fault
        self.prepared.append(Prepared(self.function, self.rules, link))
        return self.prepared[-1]


class Trial:
    """An attempt at a task that was claimed, and how it ended."""

    def __init__(self, link: Link, target: Target) -> None:
        self.link = link
        self.target = target
        self.endings: list[Ending] = []
        self.attempt = Attempt(target, link, lambda _, ending: self.endings.append(ending))

    async def ending(self) -> Ending:
        await until(lambda: self.endings)
        await asyncio.wait([self.attempt.job])
        assert len(self.endings) == 1
        return self.endings[0]

    async def ack(self) -> Ack:
        ack = self.attempt.ack(await self.ending())
        assert ack is not None
        return ack


async def begin(
    queue: QueueService, function: Callable[[Link], Any], *, job: Any = None, **rules: Any
) -> Trial:
    """Claim a task and run a function as its handler."""
    new = analysis()
    if job is not None:
        new = attrs.evolve(new, job=attrs.evolve(new.job, **job))
    await queue.enqueue_task("alice", new)
    [claim] = (await queue.claim("w", 1, kinds=[ANALYSIS])).claims
    link = Link(queue, claim, Reporter(), Outages(is_outage))
    return Trial(link, Target(function, Rules(**rules)))


async def hang(link: Link) -> None:
    await asyncio.Event().wait()


@pytest.mark.gen_test
async def test_result_becomes_the_ack(queue: QueueService) -> None:
    async def work(link: Link) -> Any:
        return {"x": 1}

    trial = await begin(queue, work)
    ack = await trial.ack()
    assert (ack.outcome, ack.result, ack.fragment) == (
        Outcome.COMPLETED,
        {"x": 1},
        b'"message":"completed"',
    )
    assert await queue.end_attempt(ack)
    task = await queue.get_task(ack.task_id)
    assert task is not None
    assert task.status == TaskState.COMPLETED


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("retry_errors", "outcome"), [(True, Outcome.ERROR), (False, Outcome.FAILED)]
)
async def test_error_is_tried_again_where_the_rules_say_so(
    queue: QueueService, retry_errors: bool, outcome: Outcome
) -> None:
    async def work(link: Link) -> Any:
        raise KeyError("x")

    rules = {"retry_errors": retry_errors, "backoff": Backoff(base=4.0, most=4.0)}
    ack = await (await begin(queue, work, **rules)).ack()
    assert (ack.outcome, ack.error) == (outcome, "KeyError: 'x'")
    assert 2 <= ack.delay <= 4 if retry_errors else ack.delay == 0


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("error", "outcome", "least", "most"),
    [
        (TaskError("no"), Outcome.FAILED, 0, 0),
        (Retry("no", delay=9), Outcome.RETRY, 9, 9),
        (Retry("no"), Outcome.RETRY, 2, 4),
    ],
)
async def test_handler_says_how_it_goes_on(
    queue: QueueService, error: Exception, outcome: Outcome, least: float, most: float
) -> None:
    async def work(link: Link) -> Any:
        raise error

    ack = await (await begin(queue, work, backoff=Backoff(base=4.0, most=4.0))).ack()
    assert (ack.outcome, ack.error) == (outcome, "no")
    assert least <= ack.delay <= most


@pytest.mark.gen_test
async def test_task_that_cannot_be_prepared_makes_no_attempt(queue: QueueService) -> None:
    trial = await begin(queue, hang)
    trial.attempt.drop()
    with pytest.raises(BadParams, match="bad"):
        Attempt(Target(hang, fault=BadParams("bad")), trial.link, lambda *_: None)


@pytest.mark.gen_test
async def test_timeout_ends_it_as_an_error(queue: QueueService) -> None:
    trial = await begin(queue, hang, timeout_seconds=0.02, retry_errors=True)
    ack = await trial.ack()
    assert (ack.outcome, ack.error) == (Outcome.ERROR, "took longer than 0.02 s")


@pytest.mark.gen_test
async def test_budget_ends_it_for_good(queue: QueueService) -> None:
    """The first of both to be over counts, the budget or the timeout."""
    rules = {"timeout_seconds": 60.0, "retry_errors": True}
    trial = await begin(queue, hang, job={"budget_seconds": 0.02}, **rules)
    ack = await trial.ack()
    assert ack.outcome == Outcome.FAILED
    assert ack.error == "took longer than 0.02 s in all attempts"


@pytest.mark.gen_test
async def test_dropped_attempt_tells_nothing(queue: QueueService) -> None:
    """However its handler takes that."""
    cleaned = asyncio.Event()

    async def work(link: Link) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.set()
        return {}

    trial = await begin(queue, work)
    await asyncio.sleep(0)
    trial.attempt.drop()
    assert await trial.ending() is LOST
    assert trial.attempt.ack(LOST) is None
    assert cleaned.is_set()


@pytest.mark.gen_test
async def test_handler_of_a_dropped_attempt_can_tell_and_keep_nothing(
    queue: QueueService,
) -> None:
    """While it cleans up."""
    faults: list[Exception] = []

    async def work(link: Link) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            for tell in (link.keep("x", b"1"), link.notify("x", None, "info")):
                try:
                    await tell
                except LeaseLost as error:
                    faults.append(error)
            run = Run(link)
            with pytest.raises(LeaseLost):
                run.update("too late")

    trial = await begin(queue, work)
    await asyncio.sleep(0)
    trial.attempt.drop()
    await trial.ending()
    assert len(faults) == 2


@pytest.mark.gen_test
async def test_handed_back_attempt_ends_so_even_when_its_handler_returns(
    queue: QueueService,
) -> None:
    """It was too late: the task is given to another."""

    async def work(link: Link) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return {"late": True}

    trial = await begin(queue, work)
    await asyncio.sleep(0)
    trial.attempt.tell_stop()
    assert trial.target.prepared[0].stopped
    trial.attempt.hand_back()
    assert await trial.ending() is HANDED_BACK


@pytest.mark.gen_test
async def test_handler_that_does_not_end_is_abandoned(queue: QueueService) -> None:
    """The attempt is over all the same, and its link closed."""
    go_on = asyncio.Event()

    async def work(link: Link) -> Any:
        while not go_on.is_set():
            try:
                await go_on.wait()
            except asyncio.CancelledError:
                continue
        return {}

    trial = await begin(queue, work, timeout_seconds=0.01)
    with capture_logs() as logged:
        await until(lambda: trial.endings)
    assert trial.endings[0].error == "took longer than 0.01 s"
    assert [one["event"] for one in logged] == ["handler_abandoned"]
    assert trial.link.closed
    go_on.set()
    await trial.ending()


@pytest.mark.gen_test
async def test_attempt_that_is_cancelled_before_its_first_step_is_over(
    queue: QueueService,
) -> None:
    """Another handler may cancel all that it finds."""
    trial = await begin(queue, hang)
    trial.attempt.job.cancel()
    ending = await trial.ending()
    assert (ending.outcome, ending.error) == (Outcome.ERROR, "the handler was cancelled")


@pytest.mark.gen_test
async def test_stop_that_cannot_be_told_is_logged(queue: QueueService) -> None:
    trial = await begin(queue, hang)
    trial.target.prepared[0].stop = None  # type: ignore[assignment, method-assign]
    with capture_logs() as logged:
        trial.attempt.tell_stop()
    assert [one["event"] for one in logged] == ["stop_untold"]
    trial.attempt.drop()
    await trial.ending()
