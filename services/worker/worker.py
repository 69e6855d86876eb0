"""The worker: claims tasks, runs their handler, keeps their leases, ends them."""

import asyncio
import functools
import inspect
import os
import random
import time

import attrs
import cattrs
import orjson
import structlog

from services.progress import RedisProgressStore, RedisProgressTracker, TaskParams
from services.queue import Ack, Claim, Outcome, QueueService
from services.worker.claims import ClaimRefused, Claims
from services.worker.endings import (
    LOST,
    Ending,
    end_with_error,
    end_with_result,
    failed,
    one_line,
    text_of_error,
)
from services.worker.handlers import Handler
from services.worker.roster import Roster
from services.worker.threads import ABANDON_SECONDS
from tornado_rt.fork_guard import end_if_forked
from tornado_rt.guarded_task import start_family
from tornado_rt.jobs import Jobs
from tornado_rt.protocol import Cursor, Message, MessageType
from tornado_rt.redis import is_outage

log = structlog.get_logger(__name__)

OUTAGE_SECONDS = 0.5
# How many claims may be under way: while Redis answers one, the handlers of another run.
LANES = 2
# Upkeep runs when something falls due; this often when nothing is known to.
IDLE_SECONDS = 30.0
POSITIONS_SECONDS = 1.0
EXTENSIONS_A_LEASE = 3


@attrs.frozen
class Backoff:
    """How long a task waits before it is tried again: from `base`, doubled each time, to `most`."""

    base: float = 5.0
    most: float = 300.0

    def seconds(self, attempt: int) -> float:
        """Return the wait after an attempt, counted from 1; spread over its upper half."""
        ceiling = min(self.most, self.base * 2.0 ** min(attempt - 1, 30))
        return ceiling * random.uniform(0.5, 1.0)


@attrs.define(eq=False)
class _Run:
    """A claimed task in this worker, until it is over.

    `stopped`: how it ends when the handler was stopped, however the handler takes that.
    """

    claim: Claim
    tracker: RedisProgressTracker
    store: RedisProgressStore
    extend_at: float
    job: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None
    stopped: Ending | None = None
    over: bool = False


class Worker:
    """Runs at most `concurrency` handlers at once; durations are seconds, 0 for no timeout.

    It is a subscriber of the topic `workers`: an enqueue wakes it, a cancellation reaches the
    handler. It never polls: its lanes wait until there is something to claim or to hand in, its
    upkeep until something falls due. A slot is free, runs a task, or is asked for by a lane.
    When a worker of the `roster` is gone, the leases of its tasks end. `result_bytes` bounds a
    result as JSON, 0 for none.

    A handler that does not end when it is cancelled is abandoned: it holds no slot, and neither its
    reports nor its result change anything.
    """

    def __init__(
        self,
        queue: QueueService,
        handler: Handler,
        *,
        concurrency: int,
        worker_id: str,
        grace_seconds: float,
        timeout_seconds: float = 0.0,
        result_bytes: int = 0,
        backoff: Backoff | None = None,
        roster: Roster | None = None,
    ) -> None:
        self._queue = queue
        self._handler = handler
        self._concurrency = concurrency
        self._grace_seconds = grace_seconds
        self._timeout_seconds = timeout_seconds
        self._result_bytes = result_bytes
        self._backoff = backoff or Backoff()
        self._roster = roster
        self._process = os.getpid()
        self._runs: dict[str, _Run] = {}
        # Jobs that did not end when they were cancelled; the loop itself would forget them.
        self._abandoned: set[asyncio.Task[None]] = set()
        self._claims = Claims(queue, worker_id)
        # Whether a claim may find something; what lanes wait for.
        self._promising = True
        self._wanted = asyncio.Event()
        self._surplus: list[Claim] = []
        self._awake = asyncio.Event()
        self._sleeps_until = 0.0
        self._upkeep_at = 0.0
        self._positions_at: float | None = None
        self._stopping = False
        self._finished = False
        # The calls whose error was logged: each once, until the queue answers again.
        self._troubles: set[str] = set()

    def deliver(self, message: Message) -> None:
        """Take a message of the topic `workers`."""
        if message.type == MessageType.WAKE:
            due_at = time.monotonic() + message.fields().get("due_in", IDLE_SECONDS)
            self._upkeep_at = min(self._upkeep_at, due_at)
            self._note_due(due_at)
            self._look()
        elif message.type == MessageType.CANCEL:
            self._drop(message.fields().get("task_id", ""))

    def gap(self) -> None:
        """Look for work and for what is due, since a wake may have been lost."""
        self._upkeep_at = 0.0
        self._awake.set()
        self._look()

    def is_behind(self, _: Cursor | None) -> bool:
        """Say no: wakes have no log."""
        return False

    def stop(self) -> None:
        """Claim nothing more; `run` returns after the grace time at the latest."""
        self._stopping = True
        self._wanted.set()

    async def run(self) -> None:
        """Work until `stop`."""
        jobs = Jobs(OUTAGE_SECONDS)
        try:
            upkeep = jobs.keep(self._keep_up, "worker-upkeep")
            lanes = [jobs.keep(self._lane, f"lane-{n}") for n in range(LANES)]
            await asyncio.wait(lanes)
            await self._finish()
            self._finished = True
            self._awake.set()
            await asyncio.wait([upkeep])
        finally:
            await jobs.close()

    def _look(self) -> None:
        self._promising = True
        self._wanted.set()
        self._expect_move()

    async def _lane(self) -> None:
        share = -(-self._concurrency // LANES)
        while not self._stopping:
            if self._claims.unanswered:
                # Its answer may be older than the news that there is work.
                await self._claim(0)
                continue
            free = self._concurrency - len(self._runs) - self._claims.asked
            count = max(min(free, share), 0) if self._promising else 0
            if count or self._claims.waiting:
                # What this one leaves free may find something too.
                self._promising = free > count > 0
                await self._claim(count)
            else:
                self._wanted.clear()
                await self._wanted.wait()

    async def _claim(self, count: int) -> None:
        try:
            claims = await self._claims.take(count)
        except Exception as error:
            if not (is_outage(error) or isinstance(error, ClaimRefused)):
                raise
            if not self._stopping:
                await self._outlast(error, "claim")
                self._look()
            return
        self._troubles.discard("claim")
        self._expect_move()
        if self._stopping:
            self._surplus += claims
            return
        for claim in claims:
            self._start(claim)
        if claims and len(claims) == count:
            self._look()

    async def _outlast(self, error: Exception, what: str) -> None:
        if what not in self._troubles:
            event = "queue_away" if is_outage(error) else "queue_refuses"
            log.warning(event, what=what, error=error)
        self._troubles.add(what)
        await asyncio.sleep(OUTAGE_SECONDS)

    async def _keep_up(self) -> None:
        # Leases are kept to the end of the grace time.
        while not self._finished:
            self._awake.clear()
            try:
                await self._do_due()
            except Exception as error:
                await self._outlast(error, "upkeep")
            else:
                self._troubles.discard("upkeep")
                await self._sleep()

    async def _sleep(self) -> None:
        dues = [self._upkeep_at, *(run.extend_at for run in self._runs.values())]
        if self._positions_at is not None:
            dues.append(self._positions_at)
        self._sleeps_until = min(dues)
        try:
            async with asyncio.timeout(max(self._sleeps_until - time.monotonic(), 0)):
                await self._awake.wait()
        except TimeoutError:
            return

    def _note_due(self, at: float) -> None:
        if at < self._sleeps_until:
            self._awake.set()

    def _start(self, claim: Claim) -> None:
        task = claim.task
        try:
            params = _structure(orjson.dumps(task.params))
        except cattrs.BaseValidationError as error:
            faults = cattrs.transform_error(error, format_exception=_explain_fault)
            self._refuse(claim, "; ".join(faults))
            return
        except Exception as error:
            self._refuse(claim, text_of_error(error))
            return
        store = RedisProgressStore(self._queue, claim.token)
        tracker = RedisProgressTracker(
            task.task_id,
            params.analysts,
            params.research_depth,
            params.llm_provider,
            attempt=task.attempt,
            store=store,
        )
        run = _Run(claim, tracker, store, self._next_extension())
        self._runs[task.task_id] = run
        self._note_due(run.extend_at)
        run.job = start_family(self._handle(run), f"task-{task.task_id}")
        run.job.add_done_callback(functools.partial(self._settle, run))
        if self._timeout_seconds:
            loop = asyncio.get_running_loop()
            run.timer = loop.call_later(self._timeout_seconds, self._expire, run)

    def _refuse(self, claim: Claim, why: str) -> None:
        error = one_line(f"bad params: {why}")
        self._claims.hand_in(Ack(claim.task.task_id, claim.token, Outcome.FAILED, error=error))
        self._look()

    async def _handle(self, run: _Run) -> None:
        ending = await self._attempt(run)
        # A copy of this process, made by the handler, must not go on here.
        end_if_forked(self._process)
        if not run.over:
            self._end(run, run.stopped or ending)

    def _settle(self, run: _Run, _: object) -> None:
        if not run.over:
            # Cancelled before its first step.
            self._end(run, run.stopped or failed("the handler was cancelled"))

    async def _attempt(self, run: _Run) -> Ending:
        """Run the handler to its end, whatever that is."""
        try:
            result: object = await self._handler(run.claim.task, run.tracker)
            if inspect.isawaitable(result):
                # An `async def` behind a decorator that is one itself.
                result = await result
            if isinstance(result, Ending):
                return result
            return end_with_result(result, self._result_bytes)
        except BaseException as error:
            return end_with_error(error)

    def _end(self, run: _Run, ending: Ending) -> None:
        """Free the slot, and hand in how the attempt ended if it is still ours."""
        task_id = run.claim.task.task_id
        run.over = run.store.closed = True
        if run.timer is not None:
            run.timer.cancel()
        if self._runs.get(task_id) is run:
            del self._runs[task_id]
        if ending.outcome is None:
            log.info("lease_lost", task_id=task_id)
        else:
            self._claims.hand_in(self._ack(run, ending, ending.outcome))
        if ending.trace:
            log.warning("task_failed", task_id=task_id, exception=ending.trace)
        self._look()

    def _ack(self, run: _Run, ending: Ending, outcome: Outcome) -> Ack:
        task, delay = run.claim.task, ending.delay
        if outcome == Outcome.RETRY and delay is None:
            delay = self._backoff.seconds(task.attempt)
        return Ack(
            task.task_id,
            run.claim.token,
            outcome,
            result=ending.result,
            error=ending.error,
            fragment=_last_fragment(run.tracker, outcome, ending.error),
            delay=delay or 0.0,
        )

    def _expire(self, run: _Run) -> None:
        self._stop_run(run, failed(f"took longer than {self._timeout_seconds:g} s"))

    def _drop(self, task_id: str) -> None:
        # The task is another's, or ended: whatever the handler still does counts no more.
        run = self._runs.get(task_id)
        if run is not None:
            self._stop_run(run, LOST)

    def _stop_run(self, run: _Run, ending: Ending) -> None:
        if run.job is None or run.stopped is LOST:
            return
        run.stopped = ending
        run.job.cancel()
        if run.timer is not None:
            run.timer.cancel()
        loop = asyncio.get_running_loop()
        run.timer = loop.call_later(ABANDON_SECONDS, self._abandon, run)

    def _abandon(self, run: _Run) -> None:
        if run.over or run.job is None or run.stopped is None:
            return
        log.warning("handler_abandoned", task_id=run.claim.task.task_id, after=ABANDON_SECONDS)
        self._abandoned.add(run.job)
        run.job.add_done_callback(self._abandoned.discard)
        self._end(run, run.stopped)

    async def _do_due(self) -> None:
        now = time.monotonic()
        # First, for they are why tasks are not run twice.
        for run in [run for run in self._runs.values() if now >= run.extend_at]:
            await self._extend(run)
        if now >= self._upkeep_at:
            await self._keep_up_now(now)
        if self._positions_at is not None and now >= self._positions_at:
            self._positions_at = None
            if await self._queue.publish_positions() < 0:
                # Another worker was quicker, but the line may have moved since.
                self._expect_move()

    async def _keep_up_now(self, now: float) -> None:
        # Set first: what is announced while Redis answers may be newer than its answer.
        self._upkeep_at = now + IDLE_SECONDS
        try:
            await self._end_leases_of_lost()
            due_in = (await self._queue.keep_up()).due_in
        except BaseException:
            self._upkeep_at = now
            raise
        if due_in is not None:
            self._upkeep_at = min(self._upkeep_at, now + due_in)

    async def _end_leases_of_lost(self) -> None:
        if self._roster is None or not (lost := self._roster.lost()):
            return
        expired = await self._queue.expire_claims(lost)
        log.info("workers_lost", workers=lost, tasks=expired)
        for worker_id in lost:
            self._roster.forget(worker_id)

    async def _extend(self, run: _Run) -> None:
        run.extend_at = self._next_extension()
        task_id = run.claim.task.task_id
        try:
            owned = await self._queue.extend_task(task_id, run.claim.token)
        except Exception as error:
            if is_outage(error):
                raise
            log.error("lease_not_extended", task_id=task_id, error=error)
            return
        if not owned:
            self._drop(task_id)

    def _next_extension(self) -> float:
        return time.monotonic() + self._queue.visibility_seconds / EXTENSIONS_A_LEASE

    def _expect_move(self) -> None:
        if self._positions_at is None:
            self._positions_at = time.monotonic() + POSITIONS_SECONDS
            self._note_due(self._positions_at)

    async def _finish(self) -> None:
        jobs = [run.job for run in self._runs.values() if run.job is not None]
        if jobs:
            await asyncio.wait(jobs, timeout=self._grace_seconds)
        unfinished = tuple(self._runs.values())
        for run in unfinished:
            self._drop(run.claim.task.task_id)
        if jobs:
            # A handler that swallows its cancellation is left behind.
            await asyncio.wait(jobs, timeout=ABANDON_SECONDS)
        for run in unfinished:
            self._abandon(run)
        handed_back = [*self._surplus, *(run.claim for run in unfinished)]
        try:
            await self._claims.hand_in_rest()
            for claim in handed_back:
                await self._hand_back(claim)
        except Exception as error:
            # Their leases run out, and another worker takes them.
            log.warning("queue_away_at_stop", error=error, tasks=len(handed_back))

    async def _hand_back(self, claim: Claim) -> None:
        try:
            await self._queue.release_task(claim.task.task_id, claim.token)
        except Exception as error:
            if is_outage(error):
                raise
            log.error("task_not_handed_back", task_id=claim.task.task_id, error=error)


def _last_fragment(tracker: RedisProgressTracker, outcome: Outcome, error: str) -> bytes | None:
    """Return the last state; None when the handler has left it so that it cannot be told."""
    try:
        if outcome == Outcome.COMPLETED:
            tracker.complete()
        elif outcome == Outcome.FAILED:
            tracker.fail(error)
        return tracker.fragment()
    except BaseException as fault:
        log.error("progress_unreadable", task_id=tracker.task_id, error=text_of_error(fault))
        return None


# Most tasks ask for what others asked for.
@functools.lru_cache(maxsize=1024)
def _structure(params: bytes) -> TaskParams:
    return cattrs.structure(orjson.loads(params), TaskParams)


def _explain_fault(error: BaseException, _: type | None) -> str:
    # attrs' validators put the whole field behind their sentence.
    return str(error.args[0] if error.args else error)
