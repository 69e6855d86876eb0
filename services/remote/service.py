"""Work that workers elsewhere do: over a connection that tasks are sent on, or by single claims.

One of it is in each process. It knows nothing that another process could not find in the queue.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import attrs

from services.children import Children
from services.estimates import Estimates
from services.kinds import KindRegistry
from services.queue import LeaseState, QueueService
from services.remote.attempts import Attempts
from services.remote.bounds import RemoteBounds
from services.remote.claiming import STOPS, ClaimDesk, FoundTasks
from services.remote.crew import Crew, Working
from services.remote.declaring import DeclaredKinds
from services.remote.dispatch import Dispatch
from services.remote.ends import Answers, Ender
from services.remote.requests import ClaimRequest, WorkRequest
from services.remote.takers import ANSWER, Port, Session
from services.remote.telling import Answer, Caller, Teller
from services.worker.upkeep import EXTENSIONS_A_LEASE
from tornado_rt.metrics import Metrics
from tornado_rt.problems import Problem
from tornado_rt.protocol import Cursor, Message, MessageType
from tornado_rt.work.texts import phrase

Request = TypeVar("Request", ClaimRequest, WorkRequest)


class RemoteWork:
    """Serves workers that are elsewhere.

    It is a subscriber of the topic `workers`: an enqueue has it claim, and a cancellation or an
    answer reach the worker.
    """

    def __init__(
        self,
        queue: QueueService,
        kinds: KindRegistry,
        estimates: Estimates,
        bounds: RemoteBounds,
        metrics: Metrics,
        children: Children,
    ) -> None:
        self.bounds = bounds
        self._queue = queue
        self._metrics = metrics
        self._kinds = DeclaredKinds(queue, kinds, bounds)
        self._attempts = Attempts(queue, bounds.lease)
        self._dispatch = Dispatch(queue, self._kinds, self._attempts, metrics, self._announce)
        self._crew = Crew(queue, self._dispatch, bounds)
        self._desk = ClaimDesk(queue, self._dispatch, bounds)
        self._teller = Teller(queue, self._attempts, estimates, bounds, metrics, children)
        self._ender = Ender(
            queue,
            self._attempts,
            self._teller,
            estimates,
            self._dispatch.outcomes,
            bounds,
            hand_in=self._dispatch.hand_in,
            spawn=self._dispatch.spawn,
        )
        metrics.measure_by(self._measure)

    def extend_seconds(self, lease: float | None = None) -> float:
        """Return the interval at which a worker extends its leases, of these seconds if given."""
        return (self.bounds.lease if lease is None else lease) / EXTENSIONS_A_LEASE

    def deliver(self, message: Message) -> None:
        """Take a message of the topic `workers`."""
        fields = message.fields()
        if message.type == MessageType.WAKE:
            if fields.get("queue", self._queue.prefix) == self._queue.prefix:
                self._dispatch.look(fields.get("due_in"))
        elif message.type == MessageType.CANCEL:
            self._cancelled(str(fields.get("task_id", "")))
        elif message.type == MessageType.ANSWER:
            self._tell(ANSWER, str(fields.get("task_id", "")))
        elif message.type in (MessageType.DRAIN, MessageType.UNDRAIN):
            if fields.get("queue") == self._queue.prefix:
                drained = message.type == MessageType.DRAIN
                self._crew.set_drained(str(fields.get("worker", "")), drained)
        elif message.type == MessageType.REPLACED:
            self._crew.replaced(str(fields.get("worker", "")), str(fields.get("session", "")))

    def holders(self, task_ids: Iterable[str] | None) -> dict[str, str]:
        """Return the workers connected here that have some of these tasks, None: any."""
        return self._crew.holders(task_ids)

    def gap(self) -> None:
        """Look for work and for what has happened, since a message may have been lost."""
        self._dispatch.look(0.0)
        self._crew.gap()

    def is_behind(self, _: Cursor | None) -> bool:
        """Say no: wakes have no log."""
        return False

    def connect(self, port: Port) -> Session:
        """Return the session of a connection that has not said what it does yet."""
        return self._crew.connect(port)

    async def work(self, session: Session, request: WorkRequest, caller: Caller) -> Working:
        """Let a connected worker have tasks, from the return on, and go on with those it has.

        Repeated, it changes its kinds and its places. Raise Problem, and what the queue raises.
        """
        self._check_count("slots", request.slots)
        self._check_count("running", len(request.running))
        worker_id = _worker_id(caller, request.worker_id)
        if session.worker_id not in ("", worker_id):
            raise Problem(409, phrase("the worker_id of a connection stays"))
        if worker_id not in self._crew:
            self._check_room()
        kinds = await self._kinds.learn(request.kinds, caller.kinds)
        return await self._crew.work(session, worker_id, kinds, _with_address(request, caller))

    def drain(self, session: Session) -> int:
        """Send a worker no more tasks; return how many it has."""
        self._crew.drain(session)
        return len(session.held)

    def leave(self, session: Session) -> None:
        """Forget a connection; its worker may come back to its tasks until their leases end."""
        self._crew.leave(session)

    async def report(self, items: Sequence[Any], caller: Caller) -> list[Answer]:
        """Do what each item of a report says; return an answer to each."""
        return await self._teller.report(items, caller)

    async def extend(
        self, items: Sequence[Any], caller: Caller, lease: float | None = None
    ) -> list[Answer]:
        """Keep attempts for another lease [s], None: the queue's; return an answer to each."""
        bounded = None if lease is None else min(lease, self.bounds.lease)
        return await self._teller.extend(items, caller, bounded)

    def ack(self, items: Sequence[Any], caller: Caller, session: Session | None = None) -> Answers:
        """End attempts; the answers come when the queue has the ends, however long it is away."""
        return self._ender.ack(items, caller, lambda lease: self._crew.free(lease, session))

    async def ack_now(self, items: Sequence[Any], caller: Caller) -> list[Answer]:
        """End attempts. Raise Problem 503 while the queue is away: it is told all the same."""
        answers = self.ack(items, caller)
        await self._desk.patiently(answers.done, None)
        return answers.all

    async def claim(self, request: ClaimRequest, caller: Caller) -> FoundTasks:
        """Return tasks for a worker, or events of what it runs; wait for the first of either.

        Raise Problem, and what the queue raises.
        """
        self._check_count("count", request.count)
        self._check_count("running", len(request.running))
        self._check_room()
        kinds = await self._kinds.learn(request.kinds, caller.kinds)
        worker_id = _worker_id(caller, request.worker_id)
        return await self._desk.claim(worker_id, kinds, _with_address(request, caller))

    def give_back(self, found: FoundTasks) -> None:
        """Hand back the tasks of an answer that reached nobody."""
        self._dispatch.give_all_back(found.claims)

    def stop(self) -> None:
        """Claim nothing more, and let nobody wait; what workers say is still taken."""
        self._crew.is_stopping = True
        self._desk.stop()
        self._dispatch.stop()

    async def close(self) -> None:
        """Hand in what is left, and end."""
        self.stop()
        await self._dispatch.close()

    def _check_count(self, name: str, count: int) -> None:
        if count > self.bounds.slots:
            told = f"{name} must be at most {self.bounds.slots}"
            raise Problem(422, phrase("the body is not valid"), errors=[told])

    def _check_room(self) -> None:
        if self._desk.is_stopping:
            raise Problem(503, STOPS, retry_after=1)
        if len(self._crew) + len(self._desk) >= self.bounds.workers:
            told = f"this process serves at most {self.bounds.workers} workers elsewhere"
            raise Problem(429, told, retry_after=1)

    def _measure(self) -> None:
        self._metrics.remote_workers.labels("websocket").set(len(self._crew))
        self._metrics.remote_workers.labels("http").set(self._desk.seen)
        self._metrics.remote_tasks.set(len(self._attempts))

    async def _announce(self) -> None:
        await self._crew.announce()
        await self._desk.announce()

    def _cancelled(self, task_id: str) -> None:
        attempt = self._attempts.of_task(task_id)
        if attempt is not None and not (attempt.is_ending or attempt.cancelled):
            attempt.cancelled = True
            self._dispatch.outcomes.count(attempt.claim, attempt.ran, LeaseState.CANCELLED)
        else:
            self._dispatch.outcomes.cancelled(task_id)
        self._tell(LeaseState.CANCELLED, task_id)

    def _tell(self, what: LeaseState | str, task_id: str) -> None:
        self._crew.tell(what, task_id)
        self._desk.tell(what, task_id)


def _with_address(request: Request, caller: Caller) -> Request:
    """Return a request that says where its worker is."""
    if not caller.address:
        return request
    return attrs.evolve(request, info={**request.info, "address": caller.address})


def _worker_id(caller: Caller, worker_id: str) -> str:
    # No user can speak for a worker of another.
    return f"remote:{caller.user_id}:{worker_id}"
