"""The command `why`: asks a running server why a task is where it is."""

import argparse
import asyncio
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from settings import Settings
from tornado_rt.command.program import say
from tornado_rt.command.remote import ADMIN, remote_of
from tornado_rt_client import verbs
from tornado_rt_client.records import Why


def why(settings: Settings, options: argparse.Namespace) -> int:
    """Say why a task is where it is, and print all that has happened to it."""
    found = asyncio.run(remote_of(settings, options, ADMIN).send(verbs.why_task(options.id)))
    say(json.dumps(found.data, ensure_ascii=False) if options.json else "\n".join(_lines(found)))
    return 0


def _lines(found: Why) -> Iterator[str]:
    yield f"{found.task_id} is {found.status}: {found.cause['text']}"
    if found.heard is not None and found.heard != found.cause:
        yield f"Of its end: {found.heard['text']}"
    yield ""
    for one in found.chain:
        yield f"{_clock(one)}  {one['text']}"


def _clock(entry: Mapping[str, Any]) -> str:
    """Return a time by the clock of this machine."""
    moment = datetime.fromisoformat(entry["at"]).astimezone()
    return moment.strftime("%Y-%m-%d %H:%M:%S")
