"""Tasks that a handler cannot cancel, unless they are its own.

A handler may cancel every task of the loop (`asyncio.all_tasks`). It ends itself and all that it
has started; what serves others goes on. A family is a handler with all that runs on its behalf.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)

# Whose code runs; None for the server's own.
_family: contextvars.ContextVar[object | None] = contextvars.ContextVar("family", default=None)


class GuardedTask(asyncio.Task[Any]):
    """A task of the family whose code made it; another family's code cannot cancel it."""

    # No `__init__`: it would make each task of the server dearer.
    _of: object | None = None

    def cancel(self, msg: Any = None) -> bool:
        """Cancel, unless the caller is another family. Return whether it was."""
        caller = _family.get()
        return (caller is None or caller is self._of) and super().cancel(msg)


class FamilyTask(GuardedTask):
    """The first task of a new family."""

    def __init__(
        self, function: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any, name: str
    ) -> None:
        super().__init__(self._begin(function, arguments), name=name)
        self._of = self

    async def _begin(
        self, function: Callable[..., Coroutine[Any, Any, Any]], arguments: tuple[Any, ...]
    ) -> None:
        _family.set(self)
        await function(*arguments)


async def _contained(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Do as the coroutine does, but let no exit through: asyncio would end the loop of all."""
    try:
        return await coroutine
    except (KeyboardInterrupt, SystemExit) as error:
        name = type(error).__name__
        raise RuntimeError(f"a task of the handler ended with {name}") from error


def guard_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Let each task that this loop makes from here on be guarded, whatever a handler sets."""
    type(loop).set_task_factory(loop, _make)
    loop.set_task_factory = _keep_factory  # type: ignore[method-assign]


def _keep_factory(factory: object) -> None:
    log.warning("task_factory_kept", refused=type(factory).__name__)


def _make(loop: asyncio.AbstractEventLoop, coroutine: Any, **named: Any) -> GuardedTask:
    family = _family.get()
    if family is None:
        return GuardedTask(coroutine, loop=loop, **named)
    task = GuardedTask(_contained(coroutine), loop=loop, **named)
    task._of = family
    # One that is cancelled before its first step would complain that nobody awaited it.
    task.add_done_callback(lambda _: coroutine.close())
    return task
