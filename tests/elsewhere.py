"""Workers of the Python client in the tests: in a thread, or as a program of their own."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.client_forms import QUICK
from tests.conftest import ROOT, SECRET, LoopThread
from tests.waiting import wait_until
from tornado_rt_client import Client, Worker

KINDS = "tests.kinds_elsewhere"
SOURCES = ROOT / "clients" / "python" / "src"


@contextlib.contextmanager
def working(url: str, *kinds: Any, **more: Any) -> Iterator[Worker]:
    """Run a worker on a loop in a thread; it has stopped when the block ends."""
    thread = LoopThread()
    given = {"secret": SECRET, "concurrency": 4, "grace_seconds": 0.5, "backoff": QUICK, **more}

    async def begin() -> Worker:
        worker = await Worker(url, kinds or [KINDS], **given).__aenter__()
        await worker.ready()
        return worker

    try:
        worker = thread.run(begin())
        try:
            yield worker
        finally:
            thread.run(worker.__aexit__())
    finally:
        thread.close()


@contextlib.contextmanager
def worker_program(
    url: str, *arguments: str, kinds: str = KINDS, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """Run the command's worker; it has ended when the block ends."""
    command = [sys.executable, "-m", "tornado_rt_client", "worker", "--kinds", kinds]
    paths = os.pathsep.join([str(SOURCES), str(ROOT)])
    given = {"RT_URL": url, "RT_JWT_SECRET": SECRET, "PYTHONPATH": paths, **environment}
    env = {name: value for name, value in os.environ.items() if not name.startswith("RT_")}
    process = subprocess.Popen(
        [*command, *arguments],
        cwd=ROOT,
        env=env | given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


class Place:
    """A folder of one task: its gate, and the marks that it leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gate.touch()

    @property
    def gate(self) -> Path:
        return self.folder / "gate"

    @property
    def params(self) -> dict[str, str]:
        return {"folder": str(self.folder)}

    def count(self, name: str) -> int:
        """Return how many marks of a name there are."""
        path = self.folder / name
        return len(path.read_text().splitlines()) if path.exists() else 0

    def await_count(self, name: str, count: int) -> None:
        """Wait until there are this many."""
        wait_until(lambda: self.count(name), equal=count, what=f"{count} x {name}")

    def open(self) -> None:
        """Let the task end."""
        self.gate.unlink(missing_ok=True)


def status_of(client: Client, task_id: str) -> str:
    """Return the state of a task."""
    return str(client.request("GET", f"/api/tasks/{task_id}")["status"])
