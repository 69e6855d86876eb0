"""Handlers: what runs a task, on the loop, in a thread, or in a process of its own.

A handler gets the task and its progress and returns the result, a JSON object or None.
An `async def` runs on the worker's loop. A plain function runs in a thread and calls
`progress.update_progress` without `await`. With `worker_processes` either runs in a process of its
own, which is killed when the task is cancelled or out of time.
"""

import asyncio
import importlib
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from services.progress import RedisProgressTracker, Step
from services.queue import Task
from settings import Settings

Result = dict[str, Any] | None
Handler = Callable[[Task, RedisProgressTracker], Awaitable[Result]]


class HandlerError(Exception):
    """A handler cannot be loaded; the message says why."""


class TaskError(Exception):
    """Raised by a handler for a failure that its text explains to the user."""


class Retry(Exception):
    """Raised by a handler to be run again; `delay` in seconds, None for the queue's own."""

    def __init__(self, reason: str, *, delay: float | None = None) -> None:
        super().__init__(reason)
        self.delay = delay


class Progress(Protocol):
    """What a plain function is given to tell its progress."""

    steps: list[Step]

    def update_progress(self, progress_update: str | dict[str, Any]) -> None:
        """Tell where the work is, as `RedisProgressTracker.update_progress` takes it."""
        ...


def load_handler(path: str, settings: Settings) -> Handler:
    """Import `MODULE:FUNCTION`. Raise HandlerError."""
    function = import_function(path, settings)
    if settings.worker_processes:
        # Imported late: most workers never need it.
        from services.worker.process import ProcessHandler

        return ProcessHandler(path, settings)
    if inspect.iscoroutinefunction(function):
        return function
    return ThreadHandler(function)


def import_function(path: str, settings: Settings) -> Callable[..., Any]:
    """Import a handler's function and call its module's `configure(settings)`, if it has one.

    Raise HandlerError.
    """
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
        function = getattr(module, name)
    except (ImportError, AttributeError, ValueError) as error:
        raise HandlerError(f"worker_handler: cannot load {path!r}: {error}") from error
    if not inspect.isfunction(function):
        raise HandlerError(f"worker_handler: {path!r} is not a function")
    if hasattr(module, "configure"):
        module.configure(settings)
    return function


class ThreadHandler:
    """Runs a plain function in a thread.

    A thread cannot be stopped: one whose task was cancelled is told at its next report.
    """

    def __init__(self, function: Callable[[Task, Progress], Result]) -> None:
        self._function = function

    async def __call__(self, task: Task, tracker: RedisProgressTracker) -> Result:
        """Run to the end."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[Result] = loop.create_future()
        progress = ThreadProgress(tracker, loop, ended)

        def run() -> None:
            try:
                settle = (ended.set_result, self._function(task, progress))
            except asyncio.CancelledError:
                return
            except StopIteration as error:
                # No future carries it. A coroutine's becomes a RuntimeError just so.
                failure = RuntimeError("the handler raised StopIteration")
                failure.__cause__ = error
                settle = (ended.set_exception, failure)  # type: ignore[assignment]
            except (Exception, SystemExit) as error:
                settle = (ended.set_exception, error)  # type: ignore[assignment]
            loop.call_soon_threadsafe(_unless_done, ended, *settle)

        # A daemon, so that a function that never ends does not keep the process from ending.
        threading.Thread(target=run, name=f"task-{task.task_id}", daemon=True).start()
        return await ended


class ThreadProgress:
    """Brings reports from a thread to the tracker on the loop."""

    def __init__(
        self,
        tracker: RedisProgressTracker,
        loop: asyncio.AbstractEventLoop,
        ended: asyncio.Future[Result],
    ) -> None:
        self.steps = tracker.steps
        self._tracker = tracker
        self._loop = loop
        self._ended = ended

    def update_progress(self, progress_update: str | dict[str, Any]) -> None:
        """Report, and wait until it is kept. Raise CancelledError once the task is another's."""
        if self._ended.cancelled():
            raise asyncio.CancelledError
        report = self._tracker.update_progress(progress_update)
        asyncio.run_coroutine_threadsafe(report, self._loop).result()


def _unless_done(
    ended: asyncio.Future[Result], settle: Callable[[Any], None], value: object
) -> None:
    if not ended.done():
        settle(value)
