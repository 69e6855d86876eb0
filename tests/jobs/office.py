"""Three kinds of work in one worker, one of them slow, as their developer wrote them."""

import time
from pathlib import Path

import attrs

from tornado_rt.work import Kind, Run, SyncRun

POLL_SECONDS = 0.01


@attrs.frozen
class Mail:
    """A mail, and the folder that it is put into."""

    to: str
    outbox: str


@attrs.frozen
class Thumbnail:
    """A picture to be made small."""

    picture: str
    width: int = 120


@attrs.frozen
class Document:
    """A document, which is rendered when its paper is there."""

    paper: str


mail = Kind("mail.send", Mail, label="Mail to {to}")
thumbnail = Kind("image.thumbnail", Thumbnail, steps=["shrink"])
pdf = Kind("pdf.render", Document, label="{paper}", limit=2)


@mail.handler
async def send(params: Mail, run: Run) -> dict[str, str]:
    """Put the mail into the outbox."""
    path = Path(params.outbox, params.to)
    path.write_text(f"Dear {params.to}")
    return {"sent": path.name}


@thumbnail.handler
def shrink(params: Thumbnail, run: SyncRun) -> list[int]:
    """Shrink the picture: computing, so in a thread."""
    with run.step("shrink"):
        return [params.width, params.width * 2 // 3]


@pdf.handler
def render(params: Document, run: SyncRun) -> str:
    """Render page after page, as slowly as paper comes."""
    paper = Path(params.paper)
    while not paper.exists():
        time.sleep(POLL_SECONDS)
        run.update(message="waiting for paper")
    return paper.name
