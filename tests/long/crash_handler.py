"""The kinds of the crash tests; those of `SHORT` are short, so that many are cut off half-way."""

import asyncio
import os
from typing import Any

import attrs

from tornado_rt.work import Kind, Run, Step

SECONDS = 0.03
MOST_ATTEMPTS = 1000
RATE = "40/1s"
KEY_LIMIT, KIND_LIMIT = 2, 5


@attrs.frozen
class Nothing:
    """No parameters."""


def _short(name: str, **limits: Any) -> Kind:
    """Return a kind whose tasks report once, wait a little, and say who did it."""
    steps = [Step("begin"), Step("rest", 3)]
    kind = Kind(name, Nothing, steps=steps, max_attempts=MOST_ATTEMPTS, **limits)

    @kind.handler
    async def work(params: Nothing, run: Run) -> dict[str, Any]:
        async with run.step("begin"):
            first = await run.once("first", os.getpid)
        async with run.step("rest"):
            await asyncio.sleep(SECONDS)
        return {"pid": os.getpid(), "first": first, "attempt": run.attempt}

    return kind


plain = _short("crash.plain")
keyed = _short("crash.keyed", key_limit=KEY_LIMIT, limit=KIND_LIMIT)
rated = _short("crash.rated", rate=RATE)
SHORT = (plain, keyed, rated)

slow = Kind("crash.slow", Nothing, max_attempts=MOST_ATTEMPTS)
endless = Kind("crash.endless", Nothing, max_attempts=MOST_ATTEMPTS)


@slow.handler
async def _take_longer_than_the_lease(params: Nothing, run: Run) -> dict[str, Any]:
    """Report all the while, longer than the lease of the test."""
    for number in range(30):
        run.update(number / 30, f"by {os.getpid()}")
        await asyncio.sleep(0.05)
    return {"pid": os.getpid(), "attempt": run.attempt}


@endless.handler
async def _go_on(params: Nothing, run: Run) -> None:
    """Report once, and go on until the worker is killed."""
    run.update(0.1, f"by {os.getpid()}")
    await asyncio.Event().wait()
