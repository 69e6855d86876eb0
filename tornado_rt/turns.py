"""Fair turns at something that only few may use at once.

`most` hold a turn in all, `most_a_key` of one key. Keys that wait are served in rounds; of those of
one key the first that may start goes first. So a user who sends many requests waits only for their
own, and only those who want a busy receiver wait for it.
"""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from tornado_rt.work.texts import phrase


class NoTurn(Exception):
    """There was no turn in time, or too many of the key wait; `retry_after` in seconds."""

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


# Errors of a store that pass; every other error is the fault of what is stored.
OUTAGES = (RedisError, PyMongoError, OSError, NoTurn)


class TooManyWaiting(NoTurn):
    """Too many requests of this key are waiting."""


@attrs.frozen(eq=False)
class _Waiter:
    """Somebody who waits; the first of `keys` is the one whose round it is."""

    keys: tuple[str, ...]
    started: asyncio.Future[None]


class Turns:
    """Gives turns; 0 is no bound, and no end of the wait.

    `most_waiting_a_key` bounds who waits, `seconds` for how long.

    Invariant: nobody who waits could start: the bound of all, or of one of their keys, is reached.
    """

    def __init__(
        self, most: int, most_a_key: int, *, most_waiting_a_key: int = 0, seconds: float = 0.0
    ) -> None:
        self._most = most
        self._most_a_key = most_a_key
        self._most_waiting_a_key = most_waiting_a_key
        self._seconds = seconds or None
        self._running = 0
        self._running_of: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[_Waiter]] = OrderedDict()

    @asynccontextmanager
    async def turn(self, *keys: str) -> AsyncIterator[None]:
        """Hold a turn for the block. Raise TooManyWaiting at once, NoTurn after the wait."""
        await self._enter(keys)
        try:
            yield
        finally:
            self._leave(keys)

    def refuse_waiting(self, error: Exception) -> None:
        """End the wait of everybody with this error."""
        waiting, self._waiting = self._waiting, OrderedDict()
        for one in (waiter for line in waiting.values() for waiter in line):
            if not one.started.done():
                one.started.set_exception(error)

    async def _enter(self, keys: tuple[str, ...]) -> None:
        if self._may_start(keys):
            # Nobody who waits could have this place.
            self._start(keys)
            return
        line = self._waiting.get(keys[0], deque())
        if 0 < self._most_waiting_a_key <= len(line):
            raise TooManyWaiting(phrase("too many requests of yours wait already"))
        waiter = _Waiter(keys, asyncio.get_running_loop().create_future())
        line.append(waiter)
        self._waiting.setdefault(keys[0], line)
        try:
            async with asyncio.timeout(self._seconds):
                await waiter.started
        except BaseException as error:
            self._give_up(waiter)
            if isinstance(error, TimeoutError):
                raise NoTurn(
                    phrase("no turn within {seconds} s", seconds=f"{self._seconds:g}")
                ) from None
            raise

    def _give_up(self, waiter: _Waiter) -> None:
        started = waiter.started
        if started.done() and not started.cancelled() and started.exception() is None:
            # It was given in the moment in which it was given up.
            self._leave(waiter.keys)
            return
        line = self._waiting.get(waiter.keys[0], deque())
        if waiter in line:
            line.remove(waiter)
            if not line:
                del self._waiting[waiter.keys[0]]
            # Another of the key may have waited after it.
            self._serve()

    def _may_start(self, keys: tuple[str, ...]) -> bool:
        if 0 < self._most <= self._running:
            return False
        return not self._most_a_key or all(self._running_of[k] < self._most_a_key for k in keys)

    def _start(self, keys: tuple[str, ...]) -> None:
        self._running += 1
        self._running_of.update(keys)

    def _leave(self, keys: tuple[str, ...]) -> None:
        self._running -= 1
        for key in keys:
            self._running_of[key] -= 1
            if not self._running_of[key]:
                del self._running_of[key]
        self._serve()

    def _serve(self) -> None:
        for key in tuple(self._waiting):
            if 0 < self._most <= self._running:
                return
            line = self._waiting[key]
            waiter = self._first_that_may_start(key, line)
            if waiter is None:
                continue
            line.remove(waiter)
            del self._waiting[key]
            self._begin(waiter)
            if line:
                # The next one of the key comes after all other keys.
                self._waiting[key] = line

    def _first_that_may_start(self, key: str, line: deque[_Waiter]) -> _Waiter | None:
        if not self._may_start((key,)):
            return None
        # A waiter that was cancelled in this moment has not left the line yet.
        able = (one for one in line if not one.started.done() and self._may_start(one.keys))
        return next(able, None)

    def _begin(self, waiter: _Waiter) -> None:
        self._start(waiter.keys)
        waiter.started.set_result(None)
