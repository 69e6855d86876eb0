"""Handlers that do to a whole server what they should not: it goes on, stops and starts again."""

import contextlib
import itertools
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SECRET, ServerProcess, start_server
from tests.peers import PING, PONG, client_frame, read_until, request, upgrade
from tests.test_run import ask, children, is_alive
from tests.waiting import wait_until

pytestmark = pytest.mark.long

GRACE_SECONDS = 1.0
# A stop may take this long beyond the grace time [s], by the kind of task that is left behind.
LEFT_BEHIND_SECONDS = 5.0
BLOCKED_SECONDS = 8.0
UMASK = os.umask(0o022)
os.umask(UMASK)
# Longer than any test: what is done sooner has not waited for the lease.
LEASE_SECONDS = 300

Start = Callable[..., ServerProcess]


class Site:
    """Servers on one folder, one after the other, whose handlers do as the symbol says."""

    def __init__(self, folder: Path, token: str) -> None:
        self.notes = folder / "notes"
        self._token = token
        self._folder = folder
        self._groups: set[int] = set()
        self.server: Any = None

    def start(self, *, prefix: tuple[str, ...] = (), **environment: str) -> None:
        chosen = {
            "RT_JWT_SECRET": SECRET,
            "RT_WORKER_HANDLER": "tests.deeds:work",
            "RT_KINDS": "tests.deeds",
            "RT_WORKER_GRACE_SECONDS": str(GRACE_SECONDS),
            "RT_WORKER_CONCURRENCY": "8",
            "RT_QUEUE_VISIBILITY_SECONDS": str(LEASE_SECONDS),
            "RT_QUEUE_USER_LIMIT": "0",
            "RT_QUEUE_GLOBAL_LIMIT": "0",
            "RT_QUEUE_RETRY_BASE_SECONDS": "0.1",
            "RT_DRAIN_SECONDS": "0",
            "DEEDS_NOTES": str(self.notes),
            **environment,
        }
        # In a session of its own, as a fork is: a handler may signal its whole group.
        by = ("setsid", *prefix) if prefix else ()
        self.server = start_server(self._folder / "data", prefix=by, **chosen)
        self._groups.add(self.server.process.pid)

    @property
    def pid(self) -> int:
        return int(self.server.process.pid)

    @property
    def port(self) -> int:
        return int(self.server.url.rpartition(":")[2])

    def submit(self, symbol: str, *, as_kind: bool = False) -> str:
        """Submit a deed to the handler of (task, progress), or to that of a kind of its own."""
        named = {"symbol": symbol}
        body = {"kind": "deed", "params": named} if as_kind else named
        made = ask(self.server, self._token, "/api/tasks", body)
        return str(made["task_id"])

    def submit_both(self, *symbols: str) -> list[str]:
        """Submit deeds to both handlers."""
        return [self.submit(one, as_kind=as_kind) for one in symbols for as_kind in (False, True)]

    def task(self, task_id: str) -> Any:
        return ask(self.server, self._token, f"/api/tasks/{task_id}")

    def begun(self, task_id: str) -> None:
        wait_until(lambda: self.task(task_id)["status"] != "pending", what="it runs")

    def ended(self, task_id: str) -> Any:
        """Wait until a task has ended, whatever becomes of the server meanwhile."""

        def look() -> Any:
            with contextlib.suppress(OSError):
                found = self.task(task_id)
                return found if found["status"] in ("completed", "failed", "dead") else None
            return None

        return wait_until(look, what=f"{task_id} has ended")

    def ready(self) -> bool:
        with contextlib.suppress(OSError):
            ask(self.server, self._token, "/readyz")
            return True
        return False

    def stop(self, seconds: float) -> float:
        """Stop by SIGTERM; return how long that took. Fail when it takes longer, or leaves any."""
        left = children(self.pid)
        began = time.monotonic()
        self.server.process.send_signal(signal.SIGTERM)
        self.server.process.wait(seconds)
        took = time.monotonic() - began
        wait_until(lambda: not any(is_alive(pid) for pid in left), what="no process is left")
        return took

    def kill(self) -> None:
        self.server.process.kill()
        self.server.process.wait()

    def hears_signals(self) -> bool:
        """Say whether the server has a handler of SIGTERM and of SIGINT."""
        return all(self._has_set("SigCgt", one) for one in (signal.SIGTERM, signal.SIGINT))

    def ignores(self, number: signal.Signals) -> bool:
        """Say whether the signal does nothing to the server."""
        return self._has_set("SigIgn", number)

    def _has_set(self, field: str, number: signal.Signals) -> bool:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return bool(int(status.partition(f"{field}:")[2].split()[0], 16) >> (number - 1) & 1)

    def forked(self) -> list[int]:
        return [int(path.name.partition("-")[2]) for path in self.notes.glob("forked-*")]

    def connect(self, head: bytes) -> socket.socket:
        """Open a stream or a WebSocket; return it once the head of the answer has come."""
        opened = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        opened.sendall(head)
        received = read_until(opened, b"\r\n\r\n")
        assert received.split()[1] in (b"200", b"101"), received
        return opened

    def streams(self) -> list[socket.socket]:
        stream = self.connect(request("/api/notifications/stream", self._token))
        return [stream, self.web_socket()]

    def web_socket(self) -> socket.socket:
        """Open a WebSocket."""
        return self.connect(upgrade("/api/ws/notifications", self._token))

    def web_socket_not_read(self) -> socket.socket:
        """Open a WebSocket on which more comes than the server reads at one message a second."""
        opened = self.web_socket()
        opened.sendall(client_frame(PING) * 60)
        read_until(opened, client_frame(PONG, masked=False))
        return opened

    def close(self) -> None:
        for pid in self.forked():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        if self.server is not None and self.server.process.poll() is None:
            self.server.process.kill()
            self.server.process.wait()


@pytest.fixture
def site(tmp_path: Path, make_token: Callable[..., str]) -> Iterator[Site]:
    opened = Site(tmp_path, make_token("alice"))
    try:
        yield opened
    finally:
        opened.close()


def descendants(pid: int) -> list[int]:
    """Return the children of a process, and theirs."""
    own = children(pid)
    return own + [one for child in own for one in descendants(child)]


def is_at_end(opened: socket.socket) -> bool:
    """Read to the end; say whether it came within the socket's timeout."""
    with opened:
        try:
            while opened.recv(65536):
                pass
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
    return True


def test_what_never_ends_does_not_hold_up_a_stop(site: Site) -> None:
    """Swallowed cancellation, endless threads, ignored signals: it stops and runs them again."""
    site.start()
    tasks = site.submit_both("SWALLOW", "THREAD", "SIGNALS", "SLOW")
    for one in tasks:
        site.begun(one)
    wait_until((site.notes / "ignored").exists)
    wait_until(site.hears_signals)
    site.stop(GRACE_SECONDS + LEFT_BEHIND_SECONDS)
    assert site.server.process.returncode == 0
    site.start()
    assert [site.ended(one)["status"] for one in tasks] == ["completed"] * len(tasks)
    assert site.stop(GRACE_SECONDS + LEFT_BEHIND_SECONDS) < GRACE_SECONDS + 2
    assert site.server.process.returncode == 0


def test_blocked_loop_does_not_hold_up_a_stop(site: Site) -> None:
    """It is cut short; the task runs again at once, and a second SIGTERM does not wait at all."""
    site.start()
    for as_kind in (False, True):
        blocking = site.submit("BLOCK", as_kind=as_kind)
        wait_until((site.notes / "blocked").exists)
        site.stop(GRACE_SECONDS + BLOCKED_SECONDS)
        assert site.server.process.returncode == 1
        (site.notes / "blocked").unlink()
        site.start()
        assert site.ended(blocking)["status"] == "completed"
    for slow in site.submit_both("SWALLOW"):
        site.begun(slow)
    site.server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not site.ready())
    site.stop(1)
    assert site.server.process.returncode in (0, 128 + signal.SIGTERM)


@pytest.mark.parametrize("in_processes", ["true", "false"])
def test_closed_terminal_is_a_stop(site: Site, in_processes: str) -> None:
    """SIGHUP comes to the whole group, and several times; tasks go back to their line."""
    # The program that runs the tests may ignore SIGHUP, and its children would too.
    site.start(prefix=("env", "--default-signal=HUP"), RT_WORKER_PROCESSES=in_processes)
    slow = site.submit("SLOW")
    wait_until((site.notes / slow).exists)
    os.killpg(site.pid, signal.SIGHUP)
    wait_until(lambda: not site.ready())
    with contextlib.suppress(ProcessLookupError):
        os.killpg(site.pid, signal.SIGHUP)
    assert site.server.process.wait(GRACE_SECONDS + LEFT_BEHIND_SECONDS) == 0
    site.start(prefix=("nohup",))
    assert site.ignores(signal.SIGHUP)
    ended = site.ended(slow)
    assert (ended["status"], ended["attempt"]) == ("completed", 1)


@pytest.mark.parametrize("in_processes", ["true", "false"])
def test_sigterm_to_the_whole_group_is_a_stop(site: Site, in_processes: str) -> None:
    """As a supervisor sends it: also to the processes of tasks, which have the grace time."""
    site.start(RT_WORKER_PROCESSES=in_processes)
    told, slow = site.submit("TOLD", as_kind=True), site.submit("SLOW")
    for one in (told, slow):
        wait_until((site.notes / one).exists)
    own = [int(path.name.partition("-")[2]) for path in site.notes.glob("own-*")]
    os.killpg(site.pid, signal.SIGTERM)
    # A second one to the server would end it at once.
    for pid in set(own) - {site.pid}:
        os.kill(pid, signal.SIGTERM)
    assert site.server.process.wait(GRACE_SECONDS + LEFT_BEHIND_SECONDS) == 0
    assert (site.notes / "told").exists()
    site.start()
    ended = [site.ended(one) for one in (told, slow)]
    assert [(one["status"], one["attempt"]) for one in ended] == [("completed", 1)] * 2


def test_what_a_handler_does_to_its_process_is_its_own_end_only(site: Site) -> None:
    """Loop stopped, left and cleared of tasks; stores killed; streams and limits changed."""
    site.start()
    slow = site.submit_both("SLOW")
    for one in slow:
        site.begun(one)
    deeds = (
        "SUBTASK",
        "CALLBACK",
        "STOPLOOP",
        "CANCELALL",
        "PLACE",
        "STREAMS",
        "DEFAULTS",
        "STORES",
    )
    for name, as_kind in itertools.product((*deeds, "WAITPID"), (False, True)):
        deed = site.submit(name, as_kind=as_kind)
        assert site.ended(deed)["status"] in ("completed", "failed"), name
        wait_until(site.ready, what=f"ready after {name}")
        assert site.ended(site.submit("FINE", as_kind=as_kind))["status"] == "completed", name
        assert [site.task(one)["status"] for one in slow] == ["processing"] * 2, name
    status = Path(f"/proc/{site.pid}/status").read_text()
    assert int(status.partition("Umask:")[2].split()[0], 8) == UMASK
    site.stop(GRACE_SECONDS + LEFT_BEHIND_SECONDS)
    assert site.server.process.returncode == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_forked_children_keep_nothing_of_the_server(site: Site, how: signal.Signals) -> None:
    """Clients see the end, and the next server has the folder, the port and the task at once."""
    site.start(RT_MAX_MESSAGES_PER_SECOND="1")
    opened = [*site.streams(), site.web_socket_not_read()]
    tasks = site.submit_both("FORKS")
    for one in tasks:
        site.begun(one)
    wait_until(lambda: len(site.forked()) == 8)
    wait_until((site.notes / "forks").exists)
    forked = site.forked()
    port = site.port
    site.server.process.send_signal(how)
    site.server.process.wait(GRACE_SECONDS + LEFT_BEHIND_SECONDS)
    # A pool's and a `Process`'s children may end with their parent; forked ones live on.
    assert sum(map(is_alive, forked)) >= 4
    assert all(map(is_at_end, opened))
    with socket.create_server(("127.0.0.1", port)):
        pass
    site.start()
    assert [site.ended(one)["status"] for one in tasks] == ["completed"] * 2


def test_killed_server_leaves_no_process_of_a_task(site: Site) -> None:
    """The fork server ends with it, and what that has forked."""
    site.start(RT_WORKER_PROCESSES="true")
    for one in site.submit_both("SLOW"):
        wait_until((site.notes / one).exists)
    started = descendants(site.pid)
    # Two stores, the fork server with its two tasks, and what tracks shared memory.
    assert len(started) == 6
    os.kill(site.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, started)), what="all of them have ended")


@pytest.mark.parametrize("processes", ["1", "2"])
def test_handler_that_kills_its_process_fails_alone(site: Site, processes: str) -> None:
    """Its task is tried again, and others too; one that always kills is dead in the end."""
    chosen = {"RT_PROCESSES": processes, "RT_QUEUE_MAX_ATTEMPTS": "2"}
    site.start(**chosen)
    for name in ("SIGKILL", "KILLPG", "LEAVE", "SEGFAULT", "DIE"):
        deed = site.submit(name)
        if processes == "1":
            site.server.process.wait(10)
            if name == "DIE":
                # It may kill the next server before that is ready.
                with contextlib.suppress(AssertionError):
                    site.start(**chosen)
                site.server.process.wait(10)
            site.start(**chosen)
        assert site.ended(deed)["status"] == ("completed" if name != "DIE" else "dead"), name
    assert site.ended(site.submit("FINE"))["status"] == "completed"


@pytest.mark.parametrize("log", ["gone", "full", "closed", "unread"])
def test_log_that_cannot_be_written_changes_nothing(site: Site, log: str, tmp_path: Path) -> None:
    """A task fails with its reason, and the server stops with status 0."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    where = {"full": ">/dev/full 2>&1", "closed": ">&- 2>&-"}.get(log, f">'{fifo}' 2>&1")
    prefix = ("sh", "-c", f'exec "$@" {where}', "sh")
    site.start(prefix=prefix)
    if log == "gone":
        os.close(reader)
    for name in ("LOUD", "UNCAUGHT"):
        assert site.ended(site.submit(name))["status"] == "completed", name
    failed = site.ended(site.submit("FAIL"))
    assert (failed["status"], failed["message"]) == ("failed", "ValueError: on purpose")
    assert site.ready()
    site.stop(GRACE_SECONDS + LEFT_BEHIND_SECONDS)
    assert site.server.process.returncode == 0
    if log != "gone":
        os.close(reader)
