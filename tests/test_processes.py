"""`run.py --processes`: several servers over one port and one data folder."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from tests.conftest import ROOT, ServerProcess, start_server
from tests.forks import run
from tests.peers import read_until
from tests.test_run import ask, children, folder, is_alive, token
from tests.waiting import wait_until
from tornado_rt.metrics import FOLDER_PREFIX, MEMORY, shared_folder
from tornado_rt.stores import running_addresses

pytestmark = pytest.mark.long

__all__ = ["folder"]

PROCESSES = 3
STORES = 2
LIMIT = 24


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def servers(parent: int) -> dict[int, int]:
    """Return the process ids of the servers that a parent has, by their number."""
    found = {}
    for pid in children(parent):
        _, option, number = command_of(pid).rpartition(" --process ")
        if option:
            found[int(number)] = pid
    return found


class Group:
    """A running `run.py --processes`, of this many."""

    def __init__(self, server: ServerProcess, processes: int) -> None:
        self.server = server
        self.processes = processes
        self.pid = server.process.pid
        self.admin = token(server, "admin", "rt:admin")
        wait_until(self.whole)

    def stats(self, scope: str = "all") -> Any:
        return ask(self.server, self.admin, f"/api/ws/stats?scope={scope}")

    def whole(self) -> bool:
        """Say whether every process is counted."""
        with contextlib.suppress(OSError):
            return bool(self.stats()["processes"] == self.processes)
        return False

    def everybody(self) -> list[int]:
        """Return the process ids of the servers and the stores."""
        found = children(self.pid)
        assert len(found) == self.processes + STORES
        return found

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = self.server.log.read_text().splitlines()
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [line for line in found if line["event"] == event]


@contextlib.contextmanager
def running_group(folder: Path, processes: int = 2, **environment: str) -> Iterator[Group]:
    server = start_server(folder, RT_PROCESSES=str(processes), **environment)
    try:
        yield Group(server, processes)
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    """One for all tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("processes") / "data"
    with running_group(
        folder, PROCESSES, RT_DRAIN_SECONDS="0", RT_MAX_CONNECTIONS_PER_USER=str(LIMIT)
    ) as group:
        yield group


@pytest.fixture
def own_group(folder: Path) -> Iterator[Group]:
    """One that a test may end."""
    with running_group(folder, RT_DRAIN_SECONDS="0.2") as group:
        yield group


def dial(group: Group) -> tuple[int, socket.socket]:
    """Open an event stream; return its status once that has come."""
    port = int(group.server.url.rpartition(":")[2])
    opened = socket.create_connection(("127.0.0.1", port), timeout=10)
    head = (
        f"GET /api/notifications/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {group.admin}"
    )
    opened.sendall(head.encode() + b"\r\n\r\n")
    received = read_until(opened, b"\r\n\r\n")
    return int(received.split()[1]), opened


def connect(group: Group) -> socket.socket:
    """Open an event stream."""
    status, opened = dial(group)
    assert status == 200
    return opened


def test_connections_are_spread_counted_and_told_by_all_processes(group: Group) -> None:
    """A notification made by one reaches the streams on all; statistics are of one or of all."""
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(connect(group)) for _ in range(LIMIT)]
        wait_until(lambda: group.stats()["total_connections"] == len(opened))
        assert group.stats()["total_users"] == 1
        here = group.stats("process")
        assert here["processes"] == 1
        assert 0 < here["total_connections"] < len(opened)
        draft = {"user_id": "admin", "type": "alert", "title": "to all"}
        ask(group.server, group.admin, "/api/notifications", draft)
        for one in opened:
            read_until(one, b"to all")
    wait_until(lambda: not group.stats()["total_connections"])


def test_limit_of_a_user_holds_over_all_processes(group: Group) -> None:
    with contextlib.ExitStack() as stack:
        statuses = []
        for _ in range(LIMIT + 8):
            status, opened = dial(group)
            stack.enter_context(opened)
            statuses.append(status)
        assert statuses == [200] * LIMIT + [429] * 8
    wait_until(lambda: not group.stats()["total_connections"])


def numbers(group: Group, name: str) -> float:
    """Return the sum of a metric over its labels, as one scrape of the port says it."""
    with urllib.request.urlopen(group.server.url + "/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith((name + "{", name + " "))
    )


def test_one_scrape_has_the_numbers_of_all_processes(own_group: Group) -> None:
    """No counter goes back, whichever process answers, and also when one was killed."""
    group = own_group
    asked, seen = 40, []
    before = numbers(group, "rt_http_requests_total")
    for _ in range(asked):
        group.stats("process")
        seen.append(numbers(group, "rt_http_requests_total"))
    assert seen == sorted(seen)
    assert seen[-1] - before >= 2 * asked - 1
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(connect(group)) for _ in range(LIMIT)]
        wait_until(lambda: numbers(group, "rt_connections"), equal=LIMIT)
        here = group.stats("process")["total_connections"]
        assert 0 < here < LIMIT
        delivered = numbers(group, "rt_messages_delivered_total")
        draft = {"user_id": "admin", "type": "alert", "title": "to all"}
        ask(group.server, group.admin, "/api/notifications", draft)
        for one in opened:
            read_until(one, b"to all")
        wait_until(lambda: numbers(group, "rt_messages_delivered_total") >= delivered + LIMIT)
        assert numbers(group, "rt_backplane_up") == 1
        last = numbers(group, "rt_http_requests_total")
        killed = servers(group.pid)[1]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: servers(group.pid).get(1, killed) != killed)
        wait_until(group.whole)
        for _ in range(10):
            before, last = last, numbers(group, "rt_http_requests_total")
            assert last >= before
        assert 0 < numbers(group, "rt_connections") < LIMIT
    wait_until(lambda: numbers(group, "rt_connections"), equal=0)


def test_folder_of_metrics_goes_with_the_parent(own_group: Group) -> None:
    """One that was killed leaves it to the next."""
    group = own_group

    def folders() -> list[Path]:
        return list(MEMORY.glob(f"{FOLDER_PREFIX}{group.pid}-*"))

    assert len(folders()) == 1
    group.server.process.kill()
    group.server.process.wait()
    assert len(folders()) == 1
    with shared_folder() as following:
        assert Path(following).is_dir()
        assert folders() == []
    assert not Path(following).exists()


def test_process_that_dies_is_started_again_and_said(group: Group) -> None:
    """Under the number that it had, and so under the name that its outbox entries have."""
    before = servers(group.pid)
    assert sorted(before) == [1, 2, 3]
    os.kill(before[2], signal.SIGKILL)
    wait_until(lambda: servers(group.pid).get(2, before[2]) != before[2])
    after = servers(group.pid)
    assert (after[1], after[3]) == (before[1], before[3])
    died = group.logged("child_died")
    assert [(one["child"], one["exit_code"]) for one in died] == [("process 2", -signal.SIGKILL)]
    wait_until(group.whole)
    port = group.server.url.rpartition(":")[2]
    assert consumers(group) == {f"{socket.gethostname()}:{port}:{n}" for n in (1, 2, 3)}


def consumers(group: Group) -> set[str]:
    with Redis.from_url(running_addresses(group.server.data_dir).redis_url) as redis:
        found = redis.xinfo_consumers("{rtq}:outbox", "notifications")
    return {one["name"].decode() for one in found}


def test_stop_closes_every_stream_and_leaves_no_process(own_group: Group) -> None:
    group = own_group
    everybody = group.everybody()
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(connect(group)) for _ in range(12)]
        group.server.process.send_signal(signal.SIGTERM)
        for one in opened:
            read_until(one, b"going_away")
        assert group.server.process.wait(30) == 0
    assert not any(is_alive(pid) for pid in everybody)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_all_at_once(folder: Path, number: signal.Signals) -> None:
    with running_group(folder, RT_DRAIN_SECONDS="25") as group, connect(group):
        everybody, server = group.everybody(), group.server
        server.process.send_signal(number)
        wait_until(lambda: not is_accepting(server))
        server.process.send_signal(number)
        assert server.process.wait(5) == 128 + number
        wait_until(lambda: not any(is_alive(pid) for pid in everybody))


def is_accepting(server: ServerProcess) -> bool:
    with socket.socket() as probe:
        return not probe.connect_ex(("127.0.0.1", int(server.url.rpartition(":")[2])))


def test_killed_parent_leaves_neither_processes_nor_stores(own_group: Group) -> None:
    group = own_group
    everybody = group.everybody()
    group.server.process.kill()
    group.server.process.wait()
    wait_until(lambda: not any(is_alive(pid) for pid in everybody))


def test_other_commands_reach_the_stores(group: Group) -> None:
    folder = group.server.data_dir
    assert run("queue", "check", RT_DATA_DIR=str(folder)).stdout == "every task is in its place\n"
    second = run("--processes", "2", RT_DATA_DIR=str(folder), RT_PORT="0")
    assert second.returncode == 1
    assert "another server runs on the data folder" in second.stderr


def test_port_of_another_is_said_once(group: Group, tmp_path: Path) -> None:
    """Also when that other shares its port with processes of its own."""
    port = group.server.url.rpartition(":")[2]
    for processes in ("1", "2"):
        failed = run(
            *("--processes", processes, "--port", port), RT_DATA_DIR=str(tmp_path / processes)
        )
        assert failed.returncode == 2
        assert failed.stderr == f"run.py: port: {port} at 127.0.0.1: address already in use\n"
        assert len(failed.stderr.splitlines()) == 1
        assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("setting", "status", "named"),
    [
        ({"RT_WORKER_HANDLER": "nothing:here"}, 2, "worker_handler"),
        ({"RT_TLS_CERTIFICATE": "/nothing.pem"}, 2, "tls_certificate: /nothing.pem: no such file"),
    ],
)
def test_process_that_cannot_start_is_said_once(
    folder: Path, setting: dict[str, str], status: int, named: str
) -> None:
    failed = run("--processes", "3", RT_DATA_DIR=str(folder), RT_PORT="0", **setting)
    lines = [line for line in failed.stderr.splitlines() if not line.startswith("{")]
    assert (failed.returncode, len(lines)) == (status, 1), failed.stderr
    assert named in lines[0]


def test_port_0_is_one_port_for_all(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, str(ROOT / "run.py"), "--processes", "2", "--port", "0"],
        env={**os.environ, "RT_DATA_DIR": str(folder), "RT_DRAIN_SECONDS": "0"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = process.stdout.readline().split()
        assert said[-3:] == ["by", "2", "processes"]
        server = ServerProcess(said[2], process, folder, folder)  # type: ignore[arg-type]
        admin = token(server, "admin")
        wait_until(lambda: ask(server, admin, "/api/ws/stats?scope=all")["processes"] == 2)
        process.terminate()
        assert process.wait(30) == 0


def test_number_of_processes_is_no_option_of_a_worker(folder: Path) -> None:
    """It has one of another name; what that was called before goes on, and means no number."""
    shown = " ".join(run("worker", "--help").stdout.split())
    assert "--process-per-task a process for each task" in shown
    assert "--processes" not in shown


@pytest.mark.parametrize("flag", ["--process-per-task", "--processes"])
def test_worker_takes_a_process_for_each_task(folder: Path, flag: str) -> None:
    """The server's setting of a number does not matter."""
    failed = run("worker", flag, RT_PROCESSES="3", RT_DATA_DIR=str(folder))
    assert "no server runs on the data folder" in failed.stderr
