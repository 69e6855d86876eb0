"""By our own arithmetic, for grey films that are not compressed (YUV4MPEG2), of one size."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

from tornado_rt.work import Run, TaskError

NAME, SUFFIX = "frames", ".y4m"
WIDTH, HEIGHT, FRAMES = 64, 36, 150
MARK = b"FRAME\n"


async def probe(film: Path) -> int:
    """Return how many frames a film has. Raise TaskError for what is no such film."""
    return await asyncio.to_thread(lambda: sum(1 for _ in read(film)))


async def shrink(film: Path, made: Path, factor: int, count: int, run: Run) -> None:
    """Make a film of which each pixel is the mean of `factor` times `factor` ones."""
    with made.open("wb") as file:
        file.write(_head(WIDTH // factor, HEIGHT // factor))
        async for frame in run.track(read(film), total=count, unit="frames"):
            file.write(MARK + await asyncio.to_thread(average, frame, factor))


def average(frame: bytes, factor: int) -> bytes:
    """Return the means of the squares of a frame."""
    rows = [frame[at : at + WIDTH] for at in range(0, len(frame), WIDTH)]
    return bytes(
        sum(sum(row[left : left + factor]) for row in rows[top : top + factor]) // factor**2
        for top in range(0, HEIGHT, factor)
        for left in range(0, WIDTH, factor)
    )


def read(film: Path) -> Iterator[bytes]:
    """Yield the frames of a film. Raise TaskError for what is no such film."""
    with film.open("rb") as file:
        if file.readline(200) != _head(WIDTH, HEIGHT):
            raise TaskError(f"without ffmpeg, films are grey .y4m of {WIDTH} x {HEIGHT} pixels")
        while file.readline(len(MARK)) == MARK:
            yield file.read(WIDTH * HEIGHT)


def render(film: Path) -> None:
    """Make a film: a white bar goes to the right, over a slope of greys."""
    film.parent.mkdir(parents=True, exist_ok=True)
    # Under its name only when it is whole, for another task may read it.
    part = film.with_name(f".{film.name}-{os.urandom(4).hex()}")
    slope = bytes(255 * column // WIDTH for column in range(WIDTH)) * HEIGHT
    with part.open("wb") as file:
        file.write(_head(WIDTH, HEIGHT))
        for number in range(FRAMES):
            frame = bytearray(slope)
            frame[number % WIDTH :: WIDTH] = b"\xff" * HEIGHT
            file.write(MARK + frame)
    part.replace(film)


def _head(width: int, height: int) -> bytes:
    return f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 Cmono\n".encode()
