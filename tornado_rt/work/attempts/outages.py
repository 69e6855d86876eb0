"""Calls that the queue does not answer now: each is told once, and tried again after a while."""

import asyncio
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

OUTAGE_SECONDS = 0.5


class Outages:
    """The calls that fail at present, by a name for each.

    `is_outage` says of an error whether the call may succeed when it is repeated as it is.
    """

    def __init__(self, is_outage: Callable[[BaseException], bool]) -> None:
        self.is_outage = is_outage
        self._failing: set[str] = set()

    def is_failing(self, what: str) -> bool:
        """Say whether a call fails at present."""
        return what in self._failing

    async def outlast(self, error: Exception, what: str) -> None:
        """Note a failure of a call, and wait before it is tried again."""
        self.note(error, what)
        await asyncio.sleep(OUTAGE_SECONDS)

    def note(self, error: Exception, what: str) -> None:
        """Note a failure of a call; the first is logged."""
        if what not in self._failing:
            event = "queue_away" if self.is_outage(error) else "queue_refuses"
            log.warning(event, what=what, error=error)
        self._failing.add(what)

    def end(self, what: str) -> None:
        """Note that a call was answered."""
        self._failing.discard(what)
