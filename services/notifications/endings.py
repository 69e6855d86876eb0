"""Writes into accounts what their last operations have changed, when no later one does so."""

import asyncio
import contextlib
import contextvars
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping

import structlog
from pymongo.errors import PyMongoError

from services.notifications.account import Operation

log = structlog.get_logger(__name__)

# An operation waits this long for the next one, which writes it into the account [s]. Measured:
# with 100 users and 300 creates a second, 0.2 s cost one more write for every fourth create.
WAIT_SECONDS = 1.0
# The same for one that another process has begun, which should write it itself [s].
OTHERS_SECONDS = 2.0
# Interval at which entries that have waited long enough are looked for [s].
LOOK_SECONDS = 0.1
RETRY_SECONDS = 1.0
# Most accounts that one write changes.
TOGETHER = 200

End = Callable[[Mapping[str, Operation]], Awaitable[None]]


class Endings:
    """Ends operations with `end` after a while.

    `is_busy` says of a user that the next operation is under way; `ended` learns of each that was
    ended here, `released` that others may go on with some. Of whom is in `writing` nothing may be
    begun meanwhile: it would not find the account as it is known.
    """

    def __init__(self, end: End) -> None:
        self._end = end
        self.is_busy: Callable[[str], bool] = lambda _: False
        self.ended: Callable[[str, Operation], None] = lambda _, __: None
        self.released: Callable[[], None] = lambda: None
        self.writing: set[str] = set()
        self._waiting: OrderedDict[str, tuple[float, Operation]] = OrderedDict()
        self._job: asyncio.Task[None] | None = None

    def add(self, operations: Mapping[str, Operation], seconds: float = WAIT_SECONDS) -> None:
        """End operations after this long, unless later ones of the same users come before."""
        due = time.monotonic() + seconds
        for user_id, operation in operations.items():
            self._waiting[user_id] = (due, operation)
        if self._job is None and self._waiting:
            # It serves others too: it belongs to no handler that happens to be the first.
            loop, context = asyncio.get_running_loop(), contextvars.Context()
            self._job = loop.create_task(self._run(), name="inbox-endings", context=context)

    async def close(self) -> None:
        """End all of them now, unless the store is away."""
        if self._job is not None:
            self._job.cancel()
            await asyncio.gather(self._job, return_exceptions=True)
        with contextlib.suppress(PyMongoError):
            await self._end_due(math.inf)

    async def _run(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(LOOK_SECONDS)
                try:
                    await self._end_due(time.monotonic())
                except PyMongoError as error:
                    log.warning("endings_wait", error=error)
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            self._job = None

    async def _end_due(self, now: float) -> None:
        due = {
            user_id: operation
            for user_id, (moment, operation) in self._waiting.items()
            if moment <= now and not self.is_busy(user_id)
        }
        users = list(due)
        for start in range(0, len(users), TOGETHER):
            some = {user_id: due[user_id] for user_id in users[start : start + TOGETHER]}
            self.writing |= some.keys()
            try:
                await self._end(some)
                for user_id, operation in some.items():
                    self._note(user_id, operation)
            finally:
                self.writing -= some.keys()
                self.released()

    def _note(self, user_id: str, operation: Operation) -> None:
        waiting = self._waiting.get(user_id)
        if waiting is not None and waiting[1] is operation:
            del self._waiting[user_id]
        self.ended(user_id, operation)
