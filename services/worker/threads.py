"""A handler that is a plain function: it runs in a thread, and its reports go to the loop."""

import asyncio
import inspect
import os
import threading
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import structlog

from services.progress import LeaseLost, RedisProgressTracker, Step, plain_update
from services.queue import Task
from services.worker.endings import Ending, Result, end_with_error, end_with_result
from tornado_rt.fork_guard import end_if_forked

log = structlog.get_logger(__name__)

# How long a handler that is cancelled may take to end, until it is left behind.
ABANDON_SECONDS = 0.5


class ThreadHandler:
    """Runs a plain function in a thread.

    A thread cannot be stopped: one whose task was cancelled is told at its next report. What the
    function returns may be awaitable, as that of an undecorated `async def` is; it is awaited on
    the loop. `result_bytes` bounds a result, 0 for none.
    """

    def __init__(self, function: Callable[[Task, Any], Any], result_bytes: int = 0) -> None:
        self._function = function
        self._result_bytes = result_bytes

    async def __call__(self, task: Task, tracker: RedisProgressTracker) -> Result | Ending:
        """Run to the end."""
        loop = asyncio.get_running_loop()
        progress = ThreadProgress(tracker, loop)

        def run() -> Any:
            return self._run(task, progress)

        running = in_thread(run, f"task-{task.task_id}")
        try:
            returned = await asyncio.shield(running)
        except asyncio.CancelledError:
            progress.closed = True
            running.add_done_callback(_discard_result)
            loop.call_later(ABANDON_SECONDS, _tell_if_running, running, task.task_id)
            raise
        # Raised or returned here, it is judged as any coroutine's.
        result: Result | Ending = await returned if inspect.isawaitable(returned) else returned
        return result

    def _run(self, task: Task, progress: "ThreadProgress") -> Any:
        try:
            returned = self._function(task, progress)
            if inspect.isawaitable(returned):
                return returned
            return end_with_result(returned, self._result_bytes)
        except StopIteration:
            # A coroutine's becomes a RuntimeError just so.
            return end_with_error(RuntimeError("the handler raised StopIteration"))
        except BaseException as error:
            return end_with_error(error)


class ThreadProgress:
    """Brings reports from a thread to the tracker on the loop. `closed`: nobody waits any more."""

    def __init__(self, tracker: RedisProgressTracker, loop: asyncio.AbstractEventLoop) -> None:
        self.steps: list[Step] = tracker.steps
        self.closed = False
        self._tracker = tracker
        self._loop = loop
        self._process = os.getpid()

    def update_progress(self, progress_update: str | dict[str, Any]) -> Awaitable[None]:
        """Report, and wait until it is kept; what is returned may be awaited or not.

        Raise CancelledError once the task is another's; StepUnknown.
        """
        if os.getpid() != self._process:
            raise RuntimeError("a forked process cannot report; its parent can")
        if self.closed:
            raise asyncio.CancelledError
        # Read here: an object of the handler's may do anything when it is looked at.
        report = self._tracker.update_progress(plain_update(progress_update, self.steps))
        if _running_loop() is self._loop:
            return report
        try:
            kept = asyncio.run_coroutine_threadsafe(report, self._loop)
        except RuntimeError:
            # The loop is closed: the process ends.
            report.close()
            raise LeaseLost(self._tracker.task_id) from None
        kept.result()
        return Told()


class Told:
    """A report that is kept: there is nothing left to wait for."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


def in_thread(run: Callable[[], Any], name: str) -> asyncio.Future[Any]:
    """Call a function in a thread of its own; what it raises is the future's.

    The thread is a daemon, so that one that never ends does not keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()
    process = os.getpid()

    def work() -> None:
        try:
            settle, value = ended.set_result, run()
        except BaseException as error:
            settle, value = ended.set_exception, error
        end_if_forked(process)
        try:
            loop.call_soon_threadsafe(_unless_done, ended, settle, value)
        except RuntimeError:
            # The loop is closed, and with it whoever waited.
            _discard(value)

    threading.Thread(target=work, name=name, daemon=True).start()
    return ended


def _discard_result(ended: asyncio.Future[Any]) -> None:
    if not ended.cancelled() and ended.exception() is None:
        _discard(ended.result())


def _tell_if_running(ended: asyncio.Future[Any], task_id: str) -> None:
    if not ended.done():
        log.warning("handler_abandoned", task_id=task_id, after=ABANDON_SECONDS)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _unless_done(ended: asyncio.Future[Any], settle: Callable[[Any], None], value: object) -> None:
    if ended.done():
        _discard(value)
    else:
        settle(value)


def _discard(value: object) -> None:
    # It would complain that nobody awaited it.
    if inspect.iscoroutine(value):
        value.close()
