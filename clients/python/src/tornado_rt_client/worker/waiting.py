"""Waiting for the first of several."""

import asyncio
from typing import Any


async def first_of(
    *awaited: "asyncio.Future[Any] | asyncio.Event", seconds: float | None = None
) -> None:
    """Wait until one of them is done or set, for these seconds at most; nothing is left behind."""
    events = [one for one in awaited if isinstance(one, asyncio.Event)]
    waiting = [asyncio.create_task(one.wait()) for one in events]
    jobs = [one for one in awaited if not isinstance(one, asyncio.Event)]
    try:
        await asyncio.wait([*jobs, *waiting], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_all(*waiting)


async def end_all(*jobs: "asyncio.Future[Any]") -> None:
    """Cancel jobs, and wait for their end."""
    for one in jobs:
        one.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
