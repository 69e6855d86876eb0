"""The output of a task: the messages that its handler has told, as far as its log reaches back."""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from services.queue import LoggedEvents

# Fields of a report that a line of the output has.
SHOWN = ("updated_at", "attempt", "status", "current_step_name", "message")


def lines_of(logged: LoggedEvents, snapshot: bytes) -> list[dict[str, Any]]:
    """Return the lines that a task has told; of equal ones in a row the first.

    `snapshot` is the state of the task, which no event of the log tells yet.
    """
    lines: list[dict[str, Any]] = []
    for told in (*_reports(logged.events), orjson.loads(snapshot)):
        message = told.get("message")
        if message and (not lines or lines[-1]["message"] != message):
            lines.append({name: told.get(name) for name in SHOWN})
    return lines


def _reports(events: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for event in events:
        try:
            fields = orjson.loads(event)
            if fields["type"] == "progress":
                yield dict(fields["data"])
        except (ValueError, TypeError, KeyError):
            # Somebody else has written into the log: the other lines can be shown.
            continue
