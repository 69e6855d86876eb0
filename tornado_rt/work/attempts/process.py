"""Tasks in processes of their own: as many cores as there are, and killed when they must end."""

import asyncio
import atexit
import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from typing import Any

import structlog

from tornado_rt.work import clean_text
from tornado_rt.work.attempts.channel import NOT_OURS, BadMessage, Channel, ProcessDied, reading
from tornado_rt.work.attempts.endings import (
    MAX_TRACEBACK_LENGTH,
    Ending,
    end_with_result,
    one_line,
    retry_seconds,
)
from tornado_rt.work.attempts.models import Outcome
from tornado_rt.work.attempts.preloading import ensure_fork_server
from tornado_rt.work.attempts.threads import in_thread

log = structlog.get_logger(__name__)

# The most bytes of a report, and of what surrounds a result.
MESSAGE_BYTES = 4 * 1024 * 1024
MOST_RESULT_BYTES = 256 * 1024 * 1024
# Number of times that a start is tried when the fork server has died.
STARTS = 3
DYING_SECONDS = 1.0
DYING_POLL_SECONDS = 0.01
KILL_SECONDS = 1.0
# A cancelled handler has this long to end before its process is killed [s]. It is less than
# ABANDON_SECONDS, so that no process is left behind.
CANCEL_SECONDS = 0.4

Talk = Callable[[Channel], Awaitable[Ending]]

# The processes that run, and which process has started them.
_started: dict[ForkServerProcess, int] = {}
_preloaded: dict[str, None] = dict.fromkeys(
    f"{__package__}.{name}" for name in ("fork_server", "child")
)


class TaskProcesses:
    """Starts a process for each task, forked from a clean server process.

    That has imported `modules`, so that each starts at once. `result_bytes` bounds a result as
    JSON, 0 for any size.
    """

    def __init__(self, modules: Iterable[str], result_bytes: int) -> None:
        self._context = multiprocessing.get_context("forkserver")
        _preloaded.update(dict.fromkeys(modules))
        self._context.set_forkserver_preload(list(_preloaded))
        # Text in text may have twice its length.
        self._most = 2 * (result_bytes or MOST_RESULT_BYTES) + MESSAGE_BYTES

    async def run(
        self, main: Callable[..., None], arguments: tuple[Any, ...], task_id: str, talk: Talk
    ) -> Ending:
        """Call `main(*arguments, connection)` there and talk to it.

        When this is cancelled the process is told, and killed `CANCEL_SECONDS` later at most.
        """
        ours, theirs = self._context.Pipe()
        with ours:
            # Starting the first one starts the fork server, which takes a while.
            starting = in_thread(
                lambda: self._start(main, (*arguments, theirs)), f"start-{task_id}"
            )
            try:
                process = await asyncio.shield(starting)
            except asyncio.CancelledError:
                starting.add_done_callback(_kill_started)
                raise
            finally:
                starting.add_done_callback(lambda _: theirs.close())
            channel = Channel(ours, process.sentinel, self._most)
            talking = asyncio.ensure_future(talk(channel))
            try:
                return await asyncio.shield(talking)
            except asyncio.CancelledError:
                channel.send("cancel", None)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CANCEL_SECONDS):
                        await asyncio.wait([talking])
                        if talking.cancelled() or talking.exception() is not None:
                            # Nobody listens any more: let it not wait for that.
                            channel.close()
                            ours.close()
                            await _dead(process)
                raise
            finally:
                talking.cancel()
                channel.close()
                await _kill(process)

    def _start(self, main: Callable[..., None], arguments: tuple[Any, ...]) -> ForkServerProcess:
        for rest in reversed(range(STARTS)):
            # No daemon: that may have no children, and a handler may want some.
            process = self._context.Process(target=main, args=arguments, daemon=False)
            try:
                ensure_fork_server()
                process.start()
                _started[process] = os.getpid()
                return process
            except (OSError, EOFError) as error:
                # The server was killed: the next start starts it again.
                log.warning("fork_server_died", error=error)
                if not rest:
                    raise
                await_fork_server_end()
        raise AssertionError


def read_ending(fields: Any, *, any_json: bool) -> Ending:
    """Return an ending that a process has sent, as checked as if its handler had returned it.

    Raise BadMessage.
    """
    try:
        outcome = fields["outcome"]
        if outcome == Outcome.COMPLETED:
            # The process has looked at its size.
            return end_with_result(fields["result"], 0, any_json=any_json)
        return Ending(
            Outcome(outcome),
            error=one_line(fields["error"]),
            delay=retry_seconds(fields["delay"]),
            trace=clean_text(fields["trace"], MAX_TRACEBACK_LENGTH * 2),
            cancelled=fields.get("cancelled") is True,
        )
    except (TypeError, ValueError, KeyError, AttributeError):
        raise BadMessage(NOT_OURS) from None


def end_badly(error: BadMessage) -> Ending:
    """Return the end of an attempt whose process does not talk as it should.

    One that dies while the worker stops was ended with it: another goes on with the task.
    """
    died = isinstance(error, ProcessDied)
    return Ending(Outcome.ERROR, error=str(error), cancelled=died)


def _kill_started(starting: "asyncio.Future[ForkServerProcess]") -> None:
    if not starting.cancelled() and starting.exception() is None:
        _kill_group(starting.result())


def _kill_group(process: ForkServerProcess) -> None:
    """Kill it with what it has started, but for what has left its group."""
    # The process may not have a group of its own yet.
    process.kill()
    if process.pid:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    _started.pop(process, None)


async def _kill(process: ForkServerProcess) -> None:
    """Kill it, and wait a moment for its end; what does not end is left."""
    _kill_group(process)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILL_SECONDS):
            await _dead(process)
        process.join(0)
    with contextlib.suppress(ValueError):
        process.close()


async def _dead(process: ForkServerProcess) -> None:
    dead = asyncio.Event()
    with reading(process.sentinel, dead.set):
        await dead.wait()


@atexit.register
def _kill_rest() -> None:
    """Kill what runs: multiprocessing, whose turn is next, would wait for it."""
    for process, starter in tuple(_started.items()):
        if starter == os.getpid():
            _kill_group(process)


def await_fork_server_end() -> None:
    """Wait, a second at most, until multiprocessing can see that its fork server has died.

    Connections are refused while a killed process still dies. A handler that waits for any child,
    or has the kernel do that, takes the end from multiprocessing: then it is told.
    """
    server: Any = forkserver._forkserver
    pid, deadline = server._forkserver_pid, time.monotonic() + DYING_SECONDS
    while pid is not None and time.monotonic() < deadline:
        try:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                return
        except ChildProcessError:
            if server._forkserver_pid == pid:
                server._forkserver_pid = None
            return
        time.sleep(DYING_POLL_SECONDS)
