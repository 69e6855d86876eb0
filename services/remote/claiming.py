"""Claims over HTTP: each waits for its first task, or for news of what its worker runs."""

import asyncio
import functools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from services.queue import Claim, LeaseState, QueueService
from services.remote.bounds import RemoteBounds
from services.remote.dispatch import Dispatch, Kinds
from services.remote.pools import MOST_CLAIMED
from services.remote.requests import ClaimRequest
from services.remote.takers import Poll, event_of, over_of
from tornado_rt.problems import Problem
from tornado_rt.work.texts import phrase

# A worker counts for this long after its last claim [s].
SEEN_SECONDS = 60.0
# Interval at which the queue is probed while somebody waits for it [s].
LOOK_SECONDS = 0.25
# The name of the call that is noted while the queue is away: that of `Slots`.
CLAIM = "claim"
AWAY = phrase("the queue does not answer; try again")
STOPS = phrase("the server stops; try again")


@attrs.frozen
class FoundTasks:
    """The answer to a claim: tasks as JSON, events of running ones, and the lease [s]."""

    claims: Sequence[Claim]
    tasks: Sequence[bytes]
    events: Sequence[Mapping[str, str]]
    lease: float


@attrs.frozen
class _Seen:
    """A worker that claims over HTTP, and until when it counts (monotonic)."""

    kinds: Kinds
    info: Mapping[str, Any]
    until: float


class ClaimDesk:
    """Answers claims, and knows the workers that have claimed of late."""

    def __init__(self, queue: QueueService, dispatch: Dispatch, bounds: RemoteBounds) -> None:
        self._queue = queue
        self._dispatch = dispatch
        self._bounds = bounds
        # By the worker.
        self._seen: dict[str, _Seen] = {}
        self._polls: set[Poll] = set()
        # By the task, those who want to hear of it.
        self._watchers: dict[str, set[Poll]] = {}
        self.is_stopping = False

    def __len__(self) -> int:
        return len(self._polls)

    @property
    def seen(self) -> int:
        """The number of workers that have claimed of late."""
        now = time.monotonic()
        return sum(one.until > now for one in self._seen.values())

    async def claim(self, worker_id: str, kinds: Kinds, request: ClaimRequest) -> FoundTasks:
        """Return tasks or events, as soon as there are some.

        Raise Problem 503 while the queue is away, or at a stop; and what the queue raises.
        """
        await self._see(worker_id, kinds, request.info)
        drained = await self._queue.is_drained(worker_id)
        poll = Poll(
            0 if drained else min(request.count, MOST_CLAIMED),
            [one.lease for one in request.running],
            functools.partial(self._begin, kinds),
        )
        lease = None if request.lease is None else min(request.lease, self._bounds.lease)
        try:
            await self._wait(poll, kinds, min(request.wait, self._bounds.wait))
            if self.is_stopping and not (poll.claims or poll.events):
                raise Problem(503, STOPS, retry_after=1)
            tasks = [await self._dispatch.show(claim) for claim in poll.claims]
            await self._set_lease(poll.claims, lease)
        except BaseException:
            self._dispatch.give_all_back(poll.claims)
            raise
        return FoundTasks(
            poll.claims, tasks, poll.events, self._bounds.lease if lease is None else lease
        )

    def tell(self, what: LeaseState | str, task_id: str) -> None:
        """Tell the claims whose worker runs a task what has happened to it."""
        for poll in self._watchers.get(task_id, ()):
            poll.tell(what, task_id)

    def stop(self) -> None:
        """Let nobody wait any more."""
        self.is_stopping = True
        for poll in self._polls:
            poll.settled.set()

    async def announce(self) -> None:
        """Say that the workers live that have claimed of late."""
        now = time.monotonic()
        self._seen = {id_: one for id_, one in self._seen.items() if one.until > now}
        announce = self._queue.announce_worker
        seen = tuple(self._seen.items())
        await asyncio.gather(*(announce(id_, one.kinds, one.info) for id_, one in seen))

    async def patiently(self, done: "asyncio.Future[Any]", seconds: float | None) -> None:
        """Wait; the longest time [s], None: for ever. Raise Problem 503 while the queue is away."""
        until = None if seconds is None else time.monotonic() + seconds
        while not done.done():
            left = LOOK_SECONDS if until is None else min(until - time.monotonic(), LOOK_SECONDS)
            if left <= 0:
                return
            await asyncio.wait([done], timeout=left)
            if not done.done() and self._dispatch.outages.is_failing(CLAIM):
                raise Problem(503, AWAY, retry_after=1)
        done.result()

    async def _see(self, worker_id: str, kinds: Kinds, info: Mapping[str, Any]) -> None:
        before = self._seen.get(worker_id)
        told = {**info, "transport": "http"}
        self._seen[worker_id] = _Seen(kinds, told, time.monotonic() + SEEN_SECONDS)
        if before is None or before.kinds != kinds:
            await self._queue.announce_worker(worker_id, kinds, told)

    def _begin(self, kinds: Kinds, claim: Claim) -> None:
        self._dispatch.begin(claim, kinds)

    async def _wait(self, poll: Poll, kinds: Kinds, seconds: float) -> None:
        """Wait for something to answer."""
        self._polls.add(poll)
        for task_id in poll.running:
            self._watchers.setdefault(task_id, set()).add(poll)
        try:
            await self._look(poll)
            pool = self._dispatch.pool(kinds)
            if poll.events or not seconds:
                # A request that is under way says nothing of what came since.
                poll.tries = 1 + pool.is_asking
            if poll.count:
                self._dispatch.join(poll, kinds)
            elif poll.tries is not None:
                return
            settled = asyncio.create_task(poll.settled.wait(), name="claim-waits")
            try:
                await self.patiently(settled, seconds if poll.tries is None else None)
            finally:
                settled.cancel()
        finally:
            self._dispatch.part(poll, kinds)
            self._polls.discard(poll)
            for task_id in poll.running:
                self._watchers[task_id].discard(poll)
                if not self._watchers[task_id]:
                    del self._watchers[task_id]

    async def _look(self, poll: Poll) -> None:
        """Note what has happened to running tasks before anybody listened."""
        leases = list(poll.running.items())
        for lease, state in zip(leases, await self._queue.read_leases(leases), strict=True):
            if state != LeaseState.YOURS:
                poll.events.append(event_of(over_of(state), lease))

    async def _set_lease(self, claims: Sequence[Claim], lease: float | None) -> None:
        if lease is not None:
            extend = self._queue.extend_task
            await asyncio.gather(*(extend(c.task.task_id, c.token, lease) for c in claims))
