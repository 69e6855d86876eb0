"""Reads of the same moment share one query: a thousand who come at once ask a few times."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from pymongo.errors import PyMongoError

T = TypeVar("T")
# Most keys in one query.
TOGETHER = 500


class SharedRead(Generic[T]):
    """Reads values by their key; `read` returns those that there are.

    A read begins after it was asked for: what was stored before that is in it.
    """

    def __init__(self, read: Callable[[list[str]], Awaitable[dict[str, T]]]) -> None:
        self._read = read
        self._asked: dict[str, asyncio.Future[T | None]] = {}
        self._job: asyncio.Task[None] | None = None

    async def get(self, key: str) -> T | None:
        """Return the value, None when there is none. Raise what the read raises."""
        value = self._asked.get(key)
        if value is None:
            value = self._asked[key] = asyncio.get_running_loop().create_future()
        if self._job is None:
            # It serves others too: it belongs to no handler that happens to be the first.
            loop, context = asyncio.get_running_loop(), contextvars.Context()
            self._job = loop.create_task(self._run(), name="shared-read", context=context)
        # One who gives up takes nothing from the others.
        return await asyncio.shield(value)

    async def _run(self) -> None:
        try:
            while self._asked:
                keys = list(self._asked)[:TOGETHER]
                await self._answer({key: self._asked.pop(key) for key in keys})
        finally:
            self._job = None
            for value in self._asked.values():
                value.cancel()

    async def _answer(self, asked: dict[str, "asyncio.Future[T | None]"]) -> None:
        try:
            found = await self._read(list(asked))
        except Exception as error:
            if len(asked) > 1 and not isinstance(error, PyMongoError):
                # It may be about one key, which the others have nothing to do with.
                for key, value in asked.items():
                    await self._answer({key: value})
                return
            for value in asked.values():
                if not value.done():
                    value.set_exception(error)
                    # Those who asked may all have given up.
                    value.exception()
            return
        except asyncio.CancelledError:
            for value in asked.values():
                value.cancel()
            raise
        for key, value in asked.items():
            if not value.done():
                value.set_result(found.get(key))
