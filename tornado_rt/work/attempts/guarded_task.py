"""Tasks that a handler cannot cancel, and threads that it cannot keep, unless they are its own.

A handler may cancel every task of the loop (`asyncio.all_tasks`). It ends itself and all that it
has started; what serves others goes on.
"""

import asyncio
import contextvars
import functools
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class Family:
    """A handler with all that runs on its behalf. `executor`: where its threads run, if it has any.

    It keeps no list of its tasks: freeing those would need the costly garbage collector.
    """

    __slots__ = ("executor",)

    def __init__(self) -> None:
        self.executor: Executor | None = None


# Whose code runs; None for the server's own.
_family: contextvars.ContextVar[Family | None] = contextvars.ContextVar("family", default=None)


class GuardedTask(asyncio.Task[Any]):
    """A task of the family whose code made it; another family's code cannot cancel it."""

    # No `__init__`: it would make each task of the server more costly.
    _of: Family | None = None

    def cancel(self, msg: Any = None) -> bool:
        """Cancel, unless the caller is of another family. Return whether it was cancelled."""
        caller = _family.get()
        return (caller is None or caller is self._of) and super().cancel(msg)


class FirstTask(GuardedTask):
    """The first task of a family.

    `unbegun` is called after a cancellation, until the coroutine sets it to None in its first step:
    one that is cancelled before that never runs.
    """

    unbegun: Callable[[], None] | None = None

    def cancel(self, msg: Any = None) -> bool:
        """Do as any guarded task does."""
        is_cancelled = super().cancel(msg)
        if is_cancelled and self.unbegun is not None:
            self.get_loop().call_soon(self.unbegun)
        return is_cancelled


def start_family(coroutine: Coroutine[Any, Any, Any], name: str) -> FirstTask:
    """Start the first task of a new family."""
    family, context = Family(), contextvars.copy_context()
    context.run(_family.set, family)
    task = FirstTask(coroutine, name=name, context=context)
    task._of = family
    return task


async def _contained(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Do as the coroutine does, but let no exit through: asyncio would end the loop of all."""
    try:
        return await coroutine
    except (KeyboardInterrupt, SystemExit) as error:
        name = type(error).__name__
        raise RuntimeError(f"a task of the handler ended with {name}") from error


def guard_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Let each task that this loop makes from here on be guarded, whatever a handler sets.

    And let handlers have other threads than the server.
    """
    type(loop).set_task_factory(loop, _make)
    shared: Any = loop
    shared.set_task_factory = _keep_factory
    for replacement in (run_in_executor, set_default_executor, shutdown_default_executor):
        setattr(shared, replacement.__name__, functools.partial(replacement, loop))


# These take the place of the loop's methods. A family that asks for the loop's threads gets its
# own: it may keep, replace or end them. The server resolves names and reads keys in the loop's.


def run_in_executor(
    loop: asyncio.AbstractEventLoop,
    executor: Executor | None,
    function: Callable[..., Any],
    *arguments: Any,
) -> asyncio.Future[Any]:
    """Run it in a thread, of the family when no executor is named."""
    family = _family.get()
    if executor is None and family is not None:
        # Its threads end when nothing refers to it any more.
        family.executor = executor = family.executor or ThreadPoolExecutor()
    return type(loop).run_in_executor(loop, executor, function, *arguments)


def set_default_executor(loop: asyncio.AbstractEventLoop, executor: ThreadPoolExecutor) -> None:
    """Set what `run_in_executor` takes: for the family, or for the server."""
    family = _family.get()
    if family is None:
        type(loop).set_default_executor(loop, executor)
    else:
        family.executor = executor


async def shutdown_default_executor(loop: asyncio.AbstractEventLoop, *arguments: Any) -> None:
    """End the server's threads, unless a family asks: its own end with it."""
    if _family.get() is None:
        await type(loop).shutdown_default_executor(loop, *arguments)


def _keep_factory(factory: object) -> None:
    log.warning("task_factory_kept", refused=type(factory).__name__)


def _make(loop: asyncio.AbstractEventLoop, coroutine: Any, **named: Any) -> GuardedTask:
    context = named.get("context")
    # A task that is made in a context of its own is of the family there.
    family = _family.get() if context is None else context.get(_family)
    if family is None:
        return GuardedTask(coroutine, loop=loop, **named)
    task = GuardedTask(_contained(coroutine), loop=loop, **named)
    task._of = family
    # One that is cancelled before its first step would complain that nobody awaited it.
    task.add_done_callback(lambda _: coroutine.close())
    return task
