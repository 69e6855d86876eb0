"""Whether the limits let a worker use all of its places."""

import structlog

from services.queue import ALL_KINDS, QueueService

log = structlog.get_logger(__name__)


async def warn_of_idle_places(queue: QueueService, concurrency: int) -> None:
    """Log a warning when fewer tasks may run in all workers than this one has places for."""
    for state in await queue.read_kinds():
        if state.entry.kind != ALL_KINDS:
            continue
        limit = int(state.limits.get("global_limit") or 0)
        if 0 < limit < concurrency:
            log.warning(
                "places_stay_idle",
                concurrency=concurrency,
                global_limit=limit,
                raise_by="RT_QUEUE_GLOBAL_LIMIT of the servers, or run.py queue limits",
            )
