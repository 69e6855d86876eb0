"""The ends of attempts of workers elsewhere: handed in with the next claim, answered when taken."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import attrs

from services.estimates import Estimates
from services.queue import Ack, LeaseState, Outcome, QueueService
from services.remote.attempts import Attempts, RemoteAttempt
from services.remote.bounds import RemoteBounds
from services.remote.items import AckItem, EndingItem, plain_end, read_item
from services.remote.telling import Answer, Caller, Teller, fault_answer, refused
from services.worker.outcomes import Outcomes
from tornado_rt.problems import Problem
from tornado_rt.work.attempts.endings import end_with_result, one_line
from tornado_rt.work.attempts.lessons import Lesson
from tornado_rt.work.texts import phrase

HandIn = Callable[[RemoteAttempt, Ack, Callable[[str], None]], None]
RELEASED = "released"
# Most requests with one end that are answered, the last ones, while the queue is away.
MOST_WAITING = 8
OUTCOMES = {
    EndingItem.COMPLETED: Outcome.COMPLETED,
    EndingItem.FAILED: Outcome.FAILED,
    EndingItem.ERROR: Outcome.ERROR,
    EndingItem.RETRY: Outcome.RETRY,
}


class Answers:
    """The answers to the ends of one message; `done` when there is one to each."""

    def __init__(self, count: int) -> None:
        self._found: list[Answer | None] = [None] * count
        self._left = count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._look()

    @property
    def all(self) -> list[Answer]:
        """Return them, in the order of the items."""
        return [one for one in self._found if one is not None]

    def put(self, number: int, answer: Answer) -> None:
        """Answer one, unless it is answered."""
        if self._found[number] is None:
            self._found[number] = answer
            self._left -= 1
            self._look()

    def fail(self, error: BaseException) -> None:
        """Let the rest have no answer."""
        if not self.done.done():
            self.done.set_exception(error)
            # The caller may be gone.
            self.done.exception()

    def _look(self) -> None:
        if not self._left and not self.done.done():
            self.done.set_result(None)


@attrs.frozen
class _End:
    """The end of an attempt, as its worker tells it.

    `outcome`: None when it is handed back. `item` is None when it says no more than that. `fault`:
    why the result cannot be kept.
    """

    lease: tuple[str, str]
    outcome: Outcome | None
    result: Any
    error: str
    item: AckItem | None
    fault: Problem | None = None

    @property
    def tells(self) -> bool:
        """Whether it says too how far the task is."""
        return self.item is not None and self.item.tells


class Ender:
    """Ends attempts. `hand_in` takes an end to the next claim; `spawn` runs what takes longer."""

    def __init__(
        self,
        queue: QueueService,
        attempts: Attempts,
        teller: Teller,
        estimates: Estimates,
        outcomes: Outcomes,
        bounds: RemoteBounds,
        *,
        hand_in: HandIn,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._queue = queue
        self._attempts = attempts
        self._teller = teller
        self._estimates = estimates
        self._outcomes = outcomes
        self._bounds = bounds
        self._hand_in = hand_in
        self._spawn = spawn

    def ack(
        self, items: Sequence[Any], caller: Caller, freed: Callable[[tuple[str, str]], None]
    ) -> Answers:
        """End attempts; the answers come when the queue has them.

        `freed` is called with the task and the token of each: its worker has a place again.
        """
        answers = Answers(len(items))
        for number, value in enumerate(items):
            try:
                end = self._read(value, number)
            except Problem as problem:
                answers.put(number, fault_answer(value, problem))
                continue
            freed(end.lease)
            attempt = self._attempts.known(end.lease)
            if attempt is not None and end.outcome and not end.tells and caller.kinds is None:
                self._end(attempt, end, None, number, answers)
            else:
                self._spawn(self._look(end, number, answers, caller))
        return answers

    def _read(self, value: Any, number: int) -> _End:
        """Read an item. Raise Problem."""
        result = None
        if isinstance(value, dict) and "result" in value:
            value = dict(value)
            result = value.pop("result")
        if (plain := plain_end(value)) is not None:
            item, (lease, how) = None, plain
        else:
            item = read_item(value, number, AckItem)
            lease, how = item.lease, item.outcome
        outcome = OUTCOMES.get(how)
        if outcome != Outcome.COMPLETED:
            error = one_line(item.error) if item is not None else ""
            return _End(lease, outcome, None, error or f"the worker said no more than {how}", item)
        if result is None:
            return _End(lease, outcome, None, "", item)
        ending = end_with_result(result, self._bounds.result_bytes, any_json=True)
        if ending.outcome == Outcome.COMPLETED:
            return _End(lease, outcome, ending.result, "", item)
        fault = refused(phrase("{place}: {error}", place=f"items[{number}]", error=ending.error))
        return _End(lease, ending.outcome, None, ending.error, item, fault)

    async def _look(self, end: _End, number: int, answers: Answers, caller: Caller) -> None:
        """End an attempt that this process may not know, or that has more to tell."""
        try:
            answer = await self._tell(end, number, answers, caller)
        except Problem as problem:
            answer = fault_answer({"task_id": end.lease[0], "token": end.lease[1]}, problem)
        except Exception as error:
            answers.fail(error)
            return
        if answer is not None:
            answers.put(number, answer)

    async def _tell(
        self, end: _End, number: int, answers: Answers, caller: Caller
    ) -> Answer | None:
        """Return the answer, None when it comes later. Raise Problem, and what the queue raises."""
        attempt = await self._teller.find(end.lease, caller)
        if isinstance(attempt, LeaseState):
            return await self._repeat(end, attempt)
        if end.outcome is None:
            return await self._release(attempt)
        report = None
        if end.item is not None and end.item.tells and not attempt.is_ending:
            await self._teller.expect(attempt)
            state = self._teller.take(attempt, end.item, f"items[{number}]")
            _, _, plan = attempt.progress.tell()
            if state is not None or (plan is not None and plan.digest != attempt.told_plan):
                # No end carries these.
                if not await self._teller.tell_taken(attempt, state):
                    return await self._stale(end.lease)
            else:
                report = attempt.progress.fragment()
        self._end(attempt, end, report, number, answers)
        return None

    def _end(
        self,
        attempt: RemoteAttempt,
        end: _End,
        report: bytes | None,
        number: int,
        answers: Answers,
    ) -> None:
        assert end.outcome is not None

        def answer(became: str) -> None:
            if became:
                answers.put(number, _answer(end.lease, became, end.fault))
            else:
                self._spawn(self._answer_stale(end.lease, number, answers))

        attempt.waiting = [*attempt.waiting[1 - MOST_WAITING :], answer]
        if attempt.is_ending:
            # It is repeated; the first one is on its way.
            return
        attempt.is_ending = True
        delay = None if end.item is None else end.item.delay
        if delay is None and end.outcome in (Outcome.ERROR, Outcome.RETRY):
            delay = self._bounds.backoff.seconds(attempt.claim.task.attempt)
        reason = None if end.outcome == Outcome.COMPLETED else end.error
        ack = Ack(
            *end.lease,
            end.outcome,
            result=end.result,
            error=end.error,
            fragment=attempt.last_fragment(reason),
            delay=delay or 0.0,
            report=report,
            lesson=self._lesson(attempt) if end.outcome == Outcome.COMPLETED else None,
            ran=attempt.ran,
        )
        # One that was cancelled has been counted.
        ended = self._outcomes.ended
        count = _ignore if attempt.cancelled else ended(attempt.claim, attempt.ran)

        def tell(became: str) -> None:
            count(became)
            self._attempts.forget(attempt.lease)
            for one in attempt.waiting:
                one(became)

        self._hand_in(attempt, ack, tell)

    def _lesson(self, attempt: RemoteAttempt) -> Lesson | None:
        if not self._estimates.wants(attempt.outline):
            return None
        times = attempt.lesson()
        if not times:
            return None
        return self._estimates.lesson(attempt.outline, attempt.lease[0], times)

    async def _repeat(self, end: _End, state: LeaseState) -> Answer:
        """Answer an end of an attempt that is over: one that is repeated has the same answer."""
        if state != LeaseState.ENDED or end.outcome is None:
            return _answer(end.lease, _over(state))
        ack = Ack(*end.lease, end.outcome, error=end.error)
        [became] = (await self._queue.claim("", 0, [ack], kinds=())).became
        return _answer(end.lease, became or LeaseState.LOST)

    async def _release(self, attempt: RemoteAttempt) -> Answer:
        released = await self._queue.release_task(*attempt.lease)
        if not released:
            return await self._stale(attempt.lease)
        self._attempts.forget(attempt.lease)
        return _answer(attempt.lease, RELEASED)

    async def _answer_stale(self, lease: tuple[str, str], number: int, answers: Answers) -> None:
        try:
            answers.put(number, await self._stale(lease))
        except Exception as error:
            answers.fail(error)

    async def _stale(self, lease: tuple[str, str]) -> Answer:
        self._attempts.forget(lease)
        [state] = await self._queue.read_leases([lease])
        return _answer(lease, _over(state))


def _ignore(_: str) -> None:
    """Count nothing."""


def _over(state: LeaseState) -> str:
    return state if state == LeaseState.CANCELLED else LeaseState.LOST


def _answer(lease: tuple[str, str], became: str, fault: Problem | None = None) -> Answer:
    answer: Answer = {"task_id": lease[0], "token": lease[1], "became": became}
    if fault is not None:
        answer["error"] = fault_answer({}, fault)["error"]
    return answer
