"""Background jobs with an owner that ends them and notices when one dies."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)

REPEAT_SECONDS = 0.1
# How long to wait before a job that died is run again.
AGAIN_SECONDS = 1.0


class Jobs:
    """Runs coroutines until they end or `close` cancels them.

    What is kept and died is run again after `again_seconds`.
    """

    def __init__(self, again_seconds: float = AGAIN_SECONDS) -> None:
        self._again_seconds = again_seconds
        self._running: set[asyncio.Task[None]] = set()
        self.died: set[str] = set()

    def start(self, job: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run one job; its failure is logged and its name noted in `died`."""
        task = asyncio.create_task(self._watched(job, name), name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        # One that is cancelled before its first step would complain that nobody awaited it.
        task.add_done_callback(lambda _: job.close())
        return task

    def keep(self, run: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None]:
        """Run a job until it returns, again whenever it dies; it is in `died` until then."""
        return self.start(self._kept(run, name), name)

    async def close(self) -> None:
        """Cancel what still runs and wait for it."""
        while self._running:
            for task in self._running:
                task.cancel()
            # Before Python 3.12 `asyncio.wait_for` may swallow a cancellation: ask again.
            await asyncio.wait(self._running, timeout=REPEAT_SECONDS)

    async def _kept(self, run: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        while not await self._ends(run(), name):
            await asyncio.sleep(self._again_seconds)
            self.died.discard(name)

    async def _watched(self, job: Coroutine[Any, Any, None], name: str) -> None:
        await self._ends(job, name)

    async def _ends(self, job: Coroutine[Any, Any, None], name: str) -> bool:
        """Wait for its end; say whether that was a regular one."""
        try:
            await job
        except Exception:
            log.exception("job_died", job=name)
            self.died.add(name)
            return False
        return True
