"""Processes that are forked from one that has imported the product.

The imports take most of the time of a short process, and half of a server's start. Each fork has
streams, an exit status, an environment and a folder of its own, as a process that was started by
itself. It ends with us in any case.
"""

import atexit
import ctypes
import functools
import gc
import os
import pickle
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 60.0
PR_SET_PDEATHSIG = 1
SERVE = "import sys; from tests.forks import serve; serve(int(sys.argv[1]))"

_libc = ctypes.CDLL(None, use_errno=True)


@attrs.frozen
class Request:
    """The work of a fork, and the files for its output."""

    function: Callable[..., object]
    arguments: tuple[Any, ...]
    cwd: Path
    environment: Mapping[str, str]
    stdout: Path
    stderr: Path


@attrs.define
class Fork:
    """A process that was forked; it is asked and told as a `subprocess.Popen` is."""

    pid: int
    _request: Request
    _link: socket.socket
    returncode: int | None = None

    def poll(self) -> int | None:
        """Return its exit status, None while it runs."""
        return self._status_within(0)

    def wait(self, timeout: float = SECONDS) -> int:
        """Wait for its end; return its exit status. Raise subprocess.TimeoutExpired."""
        status = self._status_within(timeout)
        if status is None:
            raise subprocess.TimeoutExpired([str(one) for one in self._request.arguments], timeout)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send it SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def end(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end; return what it has written."""
        try:
            status = self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        written = [path.read_text() for path in (self._request.stdout, self._request.stderr)]
        shutil.rmtree(self._request.stdout.parent)
        return subprocess.CompletedProcess(self._request.arguments, status, *written)

    def _status_within(self, seconds: float) -> int | None:
        told = select.poll()
        if self.returncode is None:
            told.register(self._link, select.POLLIN)
            if told.poll(seconds * 1000):
                with self._link, self._link.makefile() as lines:
                    self.returncode = int(lines.readline())
        return self.returncode


def fork(
    function: Callable[..., object],
    *arguments: Any,
    cwd: Path | None = None,
    **environment: str,
) -> Fork:
    """Call a function in a fork; its environment has no setting but these."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RT_")}
    written = Path(tempfile.mkdtemp())
    request = Request(
        function,
        arguments,
        cwd or Path.cwd(),
        inherited | environment,
        written / "stdout",
        written / "stderr",
    )
    return _fork(request)


def start(function: Callable[[], object], environment: Mapping[str, str], log: Path) -> Fork:
    """Call a function in a fork, in this environment; it writes all to the log."""
    return _fork(Request(function, (), ROOT, environment, log, log))


def start_script(environment: Mapping[str, str], log: Path, *arguments: str) -> Fork:
    """Start `run.py` in a fork, in this environment; it writes all to the log."""
    return start(functools.partial(script, *arguments), environment, log)


def _fork(request: Request) -> Fork:
    link, other = socket.socketpair()
    link.settimeout(SECONDS)
    with other:
        socket.send_fds(_server(), [b"\0"], [other.fileno()])
    link.sendall(pickle.dumps(request))
    link.shutdown(socket.SHUT_WR)
    pid = b""
    while not pid.endswith(b"\n"):
        pid += link.recv(1)
    return Fork(int(pid), request, link)


def command(*arguments: str) -> None:
    """Do as `run.py` does with these arguments."""
    _have_path_of_script()
    import run
    from tornado_rt.lifetime import leave_process

    leave_process(run.main(list(arguments)))


def run(
    *arguments: str, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command of `run.py` to its end."""
    return fork(command, *arguments, cwd=cwd, **environment).end()


def script(*arguments: str) -> None:
    """Be `run.py`, as the interpreter runs it."""
    _have_path_of_script()
    sys.argv = [str(ROOT / "run.py"), *arguments]
    runpy.run_path(sys.argv[0], run_name="__main__")


def _have_path_of_script() -> None:
    # As the interpreter has it for a script.
    sys.path[:] = [str(ROOT), *(path for path in sys.path if path != str(ROOT))]


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@functools.cache
def _server() -> socket.socket:
    """Start the process that forks; it ends with us. Return the link to it."""
    link, other = socket.socketpair()
    with other:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(other.fileno())],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            pass_fds=[other.fileno()],
        )

    def end() -> None:
        process.terminate()
        process.wait()

    atexit.register(end)
    return link


def serve(descriptor: int) -> None:
    """Fork as often as the link says, until its other end is gone."""
    import run  # noqa: F401

    # Else the first collection of each fork would copy all that was imported.
    gc.freeze()
    link = socket.socket(fileno=descriptor)
    # The kernel takes the ends of those that we fork; each waits for its own child.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while descriptors := socket.recv_fds(link, 1, 1)[1]:
        if not os.fork():
            link.close()
            _fork_one(socket.socket(fileno=descriptors[0]))
        os.close(descriptors[0])


def _fork_one(link: socket.socket) -> None:
    """Fork as we are told; tell the process id, then the exit status."""
    die_with_parent()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with link.makefile("rb") as asked:
        request = pickle.load(asked)
    pid = os.fork()
    if not pid:
        link.close()
        _call(request)
    link.sendall(b"%d\n" % pid)
    _, status = os.waitpid(pid, 0)
    link.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _call(request: Request) -> None:
    die_with_parent()
    # The signals of a terminal are for the tests.
    os.setsid()
    for descriptor, path in ((1, request.stdout), (2, request.stderr)):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(request.cwd)
    os.environ.clear()
    os.environ.update(request.environment)
    request.function(*request.arguments)
    sys.exit()
