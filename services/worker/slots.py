"""The slots of a worker, and the lanes that fill them with tasks."""

import asyncio
from collections.abc import Callable, Sized
from typing import Protocol

import attrs

from services.queue import Claim
from services.worker.claims import ClaimRefused, Claims
from tornado_rt.redis import is_outage
from tornado_rt.work.attempts.outages import Outages

# Number of claims that may be under way: while Redis answers one, the handlers of another run.
LANES = 2


class Room(Protocol):
    """The places that tasks have."""

    @property
    def count(self) -> int:
        """The number of slots."""
        ...

    @property
    def free(self) -> int:
        """The number of free slots."""
        ...


@attrs.frozen
class FixedRoom:
    """A number of places, used by what `running` holds."""

    count: int
    running: Sized

    @property
    def free(self) -> int:
        """The number of free slots."""
        return self.count - len(self.running)


class Slots:
    """Claims as many tasks as have room: a place is free, in use, or asked for by a lane.

    `start` puts what a claim brings into a place of `room`. `moved` is called when the line may
    have moved, `claimed` after each claim. At most `lanes` lanes run; one claim brings at
    most `most` tasks, 0 for any number. Lanes never poll: they wait until there is something to
    claim or to hand in, or until the time at which the queue said that more may start.
    """

    def __init__(
        self,
        claims: Claims,
        room: Room,
        *,
        start: Callable[[Claim], None],
        moved: Callable[[], None],
        outages: Outages,
        lanes: int = LANES,
        most: int = 0,
        claimed: Callable[[], None] | None = None,
    ) -> None:
        # Claims that came after the stop: they are handed back.
        self.surplus: list[Claim] = []
        self._claims = claims
        self._room = room
        self._lanes = lanes
        self._most = most
        self._claimed = claimed
        self._start = start
        self._moved = moved
        self._outages = outages
        # Whether a claim may find something; what lanes wait for.
        self._promising = True
        self._wanted = asyncio.Event()
        self._stopping = False
        # The one timer: when more may start.
        self._again: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Claim as many as are free: there may be work, or a slot is free again."""
        self._try()
        self._moved()

    def stop(self) -> None:
        """Claim nothing more, and let the lanes end."""
        self._stopping = True
        self._wanted.set()
        if self._again is not None:
            self._again.cancel()

    async def lane(self) -> None:
        """Claim, and hand in what has ended, until `stop`."""
        while not self._stopping:
            if self._claims.unanswered:
                # Its answer may be older than the news that there is work.
                await self._claim(0)
                continue
            free = self._room.free - self._claims.asked
            count = max(min(free, self._share()), 0) if self._promising else 0
            if count or self._claims.waiting:
                # Slots that this claim leaves free may find tasks too.
                self._promising = free > count > 0
                await self._claim(count)
            else:
                self._wanted.clear()
                await self._wanted.wait()

    def _share(self) -> int:
        """Return how many one claim asks for at most."""
        share = -(-self._room.count // self._lanes)
        return min(share, self._most) if self._most else share

    async def _claim(self, count: int) -> None:
        try:
            claimed = await self._claims.take(count)
        except Exception as error:
            if not (is_outage(error) or isinstance(error, ClaimRefused)):
                raise
            if not self._stopping:
                await self._outages.outlast(error, "claim")
                self.look()
            return
        self._outages.end("claim")
        self._moved()
        if self._stopping:
            self.surplus += claimed.claims
            return
        for claim in claimed.claims:
            self._start(claim)
        if self._claimed is not None:
            self._claimed()
        if claimed.claims and len(claimed.claims) == count:
            self.look()
        if claimed.again_in is not None:
            self._try_in(claimed.again_in)

    def _try(self) -> None:
        self._promising = True
        self._wanted.set()

    def _try_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds
        if self._again is not None:
            if not self._again.cancelled() and loop.time() < self._again.when() <= at:
                return
            self._again.cancel()
        self._again = loop.call_at(at, self._try)
