"""Tells of tasks that give no sign of life, where no worker lives that would take them back."""

import asyncio

import structlog

from services.queue import QueueService

log = structlog.get_logger(__name__)

# Interval at which stalled attempts are looked for [s].
LOOK_SECONDS = 5.0
# A lease must have run out this long ago: until then a worker may take the task back [s].
OVERDUE_SECONDS = 3.0


class StalledWatch:
    """Looks for such tasks, for as long as `run` does."""

    def __init__(self, queue: QueueService) -> None:
        self._queue = queue

    async def run(self) -> None:
        """Look until it is cancelled; while Redis is away there is nobody to tell."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self._queue.tell_stalled(OVERDUE_SECONDS)
            except Exception as error:
                log.info("stalled_unread", error=error)
