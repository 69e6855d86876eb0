"""Imports kinds and the functions of handlers, and judges what can be one."""

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any

from services.kinds.loading import load_kinds
from services.worker.endings import text_of_error
from settings import Settings
from tornado_rt.work import Kind


class HandlerError(Exception):
    """A handler cannot be loaded; the message says why."""


def import_function(path: str, settings: Settings) -> Callable[..., Any]:
    """Import `MODULE:FUNCTION` and call its module's `configure(settings)`, if it has one.

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
    if fault := fault_of(function):
        raise HandlerError(f"worker_handler: {path!r} is {fault}")
    _configure(module, module_name, settings)
    return function  # type: ignore[no-any-return]


def import_kind(name: str, module: str, settings: Settings) -> Kind:
    """Import a kind, from the modules that the settings name, or from that of its handler.

    Raise KindError; KeyError when neither has it.
    """
    found = load_kinds(settings.kinds, settings)
    return found[name] if name in found else load_kinds([module], settings)[name]


def fault_of(function: object) -> str | None:
    """Return why this cannot be a handler, None when it can."""
    if inspect.isclass(function):
        return "a class, not a function"
    if not callable(function):
        return "not a function"
    code = code_of(function)
    flags = getattr(getattr(code, "__code__", None), "co_flags", 0)
    # A generator behind `types.coroutine` is awaited as any coroutine.
    generates = inspect.isgeneratorfunction(code) and not flags & inspect.CO_ITERABLE_COROUTINE
    if generates or inspect.isasyncgenfunction(code):
        return "a generator: a handler returns its result, it does not yield"
    return None


def runs_on_the_loop(function: object) -> bool:
    """Say whether this is an `async def`: anything else runs in a thread."""
    return inspect.iscoroutinefunction(code_of(function))


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


def code_of(function: Any) -> Any:
    """Return the function that runs when this is called."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, staticmethod):
        return code_of(function.__func__)
    if inspect.isroutine(function):
        return function
    return code_of(type(function).__call__)
