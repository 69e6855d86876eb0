"""The requests that handlers are at work on."""

import asyncio
from typing import Any, Protocol


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

    async def over(self) -> None:
        """Return once nothing is under way."""
        while self._requests:
            await asyncio.wait(tuple(self._requests))
