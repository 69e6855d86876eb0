"""A handler in a process of its own: as many cores as there are, and killed when it must end."""

import asyncio
import multiprocessing
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import structlog

from services.progress import RedisProgressTracker, Step
from services.queue import Task
from services.worker.handlers import Result, Retry, TaskError, import_function
from settings import Settings

log = structlog.get_logger(__name__)

Message = tuple[str, Any]


class ProcessHandler:
    """Runs `MODULE:FUNCTION` for each task in a new process, forked from a clean server process."""

    def __init__(self, path: str, settings: Settings) -> None:
        self._path = path
        self._settings = settings
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__, path.partition(":")[0]])

    async def __call__(self, task: Task, tracker: RedisProgressTracker) -> Result:
        """Run to the end; cancelled, kill the process."""
        ours, theirs = self._context.Pipe()
        arguments = (self._path, self._settings, task, tracker.steps, theirs)
        process = self._context.Process(target=run_task, args=arguments, daemon=True)
        # Starting the first one starts the fork server, which takes a while.
        await asyncio.to_thread(process.start)
        theirs.close()
        try:
            return await _follow(ours, tracker)
        finally:
            process.kill()
            await asyncio.to_thread(process.join)
            process.close()
            ours.close()


async def _follow(connection: Connection, tracker: RedisProgressTracker) -> Result:
    while True:
        kind, value = await _receive(connection)
        if kind == "progress":
            await tracker.update_progress(value)
        elif kind == "result":
            result: Result = value
            return result
        else:
            raise _ERRORS[kind](value)


async def _receive(connection: Connection) -> Message:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(connection.fileno(), readable.set)
    try:
        await readable.wait()
        message: Message = connection.recv()
    except EOFError:
        raise TaskError("the task's process died") from None
    finally:
        loop.remove_reader(connection.fileno())
    return message


def _as_failure(text: str) -> Exception:
    log.warning("task_process_failed", traceback=text)
    return TaskError(text.strip().splitlines()[-1])


_ERRORS: dict[str, Callable[[Any], Exception]] = {
    "task_error": TaskError,
    "retry": lambda value: Retry(value[0], delay=value[1]),
    "failure": _as_failure,
}


def run_task(
    path: str, settings: Settings, task: Task, steps: list[Step], connection: Connection
) -> None:
    """Run one task in this process and send what comes of it."""
    # A Ctrl-C in the terminal is for the worker, which gives us the grace time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    function = import_function(path, settings)
    try:
        if asyncio.iscoroutinefunction(function):
            result = asyncio.run(function(task, AsyncPipeProgress(steps, connection)))
        else:
            result = function(task, PipeProgress(steps, connection))
        connection.send(("result", result))
    except TaskError as error:
        connection.send(("task_error", str(error)))
    except Retry as error:
        connection.send(("retry", (str(error), error.delay)))
    except Exception:
        connection.send(("failure", traceback.format_exc()))


class PipeProgress:
    """Reports of a plain function."""

    def __init__(self, steps: list[Step], connection: Connection) -> None:
        self.steps = steps
        self._connection = connection

    def update_progress(self, progress_update: str | dict[str, Any]) -> None:
        """Send one report."""
        self._connection.send(("progress", progress_update))


class AsyncPipeProgress(PipeProgress):
    """Reports of a coroutine."""

    async def update_progress(  # type: ignore[override]
        self, progress_update: str | dict[str, Any]
    ) -> None:
        """Send one report."""
        super().update_progress(progress_update)
