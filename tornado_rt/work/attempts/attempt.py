"""One attempt at a task: from its claim to its ack, whatever its handler does."""

import asyncio
import functools
import os
import time
from collections.abc import Callable

import structlog

from tornado_rt.work.attempts.budget import seconds_left
from tornado_rt.work.attempts.endings import (
    HANDED_BACK,
    LOST,
    Ending,
    end_with_error,
    errored,
    failed,
    text_of_error,
)
from tornado_rt.work.attempts.fork_guard import end_if_forked
from tornado_rt.work.attempts.guarded_task import start_family
from tornado_rt.work.attempts.lessons import Lesson
from tornado_rt.work.attempts.link import Link
from tornado_rt.work.attempts.models import Ack, Outcome
from tornado_rt.work.attempts.target import Target
from tornado_rt.work.attempts.threads import ABANDON_SECONDS
from tornado_rt.work.texts import stored_phrase

log = structlog.get_logger(__name__)

# Jobs that did not end when they were cancelled; the loop itself would forget them.
_left_behind: set[asyncio.Task[None]] = set()


class Attempt:
    """A claimed task whose handler runs. `on_over` is called once, with how it ended.

    A handler that does not end when it is cancelled is abandoned: the attempt is over, and neither
    its reports nor its result change anything. Raise BadParams when the task cannot be run.
    """

    def __init__(
        self, target: Target, link: Link, on_over: Callable[["Attempt", Ending], None]
    ) -> None:
        self.over = False
        # Its task was cancelled while it ran.
        self.cancelled = False
        self.claim = link.claim
        self.task_id = link.task.task_id
        self._began = time.monotonic()
        self._link = link
        self._on_over = on_over
        self._process = os.getpid()
        # The end of an attempt whose handler was stopped, whatever the handler does then.
        self._stopped: Ending | None = None
        self._timer: asyncio.TimerHandle | None = None
        # The fragment of a last report that was not told.
        self._report: bytes | None = None
        self._prepared = target.prepare(link)
        self._rules = self._prepared.rules
        link.lost = self.drop
        if self._rules.timeout_seconds:
            seconds = self._rules.timeout_seconds
            self._end_after(
                seconds,
                errored(stored_phrase("took longer than {seconds} s", seconds=f"{seconds:g}")),
            )
        self.job = start_family(self._run(), f"task-{self.task_id}")
        self.job.unbegun = self._settle

    @property
    def ran(self) -> float:
        """The time that it has run [s]."""
        return time.monotonic() - self._began

    def tell_stop(self) -> None:
        """Tell the handler that the worker stops; it goes on until it is handed back."""
        try:
            self._prepared.stop()
        except BaseException as fault:
            log.error("stop_untold", task_id=self.task_id, error=text_of_error(fault))

    def look_for_answers(self) -> None:
        """Let the handler look for answers that it waits for."""
        self._link.look_for_answers()

    def drop(self) -> None:
        """Stop the handler: the task is another's, or ended. The handler's work is lost."""
        self._link.close()
        self._stop(LOST)

    def hand_back(self) -> None:
        """Stop the handler, so that another goes on with the task."""
        self._stop(HANDED_BACK)

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
        outcome, delay = ending.outcome, ending.delay
        if outcome == Outcome.ERROR and not self._rules.retry_errors:
            outcome = Outcome.FAILED
        if delay is None and outcome in (Outcome.ERROR, Outcome.RETRY):
            delay = self._rules.backoff.seconds(self._link.task.attempt)
        return Ack(
            self.task_id,
            self.claim.token,
            outcome,
            result=ending.result,
            error=ending.error,
            fragment=self._last_fragment(outcome, ending.error),
            delay=delay or 0.0,
            report=self._report,
            lesson=self._lesson() if outcome == Outcome.COMPLETED else None,
            ran=self.ran,
        )

    async def _run(self) -> None:
        """Run the handler to its end, whatever that is."""
        self.job.unbegun = None
        try:
            if self._link.task.job.budget_seconds and not await self._keep_budget():
                ending = failed(self._out_of_budget())
            else:
                result = await self._prepared.run()
                ending = result if isinstance(result, Ending) else self._rules.judge(result)
        except BaseException as error:
            ending = end_with_error(error)
        # A copy of this process, made by the handler, must not go on here.
        end_if_forked(self._process)
        if not self.over:
            await self._flush(self._stopped or ending)
        if not self.over:
            self._end(self._stopped or ending)

    async def _flush(self, ending: Ending) -> None:
        if ending is LOST:
            return
        try:
            final = ending.outcome in (Outcome.COMPLETED, Outcome.FAILED)
            await self._link.flush(final=final, handed_back=ending.cancelled)
        except BaseException as error:
            # The lease is lost, or the attempt is stopped; its end is told all the same.
            log.info("state_unsaved", task_id=self.task_id, error=text_of_error(error))

    def _settle(self) -> None:
        """End it when it was cancelled before its first step."""
        self.job.unbegun = None
        if not self.over:
            self._end(self._stopped or errored(stored_phrase("the handler was cancelled")))

    def _stop(self, ending: Ending) -> None:
        if self.over or self._stopped is LOST:
            return
        self._stopped = ending
        self.job.cancel()
        self._call_later(ABANDON_SECONDS, self.abandon)

    async def _keep_budget(self) -> bool:
        """End the attempt when the budget of all attempts is used up; say whether some is left."""
        left = await seconds_left(self._link)
        if not self._rules.timeout_seconds or left < self._rules.timeout_seconds:
            self._end_after(left, failed(self._out_of_budget()))
        return left > 0

    def _out_of_budget(self) -> str:
        seconds = f"{self._link.task.job.budget_seconds:g}"
        return stored_phrase("took longer than {seconds} s in all attempts", seconds=seconds)

    def _end_after(self, seconds: float, ending: Ending) -> None:
        self._call_later(seconds, functools.partial(self._stop, ending))

    def _end(self, ending: Ending) -> None:
        self.over = True
        if self._timer is not None:
            self._timer.cancel()
        self._report = self._link.last_report()
        self._link.close()
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

    def _lesson(self) -> Lesson | None:
        try:
            return self._prepared.lesson()
        except BaseException as fault:
            log.error("times_unreadable", task_id=self.task_id, error=text_of_error(fault))
            return None

    def _call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Set the one timer of this attempt."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, callback)
