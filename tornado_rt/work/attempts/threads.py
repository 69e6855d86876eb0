"""Handlers that are plain functions: they run in threads, and what they wait for is on the loop."""

import asyncio
import contextvars
import inspect
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent import futures
from typing import Any

import structlog

from tornado_rt.work import LeaseLost
from tornado_rt.work.attempts.endings import Ending, end_with_error
from tornado_rt.work.attempts.fork_guard import end_if_forked

log = structlog.get_logger(__name__)

# A cancelled handler has this long to end before it is left behind [s].
ABANDON_SECONDS = 0.5


async def run_in_thread(
    call: Callable[[], Any],
    judge: Callable[[object], Ending],
    task_id: str,
    on_cancel: Callable[[], None],
) -> Any:
    """Call a handler in a thread of its own, to its end, and judge there what it returns.

    A thread cannot be stopped: `on_cancel` says that nobody waits any more. The result of the
    function may be awaitable, as that of an undecorated `async def` is; it is awaited on the loop,
    and returned or raised as it is.
    """

    def run() -> Any:
        try:
            returned = call()
            return returned if inspect.isawaitable(returned) else judge(returned)
        except StopIteration:
            # A coroutine's becomes a RuntimeError just so.
            return end_with_error(RuntimeError("the handler raised StopIteration"))
        except BaseException as error:
            return end_with_error(error)

    running = in_thread(run, f"task-{task_id}")
    try:
        returned = await asyncio.shield(running)
    except asyncio.CancelledError:
        on_cancel()
        running.add_done_callback(_discard_result)
        loop = asyncio.get_running_loop()
        loop.call_later(ABANDON_SECONDS, _tell_if_running, running, task_id)
        raise
    return await returned if inspect.isawaitable(returned) else returned


def in_thread(run: Callable[[], Any], name: str) -> asyncio.Future[Any]:
    """Call a function in a thread of its own, in the name of the caller; what it raises is raised.

    The thread is a daemon, so that one that never ends does not keep the process from ending.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()
    process = os.getpid()

    def work() -> None:
        try:
            settle, value = ended.set_result, run()
        except BaseException as error:
            settle, value = ended.set_exception, error
        end_if_forked(process)
        try:
            loop.call_soon_threadsafe(_unless_done, ended, settle, value)
        except RuntimeError:
            # The loop is closed, and nobody waits any more.
            _discard(value)

    # Tasks that it makes on the loop belong to the family of the handler.
    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(work,), name=name, daemon=True).start()
    return ended


class LoopWaiter:
    """Lets threads wait for what runs on the loop that is running now, until `close`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._awaited: set[futures.Future[Any]] = set()
        self._closed = False

    @property
    def is_here(self) -> bool:
        """Whether this is the thread of the loop."""
        return running_loop() is self._loop

    def close(self) -> None:
        """Cancel what threads wait for now, and what they will."""
        self._closed = True
        for one in tuple(self._awaited):
            one.cancel()

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the loop and return its result.

        Raise CancelledError when it was cancelled, LeaseLost when the loop is closed, and
        RuntimeError on the loop itself, which would wait for ever.
        """
        if self.is_here:
            coroutine.close()
            raise RuntimeError("this would block the loop: let the handler be an `async def`")
        try:
            ended = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            # The process ends.
            coroutine.close()
            raise LeaseLost("the loop is closed") from None
        self._awaited.add(ended)
        if self._closed:
            ended.cancel()
        try:
            return ended.result()
        except futures.CancelledError:
            raise asyncio.CancelledError from None
        finally:
            self._awaited.discard(ended)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the loop that runs in this thread, None when there is none."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _discard_result(ended: asyncio.Future[Any]) -> None:
    if not ended.cancelled() and ended.exception() is None:
        _discard(ended.result())


def _tell_if_running(ended: asyncio.Future[Any], task_id: str) -> None:
    if not ended.done():
        log.warning("handler_abandoned", task_id=task_id, after=ABANDON_SECONDS)


def _unless_done(ended: asyncio.Future[Any], settle: Callable[[Any], None], value: object) -> None:
    if ended.done():
        _discard(value)
    else:
        settle(value)


def _discard(value: object) -> None:
    # It would complain that nobody awaited it.
    if inspect.iscoroutine(value):
        value.close()
