"""Deliveries by callers that cannot do anything about a user with too many."""

from typing import Any

import structlog

from services.deliveries.service import Deliveries
from services.queue import QueueFull
from tornado_rt.metrics import Metrics

log = structlog.get_logger(__name__)


class Dropping:
    """Adds deliveries; what is over the bound of a user is dropped, counted and logged."""

    def __init__(self, deliveries: Deliveries, metrics: Metrics) -> None:
        self._deliveries = deliveries
        self._metrics = metrics

    async def add(
        self,
        kind: str,
        user_id: str,
        params: dict[str, Any],
        *,
        key: str = "",
        unique: str = "",
        delay: float = 0.0,
    ) -> None:
        """Add a delivery as `Deliveries.add` does. Raise RedisError."""
        try:
            await self._deliveries.add(kind, user_id, params, key=key, unique=unique, delay=delay)
        except QueueFull as full:
            self._metrics.deliveries.labels(kind, "dropped").inc()
            log.warning("delivery_dropped", kind=kind, user_id=user_id, error=full)
