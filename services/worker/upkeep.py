"""A worker's upkeep: its leases, what falls due in the queue, and workers that are gone."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from services.queue import Claim, QueueService
from services.worker.roster import Roster
from tornado_rt.metrics import Metrics
from tornado_rt.redis import is_outage
from tornado_rt.work.attempts.outages import Outages

log = structlog.get_logger(__name__)

POSITIONS_SECONDS = 1.0
ANNOUNCE_SECONDS = 10.0
EXTENSIONS_A_LEASE = 3


class Held(Protocol):
    """Something that is done under a lease."""

    @property
    def claim(self) -> Claim:
        """The claim that is leased."""
        ...

    def drop(self) -> None:
        """End it: the lease is lost."""
        ...


class WorkerUpkeep:
    """Does each thing when it is due, and waits in between.

    Every 10 seconds `announce` tells others which workers live here, and which kinds they run.
    Leases of what is held are extended until `let_go`, or `finish`. When a worker of the `roster`
    is gone, the leases of its tasks end.
    """

    def __init__(
        self,
        queue: QueueService,
        announce: Callable[[], Awaitable[None]],
        *,
        roster: Roster | None,
        outages: Outages,
        metrics: Metrics | None = None,
    ) -> None:
        self._queue = queue
        self._metrics = metrics or Metrics()
        self._announce = announce
        self._roster = roster
        self._outages = outages
        # The time at which to extend the lease of each.
        self._held: dict[Held, float] = {}
        self._due_at = 0.0
        self._announce_at = 0.0
        self._positions_at: float | None = None
        self._awake = asyncio.Event()
        self._sleeps_until = 0.0
        self._finished = False

    @property
    def due_at(self) -> float:
        """When the queue's upkeep is due [s, monotonic]."""
        return self._due_at

    def hold(self, held: Held) -> None:
        """Extend this lease from now on."""
        self._held[held] = self._next_extension()
        self._note(self._held[held])

    def let_go(self, held: Held) -> None:
        """Extend this lease no more."""
        self._held.pop(held, None)

    def expect_due(self, seconds: float | None) -> None:
        """Look at the queue after these seconds at the latest, None for the longest time."""
        due_at = time.monotonic() + (self._queue.upkeep_seconds if seconds is None else seconds)
        self._due_at = min(self._due_at, due_at)
        self._note(due_at)

    def expect_move(self) -> None:
        """Tell those who wait where they stand, within a second: the line may have moved."""
        if self._positions_at is None:
            self._positions_at = time.monotonic() + POSITIONS_SECONDS
            self._note(self._positions_at)

    def announce_again(self) -> None:
        """Tell others at once, since what they are told has changed."""
        self._announce_at = 0.0
        self._awake.set()

    def finish(self) -> None:
        """Let `run` end."""
        self._finished = True
        self._awake.set()

    async def run(self) -> None:
        """Do what is due until `finish`."""
        while not self._finished:
            self._awake.clear()
            try:
                await self._do_due()
            except Exception as error:
                await self._outages.outlast(error, "upkeep")
            else:
                self._outages.end("upkeep")
                await self._sleep()

    async def _sleep(self) -> None:
        dues = [self._due_at, self._announce_at, *self._held.values()]
        if self._positions_at is not None:
            dues.append(self._positions_at)
        self._sleeps_until = min(dues)
        try:
            async with asyncio.timeout(max(self._sleeps_until - time.monotonic(), 0)):
                await self._awake.wait()
        except TimeoutError:
            return

    def _note(self, at: float) -> None:
        if at < self._sleeps_until:
            self._awake.set()

    async def _do_due(self) -> None:
        now = time.monotonic()
        # First, for they are why tasks are not run twice.
        for held in [held for held, at in self._held.items() if now >= at]:
            await self._extend(held)
        if now >= self._announce_at:
            await self._announce()
            self._announce_at = now + ANNOUNCE_SECONDS
        if now >= self._due_at:
            await self._keep_up(now)
        if self._positions_at is not None and now >= self._positions_at:
            await self._publish_positions()

    async def _extend(self, held: Held) -> None:
        if held not in self._held:
            return
        self._held[held] = self._next_extension()
        task_id = held.claim.task.task_id
        try:
            owned = await self._queue.extend_task(task_id, held.claim.token)
        except Exception as error:
            if is_outage(error):
                if held in self._held:
                    self._held[held] = time.monotonic()
                raise
            log.error("lease_not_extended", task_id=task_id, error=error)
            return
        if not owned:
            held.drop()

    async def _keep_up(self, now: float) -> None:
        # Set first: what is announced while Redis answers may be newer than its answer.
        self._due_at = now + self._queue.upkeep_seconds
        try:
            await self._end_leases_of_lost()
            found = await self._queue.keep_up()
        except BaseException:
            self._due_at = now
            raise
        for kind, became in found.lost:
            self._metrics.task_lost(kind, became)
        if found.due_in is not None:
            self._due_at = min(self._due_at, now + found.due_in)

    async def _end_leases_of_lost(self) -> None:
        if self._roster is None or not (lost := self._roster.lost()):
            return
        expired = await self._queue.expire_claims(lost)
        log.info("workers_lost", workers=lost, tasks=expired)
        for worker_id in lost:
            await self._queue.withdraw_worker(worker_id)
            self._roster.forget(worker_id)

    async def _publish_positions(self) -> None:
        self._positions_at = None
        if await self._queue.publish_positions() < 0:
            # Another worker was quicker and the line may have moved since, or some are left.
            self.expect_move()

    def _next_extension(self) -> float:
        return time.monotonic() + self._queue.visibility_seconds / EXTENSIONS_A_LEASE
