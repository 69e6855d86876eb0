"""Kinds whose handlers submit tasks, for each form of handler."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import attrs

from tornado_rt.work import Kind, NotSubmitted, Retry, Run, SyncRun

POLL_SECONDS = 0.02


@attrs.frozen
class Page:
    """A page to print; it has a number from 1."""

    number: int = attrs.field(validator=attrs.validators.ge(1))


@attrs.frozen
class Book:
    """A book that is printed page by page; `folder`: where a gate may stand."""

    pages: int = 2
    folder: str = ""


@attrs.frozen
class Wanted:
    """A task that is submitted as it is written here."""

    kind: str
    params: dict[str, Any] = attrs.field(factory=dict)
    more: dict[str, Any] = attrs.field(factory=dict)
    times: int = 1


QUICK: dict[str, Any] = {"backoff": (0.01, 0.01), "max_attempts": 5}
page = Kind("child.page", Page, label="Page {number}")
book = Kind("child.book", Book, **QUICK)
plain = Kind("child.plain", Book, **QUICK)
killed = Kind("child.killed", Book, **QUICK)
gated = Kind("child.gated", Book, **QUICK)
wanted = Kind("child.wanted", Wanted, **QUICK)
wanted_plainly = Kind("child.wanted_plainly", Wanted, **QUICK)


@page.handler
async def run_page(params: Page, _: Run) -> int:
    """Return its number."""
    return params.number


@book.handler
async def run_book(params: Book, run: Run) -> Any:
    """Submit all pages at once, the same in each of two attempts."""
    pages = [run.submit(page, Page(number)) for number in range(1, params.pages + 1)]
    first = await asyncio.gather(*pages)
    again = await run.submit("child.page", {"number": 1}, tags=["again"])
    named = await run.submit(page, {"number": 1 + run.attempt}, name="last", locale="zh-CN")
    if run.attempt == 1:
        raise Retry("once more")
    return [*first, again, named]


@plain.handler
def run_plain(params: Book, run: SyncRun) -> Any:
    """Do the same in a thread."""
    first = [run.submit(page, Page(number)) for number in range(1, params.pages + 1)]
    again = run.submit("child.page", {"number": 1}, tags=["again"])
    named = run.submit(page, {"number": 1 + run.attempt}, name="last", locale="zh-CN")
    if run.attempt == 1:
        raise Retry("once more")
    return [*first, again, named]


@killed.handler
def run_killed(_: Book, run: SyncRun) -> Any:
    """Be killed the first time, when the task has been submitted."""
    made = run.submit(page, Page(1))
    if run.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return made


@gated.handler
async def run_gated(params: Book, run: Run) -> Any:
    """Submit a page, and wait while there is a gate."""
    made = await run.submit(page, Page(1))
    while (Path(params.folder) / "gate").exists():
        run.update("waits for the gate")
        await asyncio.sleep(POLL_SECONDS)
    return [made, run.attempt]


@wanted.handler
async def run_wanted(params: Wanted, run: Run) -> Any:
    """Return what becomes of each submission."""
    told = []
    for _ in range(params.times):
        try:
            told.append({"id": await run.submit(params.kind, params.params, **params.more)})
        except NotSubmitted as error:
            told.append(told_of(error))
    return told


@wanted_plainly.handler
def run_wanted_plainly(params: Wanted, run: SyncRun) -> Any:
    """Do the same in a thread."""
    told = []
    for _ in range(params.times):
        try:
            told.append({"id": run.submit(params.kind, params.params, **params.more)})
        except NotSubmitted as error:
            told.append(told_of(error))
    return told


def told_of(error: NotSubmitted) -> dict[str, Any]:
    """Return a refusal as JSON."""
    return {
        "status": error.status,
        "text": str(error),
        "errors": list(error.errors),
        "retry_after": error.retry_after,
    }
