"""Functions as handlers: which can be one, which runs on the loop, and how all are called.

An `async def` runs on the loop. Anything else that can be called runs in a thread. Its result is
awaited where it can be: an `async def` behind a decorator is a plain function that returns a
coroutine.
"""

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from tornado_rt.work.awaiting import settled
from tornado_rt.work.errors import Retry
from tornado_rt.work.run import Run


def fault_of(function: object) -> str | None:
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


def is_async(function: object) -> bool:
    """Tell whether this is an `async def`: anything else may block."""
    return inspect.iscoroutinefunction(_code_of(function))


def call(function: Callable[..., Any], params: Any, run: Run) -> Any:
    """Call a handler; return its result, or an awaitable of it. Raise what the handler raises.

    Raise ValueError when it leaves a state that cannot be kept, also in place of a Retry, whose
    attempt would start with an older state.
    """
    try:
        returned = function(params, run)
    except Retry:
        run.check_state()
        raise
    if inspect.isawaitable(returned):
        return _result_of(returned, run)
    run.check_state()
    return returned


async def _result_of(returned: Awaitable[Any], run: Run) -> Any:
    run.let_await()
    try:
        result = await settled(await returned)
    except Retry:
        run.check_state()
        raise
    run.check_state()
    return result


def _code_of(function: Any) -> Any:
    """Return the function that runs when this is called."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, staticmethod):
        return _code_of(function.__func__)
    if inspect.isroutine(function):
        return function
    return _code_of(type(function).__call__)
