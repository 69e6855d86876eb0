"""One attempt at a task: from its claim to its ack, whatever its handler does."""

import asyncio
import inspect
import os
from collections.abc import Callable

import structlog

from services.queue import Ack, Claim, Outcome
from services.worker.endings import (
    LOST,
    Ending,
    end_with_error,
    end_with_result,
    failed,
    text_of_error,
)
from services.worker.targets import Prepared
from services.worker.threads import ABANDON_SECONDS
from tornado_rt.fork_guard import end_if_forked
from tornado_rt.guarded_task import start_family

log = structlog.get_logger(__name__)

# Jobs that did not end when they were cancelled; the loop itself would forget them.
_left_behind: set[asyncio.Task[None]] = set()


class Attempt:
    """A claimed task whose handler runs. `on_over` is called once, with how it ended.

    A handler that does not end when it is cancelled is abandoned: the attempt is over, and neither
    its reports nor its result change anything.
    """

    def __init__(
        self, claim: Claim, prepared: Prepared, on_over: Callable[["Attempt", Ending], None]
    ) -> None:
        self.claim = claim
        self.over = False
        self._prepared = prepared
        self._on_over = on_over
        self._process = os.getpid()
        # How it ends when the handler was stopped, however the handler takes that.
        self._stopped: Ending | None = None
        self._timer: asyncio.TimerHandle | None = None
        if prepared.rules.timeout_seconds:
            self._call_later(prepared.rules.timeout_seconds, self._expire)
        self.job: asyncio.Task[None] = start_family(self._run(), f"task-{self.task_id}")
        self.job.add_done_callback(self._settle)

    @property
    def task_id(self) -> str:
        """The task's id."""
        return self.claim.task.task_id

    def drop(self) -> None:
        """Stop the handler: the task is another's, or ended. What the handler does is lost."""
        self._stop(LOST)

    def abandon(self) -> None:
        """End it now, if it was stopped and its handler has not ended."""
        if self.over or self._stopped is None:
            return
        log.warning("handler_abandoned", task_id=self.task_id, after=ABANDON_SECONDS)
        _left_behind.add(self.job)
        self.job.add_done_callback(_left_behind.discard)
        self._end(self._stopped)

    def ack(self, ending: Ending) -> Ack | None:
        """Return what the queue is told of an ending; None when the task is no longer ours."""
        if ending.outcome is None:
            return None
        task, delay = self.claim.task, ending.delay
        if ending.outcome == Outcome.RETRY and delay is None:
            delay = self._prepared.rules.backoff.seconds(task.attempt)
        return Ack(
            task.task_id,
            self.claim.token,
            ending.outcome,
            result=ending.result,
            error=ending.error,
            fragment=self._last_fragment(ending.outcome, ending.error),
            delay=delay or 0.0,
        )

    async def _run(self) -> None:
        ending = await self._outcome()
        # A copy of this process, made by the handler, must not go on here.
        end_if_forked(self._process)
        if not self.over:
            self._end(self._stopped or ending)

    async def _outcome(self) -> Ending:
        """Run the handler to its end, whatever that is."""
        try:
            result = await self._prepared.run()
            if inspect.isawaitable(result):
                # An `async def` behind a decorator that is one itself.
                result = await result
            if isinstance(result, Ending):
                return result
            return end_with_result(result, self._prepared.rules.result_bytes)
        except BaseException as error:
            return end_with_error(error)

    def _settle(self, _: object) -> None:
        if not self.over:
            # Cancelled before its first step.
            self._end(self._stopped or failed("the handler was cancelled"))

    def _stop(self, ending: Ending) -> None:
        if self._stopped is LOST:
            return
        self._stopped = ending
        self.job.cancel()
        self._call_later(ABANDON_SECONDS, self.abandon)

    def _expire(self) -> None:
        self._stop(failed(f"took longer than {self._prepared.rules.timeout_seconds:g} s"))

    def _end(self, ending: Ending) -> None:
        self.over = True
        self._prepared.close()
        if self._timer is not None:
            self._timer.cancel()
        if ending.trace:
            log.warning("task_failed", task_id=self.task_id, exception=ending.trace)
        self._on_over(self, ending)

    def _last_fragment(self, outcome: Outcome, error: str) -> bytes | None:
        """Return the last state; None when the handler has left it so that it cannot be told."""
        try:
            return self._prepared.last_fragment(outcome, error)
        except BaseException as fault:
            log.error("progress_unreadable", task_id=self.task_id, error=text_of_error(fault))
            return None

    def _call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Set the one timer of this attempt."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, callback)
