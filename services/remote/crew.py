"""Connected workers: who they are, which tasks each has, and what it is told of them."""

import asyncio
import functools
import itertools
import secrets
from collections.abc import Iterable, Mapping, Sequence

import attrs

from services.queue import Claim, LeaseState, QueueService
from services.remote.bounds import RemoteBounds
from services.remote.dispatch import Dispatch, Kinds
from services.remote.requests import WorkRequest
from services.remote.takers import ANSWER, Port, Session, over_of
from tornado_rt.problems import Problem
from tornado_rt.work.texts import phrase

Lease = tuple[str, str]
# Most tasks of a worker that are told to others.
MOST_TOLD = 50


@attrs.frozen
class Working:
    """The answer to a worker that is connected: the kinds, and whose its running tasks are."""

    kinds: Kinds
    running: Sequence[Mapping[str, str]]


class Crew:
    """The connected workers of this process. Each has one connection: a new one replaces it."""

    def __init__(self, queue: QueueService, dispatch: Dispatch, bounds: RemoteBounds) -> None:
        self._queue = queue
        self._dispatch = dispatch
        self._bounds = bounds
        # By the worker.
        self._sessions: dict[str, Session] = {}
        # By the task, who has it.
        self._holders: dict[str, Session] = {}
        # At a stop the workers come back to another process, in their own time.
        self.is_stopping = False

    def __len__(self) -> int:
        return len(self._sessions)

    def __contains__(self, worker_id: str) -> bool:
        return worker_id in self._sessions

    def connect(self, port: Port) -> Session:
        """Return the session of a connection that has not said what it does yet."""
        return Session(secrets.token_hex(8), port, self._send, self._give_back)

    async def work(
        self, session: Session, worker_id: str, kinds: Kinds, request: WorkRequest
    ) -> Working:
        """Let a worker have tasks, and go on with those that it has. Raise as the queue does."""
        self._enter(session, worker_id)
        own = {"transport": "websocket", "slots": request.slots, "started_at": session.since}
        session.info = {**request.info, **own}
        await self._queue.announce_worker(worker_id, kinds, session.info, session.id)
        leases = [one.lease for one in request.running]
        session.is_drained = await self._queue.is_drained(worker_id)
        states = await self._take_up(leases)
        if session.is_closed:
            raise Problem(409, phrase("the connection is closed"))
        for task_id, token in leases:
            session.held[task_id] = token
            self._holders[task_id] = session
        self._dispatch.part(session, session.kinds)
        session.kinds, session.slots = kinds, request.slots
        self._dispatch.join(session, kinds)
        told = [
            {"task_id": lease[0], "token": lease[1], "state": str(state)}
            for lease, state in zip(leases, states, strict=True)
        ]
        return Working(kinds, told)

    def leave(self, session: Session) -> None:
        """Forget a connection; its worker may come back to its tasks until their leases end."""
        if session.is_closed:
            return
        session.is_closed = True
        self._dispatch.part(session, session.kinds)
        if self._sessions.get(session.worker_id) is session:
            del self._sessions[session.worker_id]
        leases = list(session.held.items())
        for task_id, _ in leases:
            self._let_go(task_id, session)
        if session.worker_id and not self.is_stopping:
            self._dispatch.spawn(self._shorten(session, leases), "remote-leave")

    def drain(self, session: Session) -> None:
        """Send a worker nothing more, and tell others so."""
        session.slots = 0
        session.info = {**session.info, "draining": True}
        if session.kinds:
            announce = functools.partial(self._announce, session)
            self._dispatch.spawn(self._dispatch.surely(announce, "drain"), "remote-drain")

    def free(self, lease: Lease, session: Session | None) -> None:
        """Free the place of an attempt, in this session or in the one that has it."""
        holder = session or self._holders.get(lease[0])
        if holder is not None and holder.holds(lease):
            del holder.held[lease[0]]
            self._let_go(lease[0], holder)
            self._dispatch.look_for(holder.kinds)

    def tell(self, what: LeaseState | str, task_id: str) -> None:
        """Tell the worker that has a task what has happened to it."""
        if (session := self._holders.get(task_id)) is not None:
            session.tell(what, task_id)

    def set_drained(self, worker_id: str, drained: bool) -> None:
        """Send a worker nothing more, or tasks again, as an operator says."""
        if (session := self._sessions.get(worker_id)) is not None:
            session.is_drained = drained
            self._dispatch.look_for(session.kinds)

    def holders(self, task_ids: Iterable[str] | None) -> dict[str, str]:
        """Return the workers here that have some of these tasks, None: any, by the task."""
        asked = self._holders.keys() if task_ids is None else task_ids
        held = ((id_, self._holders.get(id_)) for id_ in asked)
        return {id_: session.worker_id for id_, session in held if session is not None}

    def replaced(self, worker_id: str, session_id: str) -> None:
        """Close a connection of a worker that has another one, perhaps to another process."""
        session = self._sessions.get(worker_id)
        if session is not None and session.id != session_id:
            self._replace(session)

    def gap(self) -> None:
        """Look at all tasks, since a message about them may have been lost."""
        for session in self._sessions.values():
            self._dispatch.spawn(self._look_again(session), "remote-gap")

    async def announce(self) -> None:
        """Say that all of them live, and which tasks they have."""
        sessions = [one for one in self._sessions.values() if one.kinds]
        await asyncio.gather(*map(self._announce, sessions))

    async def _announce(self, session: Session) -> None:
        tasks = list(itertools.islice(session.held, MOST_TOLD))
        info = {**session.info, "tasks": tasks}
        await self._queue.announce_worker(session.worker_id, session.kinds, info, session.id)

    def _send(self, session: Session, claim: Claim) -> None:
        task_id = claim.task.task_id
        before = self._holders.get(task_id)
        if before is not None and before is not session:
            # Its lease had run out.
            before.tell(LeaseState.LOST, task_id)
        self._holders[task_id] = session
        attempt = self._dispatch.begin(claim, session.kinds)
        shown = self._dispatch.show_now(claim, attempt)
        if shown is None:
            self._dispatch.spawn(self._send_slowly(session, claim), "remote-send")
        else:
            session.send(claim, shown)

    async def _send_slowly(self, session: Session, claim: Claim) -> None:
        """Send a task that more must be read of, however long the queue is away."""
        shown = await self._dispatch.surely(functools.partial(self._dispatch.show, claim), "show")
        session.send(claim, shown)

    def _give_back(self, claim: Claim) -> None:
        """Hand back a task that its worker is not sent any more."""
        holder = self._holders.get(claim.task.task_id)
        if holder is not None and not holder.holds((claim.task.task_id, claim.token)):
            del self._holders[claim.task.task_id]
        self._dispatch.give_back(claim)

    def _let_go(self, task_id: str, session: Session) -> None:
        if self._holders.get(task_id) is session:
            del self._holders[task_id]

    def _enter(self, session: Session, worker_id: str) -> None:
        before = self._sessions.get(worker_id)
        session.worker_id = worker_id
        self._sessions[worker_id] = session
        if before is not None and before is not session:
            self._replace(before)

    def _replace(self, session: Session) -> None:
        session.port.replaced()
        self.leave(session)

    async def _take_up(self, leases: Sequence[Lease]) -> list[LeaseState]:
        """Extend the leases of a worker that is back; return whose they are."""
        owned = await asyncio.gather(*(self._queue.extend_task(*lease) for lease in leases))
        if all(owned):
            return [LeaseState.YOURS] * len(leases)
        return await self._queue.read_leases(leases)

    async def _shorten(self, session: Session, leases: Sequence[Lease]) -> None:
        shorten = functools.partial(
            self._queue.shorten_leases,
            session.worker_id,
            session.id,
            leases,
            self._bounds.absence,
        )
        await self._dispatch.surely(shorten, "shorten")

    async def _look_again(self, session: Session) -> None:
        """Tell a worker what it may have missed: ends of its tasks, and perhaps answers."""
        leases = list(session.held.items())
        read = functools.partial(self._queue.read_leases, leases)
        states: list[LeaseState] = await self._dispatch.surely(read, "look")
        for lease, state in zip(leases, states, strict=True):
            if session.holds(lease):
                is_ours = state == LeaseState.YOURS
                session.tell(ANSWER if is_ours else over_of(state), lease[0])
