"""Waiting for conditions, never for a fixed time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.01


async def until(condition: Callable[[], object], seconds: float, what: str) -> float:
    """Return after how long the condition held [s]. Raise AssertionError after `seconds`."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < seconds, f"{what}: not within {seconds:g} s"
        await asyncio.sleep(POLL_SECONDS)
    return time.monotonic() - began


async def until_done(
    condition: Callable[[], Awaitable[object]], seconds: float, what: str
) -> float:
    """Do as `until` does, with a condition that has to be awaited."""
    began = time.monotonic()
    while not await condition():
        waited = time.monotonic() - began
        assert waited < seconds, f"{what}: not within {seconds:g} s"
        await asyncio.sleep(POLL_SECONDS)
    return time.monotonic() - began
