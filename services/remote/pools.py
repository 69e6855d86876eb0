"""Claims for all workers of the same kinds together: one request, however many they are."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from services.queue import Ack, Claim, QueueService
from services.worker.claims import Claims
from services.worker.slots import Slots
from tornado_rt.work.attempts.outages import Outages

# One request at a time: what it brings finds the places that it was asked for.
LANES = 1
# Most tasks of one claim: for a larger one the queue would serve nobody else meanwhile.
MOST_CLAIMED = 100


class Taker(Protocol):
    """Takes tasks: a connected worker, or a claim that waits."""

    @property
    def count(self) -> int:
        """The number of places that it has."""
        ...

    @property
    def free(self) -> int:
        """The number of tasks to claim for it."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether it can take one more now."""
        ...

    def tried(self) -> None:
        """Learn that tasks were claimed, and shared out."""
        ...

    def take(self, claim: Claim) -> None:
        """Take a task."""
        ...


class Pool:
    """The workers of the same kinds: it claims for all of them, and shares the tasks out.

    With the ends of attempts that are handed in, one request of the queue does for all. A task that
    finds no place, since its worker has gone meanwhile, is `returned`.
    """

    def __init__(
        self,
        queue: QueueService,
        worker_id: str,
        kinds: Sequence[str],
        *,
        moved: Callable[[], None],
        returned: Callable[[Claim], None],
        outages: Outages,
    ) -> None:
        self.kinds = tuple(kinds)
        # The next to take a task is the first that has room; then it is the last.
        self._takers: OrderedDict[Taker, None] = OrderedDict()
        self._returned = returned
        self._claims = Claims(queue, worker_id, kinds)
        self._slots = Slots(
            self._claims,
            self,
            start=self._share_out,
            moved=moved,
            outages=outages,
            lanes=LANES,
            most=MOST_CLAIMED,
            claimed=self._tell_tried,
        )

    @property
    def count(self) -> int:
        """The number of places."""
        return sum(taker.count for taker in self._takers)

    @property
    def free(self) -> int:
        """The number of free places."""
        return sum(taker.free for taker in self._takers)

    @property
    def is_idle(self) -> bool:
        """Whether nobody is here, and nothing is left to hand in or to repeat."""
        claims = self._claims
        return not (self._takers or claims.waiting or claims.unanswered or claims.asked)

    @property
    def is_asking(self) -> bool:
        """Whether a request is under way."""
        return self._claims.asked > 0

    async def run(self) -> None:
        """Claim and hand in until `stop`; return what came too late."""
        await self._slots.lane()
        for claim in self._slots.surplus:
            self._returned(claim)

    async def hand_in_rest(self) -> None:
        """Hand in all that has ended. Raise what the queue raises."""
        await self._claims.hand_in_rest()

    def stop(self) -> None:
        """Claim nothing more."""
        self._slots.stop()

    def add(self, taker: Taker) -> None:
        """Claim for one more."""
        self._takers[taker] = None
        self._slots.look()

    def remove(self, taker: Taker) -> None:
        """Claim for one less; harmless when repeated."""
        self._takers.pop(taker, None)

    def look(self) -> None:
        """Claim again: there may be work, or room."""
        self._slots.look()

    def hand_in(self, ack: Ack, tell: Callable[[str], None]) -> None:
        """Hand in the end of an attempt; `tell` is called once, as by `Claims.hand_in`."""
        self._claims.hand_in(ack, tell)
        self._slots.look()

    def _tell_tried(self) -> None:
        for taker in tuple(self._takers):
            taker.tried()

    def _share_out(self, claim: Claim) -> None:
        for taker in self._takers:
            if taker.has_room:
                self._takers.move_to_end(taker)
                taker.take(claim)
                return
        self._returned(claim)
