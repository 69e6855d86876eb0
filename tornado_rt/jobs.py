"""Background jobs with an owner that ends them and notices when one dies."""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from tornado_rt.work.attempts.guarded_task import GuardedTask

log = structlog.get_logger(__name__)

REPEAT_SECONDS = 0.1
# Wait before a job that died is run again [s].
AGAIN_SECONDS = 1.0


class Jobs:
    """Runs coroutines until they end or `close` cancels them.

    What is kept and died is run again after `again_seconds`, also when somebody else cancelled it:
    a handler may cancel every task of the loop.
    """

    def __init__(self, again_seconds: float = AGAIN_SECONDS) -> None:
        self._again_seconds = again_seconds
        self._running: set[asyncio.Task[None]] = set()
        self._closing = False
        self.died: set[str] = set()

    def start(self, job: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run one job; its failure is logged and its name noted in `died`."""
        task = GuardedTask(self._watched(job, name), name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        # One that is cancelled before its first step would complain that nobody awaited it.
        task.add_done_callback(lambda _: job.close())
        return task

    def keep(self, run: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None]:
        """Run a job until it returns, again whenever it dies; it is in `died` until then.

        Its log lines name no request or task, whichever code started it.
        """
        return contextvars.Context().run(self.start, self._kept(run, name), name)

    async def close(self) -> None:
        """Cancel what still runs and wait for it."""
        self._closing = True
        while self._running:
            for task in self._running:
                task.cancel()
            # Before Python 3.12 `asyncio.wait_for` may swallow a cancellation: ask again.
            await asyncio.wait(self._running, timeout=REPEAT_SECONDS)

    async def _kept(self, run: Callable[[], Coroutine[Any, Any, None]], name: str) -> None:
        first = True
        while True:
            try:
                if not first:
                    await asyncio.sleep(self._again_seconds)
                first = False
                self.died.discard(name)
                if await self._ends(run(), name):
                    return
            except asyncio.CancelledError as error:
                if self._closing:
                    raise
                log.error("job_cancelled", job=name, error=error)
                self.died.add(name)
                _forget_cancellation()

    async def _watched(self, job: Coroutine[Any, Any, None], name: str) -> None:
        await self._ends(job, name)

    async def _ends(self, job: Coroutine[Any, Any, None], name: str) -> bool:
        """Wait for its end; say whether that was a regular one."""
        try:
            await job
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException:
            # SystemExit or KeyboardInterrupt would end the loop of all.
            log.exception("job_died", job=name)
            self.died.add(name)
            return False
        return True


def _forget_cancellation() -> None:
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()
