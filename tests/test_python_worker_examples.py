"""The examples of the repository, run by a worker inside and by the Python client's.

Whoever watches sees the same.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.client_forms import SECONDS
from tests.conftest import ROOT, SECRET, ServerProcess, start_server, stop_server
from tests.elsewhere import worker_program
from tests.waiting import wait_until
from tornado_rt_client import Client, Finished, Progress

KINDS = "examples/three_kinds.py,examples/report.py"
INVOICE = {"customer": "Ada", "items": [{"name": "pen", "price": "1.50", "count": 3}]}
MAIL = {"to": "ada@example.org", "subject": "Hello", "text": "How are you?"}
SHELVES = {"shelves": {"A": ["nut", "bolt", "nut"], "B": ["nut"]}}
TASKS: list[tuple[str, Any]] = [
    ("invoice.write", INVOICE),
    ("mail.send", MAIL),
    ("shelf.count", SHELVES),
    ("report.nightly", {"symbols": ["IBM", "AAPL"]}),
    ("report.nightly", {"symbols": ["NONE"]}),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The folders of the examples, as the environment names them."""
    folder = tmp_path_factory.mktemp("examples")
    return {"SHOP": str(folder / "shop"), "REPORTS": str(folder / "reports")}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that has none of the examples."""
    server = start_server(
        tmp_path_factory.mktemp("elsewhere") / "data",
        RT_JWT_SECRET=SECRET,
        RT_DRAIN_SECONDS="0",
        RT_REQUESTS_PER_SECOND="0",
    )
    yield server
    stop_server(server)


@contextlib.contextmanager
def inside(server: ServerProcess, folders: dict[str, str]) -> Iterator[None]:
    """Run `run.py worker` on the server's stores."""
    given = {"RT_DATA_DIR": str(server.data_dir), "RT_JWT_SECRET": SECRET, **folders}
    env = {name: value for name, value in os.environ.items() if not name.startswith("RT_")}
    command = [sys.executable, "run.py", "worker", "--kinds", KINDS]
    with subprocess.Popen(
        command, cwd=ROOT, env=env | given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield
        finally:
            process.terminate()


@contextlib.contextmanager
def elsewhere(server: ServerProcess, folders: dict[str, str], *arguments: str) -> Iterator[None]:
    """Run the client's worker."""
    with worker_program(server.url, *arguments, kinds=KINDS, **folders) as process:
        yield
        process.terminate()
        assert process.wait(SECONDS) == 0


def seen(client: Client, kind: str, params: Any) -> dict[str, Any]:
    """Return what a watcher sees of a task, without what each time is another.

    Quick reports are merged, so that not each step is seen.
    """
    task = client.submit(kind, params)
    *events, end = task.watch(timeout=SECONDS)
    assert isinstance(end, Finished)
    shown = [one.snapshot for one in events if isinstance(one, Progress)]
    kept = client.request("GET", f"/api/tasks/{task.id}")

    def plain(value: Any) -> Any:
        return str(value).replace(task.id, "ID")

    return {
        "never back": [one.progress for one in shown] == sorted(one.progress for one in shown),
        "at last in": shown[-1].current_step_name,
        "label": {one.label for one in shown},
        "last": (shown[-1].progress, shown[-1].message, shown[-1].attempt),
        "end": (end.status, plain(end.result), end.error),
        "steps": [(one["name"], one["status"]) for one in kept["steps"]],
        "attempts": len(kept["attempts"]),
    }


@pytest.fixture(scope="module")
def expected(server: ServerProcess, folders: dict[str, str]) -> list[dict[str, Any]]:
    """The inner state of a worker."""
    with inside(server, folders), Client(server.url, secret=SECRET, user="inside") as client:
        wait_until(lambda: knows_all(client), what="the worker has said its kinds")
        return [seen(client, *task) for task in TASKS]


def knows_all(client: Client) -> bool:
    return {kind for kind, _ in TASKS} <= {one.kind for one in client.kinds() if one.workers}


def titles(client: Client) -> list[str]:
    return sorted(one.title for one in client.inbox())


@pytest.mark.parametrize("how", [(), ("--transport", "http"), ("--process-per-task",)], ids=str)
def test_worker_elsewhere_is_seen_as_one_inside(
    server: ServerProcess,
    folders: dict[str, str],
    expected: list[dict[str, Any]],
    how: tuple[str, ...],
) -> None:
    """Over both transports, and with processes."""
    user = "elsewhere" + "".join(how)
    with (
        elsewhere(server, folders, *how),
        Client(server.url, secret=SECRET, user=user) as client,
        Client(server.url, secret=SECRET, user="inside") as other,
    ):
        wait_until(lambda: knows_all(client), what="the worker has said its kinds")
        for task, one in zip(TASKS, expected, strict=True):
            assert seen(client, *task) == one
        wait_until(lambda: titles(client), equal=titles(other), what="the same notifications")
