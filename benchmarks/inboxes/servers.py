"""Start each of the two servers on a store that was filled."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from subprocess import Popen
from typing import Any

import attrs
from pymongo import MongoClient
from pymongo.database import Database

from benchmarks.inboxes import naive
from benchmarks.inboxes.alone import measure_store
from benchmarks.inboxes.filling import fill, fill_naive
from benchmarks.programs import (
    free_port,
    listens,
    running,
    running_product,
    temporary_folder,
    token,
    wait_until,
)
from tornado_rt.auth import PUBLISH
from tornado_rt.stores import running_addresses

# A store with a million documents has a long journal to go through.
START_SECONDS = 300.0


class Way(StrEnum):
    """The way in which the inbox is served."""

    OURS = "ours"
    NAIVE = "naive"


@attrs.frozen
class Server:
    """One that runs; `token` makes that of a user, `store` has the costs of the store alone [s]."""

    port: int
    token: Callable[[str], str]
    store: Mapping[str, float]


@attrs.frozen
class _Program:
    """Runs a server over a folder; `fill` has its layout."""

    run: Callable[[Path, int], AbstractContextManager[Any]]
    fill: Callable[[Database[dict[str, Any]], int], None]
    database: str
    token: Callable[[str], str]


@contextmanager
def serving(way: Way, total: int) -> Iterator[Server]:
    """Fill a store with this many notifications, and serve it for the block. Raise Failed."""
    program = PROGRAMS[way]
    with temporary_folder() as folder:
        with program.run(folder, free_port()):
            url = running_addresses(folder / "data").mongodb_url
            with MongoClient[dict[str, Any]](url) as client:
                program.fill(client[program.database], total)
            store = measure_store(url, program.database) if way == Way.OURS else {}
        # Anew, so that it remembers nothing of the store as it was.
        port = free_port()
        with program.run(folder, port):
            yield Server(port, program.token, store)


@contextmanager
def _run_naive(folder: Path, port: int) -> Iterator[Popen[bytes]]:
    module, data = "benchmarks.inboxes.naive", str(folder / "data")
    with running([sys.executable, "-m", module, str(port), data], folder, dict(os.environ)) as it:
        wait_until(partial(listens, port), it, START_SECONDS)
        yield it


PROGRAMS = {
    Way.OURS: _Program(
        partial(running_product, seconds=START_SECONDS),
        fill,
        "tornado_rt",
        partial(token, scope=PUBLISH),
    ),
    Way.NAIVE: _Program(_run_naive, fill_naive, naive.DATABASE, str),
}
