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
    """Requests by the task of their handler."""

    def __init__(self) -> None:
        self._requests: dict[asyncio.Task[Any], Request] = {}

    def add(self, request: Request) -> "asyncio.Task[Any]":
        """Add a request of the task that runs, and return that task."""
        task = asyncio.current_task()
        assert task is not None
        self._requests[task] = request
        return task

    def remove(self, task: "asyncio.Task[Any]") -> None:
        """Remove the request of a task that ends."""
        del self._requests[task]

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
