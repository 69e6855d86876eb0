"""Handlers of (task, progress), as the analysis has them.

A handler gets the task and its progress and returns the result, a JSON object or None.
An `async def` runs on the worker's loop. Anything else that can be called runs in a thread, where
`progress.update_progress` needs no `await`; an awaitable that it returns is awaited on the loop.
With `worker_processes` each runs in a process of its own, which ends, or is killed soon, when the
task is cancelled or out of time.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import attrs

from services.analysis import (
    AnalysisStep,
    AnalysisTask,
    RedisProgressTracker,
    legacy_arguments,
    plain_update,
)
from services.progress.stores import RedisProgressStore, TrackedTask
from services.queue import Outcome
from services.worker.legacy_child import run_handler
from settings import Settings
from tornado_rt.tracing import carrying
from tornado_rt.work import LeaseLost, Told
from tornado_rt.work.attempts.channel import NOT_OURS, BadMessage, Channel
from tornado_rt.work.attempts.endings import Ending, text_of_error
from tornado_rt.work.attempts.lessons import Lesson, Outline, Times
from tornado_rt.work.attempts.link import Link
from tornado_rt.work.attempts.process import TaskProcesses, end_badly, read_ending
from tornado_rt.work.attempts.target import BadParams, Rules
from tornado_rt.work.attempts.threads import LoopWaiter, run_in_thread
from tornado_rt.work.awaiting import settled
from tornado_rt.work.forecast import Forecast
from tornado_rt.work.handlers import is_async
from tornado_rt.work.run import NO_STATE

Handler = Callable[[AnalysisTask, RedisProgressTracker], Awaitable[Any]]


class LegacyProgress(Protocol):
    """The object by which a handler tells its progress."""

    steps: list[AnalysisStep]

    def update_progress(self, progress_update: str | dict[str, Any]) -> Awaitable[None]:
        """Tell where the work is, as `RedisProgressTracker.update_progress` takes it."""
        ...


class LegacyTarget:
    """Runs a handler of (task, progress) that is awaited on the loop."""

    def __init__(self, handler: Handler, rules: Rules) -> None:
        self._handler = handler
        self._rules = rules

    def prepare(self, link: Link) -> "PreparedHandler":
        """Give the task the tracker of its plan. Raise BadParams."""
        try:
            task, tracker = legacy_arguments(link.task, _LinkStore(link))
        except Exception as error:
            raise BadParams(text_of_error(error)) from error
        rules = self._rules.of(link.task.job)
        return PreparedHandler(self._handler, rules, task, tracker, link)


@attrs.frozen(eq=False)
class PreparedHandler:
    """An analysis with its progress."""

    handler: Handler
    rules: Rules
    task: AnalysisTask
    tracker: RedisProgressTracker
    link: Link

    async def run(self) -> Any:
        """Run the handler."""
        self.tracker.expect(await self.link.read_forecast(self.tracker.outline))
        self.link.begin(_Silent(self.tracker))
        return await settled(await self.handler(self.task, self.tracker))

    def stop(self) -> None:
        """Do nothing: it is not told."""

    def last_fragment(self, outcome: Outcome, error: str) -> bytes | None:
        """Return the last state of the tracker."""
        if outcome == Outcome.COMPLETED:
            self.tracker.complete()
        elif outcome == Outcome.FAILED:
            self.tracker.fail(error)
        return self.tracker.fragment()

    def lesson(self) -> Lesson | None:
        """Return what the completed analysis has taught, as far as that is wanted."""
        return self.link.lesson(self.tracker.outline, self.tracker.lesson)


def handler_of(function: Callable[..., Any], rules: Rules) -> Handler:
    """Return what is awaited to run a function: itself, or that it runs in a thread."""
    return function if is_async(function) else ThreadHandler(function, rules)


class ThreadHandler:
    """Runs a plain function in a thread."""

    def __init__(self, function: Callable[[AnalysisTask, Any], Any], rules: Rules) -> None:
        self._function = function
        self._rules = rules

    async def __call__(self, task: AnalysisTask, tracker: RedisProgressTracker) -> Any:
        """Run to the end."""
        progress = ThreadProgress(tracker)
        return await run_in_thread(
            lambda: self._function(task, progress),
            self._rules.judge,
            task.task_id,
            progress.close,
        )


class ThreadProgress:
    """Brings reports from a thread to the tracker on the loop, until `close`."""

    def __init__(self, tracker: RedisProgressTracker) -> None:
        self.steps: list[AnalysisStep] = tracker.steps
        self._closed = False
        self._tracker = tracker
        self._waiter = LoopWaiter()
        self._process = os.getpid()

    def close(self) -> None:
        """Refuse reports from now on: nobody waits for them any more."""
        self._closed = True

    def update_progress(self, progress_update: str | dict[str, Any]) -> Awaitable[None]:
        """Report, and wait until it is kept; what is returned may be awaited or not.

        Raise CancelledError once the task is another's; StepUnknown.
        """
        if os.getpid() != self._process:
            raise RuntimeError("a forked process cannot report; its parent can")
        if self._closed:
            raise asyncio.CancelledError
        # Read here: an object of the handler's may do anything when it is looked at.
        report = self._tracker.update_progress(plain_update(progress_update, self.steps))
        if self._waiter.is_here:
            return report
        self._waiter.wait(report)
        return Told()


class ProcessHandler:
    """Runs `MODULE:FUNCTION` for each task in a new process."""

    def __init__(self, path: str, settings: Settings, rules: Rules) -> None:
        self._path = path
        self._settings = settings
        self._rules = rules
        self._carry, carry_modules = carrying(settings)
        modules = [run_handler.__module__, path.partition(":")[0], *carry_modules]
        self._processes = TaskProcesses(modules, rules.result_bytes)

    async def __call__(self, task: AnalysisTask, tracker: RedisProgressTracker) -> Ending:
        """Run to the end; cancelled, end the process."""
        steps, carried = tracker.steps, self._carry()
        arguments = (self._path, self._settings, self._rules, task, steps, carried)

        async def follow(channel: Channel) -> Ending:
            return await self._follow(channel, tracker)

        return await self._processes.run(run_handler, arguments, task.task_id, follow)

    async def _follow(self, channel: Channel, tracker: RedisProgressTracker) -> Ending:
        while True:
            try:
                kind, content = await channel.receive()
                if kind == "ending":
                    return read_ending(content, any_json=self._rules.any_json)
                update = _update_of(kind, content)
            except BadMessage as error:
                return end_badly(error)
            await tracker.update_progress(update)


@attrs.frozen(eq=False)
class _Silent:
    """A tracker as its link reports it while its handler is silent."""

    tracker: RedisProgressTracker
    # The task was made with it.
    plan: None = None

    def fragment_and_plan(self) -> tuple[bytes, float, None]:
        """Return the fragment and the progress."""
        return self.tracker.fragment(), self.tracker.progress, None

    def encoded_state(self) -> bytes:
        """Return that nothing is kept for a later attempt."""
        return NO_STATE

    def look_in(self) -> float | None:
        """Return after how many seconds without a report the time left is news; None: never."""
        return self.tracker.look_in()


class _LinkStore:
    """Keeps progress for as long as the attempt is not over."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._store = RedisProgressStore(link.queue, link.claim.token)

    async def save(self, tracker: TrackedTask) -> None:
        """Report one state. Raise LeaseLost."""
        self._store.closed = self._link.closed
        try:
            await self._store.save(tracker)
        except LeaseLost:
            self._link.lost()
            raise

    async def forecast(self, outline: Outline) -> Forecast | None:
        """Return what is known of tasks like one."""
        return await self._link.read_forecast(outline)

    async def learn(self, outline: Outline, task_id: str, times: Times) -> None:
        """Do nothing: the ack carries it."""


def _update_of(kind: Any, content: Any) -> Any:
    if kind == "step" and isinstance(content, list) and len(content) == 2:
        return {"step": content[0], "message": content[1]}
    if kind == "message":
        return content
    raise BadMessage(NOT_OURS)
