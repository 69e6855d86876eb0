"""The requests that handlers are at work on, and by when they must be answered."""

import asyncio
import contextlib
import contextvars
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

# Refused requests have this long to end at a stop, and clients this long to take their answers [s].
REFUSED_SECONDS = 1.0


class HeldRequest(Protocol):
    """A request that somebody waits for."""

    def give_up(self, task: "asyncio.Task[Any]") -> None:
        """Refuse the request at a stop, and cancel the task that works on it."""

    def refuse_slow(self, task: "asyncio.Task[Any]") -> None:
        """Refuse the request as it takes too long, and cancel the task, unless it has ended."""


class UnderWay:
    """Requests by the task of their handler. Work on each may take `seconds`; 0: any time.

    One timer serves all. Invariant: `_due` is in the order of its times, for all get equally long.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._requests: dict[asyncio.Task[Any], HeldRequest] = {}
        self._seconds = seconds
        # When, which task works on it, and where what is logged belongs to.
        self._due: dict[HeldRequest, tuple[float, asyncio.Task[Any], contextvars.Context]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, request: HeldRequest) -> "asyncio.Task[Any]":
        """Add a request of the task that runs, and return that task."""
        task = asyncio.current_task()
        assert task is not None
        self._requests[task] = request
        return task

    def remove(self, task: "asyncio.Task[Any]") -> None:
        """Remove the request of a task that ends."""
        del self._requests[task]

    def begin(self, request: HeldRequest, task: "asyncio.Task[Any]") -> None:
        """Count the time of the task from now on."""
        if not self._seconds:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + self._seconds
        self.pause(request)
        self._due[request] = due, task, contextvars.copy_context()
        if self._timer is None:
            self._timer = loop.call_at(due, self._refuse_slow)

    def pause(self, request: HeldRequest) -> None:
        """Count no more; harmless when repeated."""
        self._due.pop(request, None)

    def _refuse_slow(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._due:
            request = next(iter(self._due))
            due, task, context = self._due[request]
            if due > loop.time():
                self._timer = loop.call_at(due, self._refuse_slow)
                return
            del self._due[request]
            loop.call_soon(request.refuse_slow, task, context=context)

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
