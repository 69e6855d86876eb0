"""Cancels the handler in a task's process, and nothing else there.

A signal may come to the whole group of the worker, or to all that a supervisor has started. The
worker tells its tasks to stop and gives them the grace time, so the signal does nothing to their
processes and to the fork server. They do not ignore it: programs that a handler starts would
inherit that.
"""

import asyncio
import contextlib
import signal
import threading
from collections.abc import Awaitable, Iterator
from typing import Any

from tornado_rt.work.attempts.fork_guard import call_in_children

# As children that a handler forks have them.
SIGNALS: dict[signal.Signals, Any] = {
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
    signal.SIGHUP: signal.SIG_DFL,
}


def leave_signals_to_worker() -> None:
    """Let the signals that end a worker do nothing here."""
    for number in SIGNALS:
        signal.signal(number, _do_nothing)


class Cancelling:
    """Cancels a handler that runs in the main thread, once: by a CancelledError where it is.

    All but `ask` and `held` are called in the main thread. Each process has one.
    """

    def __init__(self) -> None:
        self._asked = False
        self._running = False
        # Number of parts that must not be left half done, and are waited for.
        self._held = 0
        self._task: asyncio.Task[Any] | None = None
        leave_signals_to_worker()
        signal.signal(signal.SIGTERM, self._look)
        call_in_children(self._let_go)

    def ask(self) -> None:
        """Cancel the handler, in any thread; nothing happens when it has ended."""
        self._asked = True
        # It interrupts what the main thread waits for.
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    @contextlib.contextmanager
    def handler(self) -> Iterator[None]:
        """Run the handler in this block."""
        self._running = True
        try:
            self._look()
            yield
        finally:
            self._running = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Do what is in the block to its end, in any thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self._look()

    def run(self, awaitable: Awaitable[Any]) -> Any:
        """Await it in a loop of its own, in any thread; in the main thread, it is cancelled."""
        with self.held():
            return asyncio.run(self._run(awaitable))

    async def _run(self, awaitable: Awaitable[Any]) -> Any:
        if threading.current_thread() is not threading.main_thread():
            return await awaitable
        around, self._task = self._task, asyncio.current_task()
        try:
            self._look()
            return await awaitable
        finally:
            self._task = around

    def _look(self, *_: object) -> None:
        """Cancel the handler now, if that was asked for and it can be."""
        if not (self._asked and self._running):
            return
        if self._task is not None:
            self._asked = False
            # This may be called amid anything that its loop does.
            self._task.get_loop().call_soon_threadsafe(self._task.cancel)
        elif not self._held:
            self._asked = False
            raise asyncio.CancelledError

    def _let_go(self) -> None:
        """Let signals end a child that the handler has forked."""
        self._asked = False
        with contextlib.suppress(ValueError):
            for number, default in SIGNALS.items():
                if signal.getsignal(number) in (_do_nothing, self._look):
                    signal.signal(number, default)


def _do_nothing(*_: object) -> None:
    """Take a signal that is for the worker."""
