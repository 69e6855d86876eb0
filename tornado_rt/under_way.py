"""The requests that handlers are at work on."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

# How long what was refused at a stop has to end, and clients to take their answers [s].
REFUSED_SECONDS = 1.0


class Request(Protocol):
    """A request that somebody waits for."""

    def give_up(self, task: "asyncio.Task[Any]") -> None:
        """Refuse the request at a stop, and cancel the task that works on it."""


class UnderWay:
    """Requests by the task of their handler; each leaves with its task."""

    def __init__(self) -> None:
        self._requests: dict[asyncio.Task[Any], Request] = {}

    def add(self, request: Request) -> None:
        """Add a request of the task that runs."""
        task = asyncio.current_task()
        if task is not None and task not in self._requests:
            self._requests[task] = request
            task.add_done_callback(self._requests.pop)

    def give_up(self) -> None:
        """Refuse all that is under way."""
        for task, request in tuple(self._requests.items()):
            request.give_up(task)

    async def end(self, answered: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Wait until `answered` returns, for this long [s]; then refuse what is under way."""
        try:
            async with asyncio.timeout(seconds):
                await answered()
        except TimeoutError:
            self.give_up()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFUSED_SECONDS):
                    await answered()

    async def over(self) -> None:
        """Return once nothing is under way."""
        while self._requests:
            await asyncio.wait(tuple(self._requests))
