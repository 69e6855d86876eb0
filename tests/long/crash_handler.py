"""The handlers of the crash tests. `work` is short, so that many are cut off in the middle."""

import asyncio
import os
from typing import Any

from services.progress import RedisProgressTracker
from services.queue import Task

SECONDS = 0.03


async def work(task: Task, progress: RedisProgressTracker) -> dict[str, Any]:
    """Report once, wait a little, and say who did it."""
    await progress.update_progress({"step": "trader"})
    await asyncio.sleep(SECONDS)
    return {"pid": os.getpid(), "attempt": task.attempt}


async def slow(task: Task, progress: RedisProgressTracker) -> dict[str, Any]:
    """Take longer than the lease of the test, reporting all the while."""
    for _ in range(30):
        await progress.update_progress(f"by {os.getpid()}")
        await asyncio.sleep(0.05)
    return {"pid": os.getpid(), "attempt": task.attempt}


async def endless(_: Task, progress: RedisProgressTracker) -> None:
    """Report once, and go on until the worker is killed."""
    await progress.update_progress(f"by {os.getpid()}")
    await asyncio.Event().wait()
