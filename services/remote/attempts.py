"""The attempts of workers elsewhere that this process knows of.

It forgets none that may still be told of, and needs to remember none: what it does not know, such
as an attempt that another process has handed out, it reads from the queue.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import orjson

from services.queue import Claim, LeaseState, QueueService, Task
from services.remote.progress import Progress, done_fragment
from tornado_rt.bounded import Bounded
from tornado_rt.work import Plan
from tornado_rt.work.attempts.lessons import WHOLE, Outline, Times, key_of
from tornado_rt.work.forecast import Forecast

# The plans that are remembered.
MOST_PLANS = 1024
# A silent attempt is forgotten after this many leases.
LEASES_REMEMBERED = 2


@attrs.define(eq=False)
class RemoteAttempt:
    """An attempt at a task that runs elsewhere.

    `claim` has no parameters: nobody needs them here. `pool` are the kinds of the worker that it
    was claimed for. `told_plan` and `told_state` are what the queue has of both, None: unknown.

    It is wide because it has the state of a run that is elsewhere.
    """

    claim: Claim
    pool: tuple[str, ...]
    plan: Plan | None
    outline: Outline
    began: float
    told_plan: str
    touched: float
    told_state: bytes | None = None
    kept_bytes: int | None = None
    cancelled: bool = False
    # Its end has come, and is on its way to the queue.
    is_ending: bool = False
    # Those who are told what became of the task.
    waiting: list[Callable[[str], None]] = attrs.Factory(list)
    # Knowledge about similar tasks, once it was asked for.
    forecast: Forecast | None = None
    # When it was told last how far it is (monotonic), None: never.
    told_at: float | None = None
    _progress: Progress | None = None
    _snapshot: dict[str, Any] = attrs.Factory(dict)

    @property
    def lease(self) -> tuple[str, str]:
        """The id of its task, and its token."""
        return self.claim.task.task_id, self.claim.token

    @property
    def kind(self) -> str:
        """The kind of its task."""
        return self.claim.task.kind

    @property
    def ran(self) -> float:
        """The time that it has run [s]."""
        return time.monotonic() - self.began

    @property
    def progress(self) -> Progress:
        """Its progress."""
        if self._progress is None:
            expected = self.outline.expected
            self._progress = Progress(self.plan, expected, self.ran, self.forecast)
            self._progress.resume(self._snapshot)
        return self._progress

    def is_news(self) -> bool:
        """Whether it was silent long enough that its time left must be told again."""
        look_in = self.progress.look_in()
        since = self.began if self.told_at is None else self.told_at
        return look_in is not None and time.monotonic() >= since + look_in

    @property
    def has_progress(self) -> bool:
        """Whether it has told how far it is."""
        return self._progress is not None

    def lesson(self) -> Times | None:
        """Return the times [s] of its segments, once it is completed; None: it teaches nothing."""
        return [(WHOLE, self.ran)] if self._progress is None else self._progress.lesson()

    def last_fragment(self, reason: str | None) -> bytes:
        """Return the last fragment: of a completed task, or of one that failed for a reason."""
        if reason is None and self._progress is None:
            # Everything is done, whatever it was told before.
            return done_fragment(self.plan, self.ran)
        return self.progress.end(reason)


class Attempts:
    """Finds attempts by the ids of their tasks and their tokens."""

    def __init__(self, queue: QueueService, lease_seconds: float) -> None:
        self._queue = queue
        self._remembered = LEASES_REMEMBERED * lease_seconds
        # By task, the one that was touched longest ago first.
        self._known: OrderedDict[str, RemoteAttempt] = OrderedDict()
        self._plans: Bounded[str, Plan] = Bounded(MOST_PLANS)

    def __len__(self) -> int:
        return len(self._known)

    def add(
        self, claim: Claim, pool: tuple[str, ...], plan: Plan | None, facts: Mapping[str, Any]
    ) -> RemoteAttempt:
        """Remember one that begins now; `facts`: the description of its kind."""
        now = time.monotonic()
        attempt = RemoteAttempt(
            claim=_without_params(claim),
            pool=pool,
            plan=plan,
            outline=_outline_of(claim, facts),
            began=now,
            told_plan=claim.plan,
            touched=now,
            told_state=None if claim.kept else b"{}",
            kept_bytes=None if claim.kept else 0,
        )
        self._remember(attempt)
        return attempt

    def of_task(self, task_id: str) -> RemoteAttempt | None:
        """Return the attempt at a task that is known here."""
        return self._known.get(task_id)

    def known(self, lease: tuple[str, str]) -> RemoteAttempt | None:
        """Return one that is known here."""
        attempt = self._known.get(lease[0])
        if attempt is None or attempt.claim.token != lease[1]:
            return None
        attempt.touched = time.monotonic()
        self._known.move_to_end(lease[0])
        return attempt

    async def find(self, lease: tuple[str, str]) -> RemoteAttempt | LeaseState:
        """Return one that is its worker's; else why it is not. Raise what reading raises."""
        if (attempt := self.known(lease)) is not None:
            return attempt
        [state] = await self._queue.read_leases([lease])
        if state != LeaseState.YOURS:
            return state
        task = await self._queue.get_task(lease[0])
        if task is None or task.started_at is None:
            return LeaseState.LOST
        return self.known(lease) or await self._recall(task, lease[1])

    def forget(self, lease: tuple[str, str]) -> None:
        """Forget one; harmless when it is not known."""
        attempt = self._known.get(lease[0])
        if attempt is not None and attempt.claim.token == lease[1]:
            del self._known[lease[0]]

    async def learn_plans(self, digests: set[str]) -> None:
        """Read plans that are not known yet. Raise what reading raises."""
        left = [digest for digest in digests if self._plans.find(digest) is None]
        for digest, text in (await self._queue.read_plans(left)).items():
            try:
                self._plans.put(digest, Plan.read(text))
            except ValueError:
                # Perhaps it is of a later version: the task is shown without steps.
                continue

    def plan(self, digest: str) -> Plan | None:
        """Return a plan that was learned."""
        return self._plans.find(digest)

    async def _recall(self, task: Task, token: str) -> RemoteAttempt:
        try:
            snapshot = orjson.loads(task.snapshot)
        except ValueError:
            snapshot = {}
        digest = snapshot.get("plan") or ""
        await self.learn_plans({digest} - {""})
        assert task.started_at is not None
        waited = task.started_at - task.created_at
        elapsed = max(time.time() - task.started_at, 0.0)
        attempt = RemoteAttempt(
            claim=_without_params(Claim(task, token, waited, True, digest)),
            pool=(),
            plan=self.plan(digest),
            outline=_outline_of(Claim(task, token, plan=digest), {}),
            began=time.monotonic() - elapsed,
            told_plan=digest,
            touched=time.monotonic(),
            snapshot=snapshot if task.progress else {},
        )
        self._remember(attempt)
        return attempt

    def _remember(self, attempt: RemoteAttempt) -> None:
        self._known[attempt.claim.task.task_id] = attempt
        self._known.move_to_end(attempt.claim.task.task_id)
        oldest = next(iter(self._known.values()))
        while oldest is not attempt and oldest.touched + self._remembered < attempt.touched:
            del self._known[oldest.claim.task.task_id]
            oldest = next(iter(self._known.values()))


def _outline_of(claim: Claim, facts: Mapping[str, Any]) -> Outline:
    """Return what is known of a task by the description of its kind, {} when that is unknown."""
    kind, telling = claim.task.kind, facts.get("telling") or ()
    key = key_of(kind, claim.plan, [claim.task.params.get(name) for name in telling])
    return Outline(kind, key, expected=facts.get("expected_seconds"))


def _without_params(claim: Claim) -> Claim:
    task = claim.task
    if not (task.params or task.snapshot or task.result):
        return claim
    job = attrs.evolve(task.job, params={})
    return attrs.evolve(claim, task=attrs.evolve(task, job=job, snapshot=b"", result=None))
