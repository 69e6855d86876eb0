"""Films are made smaller: by ffmpeg where there is one, else uncompressed ones frame by frame.

A film is a file in the folder `FILMS`, by default `films` in the current one; what is made of it is
put into `READY`, by default `ready` in that. `test.y4m` is rendered when it is not there, so that
there is something to begin with:

    python run.py --kinds examples/video.py
"""

import asyncio
import os
import re
import shutil
from pathlib import Path
from typing import Any, Literal

import attrs

from examples.films import ffmpeg, frames
from tornado_rt.work import Kind, Run, Step, TaskError

FILMS = Path(os.environ.get("FILMS", "films"))
READY = Path(os.environ.get("READY", FILMS / "ready"))
TEST_FILM = "test.y4m"
# Number of pixels in each direction that become one.
PRESETS = {"half": 2, "quarter": 4}
FILE_NAME = re.compile(r"\w[\w .-]*")
# The film that is made has a longer name, and a folder takes names of 255 bytes.
MOST_NAME_BYTES = 200


def _check_name(_: Any, field: Any, value: str) -> None:
    if not FILE_NAME.fullmatch(value) or len(os.fsencode(value)) > MOST_NAME_BYTES:
        raise ValueError(f"{field.name} must be the name of a file, such as holiday.mkv")


@attrs.frozen
class Transcode:
    """The film, and the size that it gets."""

    path: str = attrs.field(default=TEST_FILM, validator=_check_name)
    preset: Literal["half", "quarter"] = "half"


transcode = Kind(
    "video.transcode",
    Transcode,
    title="Transcode a film",
    label="{path} to a {preset}",
    steps=[Step("probe", 5), Step("transcode", 90), Step("upload", 5)],
    user_limit=2,
    limit=8,
    timeout=3600,
    max_attempts=5,
)


@transcode.handler
async def run(params: Transcode, run: Run) -> dict[str, Any]:
    """Probe, transcode, upload; a later attempt does not probe again."""
    way = ffmpeg if ffmpeg.is_there() else frames
    film, made = FILMS / params.path, FILMS / f".{run.task_id}{way.SUFFIX}"
    ready = READY / f"{film.stem}-{params.preset}{way.SUFFIX}"
    try:
        with run.step("probe"):
            await asyncio.to_thread(require, film)
            length = await run.once(f"probe by {way.NAME}", way.probe, film)
        with run.step("transcode"):
            await way.shrink(film, made, PRESETS[params.preset], length, run)
        with run.step("upload"):
            READY.mkdir(parents=True, exist_ok=True)
            await asyncio.to_thread(shutil.copy, made, ready)
    finally:
        made.unlink(missing_ok=True)
    return {"path": str(ready), "bytes": ready.stat().st_size, "made_by": way.NAME}


def require(film: Path) -> None:
    """Raise TaskError when there is no such film, for another attempt would not find it either."""
    if film.name == TEST_FILM and not film.exists():
        frames.render(film)
    if not film.is_file():
        raise TaskError(f"there is no film {film.name}")
