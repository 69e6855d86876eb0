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
    """Sends at most `together` items in a batch, in their order, and `at_once` batches at a time.

    `send` returns the reply to each item, in their order; one that is an exception is raised to its
    caller. Raised, an error of `common` is about all of them; any other may be about one item, so
    that each is sent by itself then.
    """

    def __init__(
        self,
        send: Callable[[list[Item]], Awaitable[Sequence[Reply | Exception]]],
        name: str,
        *,
        together: int,
        common: tuple[type[Exception], ...],
        at_once: int = 1,
    ) -> None:
        self._send = send
        self._name = name
        self._together = together
        self._common = common
        self._at_once = at_once
        self._waiting: deque[_Asked[Item, Reply]] = deque()
        self._jobs: set[asyncio.Task[None]] = set()
        # Those of them that have still to take their first batch.
        self._fresh: set[asyncio.Task[None]] = set()

    async def ask(self, item: Item) -> Reply:
        """Return the reply; `send` began after this call. Raise what `send` raises."""
        asked: _Asked[Item, Reply] = _Asked(item, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if len(self._waiting) > len(self._fresh) * self._together:
            self._start()
        return await asked.reply

    async def close(self) -> None:
        """End what is under way; those who wait are cancelled."""
        jobs = tuple(self._jobs)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    def _start(self) -> None:
        if len(self._jobs) >= self._at_once:
            return
        # It serves others too: it belongs to no handler that happens to be the first.
        context = contextvars.Context()
        loop = asyncio.get_running_loop()
        job = loop.create_task(self._run(), name=self._name, context=context)
        self._jobs.add(job)
        self._fresh.add(job)
        job.add_done_callback(self._over)

    def _over(self, job: "asyncio.Task[None]") -> None:
        self._jobs.discard(job)
        self._fresh.discard(job)
        if self._jobs or not self._waiting:
            return
        if not job.cancelled():
            # They came when it had looked for the last time.
            self._start()
            return
        while self._waiting:
            self._waiting.popleft().reply.cancel()

    async def _run(self) -> None:
        job = asyncio.current_task()
        assert job is not None
        self._fresh.discard(job)
        while self._waiting:
            count = min(len(self._waiting), self._together)
            await self._serve([self._waiting.popleft() for _ in range(count)])

    async def _serve(self, batch: list[_Asked[Item, Reply]]) -> None:
        try:
            replies = await self._send([asked.item for asked in batch])
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, self._common):
                for asked in batch:
                    await self._serve([asked])
                return
            replies = [error] * len(batch)
        except BaseException:
            for asked in batch:
                asked.reply.cancel()
            raise
        for asked, reply in zip(batch, replies, strict=True):
            if asked.reply.done():
                # Its caller has given up.
                continue
            if isinstance(reply, Exception):
                asked.reply.set_exception(reply)
            else:
                asked.reply.set_result(reply)
