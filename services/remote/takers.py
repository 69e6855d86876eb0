"""Those that take tasks for workers elsewhere: a connection, or a claim that waits."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from services.queue import Claim, LeaseState

Lease = tuple[str, str]


def event_of(state: LeaseState | str, lease: Lease) -> dict[str, str]:
    """Return what is told of a running task: that it is over, or that an answer may be there."""
    return {"event": str(state), "task_id": lease[0], "token": lease[1]}


def over_of(state: LeaseState) -> LeaseState:
    """Return what a worker is told of a task that is not its own any more."""
    return LeaseState.CANCELLED if state == LeaseState.CANCELLED else LeaseState.LOST


ANSWER = "answer"


class Port(Protocol):
    """The way to a connected worker. No method waits or raises."""

    def send_tasks(self, tasks: Sequence[bytes]) -> None:
        """Send tasks, as JSON."""
        ...

    def send_events(self, events: Sequence[Mapping[str, str]]) -> None:
        """Send events."""
        ...

    def replaced(self) -> None:
        """Close: the worker has another connection."""
        ...


class Session:
    """A connected worker of `slots` places; `id` is new for each connection.

    A place is in use from when its task is claimed until the worker has said how it ended. `held`
    has those tasks, with their tokens; those that are `ready` are sent together. Tasks that cannot
    be sent any more are `returned`.
    """

    def __init__(
        self,
        id_: str,
        port: Port,
        take: Callable[["Session", Claim], None],
        returned: Callable[[Claim], None],
    ) -> None:
        self.id, self.port = id_, port
        self.since = time.time()
        # "" until it has said who it is.
        self.worker_id = ""
        self.kinds: tuple[str, ...] = ()
        self.info: Mapping[str, Any] = {}
        self.held: dict[str, str] = {}
        self.slots = 0
        # An operator has it sent nothing more.
        self.is_drained = False
        self.is_closed = False
        self.ready: list[tuple[Claim, bytes]] = []
        self._take = take
        self._returned = returned
        self._is_planned = False

    @property
    def count(self) -> int:
        """The number of its places."""
        return self.slots

    @property
    def free(self) -> int:
        """The number of free places."""
        return 0 if self.is_drained else max(self.slots - len(self.held), 0)

    @property
    def has_room(self) -> bool:
        """Whether it can take one more now."""
        return self.free > 0

    def tried(self) -> None:
        """Do nothing: it waits on."""

    def take(self, claim: Claim) -> None:
        """Take a task."""
        self.held[claim.task.task_id] = claim.token
        self._take(self, claim)

    def holds(self, lease: Lease) -> bool:
        """Say whether an attempt is in one of its places."""
        return self.held.get(lease[0]) == lease[1]

    def send(self, claim: Claim, task: bytes) -> None:
        """Send a task, together with others of this turn of the loop."""
        self.ready.append((claim, task))
        if not self._is_planned:
            self._is_planned = True
            asyncio.get_running_loop().call_soon(self._send)

    def tell(self, state: LeaseState | str, task_id: str) -> None:
        """Tell the worker of a task that it has."""
        if (token := self.held.get(task_id)) is not None:
            self.port.send_events([event_of(state, (task_id, token))])

    def _send(self) -> None:
        self._is_planned = False
        ready, self.ready = self.ready, []
        # One that drains is sent nothing more, also what was claimed for it before.
        if self.slots and not self.is_closed:
            self.port.send_tasks([task for _, task in ready])
            return
        for claim, _ in ready:
            self.held.pop(claim.task.task_id, None)
            self._returned(claim)


class Poll:
    """A claim of `count` tasks over HTTP that waits for the first of them, or for an event.

    It is over when something has come, and the tasks of the same moment with it.
    """

    def __init__(self, count: int, running: Sequence[Lease], take: Callable[[Claim], None]) -> None:
        self.count = count
        self.running = dict(running)
        # After this many claims it is answered, also when they brought nothing; None: it waits.
        self.tries: int | None = None
        self.claims: list[Claim] = []
        self.events: list[dict[str, str]] = []
        self._take = take
        # Set when there is something to answer.
        self.settled = asyncio.Event()

    @property
    def free(self) -> int:
        """The number of tasks to claim for it: none once it has one."""
        return 0 if self.claims else self.count

    @property
    def has_room(self) -> bool:
        """Whether it can take one more now."""
        return len(self.claims) < self.count

    def tried(self) -> None:
        """Count a claim that was made for it."""
        if self.tries is not None:
            self.tries -= 1
            if self.tries <= 0:
                self.settled.set()

    def take(self, claim: Claim) -> None:
        """Take a task."""
        self.claims.append(claim)
        self._take(claim)
        self.settled.set()

    def tell(self, state: LeaseState | str, task_id: str) -> None:
        """Learn of a task that its worker has."""
        if (token := self.running.get(task_id)) is not None:
            self.events.append(event_of(state, (task_id, token)))
            self.settled.set()
