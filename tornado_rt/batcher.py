"""Calls that share a round trip: what is asked while one is under way goes together in the next."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import attrs

Item = TypeVar("Item")
Reply = TypeVar("Reply")


@attrs.frozen(eq=False)
class _Asked(Generic[Item, Reply]):
    """An item, and who waits for its reply."""

    item: Item
    reply: asyncio.Future[Reply]


class Batcher(Generic[Item, Reply]):
    """Sends items together, at most `together` of them, in their order; one batch at a time.

    `send` returns the reply to each item, in their order. Raised, an error of `common` is about all
    of them; any other may be about one item, so that each is sent by itself then.
    """

    def __init__(
        self,
        send: Callable[[list[Item]], Awaitable[Sequence[Reply]]],
        name: str,
        *,
        together: int,
        common: tuple[type[Exception], ...],
    ) -> None:
        self._send = send
        self._name = name
        self._together = together
        self._common = common
        self._waiting: deque[_Asked[Item, Reply]] = deque()
        self._job: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Reply:
        """Return the reply; `send` began after this call. Raise what `send` raises."""
        loop = asyncio.get_running_loop()
        asked: _Asked[Item, Reply] = _Asked(item, loop.create_future())
        self._waiting.append(asked)
        if self._job is None:
            # It serves others too: it belongs to no handler that happens to be the first.
            context = contextvars.Context()
            self._job = loop.create_task(self._run(), name=self._name, context=context)
        return await asked.reply

    async def close(self) -> None:
        """End what is under way; those who wait are cancelled."""
        if self._job is not None:
            self._job.cancel()
            await asyncio.gather(self._job, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while self._waiting:
                count = min(len(self._waiting), self._together)
                await self._serve([self._waiting.popleft() for _ in range(count)])
        finally:
            self._job = None
            while self._waiting:
                self._waiting.popleft().reply.cancel()

    async def _serve(self, batch: list[_Asked[Item, Reply]]) -> None:
        try:
            replies = await self._send([asked.item for asked in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, self._common):
                for asked in batch:
                    await self._serve([asked])
                return
            for asked in batch:
                if not asked.reply.done():
                    asked.reply.set_exception(error)
        except BaseException:
            for asked in batch:
                asked.reply.cancel()
            raise
        else:
            for asked, reply in zip(batch, replies, strict=True):
                # The caller may have given up.
                if not asked.reply.done():
                    asked.reply.set_result(reply)
