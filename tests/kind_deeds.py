"""Two kinds whose handlers do the same, as a coroutine and as a plain function: `what` says what.

They run in the worker, or each task in a process of its own. What was done is noted in a folder.
"""

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from tornado_rt.work import Kind, LeaseLost, Retry, Run, Step, SyncRun, TaskError

STEPS = (Step("probe", 5), Step("cut", 90, "Cut the film"), Step("upload", 5))
WORDS = (
    "\u65e5\u672c\u8a9e\u306e\u30b9\u30c6\u30c3\u30d7",
    "\u05e2\u05d1\u05e8\u05d9\u05ea",
    "\U0001f680 na\u00efve \u2192 \u0107",
    'quotes " and \\ backslashes',
)
BURST = 500
BURST_SECONDS = 1.0


@attrs.frozen
class Deed:
    """The deed, and the file that it is noted in."""

    what: str = ""
    folder: str = ""


coroutine = Kind("coroutine", Deed, steps=STEPS, backoff=(0.01, 0.02))
plain = Kind("plain", Deed, steps=STEPS, backoff=(0.01, 0.02))

Plain = Callable[[Deed, SyncRun], Any]
PLAIN: dict[str, Plain] = {}


def plainly(does: Plain) -> Plain:
    """Let the plain kind do it."""
    PLAIN[does.__name__] = does
    return does


def note(deed: Deed, line: str) -> str:
    """Note what was done; return it."""
    with (Path(deed.folder) / "notes").open("a") as notes:
        notes.write(line + "\n")
    return line


@plain.handler
def run_plain(params: Deed, run: SyncRun) -> Any:
    """Do it in a thread, or in the main thread of a process."""
    return PLAIN[params.what](params, run)


@coroutine.handler
async def run_coroutine(params: Deed, run: Run) -> Any:
    """Do it on a loop."""
    return await COROUTINES[params.what](params, run)


@plainly
def value(params: Deed, run: SyncRun) -> Any:
    return ["any", {"json": None}, 1.5, os.getpid(), threading.current_thread().name]


async def value_later(params: Deed, run: Run) -> Any:
    return value(params, run)  # type: ignore[arg-type]


@plainly
def once(params: Deed, run: SyncRun) -> Any:
    first = run.once("probe", note, params, "probe")
    run.state["attempts"] = run.state.get("attempts", 0) + 1
    second = run.once("cut", note, params, "cut")
    if run.attempt < 3:
        raise Retry("again", delay=0.0)
    return [first, second, run.once("upload", note, params, "upload"), run.state]


async def once_later(params: Deed, run: Run) -> Any:
    first = await run.once("probe", note, params, "probe")
    run.state["attempts"] = run.state.get("attempts", 0) + 1
    second = await run.once("cut", note, params, "cut")
    if run.attempt < 3:
        raise Retry("again", delay=0.0)
    return [first, second, await run.once("upload", note, params, "upload"), run.state]


@plainly
def handed_back(params: Deed, run: SyncRun) -> Any:
    run.once("probe", note, params, "probe")
    if run.state.get("begun"):
        return run.once("cut", note, params, "cut")
    run.state["begun"] = True
    run.update("begun")
    while True:
        time.sleep(0.01)
        run.update("waiting")


async def handed_back_later(params: Deed, run: Run) -> Any:
    await run.once("probe", note, params, "probe")
    if run.state.get("begun"):
        return await run.once("cut", note, params, "cut")
    run.state["begun"] = True
    await run.update("begun")
    return await asyncio.Event().wait()


@plainly
def told(params: Deed, run: SyncRun) -> Any:
    run.update("begun")
    return {"stopping": run.stopped(20), "seen": run.stopping}


async def told_later(params: Deed, run: Run) -> Any:
    run.update("begun")
    await run.stopped()
    return {"stopping": True, "seen": run.stopping}


@plainly
def gives_up(params: Deed, run: SyncRun) -> Any:
    if run.state.get("begun"):
        return "done"
    run.state["begun"] = True
    run.update("begun")
    run.stopped(20)
    raise asyncio.CancelledError


async def gives_up_later(params: Deed, run: Run) -> Any:
    if run.state.get("begun"):
        return "done"
    run.state["begun"] = True
    run.update("begun")
    await run.stopped()
    raise asyncio.CancelledError


@plainly
def burst(params: Deed, run: SyncRun) -> Any:
    began = time.monotonic()
    for number in range(BURST):
        run.update(number / BURST, f"{number} of {BURST}")
        time.sleep(BURST_SECONDS / BURST)
    run.update(1.0, "the last")
    took = time.monotonic() - began
    time.sleep(0.5)
    raise TaskError(str(took))


async def burst_later(params: Deed, run: Run) -> Any:
    began = time.monotonic()
    for number in range(BURST):
        run.update(number / BURST, f"{number} of {BURST}")
        await asyncio.sleep(BURST_SECONDS / BURST)
    run.update(1.0, "the last")
    took = time.monotonic() - began
    await asyncio.sleep(0.5)
    raise TaskError(str(took))


@plainly
def words(params: Deed, run: SyncRun) -> Any:
    for word in WORDS:
        with run.step(word, title=word):
            run.update(0.5, word)
    raise TaskError(WORDS[0])


async def words_later(params: Deed, run: Run) -> Any:
    return words(params, run)  # type: ignore[arg-type]


@plainly
def other_plan(params: Deed, run: SyncRun) -> Any:
    with run.step("probe"):
        run.update("probed")
    run.set_plan(["probe", Step("mix", 3), Step("burn", 1)])
    with run.step("mix"):
        raise TaskError("mixed up")


async def other_plan_later(params: Deed, run: Run) -> Any:
    return other_plan(params, run)  # type: ignore[arg-type]


@plainly
def notes(params: Deed, run: SyncRun) -> Any:
    run.notify("Half of it", "is done", "warning")


async def notes_later(params: Deed, run: Run) -> Any:
    await run.notify("Half of it", "is done", "warning")


@plainly
def fails(params: Deed, run: SyncRun) -> Any:
    with run.step("cut"):
        run.update(0.5, "half")
        raise ValueError(f"attempt {run.attempt}")


async def fails_later(params: Deed, run: Run) -> Any:
    return fails(params, run)  # type: ignore[arg-type]


@plainly
def final(params: Deed, run: SyncRun) -> Any:
    raise TaskError("no such film")


async def final_later(params: Deed, run: Run) -> Any:
    raise TaskError("no such film")


@plainly
def large(params: Deed, run: SyncRun) -> Any:
    return "x" * 2000


async def large_later(params: Deed, run: Run) -> Any:
    return "x" * 2000


@plainly
def loses(params: Deed, run: SyncRun) -> Any:
    if run.attempt == 1:
        raise LeaseLost("of another")
    return "done"


async def loses_later(params: Deed, run: Run) -> Any:
    return loses(params, run)  # type: ignore[arg-type]


@plainly
def last_words(params: Deed, run: SyncRun) -> Any:
    run.update(0.1, "one")
    run.update(0.8, "the last words")
    if run.attempt == 1:
        raise Retry("later", delay=0.0)
    if run.attempt == 2:
        raise ValueError("no")
    return "done"


async def last_words_later(params: Deed, run: Run) -> Any:
    return last_words(params, run)  # type: ignore[arg-type]


@plainly
def bad_state(params: Deed, run: SyncRun) -> Any:
    run.state["x"] = object()
    run.update("told")
    time.sleep(0.3)
    run.update("told again")


async def bad_state_later(params: Deed, run: Run) -> Any:
    run.state["x"] = object()
    run.update("told")
    await asyncio.sleep(0.3)
    run.update("told again")


@plainly
def outage(params: Deed, run: SyncRun) -> Any:
    first = run.once("probe", note, params, "probe")
    note(params, "kept")
    while not (Path(params.folder) / "go").exists():
        time.sleep(0.01)
    return [first, run.once("cut", note, params, "cut")]


async def outage_later(params: Deed, run: Run) -> Any:
    first = await run.once("probe", note, params, "probe")
    note(params, "kept")
    while not (Path(params.folder) / "go").exists():
        await asyncio.sleep(0.01)
    return [first, await run.once("cut", note, params, "cut")]


COROUTINES = {name: globals()[f"{name}_later"] for name in PLAIN}
