"""The worker: its slots, the attempts that use them, and its upkeep, joined."""

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from contextvars import copy_context
from functools import partial

import structlog
from structlog.contextvars import bind_contextvars

from services.queue import Ack, Claim, Outcome, QueueService
from services.worker.claims import Claims
from services.worker.outcomes import Outcomes
from services.worker.roster import Roster
from services.worker.slots import LANES, FixedRoom, Slots
from services.worker.upkeep import WorkerUpkeep
from tornado_rt import __version__
from tornado_rt.jobs import Jobs
from tornado_rt.metrics import Metrics
from tornado_rt.protocol import Cursor, Message, MessageType
from tornado_rt.redis import is_outage
from tornado_rt.tracing import attempt_spans
from tornado_rt.work.attempts.attempt import Attempt
from tornado_rt.work.attempts.endings import HANDED_BACK, Ending, one_line
from tornado_rt.work.attempts.lessons import Forecasts
from tornado_rt.work.attempts.link import Link, Reporter
from tornado_rt.work.attempts.outages import OUTAGE_SECONDS, Outages
from tornado_rt.work.attempts.queue import NO_SUBMITTER, Submitter
from tornado_rt.work.attempts.target import BadParams, Target
from tornado_rt.work.attempts.threads import ABANDON_SECONDS
from tornado_rt.work.attempts.tracing import outcome_name
from tornado_rt.work.texts import stored_phrase

log = structlog.get_logger(__name__)


class Worker:
    """Runs at most `concurrency` tasks of the kinds in `targets` at once.

    It is a subscriber of the topic `workers`: an enqueue wakes it, a cancellation and an answer
    reach the handler. It joins its slots, the attempts that use them, and its upkeep. When a worker
    of the `roster` is gone, the leases of its tasks end. `grace_seconds` is what running tasks get
    at a stop, before they are handed back. `forecasts` know how long tasks take, the `submitter`
    takes those that handlers submit.
    """

    def __init__(
        self,
        queue: QueueService,
        targets: Mapping[str, Target],
        *,
        concurrency: int,
        worker_id: str,
        grace_seconds: float,
        roster: Roster | None = None,
        metrics: Metrics | None = None,
        forecasts: Forecasts | None = None,
        submitter: Submitter = NO_SUBMITTER,
    ) -> None:
        self._queue = queue
        self._submitter = submitter
        self._targets = targets
        self._forecasts = forecasts
        self._worker_id = worker_id
        self._grace_seconds = grace_seconds
        self._attempts: dict[str, Attempt] = {}
        self._stopping = False
        # Claims that another worker may go on with.
        self._handed_back: list[Claim] = []
        self._away_at_stop = False
        self._claims = Claims(queue, worker_id, list(targets))
        self._outages = Outages(is_outage)
        metrics = metrics or Metrics()
        self._outcomes = Outcomes(metrics)
        self._spans = attempt_spans(worker_id)
        self._reporter = Reporter(metrics.progress_writes.inc)
        # As others are told of it.
        self._info = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "concurrency": concurrency,
            "lease_seconds": queue.visibility_seconds,
            "version": __version__,
            "language": "python",
            "started_at": time.time(),
        }
        self._upkeep = WorkerUpkeep(
            queue,
            partial(queue.announce_worker, worker_id, list(targets), self._info),
            roster=roster,
            outages=self._outages,
            metrics=metrics,
        )
        self._slots = Slots(
            self._claims,
            FixedRoom(concurrency, self._attempts),
            start=self._start,
            moved=self._upkeep.expect_move,
            outages=self._outages,
        )

    def deliver(self, message: Message) -> None:
        """Take a message of the topic `workers`."""
        if message.type == MessageType.WAKE:
            # Without a name it is of a version before, whose queue was the only one.
            if message.fields().get("queue", self._queue.prefix) != self._queue.prefix:
                return
            self._upkeep.expect_due(message.fields().get("due_in"))
            self._slots.look()
        elif message.type == MessageType.CANCEL:
            self._cancel(message.fields().get("task_id", ""))
        elif message.type == MessageType.ANSWER:
            self._look_for_answers(message.fields().get("task_id", ""))

    def gap(self) -> None:
        """Look for work, answers, and what is due, since a message may have been lost."""
        self._upkeep.expect_due(0.0)
        self._slots.look()
        for attempt in self._attempts.values():
            attempt.look_for_answers()

    def is_behind(self, _: Cursor | None) -> bool:
        """Say no: wakes have no log."""
        return False

    def stop(self) -> None:
        """Claim nothing more, and tell handlers; `run` returns after the grace time at most."""
        self._stopping = True
        self._info["draining"] = True
        self._upkeep.announce_again()
        self._slots.stop()
        for attempt in tuple(self._attempts.values()):
            attempt.tell_stop()

    async def run(self) -> None:
        """Work until `stop`."""
        jobs = Jobs(OUTAGE_SECONDS)
        try:
            upkeep = jobs.keep(self._upkeep.run, "worker-upkeep")
            jobs.keep(self._reporter.run, "worker-reports")
            lanes = [jobs.keep(self._slots.lane, f"lane-{n}") for n in range(LANES)]
            await asyncio.wait(lanes)
            # Leases are kept to the end of the grace time.
            await self._finish()
            self._upkeep.finish()
            await asyncio.wait([upkeep])
            await self._leave()
        finally:
            await jobs.close()

    def _cancel(self, task_id: str) -> None:
        if (attempt := self._attempts.get(task_id)) is not None:
            attempt.cancelled = True
            attempt.drop()
        else:
            self._outcomes.cancelled(task_id)

    def _look_for_answers(self, task_id: str) -> None:
        if (attempt := self._attempts.get(task_id)) is not None:
            attempt.look_for_answers()

    def _start(self, claim: Claim) -> None:
        try:
            # In a context of its own, which costs less than to bind in ours and unbind again.
            attempt = copy_context().run(self._begin, claim)
        except BadParams as error:
            self._refuse(claim, one_line(stored_phrase("bad params: {error}", error=error)))
            return
        self._attempts[attempt.task_id] = attempt
        self._outcomes.began(attempt.task_id)
        self._upkeep.hold(attempt)

    def _begin(self, claim: Claim) -> Attempt:
        """Begin an attempt; all that is logged in it says of which task it is."""
        task = claim.task
        bind_contextvars(
            task_id=task.task_id, kind=task.kind, user_id=task.user_id, attempt=task.attempt
        )
        link = Link(
            self._queue, claim, self._reporter, self._outages, self._forecasts, self._submitter
        )
        with self._spans.begun(claim):
            return Attempt(self._targets[task.kind], link, self._over)

    def _refuse(self, claim: Claim, error: str) -> None:
        self._spans.ended(claim, Outcome.FAILED)
        ack = Ack(claim.task.task_id, claim.token, Outcome.FAILED, error=error)
        self._claims.hand_in(ack, self._outcomes.ended(claim, 0.0))
        self._slots.look()

    def _over(self, attempt: Attempt, ending: Ending) -> None:
        """Free the slot, and hand in how the attempt ended if it is still ours."""
        if self._attempts.get(attempt.task_id) is attempt:
            del self._attempts[attempt.task_id]
        self._upkeep.let_go(attempt)
        handed_back = ending is HANDED_BACK or (ending.cancelled and self._stopping)
        self._spans.ended(
            attempt.claim, outcome_name(ending, attempt.cancelled, handed_back=handed_back)
        )
        if handed_back:
            self._handed_back.append(attempt.claim)
        elif (ack := attempt.ack(ending)) is not None:
            self._claims.hand_in(ack, self._outcomes.ended(attempt.claim, attempt.ran))
        elif attempt.cancelled:
            self._outcomes.count(attempt.claim, attempt.ran, "cancelled")
        else:
            self._outcomes.ended(attempt.claim, attempt.ran)
            log.info("lease_lost", task_id=attempt.task_id)
        self._slots.look()

    async def _finish(self) -> None:
        """Wait for what runs, the grace time at most; hand back what has not ended then."""
        deadline = time.monotonic() + self._grace_seconds
        self._handed_back += self._slots.surplus
        await self._tell_ends()
        while self._attempts and (left := deadline - time.monotonic()) > 0:
            # Tell first the ends that came while others were told.
            if self._away_at_stop or not (self._claims.waiting or self._handed_back):
                jobs = [attempt.job for attempt in self._attempts.values()]
                await asyncio.wait(jobs, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            await self._tell_ends()
        unfinished = tuple(self._attempts.values())
        for attempt in unfinished:
            attempt.hand_back()
        if unfinished:
            # A handler that swallows its cancellation is left behind.
            await asyncio.wait([one.job for one in unfinished], timeout=ABANDON_SECONDS)
        for attempt in unfinished:
            attempt.abandon()
        await self._tell_ends(last=True)

    async def _tell_ends(self, *, last: bool = False) -> None:
        """Hand in what has ended since the stop, and hand back what has not.

        Where Redis has been away, only the `last` time: the grace time is short.
        """
        if self._away_at_stop and not last:
            return
        try:
            await self._claims.hand_in_rest()
            while self._handed_back:
                await self._hand_back(self._handed_back[0])
                del self._handed_back[0]
        except Exception as error:
            # Their leases run out, and another worker takes them.
            log.warning("queue_away_at_stop", error=error, tasks=len(self._handed_back))
            self._away_at_stop = True

    async def _leave(self) -> None:
        """Tell others that this worker is gone; else they find that it says nothing any more."""
        try:
            await self._queue.withdraw_worker(self._worker_id)
        except Exception as error:
            log.warning("worker_not_withdrawn", error=error)

    async def _hand_back(self, claim: Claim) -> None:
        try:
            await self._queue.release_task(claim.task.task_id, claim.token)
        except Exception as error:
            if is_outage(error):
                raise
            log.error("task_not_handed_back", task_id=claim.task.task_id, error=error)
