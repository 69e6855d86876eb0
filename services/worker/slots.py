"""The slots of a worker, and the lanes that fill them with tasks."""

import asyncio
from collections.abc import Callable, Sized

from services.queue import Claim
from services.worker.claims import ClaimRefused, Claims
from tornado_rt.redis import is_outage
from tornado_rt.work.attempts.outages import Outages

# How many claims may be under way: while Redis answers one, the handlers of another run.
LANES = 2


class Slots:
    """At most `count` tasks at once: a slot is free, in use, or asked for by a lane.

    `running` holds what uses slots; `start` adds to it what a claim brings. `moved` is called when
    the line may have moved. Lanes never poll: they wait until there is something to claim or to
    hand in, or until the time at which the queue said that more may start.
    """

    def __init__(
        self,
        claims: Claims,
        count: int,
        running: Sized,
        *,
        start: Callable[[Claim], None],
        moved: Callable[[], None],
        outages: Outages,
    ) -> None:
        # Claims that came after the stop: they are handed back.
        self.surplus: list[Claim] = []
        self._claims = claims
        self._count = count
        self._running = running
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
        share = -(-self._count // LANES)
        while not self._stopping:
            if self._claims.unanswered:
                # Its answer may be older than the news that there is work.
                await self._claim(0)
                continue
            free = self._count - len(self._running) - self._claims.asked
            count = max(min(free, share), 0) if self._promising else 0
            if count or self._claims.waiting:
                # Slots that this claim leaves free may find tasks too.
                self._promising = free > count > 0
                await self._claim(count)
            else:
                self._wanted.clear()
                await self._wanted.wait()

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
