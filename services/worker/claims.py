"""Asks the queue for tasks, and hands in the ends of others, until each request is answered."""

import collections
from collections.abc import Sequence

import attrs
import structlog

from services.queue import Ack, Claimed, Outcome, QueueService, new_request
from services.worker.endings import text_of_error
from tornado_rt.redis import is_outage

log = structlog.get_logger(__name__)


class ClaimRefused(Exception):
    """Redis refuses to give out tasks, for a reason that waiting does not mend."""


@attrs.frozen(eq=False)
class _Request:
    """A request is repeated unchanged until it is answered, so that no claim or end is lost."""

    id: str
    count: int
    acks: Sequence[Ack]


class Claims:
    """The requests of one worker, for tasks of its kinds. `asked`: how many may still come."""

    def __init__(self, queue: QueueService, worker_id: str, kinds: Sequence[str]) -> None:
        self.asked = 0
        self._queue = queue
        self._worker_id = worker_id
        self._kinds = kinds
        self._acks: list[Ack] = []
        self._unanswered: collections.deque[_Request] = collections.deque()

    @property
    def waiting(self) -> bool:
        """Whether there is something to hand in."""
        return bool(self._acks)

    @property
    def unanswered(self) -> bool:
        """Whether there is a request to repeat."""
        return bool(self._unanswered)

    def hand_in(self, ack: Ack) -> None:
        """Keep the end of an attempt for the next request."""
        self._acks.append(ack)

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
            self._acks[:0] = request.acks
        self._unanswered.clear()
        await self.take(0)

    def _next(self, count: int) -> _Request:
        if self._unanswered:
            return self._unanswered.popleft()
        acks, self._acks = self._acks, []
        self.asked += count
        return _Request(new_request(), count, acks)

    async def _claim(self, request: _Request) -> Claimed:
        try:
            return await self._ask(request.count, request.acks, request.id)
        except Exception as error:
            if is_outage(error):
                raise
            if not request.acks:
                raise ClaimRefused(text_of_error(error)) from error
        # One of them spoils the request for the others.
        for ack in request.acks:
            await self._end(ack)
        if not request.count:
            return Claimed([])
        # Under its own id: it claimed nothing as long as it was spoilt.
        return await self._claim(attrs.evolve(request, acks=()))

    async def _end(self, ack: Ack) -> None:
        """Hand in one, or in its place that it could not be."""
        reason = await self._refusal(ack)
        if reason is None:
            return
        log.error("ack_refused", task_id=ack.task_id, outcome=ack.outcome, error=reason)
        told = f"the end of this attempt could not be kept: {reason}"
        reason = await self._refusal(Ack(ack.task_id, ack.token, Outcome.FAILED, error=told))
        if reason is not None:
            # Its lease runs out, and it counts as an attempt.
            log.error("ack_given_up", task_id=ack.task_id, error=reason)

    async def _refusal(self, ack: Ack) -> str | None:
        try:
            await self._ask(0, [ack], new_request())
        except Exception as error:
            if is_outage(error):
                raise
            return text_of_error(error)
        return None

    async def _ask(self, count: int, acks: Sequence[Ack], request: str) -> Claimed:
        return await self._queue.claim(self._worker_id, count, acks, request, kinds=self._kinds)
