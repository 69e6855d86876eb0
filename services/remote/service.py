"""Work that workers elsewhere do: over a connection that tasks are sent on, or by single claims.

One of it is in each process. It claims for all of its workers together, tells them what happens to
their tasks, and knows nothing that another process could not find in the queue.
"""

import asyncio
import functools
import secrets
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import attrs
import structlog

from services.kinds import KindRegistry
from services.queue import Ack, Claim, LeaseState, QueueService
from services.remote.attempts import Attempts, RemoteAttempt
from services.remote.bounds import RemoteBounds
from services.remote.declaring import DeclaredKinds
from services.remote.ends import Answers, Ender
from services.remote.pools import MOST_CLAIMED, Pool
from services.remote.requests import ClaimRequest, WorkRequest
from services.remote.shown import show_task
from services.remote.takers import ANSWER, Poll, Port, Session, event_of
from services.remote.telling import Answer, Caller, Teller
from services.worker.outcomes import Outcomes
from services.worker.upkeep import EXTENSIONS_A_LEASE, WorkerUpkeep
from tornado_rt.jobs import Jobs
from tornado_rt.metrics import Metrics
from tornado_rt.problems import Problem
from tornado_rt.protocol import Cursor, Message, MessageType
from tornado_rt.redis import is_outage
from tornado_rt.work.attempts.outages import OUTAGE_SECONDS, Outages

log = structlog.get_logger(__name__)

# How long a worker counts after its last claim over HTTP [s].
SEEN_SECONDS = 60.0
# How often it is looked whether the queue is away, while somebody waits for it [s].
LOOK_SECONDS = 0.25
AWAY = "the queue does not answer; try again"
STOPS = "the server stops; try again"
# The name of the call that is noted while the queue is away: that of `Slots`.
CLAIM = "claim"
EXTEND_SHARE = EXTENSIONS_A_LEASE


@attrs.frozen
class Working:
    """The answer to a worker that is connected: the kinds, and whose its running tasks are."""

    kinds: tuple[str, ...]
    running: Sequence[Mapping[str, str]]


@attrs.frozen
class Found:
    """The answer to a claim: tasks as JSON, events of running ones, and the lease [s]."""

    claims: Sequence[Claim]
    tasks: Sequence[bytes]
    events: Sequence[Mapping[str, str]]
    lease: float


@attrs.frozen
class _Seen:
    """A worker that claims over HTTP, and until when it counts (monotonic)."""

    kinds: tuple[str, ...]
    info: Mapping[str, Any]
    until: float


class RemoteWork:
    """Serves workers that are elsewhere.

    It is a subscriber of the topic `workers`: an enqueue has it claim, and a cancellation or an
    answer reach the worker.
    """

    def __init__(
        self, queue: QueueService, kinds: KindRegistry, bounds: RemoteBounds, metrics: Metrics
    ) -> None:
        self.bounds = bounds
        self._queue = queue
        self._id = f"remote:{secrets.token_hex(8)}"
        self._kinds = DeclaredKinds(queue, kinds, bounds)
        self._attempts = Attempts(queue, bounds.lease)
        self._outages = Outages(is_outage)
        self._outcomes = Outcomes(metrics)
        self._metrics = metrics
        self._teller = Teller(queue, self._attempts, bounds, metrics)
        self._ender = Ender(
            queue,
            self._attempts,
            self._teller,
            self._outcomes,
            bounds,
            hand_in=self._hand_in,
            own=functools.partial(self._own, name="remote-end"),
        )
        self._jobs = Jobs(OUTAGE_SECONDS)
        self._pools: dict[tuple[str, ...], Pool] = {}
        # By the worker.
        self._sessions: dict[str, Session] = {}
        self._seen: dict[str, _Seen] = {}
        self._polls: set[Poll] = set()
        # By the task, who has it.
        self._holders: dict[str, Session] = {}
        self._watchers: dict[str, set[Poll]] = {}
        self._stopping = False
        self._upkeep = WorkerUpkeep(
            queue, self._announce_all, roster=None, outages=self._outages, metrics=metrics
        )
        self._keeping_up: asyncio.Task[None] | None = None
        metrics.measure_by(self._measure)

    @property
    def lease_seconds(self) -> float:
        """How long an attempt is its worker's without an extension."""
        return self.bounds.lease

    def extend_seconds(self, lease: float | None = None) -> float:
        """Return how often a worker extends its leases, of so many seconds if given."""
        return (self.bounds.lease if lease is None else lease) / EXTEND_SHARE

    # What the topic `workers` brings.

    def deliver(self, message: Message) -> None:
        """Take a message of the topic `workers`."""
        fields = message.fields()
        if message.type == MessageType.WAKE:
            if fields.get("queue", self._queue.prefix) == self._queue.prefix:
                self._upkeep.expect_due(fields.get("due_in"))
                for pool in tuple(self._pools.values()):
                    pool.look()
        elif message.type == MessageType.CANCEL:
            self._cancelled(str(fields.get("task_id", "")))
        elif message.type == MessageType.ANSWER:
            self._tell(ANSWER, str(fields.get("task_id", "")))
        elif message.type == MessageType.REPLACED:
            self._replaced(str(fields.get("worker", "")), str(fields.get("session", "")))

    def gap(self) -> None:
        """Look for work and for what has happened, since a message may have been lost."""
        self._upkeep.expect_due(0.0)
        for pool in tuple(self._pools.values()):
            pool.look()
        for session in self._sessions.values():
            self._own(self._look_again(session), "remote-gap")

    def is_behind(self, _: Cursor | None) -> bool:
        """Say no: wakes have no log."""
        return False

    # Connected workers.

    def connect(self, port: Port) -> Session:
        """Return the session of a connection that has not said what it does yet."""
        return Session(secrets.token_hex(8), "", port, self._send, self._give_back)

    async def work(self, session: Session, request: WorkRequest, caller: Caller) -> Working:
        """Let a connected worker have tasks, from the return on, and go on with those it has.

        Repeated, it changes its kinds and its places. Raise Problem, and what the queue raises.
        """
        self._check_count("slots", request.slots)
        self._check_count("running", len(request.running))
        worker_id = _worker_id(caller, request.worker_id)
        if session.worker_id and session.worker_id != worker_id:
            raise Problem(409, "the worker_id of a connection stays")
        if worker_id not in self._sessions:
            self._check_room()
        kinds = await self._kinds.learn(request.kinds, caller.kinds)
        self._enter(session, worker_id)
        session.info = {**request.info, "transport": "websocket", "slots": request.slots}
        await self._queue.announce_worker(worker_id, kinds, session.info, session.id)
        leases = [one.lease for one in request.running]
        states = await self._take_up(leases)
        if session.is_closed:
            raise Problem(409, "the connection is closed")
        for task_id, token in leases:
            session.held[task_id] = token
            self._holders[task_id] = session
        self._move(session, kinds, request.slots)
        told = [
            {"task_id": lease[0], "token": lease[1], "state": str(state)}
            for lease, state in zip(leases, states, strict=True)
        ]
        return Working(kinds, told)

    def drain(self, session: Session) -> int:
        """Send a worker no more tasks; return how many it has."""
        session.slots = 0
        return len(session.held)

    def leave(self, session: Session) -> None:
        """Forget a connection; its worker may come back to its tasks until their leases end."""
        if session.is_closed:
            return
        session.is_closed = True
        if (pool := self._pools.get(session.kinds)) is not None:
            pool.remove(session)
            self._tidy(pool)
        if self._sessions.get(session.worker_id) is session:
            del self._sessions[session.worker_id]
        leases = list(session.held.items())
        for task_id, _ in leases:
            if self._holders.get(task_id) is session:
                del self._holders[task_id]
        if session.worker_id and not self._stopping:
            self._own(self._shorten(session, leases), "remote-leave")

    # What workers say of their tasks.

    async def report(self, items: Sequence[Any], caller: Caller) -> list[Answer]:
        """Do what each item of a report says; return an answer to each."""
        return await self._teller.report(items, caller)

    async def extend(
        self, items: Sequence[Any], caller: Caller, lease: float | None = None
    ) -> list[Answer]:
        """Keep attempts for another lease; return an answer to each."""
        return await self._teller.extend(items, caller, self._lease(lease))

    def ack(self, items: Sequence[Any], caller: Caller, session: Session | None = None) -> Answers:
        """End attempts; the answers come when the queue has the ends, however long it is away."""

        def freed(lease: tuple[str, str]) -> None:
            holder = session if session is not None else self._holders.get(lease[0])
            if holder is not None and holder.holds(lease):
                del holder.held[lease[0]]
                if self._holders.get(lease[0]) is holder:
                    del self._holders[lease[0]]
                if (pool := self._pools.get(holder.kinds)) is not None:
                    pool.look()

        return self._ender.ack(items, caller, freed)

    async def ack_now(self, items: Sequence[Any], caller: Caller) -> list[Answer]:
        """End attempts. Raise Problem 503 while the queue is away: it is told all the same."""
        answers = self.ack(items, caller)
        await self._patiently(answers.done, None)
        return answers.all

    async def claim(self, request: ClaimRequest, caller: Caller) -> Found:
        """Return tasks for a worker, or events of what it runs; wait for the first of either.

        Raise Problem, and what the queue raises.
        """
        self._check_count("count", request.count)
        self._check_count("running", len(request.running))
        self._check_room()
        kinds = await self._kinds.learn(request.kinds, caller.kinds)
        await self._see(_worker_id(caller, request.worker_id), kinds, request.info)
        poll = Poll(
            min(request.count, MOST_CLAIMED),
            [one.lease for one in request.running],
            functools.partial(self._begin_for_poll, kinds),
        )
        wait = min(request.wait, self.bounds.wait)
        try:
            await self._wait(poll, kinds, wait)
            if self._stopping and not (poll.claims or poll.events):
                raise Problem(503, STOPS, retry_after=1)
            # Also what its answer was too late for goes back.
            tasks = [await self._show(claim) for claim in poll.claims]
            await self._set_lease(poll.claims, self._lease(request.lease))
        except BaseException:
            self._give_back_all(poll)
            raise
        lease = self.bounds.lease if request.lease is None else self._lease(request.lease)
        return Found(poll.claims, tasks, poll.events, lease or self.bounds.lease)

    def give_back(self, claims: Sequence[Claim]) -> None:
        """Hand back tasks that reached nobody."""
        for claim in claims:
            self._give_back(claim)

    # The whole.

    def stop(self) -> None:
        """Claim nothing more; what workers say is still taken."""
        self._stopping = True
        for pool in self._pools.values():
            pool.stop()
        for poll in self._polls:
            poll.settled.set()

    async def close(self) -> None:
        """Hand in what is left, and end. What Redis does not take now, its worker says again."""
        self.stop()
        self._upkeep.finish()
        ends = [self._jobs.start(pool.run(), "remote-rest") for pool in self._pools.values()]
        if ends:
            await asyncio.wait(ends, timeout=OUTAGE_SECONDS)
        await self._jobs.close()

    def _lease(self, seconds: float | None) -> float | None:
        return None if seconds is None else min(seconds, self.bounds.lease)

    def _check_count(self, name: str, count: int) -> None:
        if count > self.bounds.slots:
            told = f"{name} must be at most {self.bounds.slots}"
            raise Problem(422, "the body is not valid", errors=[told])

    def _check_room(self) -> None:
        if self._stopping:
            raise Problem(503, STOPS, retry_after=1)
        if len(self._sessions) + len(self._polls) >= self.bounds.workers:
            told = f"this process serves at most {self.bounds.workers} workers elsewhere"
            raise Problem(429, told, retry_after=1)

    def _own(self, job: Coroutine[Any, Any, None], name: str) -> None:
        self._jobs.start(job, name)

    def _measure(self) -> None:
        self._metrics.remote_workers.labels("websocket").set(len(self._sessions))
        now = time.monotonic()
        polling = sum(one.until > now for one in self._seen.values())
        self._metrics.remote_workers.labels("http").set(polling)
        self._metrics.remote_tasks.set(len(self._attempts))

    # Kinds and their pools.

    def _pool(self, kinds: tuple[str, ...]) -> Pool:
        pool = self._pools.get(kinds)
        if pool is None:
            pool = self._pools[kinds] = Pool(
                self._queue,
                self._id,
                kinds,
                moved=self._upkeep.expect_move,
                returned=self._give_back,
                outages=self._outages,
            )
            self._jobs.keep(pool.run, "remote-pool")
            if self._keeping_up is None:
                self._keeping_up = self._jobs.keep(self._upkeep.run, "remote-upkeep")
        return pool

    def _tidy(self, pool: Pool) -> None:
        """Forget a pool that nobody needs."""
        if pool.is_idle and self._pools.get(pool.kinds) is pool:
            del self._pools[pool.kinds]
            pool.stop()

    def _move(self, session: Session, kinds: tuple[str, ...], slots: int) -> None:
        """Have tasks of these kinds claimed for a worker."""
        before = self._pools.get(session.kinds)
        if before is not None:
            before.remove(session)
        session.kinds, session.slots = kinds, slots
        self._pool(kinds).add(session)
        if before is not None:
            self._tidy(before)

    def _hand_in(self, attempt: RemoteAttempt, ack: Ack, tell: Any) -> None:
        self._pool(attempt.pool if attempt.pool in self._pools else ()).hand_in(ack, tell)

    # Tasks on their way.

    def _begin(self, claim: Claim, pool: tuple[str, ...]) -> RemoteAttempt:
        facts = self._kinds.facts(claim.task.kind)
        plan = self._attempts.plan(claim.plan) if claim.plan else None
        self._outcomes.began(claim.task.task_id)
        return self._attempts.add(claim, pool, plan, facts.get("expected_seconds"))

    def _begin_for_poll(self, pool: tuple[str, ...], claim: Claim) -> None:
        self._begin(claim, pool)

    def _send(self, session: Session, claim: Claim) -> None:
        before = self._holders.get(claim.task.task_id)
        if before is not None and before is not session:
            # Its lease had run out.
            before.tell(LeaseState.LOST, claim.task.task_id)
        self._holders[claim.task.task_id] = session
        attempt = self._begin(claim, session.kinds)
        if claim.kept or claim.task.job.budget_seconds or (claim.plan and attempt.plan is None):
            self._own(self._send_slowly(session, claim), "remote-send")
        else:
            facts = self._kinds.facts(claim.task.kind)
            session.send(claim, show_task(claim, attempt.plan, facts))

    async def _send_slowly(self, session: Session, claim: Claim) -> None:
        """Send a task that more must be read of, however long the queue is away."""
        while not session.is_closed:
            try:
                shown = await self._show(claim)
            except Exception as error:
                if not is_outage(error):
                    raise
                await self._outages.outlast(error, "show")
            else:
                self._outages.end("show")
                session.send(claim, shown)
                return
        self._give_back(claim)

    async def _show(self, claim: Claim) -> bytes:
        """Return a task as JSON, with what earlier attempts left."""
        task, kept, used = claim.task, None, 0.0
        if claim.kept:
            kept = await self._queue.read_kept(task.task_id)
        if task.job.budget_seconds:
            read = await self._queue.get_task(task.task_id)
            used = 0.0 if read is None else read.used_seconds
        if claim.plan:
            await self._attempts.learn_plans({claim.plan})
        plan = self._attempts.plan(claim.plan) if claim.plan else None
        attempt = self._attempts.of_task(task.task_id)
        if attempt is not None and attempt.plan is None:
            attempt.plan = plan
        return show_task(claim, plan, self._kinds.facts(task.kind), kept, used)

    def _give_back(self, claim: Claim) -> None:
        self._own(self._release(claim), "remote-give-back")

    def _give_back_all(self, poll: Poll) -> None:
        self.give_back(poll.claims)
        poll.claims = []

    async def _release(self, claim: Claim) -> None:
        """Hand a task back, however long the queue is away."""
        lease = (claim.task.task_id, claim.token)
        self._attempts.forget(lease)
        await self._surely(lambda: self._queue.release_task(*lease), "release")

    async def _surely(self, call: Any, what: str) -> None:
        while True:
            try:
                await call()
            except Exception as error:
                if not is_outage(error):
                    raise
                await self._outages.outlast(error, what)
            else:
                self._outages.end(what)
                return

    # Workers that come and go.

    def _enter(self, session: Session, worker_id: str) -> None:
        before = self._sessions.get(worker_id)
        session.worker_id = worker_id
        self._sessions[worker_id] = session
        if before is not None and before is not session:
            self._replace(before)

    def _replaced(self, worker_id: str, session_id: str) -> None:
        session = self._sessions.get(worker_id)
        if session is not None and session.id != session_id:
            self._replace(session)

    def _replace(self, session: Session) -> None:
        session.port.replaced()
        self.leave(session)

    async def _take_up(self, leases: Sequence[tuple[str, str]]) -> list[LeaseState]:
        """Extend the leases of a worker that is back; return whose they are."""
        owned = await asyncio.gather(*(self._queue.extend_task(*lease) for lease in leases))
        if all(owned):
            return [LeaseState.YOURS] * len(leases)
        return await self._queue.read_leases(leases)

    async def _shorten(self, session: Session, leases: Sequence[tuple[str, str]]) -> None:
        seconds = self.bounds.absence
        shorten = functools.partial(
            self._queue.shorten_leases, session.worker_id, session.id, leases, seconds
        )
        await self._surely(shorten, "shorten")

    async def _see(self, worker_id: str, kinds: tuple[str, ...], info: Mapping[str, Any]) -> None:
        """Count a worker that claims over HTTP."""
        now = time.monotonic()
        before = self._seen.get(worker_id)
        self._seen[worker_id] = _Seen(kinds, {**info, "transport": "http"}, now + SEEN_SECONDS)
        if before is None or before.kinds != kinds:
            await self._queue.announce_worker(worker_id, kinds, self._seen[worker_id].info)

    async def _announce_all(self) -> None:
        now = time.monotonic()
        self._seen = {id_: one for id_, one in self._seen.items() if one.until > now}
        announce = self._queue.announce_worker
        connected = [
            announce(one.worker_id, one.kinds, one.info, one.id) for one in self._sessions.values()
        ]
        polling = [announce(id_, one.kinds, one.info) for id_, one in self._seen.items()]
        await asyncio.gather(*connected, *polling)

    # What happens to running tasks.

    def _cancelled(self, task_id: str) -> None:
        attempt = self._attempts.of_task(task_id)
        if attempt is not None and not (attempt.is_ending or attempt.cancelled):
            attempt.cancelled = True
            self._outcomes.count(attempt.claim, attempt.ran, LeaseState.CANCELLED)
        else:
            self._outcomes.cancelled(task_id)
        self._tell(LeaseState.CANCELLED, task_id)

    def _tell(self, what: LeaseState | str, task_id: str) -> None:
        if (session := self._holders.get(task_id)) is not None:
            session.tell(what, task_id)
        for poll in self._watchers.get(task_id, ()):
            poll.tell(what, task_id)

    async def _look_again(self, session: Session) -> None:
        """Tell a worker what it may have missed: ends of its tasks, and perhaps answers."""
        leases = list(session.held.items())
        for lease, state in zip(leases, await self._queue.read_leases(leases), strict=True):
            session.tell(ANSWER if state == LeaseState.YOURS else _over(state), lease[0])

    # Claims that wait.

    async def _wait(self, poll: Poll, kinds: tuple[str, ...], seconds: float) -> None:
        """Wait for something to answer. Raise Problem 503 while the queue is away."""
        pool = self._pool(kinds)
        self._polls.add(poll)
        for task_id in poll.running:
            self._watchers.setdefault(task_id, set()).add(poll)
        try:
            leases = list(poll.running.items())
            for lease, state in zip(leases, await self._queue.read_leases(leases), strict=True):
                if state != LeaseState.YOURS:
                    poll.events.append(event_of(_over(state), lease))
            if poll.events or not seconds:
                # One that is under way says nothing of what came since.
                poll.tries = 1 + pool.is_asking
            if poll.count:
                pool.add(poll)
            elif poll.tries is not None:
                return
            settled = asyncio.ensure_future(poll.settled.wait())
            try:
                await self._patiently(settled, seconds if poll.tries is None else None)
            finally:
                settled.cancel()
        finally:
            pool.remove(poll)
            self._tidy(pool)
            self._polls.discard(poll)
            for task_id in poll.running:
                self._watchers[task_id].discard(poll)
                if not self._watchers[task_id]:
                    del self._watchers[task_id]

    async def _patiently(self, done: "asyncio.Future[Any]", seconds: float | None) -> None:
        """Wait, so long at most [s], None: for ever. Raise Problem 503 while the queue is away."""
        until = None if seconds is None else time.monotonic() + seconds
        while not done.done():
            left = LOOK_SECONDS if until is None else min(until - time.monotonic(), LOOK_SECONDS)
            if left <= 0:
                return
            await asyncio.wait([done], timeout=left)
            if not done.done() and self._outages.is_failing(CLAIM):
                raise Problem(503, AWAY, retry_after=1)
        done.result()

    async def _set_lease(self, claims: Sequence[Claim], lease: float | None) -> None:
        if lease is not None:
            extended = (
                self._queue.extend_task(one.task.task_id, one.token, lease) for one in claims
            )
            await asyncio.gather(*extended)


def _worker_id(caller: Caller, worker_id: str) -> str:
    # No user can speak for a worker of another.
    return f"remote:{caller.user_id}:{worker_id}"


def _over(state: LeaseState) -> LeaseState:
    return LeaseState.CANCELLED if state == LeaseState.CANCELLED else LeaseState.LOST
