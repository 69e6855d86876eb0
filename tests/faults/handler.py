"""The work of the fault scenarios: as many seconds as the symbol says, told step by step."""

import asyncio
import os
from typing import Any

from services.progress import RedisProgressTracker
from services.queue import Task

STEP_SECONDS = 0.05


async def work(task: Task, progress: RedisProgressTracker) -> dict[str, Any]:
    """Report by which process, again and again, and return it."""
    for _ in range(max(round(float(task.symbol) / STEP_SECONDS), 1)):
        await progress.update_progress(f"by {os.getpid()}")
        await asyncio.sleep(STEP_SECONDS)
    return {"pid": os.getpid(), "attempt": task.attempt}
