"""The worker: claims tasks, runs their handler, keeps their leases, ends them."""

import asyncio
import importlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import cattrs
import structlog
from redis.exceptions import RedisError

from services.progress import (
    LeaseLost,
    RedisProgressStore,
    RedisProgressTracker,
    TaskParams,
)
from services.queue import Ack, Claim, Outcome, QueueService, Task
from settings import Settings
from tornado_rt.protocol import Message, MessageType

log = structlog.get_logger(__name__)

Handler = Callable[[Task, RedisProgressTracker], Awaitable[dict[str, Any] | None]]

BACKOFF_SECONDS = 0.5
MAX_ERROR_LENGTH = 2000


class HandlerError(Exception):
    """A handler cannot be loaded; the message says why."""


class TaskError(Exception):
    """Raised by a handler for a failure that its text explains to the user."""


def load_handler(path: str, settings: Settings) -> Handler:
    """Import `MODULE:FUNCTION`. Raise HandlerError.

    A function `configure(settings)` in the same module is called first.
    """
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
        handler = getattr(module, name)
    except (ImportError, AttributeError, ValueError) as error:
        raise HandlerError(f"worker_handler: cannot load {path!r}: {error}") from error
    if not asyncio.iscoroutinefunction(handler):
        raise HandlerError(f"worker_handler: {path!r} is not an `async def` function")
    if hasattr(module, "configure"):
        module.configure(settings)
    loaded: Handler = handler
    return loaded


@attrs.define(eq=False)
class _Run:
    """A claimed task in this worker. `job` is its handler's task."""

    claim: Claim
    tracker: RedisProgressTracker
    extended_at: float
    job: asyncio.Task[None] | None = None
    lost: bool = False


class Worker:
    """Runs at most `concurrency` handlers at once; durations are seconds.

    It is a subscriber of the topic `workers`: an enqueue wakes it, a cancellation reaches the
    handler. `poll_seconds` is the pace of upkeep, and the safety net for a wake that was lost.
    """

    def __init__(
        self,
        queue: QueueService,
        handler: Handler,
        *,
        concurrency: int,
        worker_id: str,
        grace_seconds: float,
        poll_seconds: float = 1.0,
    ) -> None:
        self._queue = queue
        self._handler = handler
        self._concurrency = concurrency
        self._worker_id = worker_id
        self._grace_seconds = grace_seconds
        self._poll_seconds = poll_seconds
        self._runs: dict[str, _Run] = {}
        self._acks: list[Ack] = []
        self._awake = asyncio.Event()
        self._stopping = False

    def deliver(self, message: Message) -> None:
        """Take a message of the topic `workers`."""
        if message.type == MessageType.WAKE:
            self._awake.set()
        elif message.type == MessageType.CANCEL:
            self._drop(message.fields().get("task_id", ""))

    def gap(self) -> None:
        """Look for work, since a wake may have been lost."""
        self._awake.set()

    def stop(self) -> None:
        """Claim nothing more; `run` returns after the grace time at the latest."""
        self._stopping = True
        self._awake.set()

    async def run(self) -> None:
        """Work until `stop`."""
        upkeep_at = 0.0
        while not self._stopping:
            self._awake.clear()
            try:
                await self._claim()
                if time.monotonic() >= upkeep_at:
                    upkeep_at = time.monotonic() + self._poll_seconds
                    await self._keep_up()
            except (RedisError, OSError) as error:
                log.warning("queue_away", error=repr(error))
                await asyncio.sleep(BACKOFF_SECONDS)
            await self._sleep()
        await self._finish()

    async def _sleep(self) -> None:
        try:
            await asyncio.wait_for(self._awake.wait(), self._poll_seconds)
        except TimeoutError:
            return

    async def _claim(self) -> None:
        free = self._concurrency - len(self._runs)
        if not free and not self._acks:
            return
        acks, self._acks = self._acks, []
        try:
            claims = await self._queue.claim(self._worker_id, free, acks)
        except (RedisError, OSError):
            # The ends of tasks are not lost with the connection; a repeated one is harmless.
            self._acks = acks + self._acks
            raise
        for claim in claims:
            self._start(claim)

    def _start(self, claim: Claim) -> None:
        task = claim.task
        params = cattrs.structure(task.params, TaskParams)
        tracker = RedisProgressTracker(
            task.task_id,
            params.analysts,
            params.research_depth,
            params.llm_provider,
            attempt=task.attempt,
            store=RedisProgressStore(self._queue, claim.token),
        )
        run = _Run(claim, tracker, time.monotonic())
        self._runs[task.task_id] = run
        run.job = asyncio.create_task(self._handle(run), name=f"task-{task.task_id}")

    async def _handle(self, run: _Run) -> None:
        task = run.claim.task
        try:
            result = await self._handler(task, run.tracker)
            await run.tracker.mark_completed()
            self._acks.append(_ack(run, Outcome.COMPLETED, result=result or {}))
        except LeaseLost:
            log.info("lease_lost", task_id=task.task_id)
        except asyncio.CancelledError:
            if not run.lost:
                self._acks.append(_ack(run, Outcome.FAILED, error="the handler was cancelled"))
        except Exception as error:
            reason = _explain(error)
            log.warning("task_failed", task_id=task.task_id, error=reason, exc_info=_trace(error))
            await run.tracker.mark_failed(reason)
            self._acks.append(_ack(run, Outcome.FAILED, error=reason))
        finally:
            if self._runs.get(task.task_id) is run:
                del self._runs[task.task_id]
            self._awake.set()

    async def _keep_up(self) -> None:
        await self._queue.cleanup_expired_tasks()
        due = time.monotonic() - self._queue.visibility_seconds / 3
        for task_id, run in tuple(self._runs.items()):
            if run.extended_at > due:
                continue
            run.extended_at = time.monotonic()
            if not await self._queue.extend_task(task_id, run.claim.token):
                self._drop(task_id)

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
        try:
            await self._queue.claim(self._worker_id, 0, self._acks)
            for run in unfinished:
                await self._queue.release_task(run.claim.task.task_id, run.claim.token)
        except (RedisError, OSError) as error:
            # Their leases run out, and another worker takes them.
            log.warning("queue_away_at_stop", error=repr(error), tasks=len(unfinished))


def _ack(run: _Run, outcome: Outcome, **more: Any) -> Ack:
    fragment = run.tracker.fragment()
    return Ack(run.claim.task.task_id, run.claim.token, outcome, fragment=fragment, **more)


def _explain(error: Exception) -> str:
    text = str(error) if isinstance(error, TaskError) else f"{type(error).__name__}: {error}"
    return text.replace("\n", " ")[:MAX_ERROR_LENGTH]


def _trace(error: Exception) -> Exception | None:
    # A TaskError is meant for the user; anything else is a fault to be found.
    return None if isinstance(error, TaskError) else error
