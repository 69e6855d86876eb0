"""The asyncio task that runs a handler: another handler cannot cancel it."""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

# Whose code runs: the handler, and all that it has started.
_running: contextvars.ContextVar["HandlerTask | None"] = contextvars.ContextVar(
    "running_handler", default=None
)


class HandlerTask(asyncio.Task[None]):
    """A task that only its worker and its own code can cancel.

    A handler that cancels every task of the loop ends itself, and no other user's task.
    """

    def __init__(
        self, function: Callable[..., Coroutine[Any, Any, None]], *arguments: Any, name: str
    ) -> None:
        super().__init__(self._run_marked(function, arguments), name=name)

    def cancel(self, msg: Any = None) -> bool:
        """Cancel, unless the caller is another handler's code. Return whether it was."""
        caller = _running.get()
        return (caller is None or caller is self) and super().cancel(msg)

    async def _run_marked(
        self, function: Callable[..., Coroutine[Any, Any, None]], arguments: tuple[Any, ...]
    ) -> None:
        _running.set(self)
        await function(*arguments)
