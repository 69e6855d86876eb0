"""Asks the queue for tasks, and hands in the ends of others, until each request is answered."""

import collections
from collections.abc import Callable, Sequence

import attrs
import structlog

from services.queue import Ack, Claimed, Outcome, QueueService, new_request
from tornado_rt.redis import is_outage
from tornado_rt.work.attempts.endings import text_of_error

log = structlog.get_logger(__name__)


class ClaimRefused(Exception):
    """Redis refuses to give out tasks, for a reason that waiting does not mend."""


def _ignore(_: str) -> None:
    """Do nothing with what became of a task."""


@attrs.define(eq=False)
class _End:
    """The end of an attempt, and whom to tell once what became of its task."""

    ack: Ack
    _tell: Callable[[str], None]

    def answer(self, became: str) -> None:
        """Tell it, unless an earlier answer did."""
        tell, self._tell = self._tell, _ignore
        tell(became)


@attrs.frozen(eq=False)
class _Request:
    """A request is repeated unchanged until it is answered, so that no claim or end is lost."""

    id: str
    count: int
    ends: Sequence[_End]


class Claims:
    """The requests of one worker, for tasks of its kinds. `asked`: how many may still come."""

    def __init__(self, queue: QueueService, worker_id: str, kinds: Sequence[str]) -> None:
        self.asked = 0
        self._queue = queue
        self._worker_id = worker_id
        self._kinds = kinds
        self._ends: list[_End] = []
        self._unanswered: collections.deque[_Request] = collections.deque()

    @property
    def waiting(self) -> bool:
        """Whether there is something to hand in."""
        return bool(self._ends)

    @property
    def unanswered(self) -> bool:
        """Whether there is a request to repeat."""
        return bool(self._unanswered)

    def hand_in(self, ack: Ack, tell: Callable[[str], None] = _ignore) -> None:
        """Keep the end of an attempt for the next request.

        `tell` is called once, with what became of the task as in `Claimed.became`; with "" too when
        Redis takes no end of it.
        """
        self._ends.append(_End(ack, tell))

    async def take(self, count: int) -> Claimed:
        """Hand in what has ended and claim at most `count`, or repeat a request first.

        Raise what `is_outage` says to wait for: then the request is repeated by the next call.
        Raise ClaimRefused when no repetition helps.
        """
        request = self._next(count)
        try:
            claimed = await self._claim(request)
        except ClaimRefused:
            self.asked -= request.count
            raise
        except BaseException:
            self._unanswered.append(request)
            raise
        self.asked -= request.count
        return claimed

    async def hand_in_rest(self) -> None:
        """Hand in all that has ended, and claim nothing more. Raise what `is_outage` is for."""
        for request in self._unanswered:
            self._ends[:0] = request.ends
        self._unanswered.clear()
        await self.take(0)

    def _next(self, count: int) -> _Request:
        if self._unanswered:
            return self._unanswered.popleft()
        ends, self._ends = self._ends, []
        self.asked += count
        return _Request(new_request(), count, ends)

    async def _claim(self, request: _Request) -> Claimed:
        try:
            claimed = await self._ask(request.count, [end.ack for end in request.ends], request.id)
        except Exception as error:
            if is_outage(error):
                raise
            if not request.ends:
                raise ClaimRefused(text_of_error(error)) from error
        else:
            for end, became in zip(request.ends, claimed.became, strict=True):
                end.answer(became)
            return claimed
        # One of them spoils the request for the others.
        for end in request.ends:
            await self._end(end)
        if not request.count:
            return Claimed([])
        # Under its own id: it claimed nothing as long as it was spoilt.
        return await self._claim(attrs.evolve(request, ends=()))

    async def _end(self, end: _End) -> None:
        """Hand in one, or in its place that it could not be."""
        ack = end.ack
        reason = await self._refusal(end, ack)
        if reason is None:
            return
        log.error("ack_refused", task_id=ack.task_id, outcome=ack.outcome, error=reason)
        told = f"the end of this attempt could not be kept: {reason}"
        instead = Ack(ack.task_id, ack.token, Outcome.FAILED, error=told)
        reason = await self._refusal(end, instead)
        if reason is not None:
            # Its lease runs out, and it counts as an attempt.
            log.error("ack_given_up", task_id=ack.task_id, error=reason)
            end.answer("")

    async def _refusal(self, end: _End, ack: Ack) -> str | None:
        try:
            [became] = (await self._ask(0, [ack], new_request())).became
        except Exception as error:
            if is_outage(error):
                raise
            return text_of_error(error)
        end.answer(became)
        return None

    async def _ask(self, count: int, acks: Sequence[Ack], request: str) -> Claimed:
        return await self._queue.claim(self._worker_id, count, acks, request, kinds=self._kinds)
