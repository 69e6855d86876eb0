"""The endpoints of a supervisor: alive, ready, metrics."""

from collections.abc import Awaitable, Callable

from tornado_rt.api import ApiHandler
from tornado_rt.metrics import Metrics
from tornado_rt.problems import Problem
from tornado_rt.web import BaseHandler
from tornado_rt.work.texts import phrase


class HealthHandler(ApiHandler):
    """`/healthz`: the loop turns."""

    is_probe = True
    limited = False
    identifies = False

    async def get(self) -> None:
        self.answer({"status": "ok"})


class ReadyHandler(HealthHandler):
    """`/readyz`: every part works; 503 names those that do not."""

    def initialize(self, faults: Callable[[], Awaitable[list[str]]]) -> None:
        self.faults = faults

    async def get(self) -> None:
        faults = await self.faults()
        if faults:
            raise Problem(503, phrase("not ready"), errors=faults, retry_after=1)
        self.answer({"status": "ready"})


class MetricsHandler(BaseHandler):
    """`/metrics`: Prometheus text."""

    is_probe = True
    limited = False
    identifies = False

    def initialize(self, metrics: Metrics, refresh: Callable[[], Awaitable[None]]) -> None:
        self.metrics = metrics
        self.refresh = refresh

    async def get(self) -> None:
        await self.refresh()
        self.set_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        await self.finish(self.metrics.render())
