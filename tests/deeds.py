"""The work of servers whose handlers do what they should not: the symbol says what.

The folder DEEDS_NOTES is told what was begun, and which processes were forked.
"""

import asyncio
import concurrent.futures
import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs

from tornado_rt.work import Kind, Run

Deed = Callable[[], Awaitable[None]]

DEEDS: dict[str, Deed] = {}


def deed(does: Deed) -> Deed:
    """Let the symbol of this name do it."""
    DEEDS[does.__name__.upper()] = does
    return does


async def work(task: Any, progress: Any) -> dict[str, int]:
    """Do the deed once: a task that was handed back is still in its first attempt."""
    if task.symbol in DEEDS and (task.symbol == "DIE" or not _seen(task.task_id)):
        _note(task.task_id)
        await progress.update_progress("begun")
        await DEEDS[task.symbol]()
    return {"attempt": task.attempt}


@attrs.frozen
class DeedParams:
    """The deed."""

    symbol: str


kind = Kind("deed", DeedParams, retry_errors=False)


@kind.handler
async def run_deed(params: DeedParams, run: Run) -> dict[str, int]:
    """Do the deed as a task of a kind."""
    if params.symbol == "TOLD":
        _note(f"own-{os.getpid()}")
        _note(run.task_id)
        await run.stopped()
        _note("told")
        return {"attempt": run.attempt}
    task = SimpleNamespace(symbol=params.symbol, task_id=run.task_id, attempt=run.attempt)
    return await work(task, SimpleNamespace(update_progress=run.update))


def _note(name: str) -> None:
    folder = Path(os.environ["DEEDS_NOTES"])
    folder.mkdir(exist_ok=True)
    (folder / name).touch()


def _seen(name: str) -> bool:
    return (Path(os.environ["DEEDS_NOTES"]) / name).exists()


def _spin() -> None:
    while True:
        time.sleep(1)


def _throw(error: BaseException) -> None:
    raise error


async def _throw_later(error: BaseException) -> None:
    raise error


@deed
async def slow() -> None:
    await asyncio.sleep(90)


@deed
async def swallow() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(90)


@deed
async def block() -> None:
    _note("blocked")
    time.sleep(60)


@deed
async def thread() -> None:
    threading.Thread(target=_spin).start()
    await asyncio.to_thread(_spin)


@deed
async def signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _note("ignored")
    await asyncio.sleep(90)


@deed
async def subtask() -> None:
    started = [asyncio.create_task(_throw_later(one)) for one in (KeyboardInterrupt(), _EXIT)]
    await asyncio.wait(started)


@deed
async def callback() -> None:
    loop = asyncio.get_running_loop()
    loop.call_soon(_throw, _EXIT)
    loop.call_soon(_throw, KeyboardInterrupt())
    await _let_it_happen()


@deed
async def stoploop() -> None:
    asyncio.get_running_loop().stop()
    await _let_it_happen()


@deed
async def cancelall() -> None:
    for one in asyncio.all_tasks():
        one.cancel()
    await _let_it_happen()


async def _let_it_happen() -> None:
    await asyncio.sleep(0.05)


@deed
async def forks() -> None:
    _fork()
    await asyncio.to_thread(_fork)
    context = multiprocessing.get_context("fork")
    context.Process(target=_rest).start()
    pool = concurrent.futures.ProcessPoolExecutor(2, mp_context=context)
    pool.submit(_rest)
    _note("forks")
    await asyncio.sleep(90)


def _fork() -> None:
    if not os.fork():
        _rest()
        os._exit(0)


def _rest() -> None:
    _note(f"forked-{os.getpid()}")
    time.sleep(90)


@deed
async def sigkill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@deed
async def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@deed
async def killpg() -> None:
    os.killpg(0, signal.SIGKILL)


@deed
async def leave() -> None:
    os._exit(0)


@deed
async def segfault() -> None:
    ctypes.string_at(0)


@deed
async def stores() -> None:
    for pid in _children():
        os.kill(pid, signal.SIGKILL)


@deed
async def waitpid() -> None:
    await stores()
    for _ in range(2):
        os.waitpid(-1, 0)


def _children() -> list[int]:
    pid = os.getpid()
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@deed
async def place() -> None:
    os.chdir("/")
    os.umask(0)


@deed
async def streams() -> None:
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    sys.stdout = sys.stderr = None  # type: ignore[assignment]


@deed
async def defaults() -> None:
    socket.setdefaulttimeout(0.001)
    sys.setrecursionlimit(160)
    warnings.simplefilter("error")


@deed
async def fail() -> None:
    raise ValueError("on purpose")


@deed
async def loud() -> None:
    for _ in range(4000):
        logging.error("y" * 200)


@deed
async def uncaught() -> None:
    """A thread and a process that raise, and are waited for."""
    for one in (
        threading.Thread(target=_throw, args=(ValueError("in a thread"),)),
        multiprocessing.get_context("spawn").Process(target=_throw, args=(ValueError("there"),)),
    ):
        one.start()
        await asyncio.to_thread(one.join)


_EXIT = SystemExit(3)
