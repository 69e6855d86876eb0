"""Reports of workers elsewhere about their running tasks: each item by itself.

A stale token changes nothing, and the answer says so. The queue's scripts decide that, whatever
this process knows.
"""

import asyncio
import secrets
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import attrs
import orjson

from services.children import Children
from services.estimates import Estimates
from services.queue import Asked, LeaseState, QueueService
from services.remote.attempts import Attempts, RemoteAttempt
from services.remote.bounds import RemoteBounds
from services.remote.items import (
    ID_LENGTH,
    AskItem,
    Named,
    NotifyItem,
    ReportedItem,
    ReportItem,
    SubmitItem,
    read_item,
)
from services.topics.names import matches
from tornado_rt.bounds import OutOfBounds, check_json, check_name
from tornado_rt.metrics import Metrics
from tornado_rt.problems import Problem
from tornado_rt.protocol import ErrorCode
from tornado_rt.work import NotSubmitted, Plan, Submission
from tornado_rt.work.notes import as_note, as_question
from tornado_rt.work.once import MAX_ONCE_LENGTH
from tornado_rt.work.submitting import ID_BYTES, refusal_of
from tornado_rt.work.texts import joined, phrase
from tornado_rt.work.values import cut

Answer = dict[str, Any]


@attrs.frozen
class Caller:
    """The speaker of a worker; `kinds`: patterns of those that they may work on, None: all.

    `address` is where they are, "" when it is not known.
    """

    user_id: str
    kinds: tuple[str, ...] | None = None
    address: str = ""

    def may(self, kind: str) -> bool:
        """Say whether they may work on a kind."""
        return self.kinds is None or matches(kind, self.kinds)


class Teller:
    """Tells the queue what workers say of their running tasks."""

    def __init__(
        self,
        queue: QueueService,
        attempts: Attempts,
        estimates: Estimates,
        bounds: RemoteBounds,
        metrics: Metrics,
        children: Children,
    ) -> None:
        self._queue = queue
        self._children = children
        self._estimates = estimates
        self._attempts = attempts
        self._bounds = bounds
        self._metrics = metrics

    async def report(self, items: Sequence[Any], caller: Caller) -> list[Answer]:
        """Do what each item says; return an answer to each. Raise what the queue raises."""
        said = [self._report(item, number, caller) for number, item in enumerate(items)]
        return await _all(said)

    async def extend(
        self, items: Sequence[Any], caller: Caller, seconds: float | None = None
    ) -> list[Answer]:
        """Keep attempts for another lease, of these seconds if given; answer as `report`."""
        said = [self._extend(item, number, caller, seconds) for number, item in enumerate(items)]
        return await _all(said)

    async def _report(self, value: Any, number: int, caller: Caller) -> Answer:
        try:
            item = read_item(value, number, ReportItem)
            attempt = await self.find(item.lease, caller)
            if isinstance(attempt, LeaseState):
                return state_answer(item, attempt)
            if attempt.is_ending:
                return state_answer(item, LeaseState.ENDED)
            answer = await self._do(item, number, attempt)
        except Problem as problem:
            return fault_answer(value, problem)
        if answer is None:
            self._attempts.forget(item.lease)
            return state_answer(item, await self._why_not(item))
        return answer

    async def _do(self, item: ReportItem, number: int, attempt: RemoteAttempt) -> Answer | None:
        """Do what an item says; None when the token is stale. Raise Problem."""
        place = f"items[{number}]"
        for name, kept in item.keep.items():
            if not await self._keep(attempt, name, kept, f"{place}.keep"):
                return None
        if item.tells and not await self.tell(attempt, item, place):
            return None
        answer = state_answer(item, LeaseState.YOURS)
        if item.notify is not None and not await self._notify(item, item.notify, place):
            return None
        if item.submit is not None:
            submitted = await self._submit(attempt, item.submit, f"{place}.submit")
            if submitted is None:
                return None
            answer["submitted"] = submitted
        if item.ask is not None:
            asked = await self._ask(item, item.ask, place)
            if asked is None:
                return None
            answer["asked"] = _asked(item.ask.name, asked)
        if item.withdraw is not None:
            withdrawn = await self._queue.withdraw(*item.lease, item.withdraw)
            if withdrawn is None:
                return None
            answer["asked"] = _asked(item.withdraw, withdrawn)
        return answer

    async def expect(self, attempt: RemoteAttempt) -> None:
        """Learn what is known of tasks like one, before it tells how far it is."""
        if not attempt.has_progress and attempt.forecast is None:
            attempt.forecast = await self._estimates.forecast(attempt.outline)

    async def tell(self, attempt: RemoteAttempt, item: ReportedItem, place: str) -> bool:
        """Tell how far an attempt is, and its state. Return False when the token is stale."""
        await self.expect(attempt)
        return await self.tell_taken(attempt, self.take(attempt, item, place))

    async def tell_taken(self, attempt: RemoteAttempt, state: bytes | None) -> bool:
        """Tell what was taken in. Return False when the token is stale."""
        fragment, percent, plan = attempt.progress.tell()
        fresh = plan if plan is not None and plan.digest != attempt.told_plan else None
        owned = await self._queue.report_progress(
            *attempt.lease, fragment, percent, state=state, plan=fresh
        )
        self._metrics.progress_writes.inc()
        self._told(attempt, state, fresh)
        return owned

    def take(self, attempt: RemoteAttempt, item: ReportedItem, place: str) -> bytes | None:
        """Take in how far an attempt is; return its state if that is news. Raise Problem."""
        try:
            attempt.progress.take(item)
        except ValueError as error:
            what = f"{place}.snapshot" if item.snapshot is not None else place
            raise refused(phrase("{place}: {error}", place=what, error=error)) from None
        state = None if item.state is None else orjson.dumps(item.state)
        return None if state == attempt.told_state else state

    def _told(self, attempt: RemoteAttempt, state: bytes | None, plan: Plan | None) -> None:
        attempt.told_state = attempt.told_state if state is None else state
        attempt.told_plan = attempt.told_plan if plan is None else plan.digest
        attempt.told_at = time.monotonic()

    async def _keep(self, attempt: RemoteAttempt, name: str, value: Any, place: str) -> bool:
        try:
            check_name(f"{place}: a name", name, MAX_ONCE_LENGTH)
            text = check_json(f"{place}.{name}", value, self._bounds.result_bytes)
        except OutOfBounds as error:
            raise refused(str(error)) from None
        await self._take_room(attempt, len(text), f"{place}.{name}")
        return await self._queue.keep_result(*attempt.lease, name, text)

    async def _take_room(self, attempt: RemoteAttempt, size: int, place: str) -> None:
        """Count these bytes of once-results. Raise Problem when they are too many."""
        if attempt.kept_bytes is None:
            kept = await self._queue.read_kept(attempt.lease[0])
            attempt.kept_bytes = sum(map(len, kept.results.values()))
        whole, most = attempt.kept_bytes + size, self._bounds.result_bytes
        if 0 < most < whole:
            raise refused(
                phrase(
                    "{place}: the results of once have {count} bytes; at most {most} are allowed",
                    place=place,
                    count=whole,
                    most=most,
                )
            )
        attempt.kept_bytes = whole

    async def _submit(
        self, attempt: RemoteAttempt, item: SubmitItem, place: str
    ) -> dict[str, Any] | None:
        """Submit a task; return what is answered, None when the token is stale. Raise Problem."""
        await self._take_room(attempt, ID_BYTES, place)
        asked = Submission(item.name, orjson.dumps(item.task))
        parent = attempt.claim.task
        try:
            task_id = await self._children.submit_for(parent, attempt.claim.token, asked)
        except NotSubmitted as error:
            assert attempt.kept_bytes is not None
            attempt.kept_bytes -= ID_BYTES
            return {"name": item.name, "error": refusal_of(error)}
        return None if task_id is None else {"name": item.name, "task_id": task_id}

    async def _notify(self, item: Named, note: NotifyItem, place: str) -> bool:
        try:
            title, content, severity = as_note(note.title, note.content, note.severity)
        except ValueError as error:
            raise refused(
                phrase("{place}: {error}", place=f"{place}.notify", error=error)
            ) from None
        fields = {"title": title, "content": content, "severity": severity}
        return await self._queue.add_note(*item.lease, fields, note.id or secrets.token_hex(8))

    async def _ask(self, item: Named, ask: AskItem, place: str) -> Asked | None:
        try:
            question = as_question(ask.name, ask.title, ask.content, ask.severity, ask.options)
        except ValueError as error:
            raise refused(phrase("{place}: {error}", place=f"{place}.ask", error=error)) from None
        return await self._queue.ask(*item.lease, question, ask.id or secrets.token_hex(8))

    async def _extend(
        self, value: Any, number: int, caller: Caller, seconds: float | None
    ) -> Answer:
        try:
            item = read_item(value, number, Named)
            if caller.kinds is not None:
                attempt = await self.find(item.lease, caller)
                if isinstance(attempt, LeaseState):
                    return state_answer(item, attempt)
        except Problem as problem:
            return fault_answer(value, problem)
        if await self._queue.extend_task(*item.lease, seconds):
            known = self._attempts.known(item.lease)
            if known is not None and not known.is_ending:
                await self._look_at(known)
            return state_answer(item, LeaseState.YOURS)
        self._attempts.forget(item.lease)
        return state_answer(item, await self._why_not(item))

    async def _look_at(self, attempt: RemoteAttempt) -> None:
        """Tell the progress of an attempt whose long silence is news."""
        await self.expect(attempt)
        if attempt.is_news():
            await self.tell_taken(attempt, None)

    async def find(self, lease: tuple[str, str], caller: Caller) -> RemoteAttempt | LeaseState:
        """Return an attempt, or why it is not its worker's.

        Raise Problem 403 for one of a kind that the caller may not work on.
        """
        attempt = await self._attempts.find(lease)
        if isinstance(attempt, RemoteAttempt) and not caller.may(attempt.kind):
            told = f"the claim `kinds` of your token has no pattern for kind {attempt.kind}"
            raise Problem(403, told)
        return attempt

    async def _why_not(self, item: Named) -> LeaseState:
        """Return why a token is stale."""
        [state] = await self._queue.read_leases([item.lease])
        # It was not a moment ago.
        return LeaseState.LOST if state == LeaseState.YOURS else state


def state_answer(item: Named, state: LeaseState) -> Answer:
    """Answer whose an attempt is; an ended one is lost for a worker that still speaks of it."""
    told = LeaseState.LOST if state == LeaseState.ENDED else state
    return {"task_id": item.task_id, "token": item.token, "state": told}


def fault_answer(value: Any, problem: Problem) -> Answer:
    """Answer an item that is not done."""
    named = value if isinstance(value, dict) else {}
    texts = {name: named.get(name) for name in ("task_id", "token")}
    known = {name: cut(one, ID_LENGTH) for name, one in texts.items() if isinstance(one, str)}
    code = ErrorCode.FORBIDDEN if problem.status_code == 403 else ErrorCode.BAD_REQUEST
    told = joined(problem.errors or [problem.detail])
    return {**known, "error": {"code": code, "message": told}}


def refused(told: str) -> Problem:
    """Return the problem of an item that says what cannot be done."""
    return Problem(422, phrase("the body is not valid"), errors=[told])


def _asked(name: str, asked: Asked) -> dict[str, Any]:
    answer = None if asked.answer is None else orjson.loads(asked.answer)
    return {"name": name, "answer": answer, "age": round(asked.age, 3)}


async def _all(said: Sequence[Coroutine[Any, Any, Answer]]) -> list[Answer]:
    """Return all answers; raise the first error when every item is through."""
    found = await asyncio.gather(*said, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return [one for one in found if not isinstance(one, BaseException)]
