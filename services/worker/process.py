"""A handler in a process of its own: as many cores as there are, and killed when it must end.

The process sends messages through a pipe, each a JSON array behind its length in four bytes. What
comes is another's: it is read as it comes, without waiting for the rest of a message, and never
unpickled.
"""

import asyncio
import contextlib
import ctypes
import inspect
import multiprocessing
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Awaitable, Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from typing import Any

import orjson
import structlog

from services.progress import RedisProgressTracker, Step, read_update
from services.queue import Outcome, Task
from services.worker.endings import (
    MAX_TRACEBACK_LENGTH,
    Ending,
    end_with_error,
    end_with_result,
    failed,
    one_line,
    retry_seconds,
)
from services.worker.loading import import_function
from services.worker.threads import Told, in_thread
from settings import Settings
from tornado_rt.bounds import clean_text
from tornado_rt.children import PR_SET_PDEATHSIG
from tornado_rt.fork_guard import end_if_forked

log = structlog.get_logger(__name__)

SIZE = struct.Struct("!I")
READ_BYTES = 65536
# The most bytes of a report, and of what surrounds a result.
MESSAGE_BYTES = 65536
MOST_RESULT_BYTES = 256 * 1024 * 1024
# How often a start is tried, when the fork server has died.
STARTS = 3
DYING_SECONDS = 1.0
DYING_POLL_SECONDS = 0.01
KILL_SECONDS = 1.0
DIED = "the task's process died"
NOT_OURS = "the task's process sent what is no message of ours"

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class BadMessage(Exception):
    """A process has sent what is no message; the text says what."""


class ProcessHandler:
    """Runs `MODULE:FUNCTION` for each task in a new process, forked from a clean server process."""

    def __init__(self, path: str, settings: Settings) -> None:
        self._path = path
        self._settings = settings
        self._context = multiprocessing.get_context("forkserver")
        preload = ["services.worker.fork_server", __name__, path.partition(":")[0]]
        self._context.set_forkserver_preload(preload)
        self._most = (settings.task_result_bytes or MOST_RESULT_BYTES) + MESSAGE_BYTES

    async def __call__(self, task: Task, tracker: RedisProgressTracker) -> Ending:
        """Run to the end; cancelled, kill the process."""
        ours, theirs = self._context.Pipe(duplex=False)
        arguments = (self._path, self._settings, task, tracker.steps, theirs)
        with ours:
            # Starting the first one starts the fork server, which takes a while.
            starting = in_thread(lambda: self._start(arguments), f"start-{task.task_id}")
            try:
                process = await asyncio.shield(starting)
            except asyncio.CancelledError:
                starting.add_done_callback(_kill_started)
                raise
            finally:
                starting.add_done_callback(lambda _: theirs.close())
            try:
                return await _follow(Channel(ours, process.sentinel, self._most), tracker)
            finally:
                await _kill(process)

    def _start(self, arguments: tuple[Any, ...]) -> ForkServerProcess:
        for rest in reversed(range(STARTS)):
            process = self._context.Process(target=run_task, args=arguments, daemon=True)
            try:
                process.start()
                return process
            except (OSError, EOFError) as error:
                # The server was killed: the next start starts it again.
                log.warning("fork_server_died", error=error)
                if not rest:
                    raise
                await_fork_server_end()
        raise AssertionError


class Channel:
    """Reads messages from a process without ever blocking the loop."""

    def __init__(self, connection: Connection, sentinel: int, most: int) -> None:
        self._fd = connection.fileno()
        self._sentinel = sentinel
        self._most = most
        self._buffer = bytearray()
        os.set_blocking(self._fd, False)

    async def receive(self) -> list[Any] | None:
        """Return the next message, None when no more will come. Raise BadMessage."""
        while (message := self._parse()) is None:
            dead = await self._wait()
            if not self._read() and dead:
                return None
        return message

    def _parse(self) -> list[Any] | None:
        if len(self._buffer) < SIZE.size:
            return None
        (size,) = SIZE.unpack_from(self._buffer)
        if size > self._most:
            raise BadMessage(f"the task's process sent a message of {size} bytes")
        end = SIZE.size + size
        if len(self._buffer) < end:
            return None
        content = bytes(self._buffer[SIZE.size : end])
        del self._buffer[:end]
        try:
            message = orjson.loads(content)
        except ValueError as error:
            raise BadMessage("the task's process sent what cannot be read") from error
        if not isinstance(message, list):
            raise BadMessage(NOT_OURS)
        return message

    def _read(self) -> bool:
        """Take what is there; say whether something was."""
        try:
            data = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            # A process that has closed its pipe can tell us nothing more, dead or not.
            raise BadMessage(DIED)
        self._buffer += data
        return True

    async def _wait(self) -> bool:
        """Wait for bytes or for its death; say whether it is dead.

        Its pipe says nothing of that: a process that it has started may hold the other end.
        """
        dead = asyncio.Event()
        something = asyncio.Event()

        def died() -> None:
            dead.set()
            something.set()

        with _reading(self._fd, something.set), _reading(self._sentinel, died):
            await something.wait()
        return dead.is_set()


@contextlib.contextmanager
def _reading(descriptor: int, callback: Any) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, callback)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)


async def _follow(channel: Channel, tracker: RedisProgressTracker) -> Ending:
    while True:
        try:
            message = await channel.receive()
            if message is None:
                return failed(DIED)
            kind, value = message
            if kind == "ending":
                return _ending_of(value)
            update = _update_of(kind, value)
        except BadMessage as error:
            return failed(str(error))
        except (TypeError, ValueError, KeyError, IndexError):
            return failed(NOT_OURS)
        await tracker.update_progress(update)


def _update_of(kind: object, value: Any) -> Any:
    if kind == "step":
        return {"step": value[0], "message": value[1]}
    if kind == "message":
        return value
    raise BadMessage(NOT_OURS)


def _ending_of(fields: dict[str, Any]) -> Ending:
    """Return an ending that a process has sent, as checked as if the handler had returned it."""
    outcome = fields["outcome"]
    if outcome == Outcome.COMPLETED:
        # The process has looked at its size.
        return end_with_result(fields["result"], 0)
    return Ending(
        Outcome(outcome) if outcome else None,
        error=one_line(fields["error"]),
        delay=retry_seconds(fields["delay"]),
        trace=clean_text(fields["trace"], MAX_TRACEBACK_LENGTH * 2),
    )


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


async def _kill(process: ForkServerProcess) -> None:
    """Kill it, and wait a moment for its end; what does not end is left."""
    _kill_group(process)
    gone = asyncio.Event()
    with contextlib.suppress(TimeoutError), _reading(process.sentinel, gone.set):
        async with asyncio.timeout(KILL_SECONDS):
            await gone.wait()
    if gone.is_set():
        process.join(0)
    with contextlib.suppress(ValueError):
        process.close()


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


def run_task(
    path: str, settings: Settings, task: Task, steps: list[Step], connection: Connection
) -> None:
    """Run one task in this process and send what comes of it."""
    if _libc is not None:
        # With the fork server, which ends with the worker.
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # A group of its own: a signal that the handler sends to its group does not reach the worker.
    # A Ctrl-C in the terminal is for the worker too, which gives us the grace time.
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The fork server ignores it. Programs that the handler starts should not.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    process = os.getpid()
    progress = PipeProgress(steps, connection)
    ending = _run(path, settings, task, progress)
    end_if_forked(process)
    fields = {
        "outcome": ending.outcome,
        "result": ending.result,
        "error": ending.error,
        "delay": ending.delay,
        "trace": ending.trace,
    }
    progress.send("ending", fields)


def _run(path: str, settings: Settings, task: Task, progress: "PipeProgress") -> Ending:
    try:
        result = import_function(path, settings)(task, progress)
        if inspect.isawaitable(result):
            result = asyncio.run(_outcome_of(result))
        return end_with_result(result, settings.task_result_bytes)
    except BaseException as error:
        return end_with_error(error)


async def _outcome_of(result: Awaitable[Any]) -> Any:
    return await result


class PipeProgress:
    """Reports of a handler, plain function or coroutine, from any of its threads."""

    def __init__(self, steps: list[Step], connection: Connection) -> None:
        self.steps = steps
        self._connection = connection
        self._process = os.getpid()
        self._sending = threading.Lock()

    def update_progress(self, progress_update: str | dict[str, Any]) -> Told:
        """Send one report; what is returned may be awaited or not. Raise StepUnknown."""
        if os.getpid() != self._process:
            raise RuntimeError("a forked process cannot report; its parent can")
        step, message = read_update(progress_update, self.steps)
        if step is not None:
            self.send("step", (step, message))
        elif isinstance(progress_update, dict):
            self.send("message", {"message": message})
        else:
            self.send("message", message)
        return Told()

    def send(self, kind: str, value: Any) -> None:
        """Send one message."""
        content = orjson.dumps((kind, value))
        rest = memoryview(SIZE.pack(len(content)) + content)
        with self._sending:
            while rest:
                rest = rest[os.write(self._connection.fileno(), rest) :]
