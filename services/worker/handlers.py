"""Handlers: what runs a task, on the loop, in a thread, or in a process of its own.

A handler gets the task and its progress and returns the result, a JSON object or None.
An `async def` runs on the worker's loop. Anything else that can be called runs in a thread, where
`progress.update_progress` needs no `await`; an awaitable that it returns is awaited on the loop.
With `worker_processes` each runs in a process of its own, which is killed when the task is
cancelled or out of time.
"""

import functools
import importlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from services.progress import RedisProgressTracker, Step
from services.queue import Task
from services.worker.endings import Ending, Result, text_of_error
from services.worker.threads import ThreadHandler
from settings import Settings

Handler = Callable[[Task, RedisProgressTracker], Awaitable[Result | Ending]]


class HandlerError(Exception):
    """A handler cannot be loaded; the message says why."""


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
        # Imported late: most workers never need it.
        from services.worker.process import ProcessHandler

        return ProcessHandler(path, settings)
    if inspect.iscoroutinefunction(_code_of(function)):
        return function
    return ThreadHandler(function, settings.task_result_bytes)


def import_function(path: str, settings: Settings) -> Callable[..., Any]:
    """Import a handler's function and call its module's `configure(settings)`, if it has one.

    Raise HandlerError, whatever the module raises.
    """
    module_name, _, name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
        function = getattr(module, name)
    except BaseException as error:
        # A module may end with anything, also with SystemExit.
        reason = text_of_error(error)
        raise HandlerError(f"worker_handler: cannot load {path!r}: {reason}") from error
    if fault := _fault_of(function):
        raise HandlerError(f"worker_handler: {path!r} is {fault}")
    _configure(module, module_name, settings)
    return function  # type: ignore[no-any-return]


def _configure(module: object, module_name: str, settings: Settings) -> None:
    if not hasattr(module, "configure"):
        return
    try:
        module.configure(settings)
    except BaseException as error:
        reason = text_of_error(error)
        raise HandlerError(
            f"worker_handler: configure() of {module_name!r} failed: {reason}"
        ) from error


def _fault_of(function: object) -> str | None:
    """Return why this cannot be a handler, None when it can."""
    if inspect.isclass(function):
        return "a class, not a function"
    if not callable(function):
        return "not a function"
    code = _code_of(function)
    flags = getattr(getattr(code, "__code__", None), "co_flags", 0)
    # A generator behind `types.coroutine` is awaited as any coroutine.
    generates = inspect.isgeneratorfunction(code) and not flags & inspect.CO_ITERABLE_COROUTINE
    if generates or inspect.isasyncgenfunction(code):
        return "a generator: a handler returns its result, it does not yield"
    return None


def _code_of(function: Any) -> Any:
    """Return the function that runs when this is called."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, staticmethod):
        return _code_of(function.__func__)
    if inspect.isroutine(function):
        return function
    return _code_of(type(function).__call__)
