"""Two kinds whose handlers do the same, as a coroutine and as a plain function: `what` says what.

They run in the worker, or each task in a process of its own. Their deeds are noted in a folder.
"""

import asyncio
import contextlib
import dataclasses
import enum
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

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
# States that cannot be kept, and why.
STATES: list[tuple[Any, str]] = [
    ({"x": 2**70}, "it holds an integer of more than 64 bits, at .x"),
    ({"x": {1, 2}}, "it is not JSON: JSON has no set, at .x"),
    ({"x": "x" * 70_000}, "it has 70008 bytes as JSON; at most 65536 are allowed"),
    ([1], "it is no dict, but list"),
]


class Colour(enum.StrEnum):
    """A text that is an Enum."""

    RED = "red"


class Size(NamedTuple):
    """A tuple that is a class."""

    width: int
    height: int


@dataclasses.dataclass
class Note:
    """Only its open fields are kept."""

    text: str
    _secret: str = "mine"


def nested(levels: int) -> list[Any]:
    """Return a list in lists."""
    return [nested(levels - 1)] if levels > 1 else []


ID = UUID("12345678-1234-5678-1234-567812345678")
# A value, what is kept of it, and why nothing is.
VALUES: list[tuple[Any, Any, str]] = [
    (None, None, ""),
    (1.5, 1.5, ""),
    (True, True, ""),
    ({"a": (1, [None])}, {"a": [1, [None]]}, ""),
    ({Colour.RED: Colour.RED}, {"red": "red"}, ""),
    (Size(1, 2), [1, 2], ""),
    (2**63 - 1, 2**63 - 1, ""),
    (-(2**63), -(2**63), ""),
    (1e300, 1e300, ""),
    (WORDS[2], WORDS[2], ""),
    (datetime(2026, 1, 2, 3, 4, 5, 6, UTC), "2026-01-02T03:04:05.000006+00:00", ""),
    (date(2026, 1, 2), "2026-01-02", ""),
    (ID, str(ID), ""),
    (Note("a"), {"text": "a"}, ""),
    (nested(30), nested(30), ""),
    ({1: 2}, None, "is not JSON: the keys of an object must be text, not int, at .1"),
    ({None: 2}, None, "is not JSON: the keys of an object must be text, not NoneType, at .None"),
    ({True: 2}, None, "is not JSON: the keys of an object must be text, not bool, at .True"),
    ({1.5: 2}, None, "is not JSON: the keys of an object must be text, not float, at .1.5"),
    (2**63, None, "holds an integer of more than 64 bits"),
    (2**70, None, "holds an integer of more than 64 bits"),
    (float("nan"), None, "holds a number that JSON does not have: nan"),
    (nested(40), None, "nests deeper than 32 levels"),
    ({1, 2}, None, "is not JSON: JSON has no set"),
    (b"x", None, "is not JSON: JSON has no bytes"),
    ((one for one in ()), None, "is not JSON: JSON has no generator"),
    ("\ud800", None, "holds a lone surrogate, which is no text"),
]
GROWTH = 150


@attrs.frozen
class Deed:
    """The deed, and the file that it is noted in."""

    what: str = ""
    folder: str = ""
    n: int = 0


coroutine = Kind("coroutine", Deed, steps=STEPS, backoff=(0.01, 0.02))
plain = Kind("plain", Deed, steps=STEPS, backoff=(0.01, 0.02))
hidden = Kind("hidden", Deed)

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


def bare(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function, and hide what it is."""

    def wrapper(params: Deed, run: SyncRun) -> Any:
        note(params, run.once("probe", str, params.what))
        return function(params, run)

    return wrapper


@hidden.handler
@bare
async def run_hidden(params: Deed, run: Run) -> Any:
    """Do as any coroutine does."""
    first = await run.once("probe", note, params, "twice")
    cut, again = await asyncio.gather(*[run.once("cut", note, params, "cut") for _ in "ab"])
    await run.notify("cut")
    run.update("begun")
    await run.stopped()
    return [first, cut, again, run.stopping]


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


@plainly
def leaves_state(params: Deed, run: SyncRun) -> Any:
    run.update("told")
    run.state = STATES[params.n][0]


async def leaves_state_later(params: Deed, run: Run) -> Any:
    leaves_state(params, run)  # type: ignore[arg-type]


@plainly
def retries_with_state(params: Deed, run: SyncRun) -> Any:
    run.state = STATES[params.n][0]
    raise Retry("again", delay=0)


async def retries_with_state_later(params: Deed, run: Run) -> Any:
    retries_with_state(params, run)  # type: ignore[arg-type]


@plainly
def reports_state(params: Deed, run: SyncRun) -> Any:
    run.state = STATES[params.n][0]
    run.update("told")
    raise TaskError("the report did not raise")


async def reports_state_later(params: Deed, run: Run) -> Any:
    reports_state(params, run)  # type: ignore[arg-type]


@plainly
def counts_far(params: Deed, run: SyncRun) -> Any:
    if run.attempt == 1:
        run.state["n"] = 2**63 - 1
        raise Retry("again", delay=0)
    return run.state["n"]


async def counts_far_later(params: Deed, run: Run) -> Any:
    return counts_far(params, run)  # type: ignore[arg-type]


@plainly
def returns(params: Deed, run: SyncRun) -> Any:
    return VALUES[params.n][0]


async def returns_later(params: Deed, run: Run) -> Any:
    return VALUES[params.n][0]


@plainly
def keeps(params: Deed, run: SyncRun) -> Any:
    return run.once("value", lambda: VALUES[params.n][0])


async def keeps_later(params: Deed, run: Run) -> Any:
    return await run.once("value", lambda: VALUES[params.n][0])


@plainly
def stores(params: Deed, run: SyncRun) -> Any:
    run.state["value"] = VALUES[params.n][0]
    run.update(0.5)
    return json.loads(run.encoded_state())["value"]


async def stores_later(params: Deed, run: Run) -> Any:
    return stores(params, run)  # type: ignore[arg-type]


@plainly
def grows(params: Deed, run: SyncRun) -> Any:
    for number in range(GROWTH):
        with run.step(f"file {number}"):
            time.sleep(0.002)


async def grows_later(params: Deed, run: Run) -> Any:
    for number in range(GROWTH):
        with run.step(f"file {number}"):
            await asyncio.sleep(0.002)


@plainly
def crowd(params: Deed, run: SyncRun) -> Any:
    def keep(name: str) -> int:
        try:
            return len(run.once(name, "x".__mul__, 300))
        except ValueError:
            return 0

    with ThreadPoolExecutor(4) as threads:
        return sorted(threads.map(keep, "abcd"))


async def crowd_later(params: Deed, run: Run) -> Any:
    calls = [run.once(name, "x".__mul__, 300) for name in "abcd"]
    found = await asyncio.gather(*calls, return_exceptions=True)
    return sorted(0 if isinstance(one, ValueError) else len(one) for one in found)


@plainly
def too_much(params: Deed, run: SyncRun) -> Any:
    # As a process would that does not count.
    run._wait(run._sink.keep("x", b"1" * 2000))


async def too_much_later(params: Deed, run: Run) -> Any:
    await run._sink.keep("x", b"1" * 2000)


def clean(params: Deed, run: Any) -> None:
    """Do what a handler does in `finally`."""
    note(params, "cleaned")
    run.state["cleaned"] = True
    run.update("cleaned")


@plainly
def cleans(params: Deed, run: SyncRun) -> Any:
    try:
        note(params, "begun")
        run.stopped(60)
        time.sleep(60)
    finally:
        clean(params, run)


async def cleans_later(params: Deed, run: Run) -> Any:
    try:
        note(params, "begun")
        await asyncio.Event().wait()
    finally:
        clean(params, run)


@plainly
def cleans_once(params: Deed, run: SyncRun) -> Any:
    try:
        run.once("wait", wait, params)
    finally:
        note(params, "cleaned")


async def cleans_once_later(params: Deed, run: Run) -> Any:
    try:
        await run.once("wait", wait, params)
    finally:
        note(params, "cleaned")


async def wait(params: Deed) -> None:
    note(params, "begun")
    await asyncio.Event().wait()


@plainly
def clings(params: Deed, run: SyncRun) -> Any:
    run.update(str(os.getpid()))
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(60)
        note(params, "clung")


async def clings_later(params: Deed, run: Run) -> Any:
    run.update(str(os.getpid()))
    while True:
        with contextlib.suppress(BaseException):
            await asyncio.sleep(60)
        note(params, "clung")


@plainly
def pools(params: Deed, run: SyncRun) -> Any:
    found = []
    for method in ("fork", "spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        with context.Pool(2) as pool:
            found.append(pool.map(abs, [-1, 2]))
        with ProcessPoolExecutor(2, mp_context=context) as executor:
            found.append(list(executor.map(abs, [-3, 4])))
    return found


async def pools_later(params: Deed, run: Run) -> Any:
    return pools(params, run)  # type: ignore[arg-type]


@plainly
def starts(params: Deed, run: SyncRun) -> Any:
    script = "import signal; print([signal.getsignal(n) for n in (1, 2, 15)])"
    forked, outlet = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(outlet, str([signal.getsignal(n) for n in (1, 2, 15)]).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    executed = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True)
    return [os.read(forked, 1000).decode(), executed.stdout.decode().strip()]


async def starts_later(params: Deed, run: Run) -> Any:
    return starts(params, run)  # type: ignore[arg-type]


ANSWERS = {"yes": "Publish", "no": "Throw it away"}


@plainly
def asks(params: Deed, run: SyncRun) -> Any:
    with run.step("probe"):
        note(params, f"asked {run.attempt}")
    return run.ask("publish", "Publish it?", ANSWERS, "41 pages", "warning")


async def asks_later(params: Deed, run: Run) -> Any:
    async with run.step("probe"):
        note(params, f"asked {run.attempt}")
    return await run.ask("publish", "Publish it?", ANSWERS, "41 pages", "warning")


@plainly
def asks_briefly(params: Deed, run: SyncRun) -> Any:
    try:
        return run.ask("publish", "Publish it?", ANSWERS, timeout=0.2)
    except TimeoutError as error:
        return str(error)


async def asks_briefly_later(params: Deed, run: Run) -> Any:
    try:
        return await run.ask("publish", "Publish it?", ANSWERS, timeout=0.2)
    except TimeoutError as error:
        return str(error)


@plainly
def asks_in_threads(params: Deed, run: SyncRun) -> Any:
    def ask(name: str) -> str:
        return run.ask(name, f"{name}?", ANSWERS)

    with ThreadPoolExecutor(2) as threads:
        asking = threads.map(ask, ["first", "second"])
        run.update(0.5, "both are asked")
        return list(asking)


async def asks_in_threads_later(params: Deed, run: Run) -> Any:
    asked = [run.ask(name, f"{name}?", ANSWERS) for name in ("first", "second")]
    asking = asyncio.gather(*asked)
    await asyncio.sleep(0)
    await run.update(0.5, "both are asked")
    return await asking


COROUTINES = {name: globals()[f"{name}_later"] for name in PLAIN}
