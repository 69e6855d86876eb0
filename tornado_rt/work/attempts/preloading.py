"""Preload modules into the fork server, so that each task's process begins with them.

Python starts the fork server where we are, with another path than ours, and does not tell when it
cannot import what it should.
"""

import contextlib
import json
import os
import sys
import threading
from collections.abc import Iterator
from multiprocessing import forkserver

# Variables that are set while the fork server starts; the last one holds the values before.
PATH, SAFE, BEFORE = "PYTHONPATH", "PYTHONSAFEPATH", "TORNADO_RT_BEFORE"

_lock = threading.Lock()


def ensure_fork_server() -> None:
    """Start the fork server with our path, unless it runs."""
    with _lock, _our_path():
        forkserver.ensure_running()


def take_back_path() -> None:
    """In the fork server: let programs that handlers start have the environment of the worker."""
    _restore(json.loads(os.environ.pop(BEFORE, "{}")))


@contextlib.contextmanager
def _our_path() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in (PATH, SAFE)}
    os.environ[BEFORE] = json.dumps(before)
    os.environ[PATH] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    # Else the current folder comes first, and may have a module of the name of one of ours.
    os.environ[SAFE] = "1"
    try:
        yield
    finally:
        _restore(before)
        del os.environ[BEFORE]


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
