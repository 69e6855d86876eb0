"""Handlers: what runs a task, on the loop, in a thread, or in a process of its own.

A handler gets the task and its progress and returns the result, a JSON object or None.
An `async def` runs on the worker's loop. Anything else that can be called runs in a thread, where
`progress.update_progress` needs no `await`; an awaitable that it returns is awaited on the loop.
With `worker_processes` each runs in a process of its own, which is killed when the task is
cancelled or out of time.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from services.progress import RedisProgressTracker, Step
from services.queue import Task
from services.worker.endings import Ending, Result
from services.worker.loading import import_function, runs_on_the_loop
from services.worker.process import ProcessHandler
from services.worker.threads import ThreadHandler
from settings import Settings

Handler = Callable[[Task, RedisProgressTracker], Awaitable[Result | Ending]]


class Progress(Protocol):
    """The object by which a handler tells its progress."""

    steps: list[Step]

    def update_progress(self, progress_update: str | dict[str, Any]) -> Awaitable[None]:
        """Tell where the work is, as `RedisProgressTracker.update_progress` takes it."""
        ...


def load_handler(path: str, settings: Settings) -> Handler:
    """Import `MODULE:FUNCTION`. Raise HandlerError."""
    function = import_function(path, settings)
    if settings.worker_processes:
        return ProcessHandler(path, settings)
    if runs_on_the_loop(function):
        return function
    return ThreadHandler(function, settings.task_result_bytes)
