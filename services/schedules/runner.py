"""Fires schedules at their times. Every process runs one: the first to fire makes the task."""

import asyncio
import time
from collections.abc import Sequence

import structlog

from services.queue import QueueService
from services.schedules.code import KindSchedules, register
from services.schedules.firing import fire_due
from services.schedules.models import Make, StoredSchedule
from services.schedules.store import ScheduleChanged, ScheduleStore
from tornado_rt.protocol import Cursor, Message, MessageType
from tornado_rt.redis import is_outage
from tornado_rt.work.attempts.outages import Outages

log = structlog.get_logger(__name__)

# At most this many are read and fired at once.
AT_ONCE = 50


class ScheduleRunner:
    """Waits for the next time of any schedule, and fires what is due.

    It is a subscriber of the topic `schedules`: a process that sets a time tells of it there.
    `code` are the schedules of this process's kinds, which it registers.
    """

    def __init__(self, queue: QueueService, make: Make, code: Sequence[KindSchedules] = ()) -> None:
        self._store = ScheduleStore(queue)
        self._longest = queue.upkeep_seconds
        self._make = make
        self._code = code
        self._kinds = [one.kind for one in code if one.definitions]
        self._registered = False
        self._outages = Outages(is_outage)
        self._awake = asyncio.Event()
        self._sleeps_until = 0.0

    def deliver(self, message: Message) -> None:
        """Take a message of the topic `schedules`."""
        due_in = message.fields().get("due_in") if message.type == MessageType.WAKE else None
        if isinstance(due_in, int | float) and time.monotonic() + due_in < self._sleeps_until:
            self._awake.set()

    def gap(self) -> None:
        """Look for what is due, since a message may have been lost."""
        self._awake.set()

    def is_behind(self, _: Cursor | None) -> bool:
        """Say no: these messages have no log."""
        return False

    async def run(self) -> None:
        """Fire what is due until cancelled."""
        while True:
            self._awake.clear()
            try:
                due_in = await self.fire_due()
            except Exception as error:
                if not is_outage(error):
                    raise
                await self._outages.outlast(error, "schedules")
            else:
                self._outages.end("schedules")
                await self._sleep(due_in)

    async def fire_due(self) -> float:
        """Fire what is due; return in how many seconds to look again."""
        if not self._registered:
            await self._register()
        due = await self._store.read_due(self._kinds, AT_ONCE)
        # Redis is new, or was emptied.
        self._registered = not due.unregistered
        fired = await asyncio.gather(
            *(self._fire(one, due.now) for one in due.items), return_exceptions=True
        )
        for outcome in fired:
            if isinstance(outcome, BaseException):
                raise outcome
        if due.items or due.unregistered:
            # There may be more than were read at once.
            return 0.0
        return self._longest if due.due_in is None else min(due.due_in, self._longest)

    async def _register(self) -> None:
        for own in self._code:
            await register(self._store, own)
        self._registered = True

    async def _fire(self, one: StoredSchedule, now: float) -> None:
        if one.due is None:
            return
        try:
            fired = await self._store.fire(await fire_due(one, one.due, now, self._make))
        except ScheduleChanged:
            # The next look finds it as it is now.
            self._awake.set()
        else:
            log.debug("schedule_fired", schedule=one.id, due=one.due, tasks=fired.made)

    async def _sleep(self, seconds: float) -> None:
        self._sleeps_until = time.monotonic() + seconds
        try:
            async with asyncio.timeout(seconds):
                await self._awake.wait()
        except TimeoutError:
            return
