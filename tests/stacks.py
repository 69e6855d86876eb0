"""Where each task of a loop waits, to find out why a test does not go on."""

import asyncio
import sys
from collections.abc import Iterator
from typing import Any


def show_tasks() -> None:
    """Write it to the standard error, which is shown of a test that fails."""
    for task in asyncio.all_tasks():
        print(f"{task.get_name()} waits at", *_places(task.get_coro()), sep="\n  ", file=sys.stderr)
    sys.stderr.flush()


def _places(waiting: Any) -> Iterator[str]:
    """Return the lines of a coroutine, and of what it awaits."""
    while waiting is not None:
        frame = getattr(waiting, "cr_frame", None) or getattr(waiting, "gi_frame", None)
        if frame is None:
            yield repr(waiting)
            return
        yield f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_qualname}"
        awaited = getattr(waiting, "cr_await", None)
        waiting = awaited if awaited is not None else getattr(waiting, "gi_yieldfrom", None)
