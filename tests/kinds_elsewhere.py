"""Kinds for the tests of workers elsewhere. A gate is a file: while it is there, a task waits."""

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import attrs

from tornado_rt.work import Kind, LeaseLost, Retry, Run, Step, SyncRun, TaskError

POLL_SECONDS = 0.02


@attrs.frozen
class Value:
    """A value to return."""

    value: Any = None


@attrs.frozen
class Folder:
    """Where a task leaves marks, and waits while there is a file `gate`."""

    folder: str

    @property
    def path(self) -> Path:
        return Path(self.folder)


echo = Kind("away.echo", Value)
steps = Kind("away.steps", Value, steps=[Step("first", 1), Step("second", 3)], label="of {value}")
once = Kind("away.once", Folder, backoff=(0.01, 0.01))
asks = Kind("away.asks", Folder)
gated = Kind("away.gated", Folder, backoff=(0.01, 0.01))
threaded = Kind("away.threaded", Folder)
fails = Kind("away.fails", Value)
breaks = Kind("away.breaks", Value, max_attempts=1)
late = Kind("away.late", Folder, timeout=0.2, max_attempts=1)
grown = Kind("away.grown", Value)
where = Kind("away.where", Value)


@echo.handler
async def run_echo(params: Value, _: Run) -> Any:
    """Return the value."""
    return params.value


@steps.handler
def run_steps(params: Value, run: SyncRun) -> Any:
    """Do two steps in a thread, with counts."""
    with run.step("first"):
        run.update("begun")
    with run.step("second"):
        for _ in run.track(range(4), unit="pieces"):
            time.sleep(0.06)
    return threading.current_thread() is threading.main_thread()


@once.handler
async def run_once(params: Folder, run: Run) -> Any:
    """Make something once, and fail the first time after that."""
    made = await run.once("made", count, params.path / "made")
    run.state["attempts"] = run.state.get("attempts", 0) + 1
    if run.attempt == 1:
        raise Retry("once more")
    return {"made": made, "state": run.state, "attempt": run.attempt}


@asks.handler
async def run_asks(_: Folder, run: Run) -> Any:
    """Tell and ask the user."""
    await run.notify("Something to decide", "It takes a word", "warning")
    return await run.ask("word", "Which word?", {"yes": "Yes", "no": "No"}, timeout=60)


@gated.handler
async def run_gated(params: Folder, run: Run) -> Any:
    """Report until the gate is gone; leave a mark at the begin and when it is cancelled."""
    count(params.path / "begun")
    told = 0
    try:
        while (params.path / "gate").exists():
            if run.stopping and (params.path / "gives-in").exists():
                break
            told += 1
            run.update(f"still waiting, {told}")
            await asyncio.sleep(POLL_SECONDS)
    except (asyncio.CancelledError, LeaseLost):
        count(params.path / "stopped")
        raise
    return {"attempt": run.attempt, "pid": os.getpid()}


@threaded.handler
def run_threaded(params: Folder, run: SyncRun) -> Any:
    """Do the same in a thread."""
    count(params.path / "begun")
    try:
        while (params.path / "gate").exists():
            run.update("still waiting")
            time.sleep(POLL_SECONDS)
    except (asyncio.CancelledError, LeaseLost):
        count(params.path / "stopped")
        raise
    return {"attempt": run.attempt}


@fails.handler
async def run_fails(_: Value, __: Run) -> None:
    """Fail for good."""
    raise TaskError("it was not meant to be")


@breaks.handler
async def run_breaks(_: Value, __: Run) -> None:
    """Fail by a mistake."""
    raise ValueError("a mistake")


@late.handler
async def run_late(params: Folder, _: Run) -> None:
    """Take too long."""
    try:
        await asyncio.sleep(60)
    finally:
        count(params.path / "stopped")


@grown.handler
async def run_grown(_: Value, run: Run) -> str:
    """Find steps on the way."""
    run.set_plan(["seek", "find"])
    async with run.step("seek"):
        pass
    async with run.step("dig"):
        pass
    return "found"


@where.handler
def run_where(_: Value, __: SyncRun) -> int:
    """Return the process."""
    return os.getpid()


def count(path: Path) -> int:
    """Add a line to a file; return how many there are."""
    with path.open("a") as file:
        file.write("once\n")
    return len(path.read_text().splitlines())
