"""Transcoding a film, as its developer wrote it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import attrs

from tornado_rt.work import Kind, Run, Step, TaskError

POLL_SECONDS = 0.01


@attrs.frozen
class Transcode:
    """A film to be written in another size; a camera may still record it."""

    path: str
    preset: Literal["720p", "1080p"] = "1080p"


transcode = Kind(
    "video.transcode",
    Transcode,
    label="{path} as {preset}",
    steps=[Step("probe", 5), Step("transcode", 90, "Writing the film"), Step("upload", 5)],
    user_limit=2,
    limit=8,
    timeout=3600,
    max_attempts=5,
)


@transcode.handler
async def run(params: Transcode, run: Run) -> dict[str, object]:
    """Write the film frame by frame, and leave nothing half written behind."""
    source = Path(params.path)
    target = source.with_suffix(f".{params.preset}")
    async with run.step("probe"):
        frames = await run.once("probe", count_frames, source)
    async with run.step("transcode"):
        try:
            await write(source, target, frames, run)
        except asyncio.CancelledError:
            target.unlink()
            raise
    async with run.step("upload"):
        await run.notify("Your film is ready", str(target), "success")
    return {"path": str(target), "frames": frames}


def count_frames(source: Path) -> int:
    """Read how many frames a film has, or will have."""
    try:
        return int(source.read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        raise TaskError(f"{source} is not a film") from None


async def write(source: Path, target: Path, frames: int, run: Run) -> None:
    """Write each frame as it comes."""
    with target.open("w") as film:
        number = 0
        async for frame in recorded(source, frames):
            number += 1
            film.write(frame.lower())
            run.update(number / frames, f"{number} of {frames} frames")


async def recorded(source: Path, frames: int) -> AsyncIterator[str]:
    """Yield the frames of a film, and wait for those that are not recorded yet."""
    with source.open() as film:
        film.readline()
        for _ in range(frames):
            while not (frame := film.readline()):
                await asyncio.sleep(POLL_SECONDS)
            yield frame
