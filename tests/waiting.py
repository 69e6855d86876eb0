"""Waiting for conditions, never for a fixed time: the one way in which tests wait."""

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.01
# Long enough for a machine whose cores are busy; a test that fails is the only one to wait that
# long. Shorter than the 30 s after which upkeep finds what nobody was told of.
SECONDS = 25.0
_TRUE = object()


async def until(
    condition: Callable[[], T | Awaitable[T]],
    seconds: float = SECONDS,
    what: str = "the condition holds",
    *,
    equal: Any = _TRUE,
    pause: float = POLL_SECONDS,
) -> T:
    """Ask again and again until the answer is true, or `equal`; return it.

    The answer may have to be awaited. `pause` [s] is between two questions; 0: a turn of the loop.
    Raise AssertionError after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        answer: Any = await found if inspect.isawaitable(found) else found
        if _holds(answer, equal):
            return answer
        assert time.monotonic() < deadline, _complaint(what, seconds, answer)
        await asyncio.sleep(pause)


def wait_until(
    condition: Callable[[], T],
    seconds: float = SECONDS,
    what: str = "the condition holds",
    *,
    equal: Any = _TRUE,
) -> T:
    """Do as `until` does, where there is no loop."""
    deadline = time.monotonic() + seconds
    while not _holds(answer := condition(), equal):
        assert time.monotonic() < deadline, _complaint(what, seconds, answer)
        time.sleep(POLL_SECONDS)
    return answer


@contextlib.asynccontextmanager
async def stopwatch() -> AsyncIterator[Callable[[], float]]:
    """Give what returns the seconds since the block began.

    The loop's lateness is left out: it means that others have had the cores.
    """
    began, late = time.monotonic(), 0.0

    async def tick() -> None:
        nonlocal late
        while True:
            before = time.monotonic()
            await asyncio.sleep(POLL_SECONDS)
            late += time.monotonic() - before - POLL_SECONDS

    ticking = asyncio.create_task(tick(), name="stopwatch")
    try:
        yield lambda: time.monotonic() - began - late
    finally:
        ticking.cancel()


def has_job(name: str) -> bool:
    """Say whether a job of this name runs on the loop."""
    return any(job.get_name() == name for job in asyncio.all_tasks())


def has_thread(name: str) -> bool:
    """Say whether there is a thread of this name."""
    return any(thread.name == name for thread in threading.enumerate())


def _holds(answer: object, equal: object) -> bool:
    return bool(answer) if equal is _TRUE else answer == equal


def _complaint(what: str, seconds: float, answer: object) -> str:
    return f"not within {seconds:g} s: {what}; the last answer was {answer!r:.500}"
