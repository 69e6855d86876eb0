"""The loop of a process, from its start to an end that nothing can hold up.

A handler shares our loop and our process. It may stop the loop, end it with SystemExit, block it,
set signal handlers, or leave behind tasks and threads that never end. So the loop is run until we
have ended, signals reach a thread that watches it, and a stop that takes too long is cut short.
Stores and other children get SIGKILL from the kernel then.
"""

import asyncio
import contextlib
import faulthandler
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import structlog

from tornado_rt.work.attempts import fork_guard
from tornado_rt.work.attempts.guarded_task import guard_tasks

log = structlog.get_logger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# A signal that comes while a handler ignores it is lost: what it changed is taken back this soon.
RESTORE_SECONDS = 0.1
CHECK_SECONDS = 1.0
# A stop may exceed its time by this much [s]: while the loop is blocked, and while it runs.
BLOCKED_SECONDS = 5.0
OVERDUE_SECONDS = 30.0
# Tasks that are left on the loop have this long to end when they are cancelled [s].
LEFTOVER_SECONDS = 0.5
# The interpreter has this long to end [s].
EXIT_SECONDS = 1.0
OVERDUE = 1
# A shell's exit status for a process that a signal ended begins here.
SIGNALLED = 128
STANDARD_STREAMS = (0, 1, 2)

# Tasks that did not end. Nothing may collect them: that would run their code once more.
_left_behind: set["asyncio.Task[Any]"] = set()


def run_until_stopped(
    running: contextlib.AbstractAsyncContextManager[object], stop_seconds: float
) -> None:
    """Run what the context manager holds until SIGTERM, SIGINT or SIGHUP.

    A second one ends at once, but for SIGHUP: a terminal that closes may send several. SIGHUP does
    nothing where it was ignored before, as by `nohup`.

    `stop_seconds`: how long its end may take. The process exits with 1 when it takes 5 s more with
    the loop blocked, or 30 s more. Raise what `running` raises.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    guard_tasks(loop)
    stop = Stop(loop, stop_seconds)
    main = loop.create_task(_hold(running, stop), name="main")
    try:
        with stop.listening():
            _drive(loop, main)
            _leave(loop)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    main.result()


class Stop:
    """Hears the signals, in a thread, so that also a blocked process ends. `asked`: to stop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self.asked = asyncio.Event()
        self._loop = loop
        self._seconds = seconds
        ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        self._signals = [one for one in SIGNALS if not (ignored and one is signal.SIGHUP)]
        self._inlet, self._outlet = os.pipe()
        os.set_blocking(self._outlet, False)
        self._umask = os.umask(0o077)
        os.umask(self._umask)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Hear signals until the block ends, and beyond that once a stop was asked for."""
        before = {number: signal.getsignal(number) for number in self._signals}
        thread = threading.Thread(target=self._watch, name="stop-watch", daemon=True)
        thread.start()
        self._check()
        with fork_guard.calling(self._forget):
            yield
        if self.asked.is_set():
            return
        os.write(self._outlet, b"\0")
        thread.join()
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)

    def _check(self) -> None:
        """Take back what a handler may have changed: signal handlers, standard streams, umask."""
        self._loop.call_later(RESTORE_SECONDS, self._check)
        for number in self._signals:
            if signal.getsignal(number) is not _note:
                signal.signal(number, _note)
                signal.siginterrupt(number, False)
        signal.set_wakeup_fd(self._outlet, warn_on_full_buffer=False)
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            # The kernel would take the ends of our children from us.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # Files of ours, and of stores that are started again, keep their mode.
        os.umask(self._umask)
        for descriptor in STANDARD_STREAMS:
            _keep_open(descriptor)

    def _forget(self) -> None:
        # In a forked child. Not even the numbers of our descriptors are closed: they may be others'
        # by now.
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(-1)
            for number in self._signals:
                if signal.getsignal(number) is _note:
                    signal.signal(number, signal.SIG_DFL)

    def _watch(self) -> None:
        number = self._next_signal(None)
        if number:
            self._tell(self.asked.set)
            late = time.monotonic() + self._seconds + BLOCKED_SECONDS
            over = late + OVERDUE_SECONDS
            # Should a thread keep the interpreter to itself, this needs none.
            with contextlib.suppress(OSError, ValueError, RuntimeError, AttributeError):
                faulthandler.dump_traceback_later(
                    over - time.monotonic() + CHECK_SECONDS, exit=True
                )
            while True:
                self._watch_stop(late, over)

    def _watch_stop(self, late: float, over: float) -> None:
        answered = threading.Event()
        self._tell(answered.set)
        number = self._next_signal(CHECK_SECONDS)
        if number not in (0, signal.SIGHUP):
            _exit(SIGNALLED + number, "stopped_at_once", signal=number)
        now = time.monotonic()
        if self._loop.is_closed():
            # The interpreter ends, and has a bound of its own (`leave_process`).
            return
        if now > over or (now > late and not answered.is_set()):
            _exit(OVERDUE, "stop_overdue", blocked=not answered.is_set(), seconds=self._seconds)

    def _tell(self, callback: Any) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    def _next_signal(self, seconds: float | None) -> int:
        """Return the next of our signals; 0 at the end, or after these seconds."""
        until = None if seconds is None else time.monotonic() + seconds
        while True:
            left = None if until is None else max(until - time.monotonic(), 0)
            if not select.select([self._inlet], [], [], left)[0]:
                return 0
            number = os.read(self._inlet, 1)[0]
            if number == 0 or number in self._signals:
                return number


async def _hold(running: contextlib.AbstractAsyncContextManager[object], stop: Stop) -> None:
    async with running:
        await stop.asked.wait()


def _drive(loop: asyncio.AbstractEventLoop, main: "asyncio.Task[None]") -> None:
    """Run the loop until the task is done, even if other code stops it before."""
    process = os.getpid()
    main.add_done_callback(lambda _: loop.stop())
    while not main.done():
        try:
            loop.run_forever()
        except (KeyboardInterrupt, SystemExit) as error:
            # asyncio hands them on, out of a callback or a task that a handler has made.
            log.warning("loop_left", error=error)
        finally:
            fork_guard.end_if_forked(process)


def _leave(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what is left on the loop, and wait a moment for it."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()

    async def wait() -> None:
        if left:
            _, pending = await asyncio.wait(left, timeout=LEFTOVER_SECONDS)
            _left_behind.update(pending)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEFTOVER_SECONDS):
                await loop.shutdown_asyncgens()

    _drive(loop, loop.create_task(wait()))


def leave_process(status: int) -> NoReturn:
    """Exit with this status, whatever threads are left and whether the streams can be written."""
    if not _left_behind:
        # Python waits for threads and processes that a handler has started.
        timer = threading.Timer(EXIT_SECONDS, os._exit, (status,))
        timer.daemon = True
        timer.start()
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            # Output that cannot be written would make the status 120.
            _replace(descriptor)
    if _left_behind:
        os._exit(status)
    sys.exit(status)


def _exit(status: int, event: str, **fields: Any) -> NoReturn:
    log.error(event, **fields)
    os._exit(status)


def _keep_open(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        _replace(descriptor)


def _replace(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        null = os.open(os.devnull, os.O_RDWR)
        if null != descriptor:
            os.dup2(null, descriptor)
            os.close(null)


def _note(*_: object) -> None:
    """Let a signal be written to the descriptor that the watching thread reads."""
