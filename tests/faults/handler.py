"""The work of the fault scenarios: as many seconds as are asked for, told step by step.

As a kind, and as an analysis of which the symbol says the seconds.
"""

import asyncio
import os
from typing import Any

import attrs

from services.analysis import AnalysisTask
from services.progress import RedisProgressTracker
from tornado_rt.work import Kind, Run

STEP_SECONDS = 0.05


@attrs.frozen
class Work:
    """The length of it."""

    seconds: float


kind = Kind("fault.work", Work, max_attempts=1000)


@kind.handler
async def run_kind(params: Work, run: Run) -> dict[str, Any]:
    """Report by which process, again and again, and return it."""
    steps = _steps(params.seconds)
    for number in range(steps):
        run.update(number / steps, f"by {os.getpid()}")
        await asyncio.sleep(STEP_SECONDS)
    return {"pid": os.getpid(), "attempt": run.attempt}


async def work(task: AnalysisTask, progress: RedisProgressTracker) -> dict[str, Any]:
    """Do the same."""
    for _ in range(_steps(float(task.symbol))):
        await progress.update_progress(f"by {os.getpid()}")
        await asyncio.sleep(STEP_SECONDS)
    return {"pid": os.getpid(), "attempt": task.attempt}


def _steps(seconds: float) -> int:
    return max(round(seconds / STEP_SECONDS), 1)
