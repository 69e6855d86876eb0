"""Keeping every task found: those of an earlier version, and none that is gone."""

import asyncio

import structlog
from redis.exceptions import RedisError

from services.queue import QueueService

log = structlog.get_logger(__name__)

# An earlier version that runs beside makes and deletes tasks without a word to the search [s].
AGAIN_SECONDS = 600.0


class FindAgain:
    """Looks over all tasks at the start, and every ten minutes: a third of a second a million."""

    def __init__(self, queue: QueueService) -> None:
        self._queue = queue

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                if found := await self._queue.find_again():
                    log.info("tasks_found_again", tasks=found)
            except (RedisError, OSError) as error:
                log.warning("search_waits", error=error)
            await asyncio.sleep(AGAIN_SECONDS)
