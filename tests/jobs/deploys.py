"""Tasks of ten steps that are done once each, as a coroutine and as a plain function.

Each task writes down what it does in a file of its own: `run STEP PID` when a step begins, and
`kept STEP PID` when its result is known to be kept.
"""

import asyncio
import os
import random
import time
from pathlib import Path

import attrs

from tornado_rt.work import Kind, Run, SyncRun

STEPS = [f"step{number}" for number in range(10)]
# Some take longer than what is left when their worker stops.
STEP_SECONDS = (0.01, 0.25)
# An attempt takes this long to begin.
START_SECONDS = 0.1
POLL_SECONDS = 0.01
GATE = "gate"


@attrs.frozen
class Deed:
    """The folder of the files, among them one that says how many steps may begin."""

    folder: str


settings = {"steps": STEPS, "max_attempts": 10, "backoff": (0.01, 0.1)}
coroutine = Kind("deploy.coroutine", Deed, **settings)
plain = Kind("deploy.plain", Deed, **settings)


@coroutine.handler
async def run_coroutine(params: Deed, run: Run) -> int:
    """Do the steps, and tell how many results there are."""
    journal = Path(params.folder, run.task_id)
    results = []
    await asyncio.sleep(START_SECONDS)
    for name in STEPS:
        while not may_begin(name, params):
            await asyncio.sleep(POLL_SECONDS)
        async with run.step(name):
            results.append(await run.once(name, do, name, journal))
        note(journal, "kept", name)
    return len(results)


@plain.handler
def run_plain(params: Deed, run: SyncRun) -> int:
    """Do the same and block, and tell nothing but results."""
    journal = Path(params.folder, run.task_id)
    results = []
    time.sleep(START_SECONDS)
    for name in STEPS:
        while not may_begin(name, params):
            time.sleep(POLL_SECONDS)
        results.append(run.once(name, do_blocking, name, journal))
        note(journal, "kept", name)
    return len(results)


async def do(name: str, journal: Path) -> str:
    """Do a step."""
    note(journal, "run", name)
    await asyncio.sleep(random.uniform(*STEP_SECONDS))
    return name


def do_blocking(name: str, journal: Path) -> str:
    """Do a step, and block."""
    note(journal, "run", name)
    time.sleep(random.uniform(*STEP_SECONDS))
    return name


def may_begin(name: str, params: Deed) -> bool:
    """Say whether a step may begin."""
    return STEPS.index(name) < int(Path(params.folder, GATE).read_text())


def note(journal: Path, what: str, name: str) -> None:
    """Write one line at once, whichever others write."""
    with journal.open("ab", buffering=0) as file:
        file.write(f"{what} {name} {os.getpid()}\n".encode())
