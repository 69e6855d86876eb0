"""The worker: claims tasks, runs their handler, keeps their leases, ends them."""

import asyncio
import functools
import random
import time
from typing import Any

import attrs
import cattrs
import orjson
import structlog
from redis.exceptions import RedisError

from services.progress import LeaseLost, RedisProgressStore, RedisProgressTracker, TaskParams
from services.queue import Ack, Claim, Outcome, QueueService, new_request
from services.worker.handlers import Handler, Retry, TaskError
from services.worker.roster import Roster
from tornado_rt.protocol import Cursor, Message, MessageType

log = structlog.get_logger(__name__)

OUTAGE_SECONDS = 0.5
# How many claims may be under way: while Redis answers one, the handlers of another run.
LANES = 2
# Upkeep runs when something falls due; this often when nothing is known to.
IDLE_SECONDS = 30.0
POSITIONS_SECONDS = 1.0
EXTENSIONS_A_LEASE = 3
MAX_ERROR_LENGTH = 2000

STORE_ERRORS = (RedisError, OSError)


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
    """A claimed task in this worker. `lost`: its lease is another's, or it has ended."""

    claim: Claim
    tracker: RedisProgressTracker
    extend_at: float
    job: asyncio.Task[None] | None = None
    lost: bool = False


class Worker:
    """Runs at most `concurrency` handlers at once; durations are seconds, 0 for no timeout.

    It is a subscriber of the topic `workers`: an enqueue wakes it, a cancellation reaches the
    handler. It never polls: its lanes wait until there is something to claim or to hand in, its
    upkeep until something falls due. A slot is free, runs a task, or is asked for by a lane.
    Whoever of the `roster` is gone has the leases of his tasks ended.
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
        backoff: Backoff | None = None,
        roster: Roster | None = None,
    ) -> None:
        self._queue = queue
        self._handler = handler
        self._concurrency = concurrency
        self._worker_id = worker_id
        self._grace_seconds = grace_seconds
        self._timeout_seconds = timeout_seconds
        self._backoff = backoff or Backoff()
        self._roster = roster
        self._runs: dict[str, _Run] = {}
        self._acks: list[Ack] = []
        self._asked = 0
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
        self._queue_away = False

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
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_up(), name="worker-upkeep")
            lanes = [group.create_task(self._lane(), name=f"lane-{n}") for n in range(LANES)]
            await asyncio.wait(lanes)
            await self._finish()
            self._finished = True
            self._awake.set()

    def _look(self) -> None:
        self._promising = True
        self._wanted.set()
        self._expect_move()

    async def _lane(self) -> None:
        share = -(-self._concurrency // LANES)
        while not self._stopping:
            free = self._concurrency - len(self._runs) - self._asked
            count = min(free, share) if self._promising else 0
            if count or self._acks:
                # What this one leaves free may find something too.
                self._promising = free > count > 0
                await self._claim(count)
            else:
                self._wanted.clear()
                await self._wanted.wait()

    async def _claim(self, count: int) -> None:
        acks, self._acks = self._acks, []
        self._asked += count
        try:
            claims = await self._claim_at_last(count, acks)
        finally:
            self._asked -= count
        self._queue_away = False
        self._expect_move()
        if self._stopping:
            self._surplus += claims
            return
        for claim in claims:
            self._start(claim)
        if claims and len(claims) == count:
            self._look()

    async def _claim_at_last(self, count: int, acks: list[Ack]) -> list[Claim]:
        """Repeat one request until it is answered: what it claimed or ended is not lost."""
        request = new_request()
        while True:
            try:
                return await self._queue.claim(self._worker_id, count, acks, request)
            except STORE_ERRORS as error:
                if self._stopping:
                    self._acks = acks + self._acks
                    return []
                await self._outlast(error)

    async def _outlast(self, error: Exception) -> None:
        # Said once an outage, however often it is tried.
        if not self._queue_away:
            log.warning("queue_away", error=error)
        self._queue_away = True
        await asyncio.sleep(OUTAGE_SECONDS)

    async def _keep_up(self) -> None:
        # Leases are kept to the end of the grace time.
        while not self._finished:
            self._awake.clear()
            try:
                await self._do_due()
            except STORE_ERRORS as error:
                await self._outlast(error)
            else:
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
        tracker = RedisProgressTracker(
            task.task_id,
            params.analysts,
            params.research_depth,
            params.llm_provider,
            attempt=task.attempt,
            store=RedisProgressStore(self._queue, claim.token),
        )
        run = _Run(claim, tracker, self._next_extension())
        self._runs[task.task_id] = run
        self._note_due(run.extend_at)
        run.job = asyncio.create_task(self._handle(run), name=f"task-{task.task_id}")

    def _refuse(self, claim: Claim, why: str) -> None:
        error = _one_line(f"bad params: {why}")
        self._acks.append(Ack(claim.task.task_id, claim.token, Outcome.FAILED, error=error))
        self._look()

    async def _handle(self, run: _Run) -> None:
        task_id = run.claim.task.task_id
        try:
            ack = await self._attempt(run)
            if ack is not None and not run.lost:
                self._acks.append(ack)
        finally:
            if self._runs.get(task_id) is run:
                del self._runs[task_id]
            self._look()

    async def _attempt(self, run: _Run) -> Ack | None:
        """Run the handler and return the end of the attempt; None when it is no longer ours."""
        task = run.claim.task
        limit = asyncio.timeout(self._timeout_seconds) if self._timeout_seconds else None
        try:
            if limit is None:
                result = await self._handler(task, run.tracker)
            else:
                async with limit:
                    result = await self._handler(task, run.tracker)
            _check_result(result)
        except LeaseLost:
            log.info("lease_lost", task_id=task.task_id)
            return None
        except asyncio.CancelledError:
            return _ack(run, Outcome.FAILED, error="the handler was cancelled")
        except Retry as error:
            delay = self._backoff.seconds(task.attempt) if error.delay is None else error.delay
            return _ack(run, Outcome.RETRY, error=_explain(error), delay=delay)
        except (Exception, SystemExit) as error:
            reason = _explain(error)
            if limit is not None and limit.expired():
                reason = f"took longer than {self._timeout_seconds:g} s"
            elif not isinstance(error, TaskError):
                log.warning("task_failed", task_id=task.task_id, exc_info=error)
            await run.tracker.mark_failed(reason)
            return _ack(run, Outcome.FAILED, error=reason)
        await run.tracker.mark_completed()
        return _ack(run, Outcome.COMPLETED, result=result or {})

    async def _do_due(self) -> None:
        now = time.monotonic()
        if now >= self._upkeep_at:
            await self._keep_up_now(now)
        if self._positions_at is not None and now >= self._positions_at:
            self._positions_at = None
            if await self._queue.publish_positions() < 0:
                # Another worker was quicker, but the line may have moved since.
                self._expect_move()
        for run in [run for run in self._runs.values() if now >= run.extend_at]:
            await self._extend(run)

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
        if not await self._queue.extend_task(run.claim.task.task_id, run.claim.token):
            self._drop(run.claim.task.task_id)

    def _next_extension(self) -> float:
        return time.monotonic() + self._queue.visibility_seconds / EXTENSIONS_A_LEASE

    def _expect_move(self) -> None:
        if self._positions_at is None:
            self._positions_at = time.monotonic() + POSITIONS_SECONDS
            self._note_due(self._positions_at)

    def _drop(self, task_id: str) -> None:
        # The task is another's, or ended: whatever the handler still does counts no more.
        run = self._runs.get(task_id)
        if run is not None and run.job is not None:
            run.lost = True
            run.job.cancel()

    async def _finish(self) -> None:
        jobs = [run.job for run in self._runs.values() if run.job is not None]
        if jobs:
            await asyncio.wait(jobs, timeout=self._grace_seconds)
        unfinished = tuple(self._runs.values())
        for run in unfinished:
            self._drop(run.claim.task.task_id)
        await asyncio.gather(*jobs, return_exceptions=True)
        handed_back = [*self._surplus, *(run.claim for run in unfinished)]
        try:
            await self._queue.claim(self._worker_id, 0, self._acks)
            for claim in handed_back:
                await self._queue.release_task(claim.task.task_id, claim.token)
        except STORE_ERRORS as error:
            # Their leases run out, and another worker takes them.
            log.warning("queue_away_at_stop", error=error, tasks=len(handed_back))


# Most tasks ask for what others asked for.
@functools.lru_cache(maxsize=1024)
def _structure(params: bytes) -> TaskParams:
    return cattrs.structure(orjson.loads(params), TaskParams)


def _ack(run: _Run, outcome: Outcome, **more: Any) -> Ack:
    fragment = run.tracker.fragment()
    return Ack(run.claim.task.task_id, run.claim.token, outcome, fragment=fragment, **more)


def _check_result(result: object) -> None:
    """Raise TypeError for what cannot be kept as a task's result."""
    if not isinstance(result, dict | None):
        raise TypeError(f"a result is a dict or None, not {type(result).__name__}")
    orjson.dumps(result)


def _explain(error: BaseException) -> str:
    own = isinstance(error, TaskError | Retry)
    text = str(error) if own else f"{type(error).__name__}: {error}"
    return _one_line(text)


def _explain_fault(error: BaseException, _: type | None) -> str:
    # attrs' validators put the whole field behind their sentence.
    return str(error.args[0] if error.args else error)


def _one_line(text: str) -> str:
    # A lone surrogate, as in the name of a file, has no place in JSON or Redis.
    encodable = text.encode(errors="replace").decode()
    return encodable.replace("\n", " ")[:MAX_ERROR_LENGTH]
