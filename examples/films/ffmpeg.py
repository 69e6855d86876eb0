"""By the program ffmpeg, which reads and writes films of any form."""

import asyncio
import re
import shutil
from asyncio.subprocess import PIPE, Process
from pathlib import Path

from tornado_rt.work import Run, TaskError

NAME, SUFFIX = "ffmpeg", ".mp4"
DURATION = re.compile(rb"Duration: (\d+):(\d+):(\d+\.\d+)")


def is_there() -> bool:
    """Say whether this machine has it."""
    return shutil.which(NAME) is not None


async def probe(film: Path) -> float:
    """Return how many seconds a film has. Raise TaskError for what is no film."""
    child = await _start("-i", film)
    _, told = await child.communicate()
    found = DURATION.search(told)
    if found is None:
        raise TaskError(f"{film.name} is no film that ffmpeg can read")
    hours, minutes, seconds = map(float, found.groups())
    return hours * 3600 + minutes * 60 + seconds


async def shrink(film: Path, made: Path, factor: int, seconds: float, run: Run) -> None:
    """Make a film of which each pixel was `factor` times `factor` ones."""
    scale = f"scale=trunc(iw/{2 * factor})*2:-2,format=yuv420p"
    child = await _start("-y", "-i", film, "-vf", scale, "-progress", "pipe:1", made)
    assert child.stdout is not None
    assert child.stderr is not None
    faults = asyncio.create_task(child.stderr.read())
    try:
        async for line in child.stdout:
            name, _, value = line.decode().strip().partition("=")
            if name == "out_time_us" and value.isdigit():
                done = min(int(value) / 1e6, seconds)
                run.update(done=round(done, 1), total=seconds, unit="s")
        if await child.wait():
            raise RuntimeError(f"ffmpeg failed: {(await faults).decode(errors='replace')[-500:]}")
    finally:
        # Cancelled, for one: the program must not go on without us.
        if child.returncode is None:
            child.kill()
        await asyncio.gather(child.wait(), faults)


async def _start(*arguments: str | Path) -> Process:
    command = [NAME, "-hide_banner", "-nostdin", "-nostats", *map(str, arguments)]
    return await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE)
