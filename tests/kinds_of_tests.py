"""Kinds of work for tests."""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import attrs

from tornado_rt.bounds import name_of, number_of
from tornado_rt.work import Kind, Run, Schedule, Step


class Codec(StrEnum):
    """The format of a film."""

    H264 = "h264"
    AV1 = "av1"


@attrs.frozen
class Cut:
    """From where to where, in seconds."""

    begin: float
    end: float

    def __attrs_post_init__(self) -> None:
        if self.end <= self.begin:
            raise ValueError("a cut ends after it begins")


@attrs.frozen
class Transcode:
    """A film to be written in another size."""

    path: str = attrs.field(validator=name_of(200))
    preset: Literal["720p", "1080p"] = "1080p"
    codec: Codec = Codec.H264
    crf: int = attrs.field(default=23, validator=number_of(0, 51))
    cuts: list[Cut] = attrs.Factory(list)
    scale: float = 1.0
    labels: dict[str, str] = attrs.Factory(dict)
    size: tuple[int, int] | None = None
    starts: datetime | None = None
    poster: Path = Path("poster.png")
    extra: Any = None


@attrs.frozen
class Report:
    """A report of a day."""

    title: str = "Sales"
    pages: int = 3


@attrs.frozen
class Nothing:
    """No parameters."""


transcode = Kind(
    "video.transcode",
    Transcode,
    title="Transcode a film",
    label="{path} as {preset}",
    steps=[Step("probe", 5), Step("transcode", 90), Step("upload", 5)],
    shown=("path", "codec"),
    version=3,
    limit=8,
    user_limit=2,
    rate="10/m",
    timeout=3600.0,
    max_attempts=5,
    backoff=(1.0, 60.0),
    expected_seconds=120.0,
)


@transcode.handler
async def run_transcode(params: Transcode, run: Run) -> dict[str, Any]:
    """Do nothing, step by step."""
    for name in ("probe", "transcode", "upload"):
        async with run.step(name):
            run.update(1.0)
    return {"path": params.path, "at": datetime.now(UTC).isoformat()}


report = Kind(
    "report.nightly",
    Report,
    label=lambda params: f"{params.title}\nof today",
    steps=lambda params: [Step(f"page {n}") for n in range(params.pages)],
    expected_seconds=lambda params: params.pages * 2.0,
    schedules=[Schedule(name="nightly", cron="0 3 * * *", timezone="Europe/Berlin")],
)


@report.handler
def run_report(params: Report, run: Run) -> None:
    """Do nothing, in a thread."""


bare = Kind("bare", Nothing)


@bare.handler
async def run_bare(params: Nothing, run: Run) -> None:
    """Do nothing at all."""
