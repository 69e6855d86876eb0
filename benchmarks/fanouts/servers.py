"""Start each server that is compared, as a process pinned to one core."""

import contextlib
import ctypes
import functools
import os
import shutil
import signal
import socket
import string
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import attrs
import jwt

from benchmarks.fanouts.load import (
    ENVIRONMENTS,
    SOURCES,
    Failed,
    LoadClient,
    Transport,
    compile_c,
    cpu_seconds,
)
from benchmarks.fanouts.publishers import (
    HttpPublisher,
    LinePublisher,
    Publisher,
    message_text,
    notification,
)

ROOT = SOURCES.parent.parent
SECRET = "a secret of the benchmark, 32 bytes or more"
PACKAGES = {
    "starlette": ["starlette~=1.10.0", "uvicorn[standard]~=0.54.0"],
    "websockets": ["websockets~=17.4.0"],
}
MODULE_FOLDERS = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")
START_SECONDS = 40.0
STOP_SECONDS = 15.0
TOKEN_SECONDS = 12 * 3600.0
PR_SET_PDEATHSIG = 1
# What our envelope takes without `content`.
ENVELOPE_BYTES = 299


@attrs.frozen
class Cores:
    """Which core the server has, and which one the client."""

    server: int
    client: int


@attrs.frozen
class Target:
    """A server that runs. `pids`: what is pinned and weighed, without its stores."""

    port: int
    pids: tuple[int, ...]
    paths: dict[Transport, str]
    publisher: Publisher
    cores: Cores
    greeted: bool = False
    tokens: Path | None = None
    data_dir: Path | None = None

    def connect(self, transport: Transport, connections: int) -> LoadClient:
        """Open so many connections. Raise Failed."""
        return LoadClient(
            transport,
            self.port,
            self.paths[transport],
            connections,
            core=self.cores.client,
            greeted=self.greeted,
            tokens=self.tokens,
        )

    def memory(self) -> int:
        """Return the resident bytes of the server's processes."""
        pages = (Path(f"/proc/{pid}/statm").read_text().split()[1] for pid in self.pids)
        return sum(map(int, pages)) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        """Return the processor time that the server's processes have used [s]."""
        return sum(map(cpu_seconds, self.pids))


@attrs.frozen
class Need:
    """What a server is started for: so many connections, messages of so many bytes."""

    connections: int
    size: int
    cores: Cores


Start = Callable[[Need], AbstractContextManager[Target]]

PLAIN = {Transport.WEBSOCKET: "/ws", Transport.SSE: "/sse"}
OURS = {
    Transport.WEBSOCKET: "/api/ws/notifications",
    Transport.SSE: "/api/notifications/stream",
}
BOTH = tuple(Transport)


def prepare(name: str) -> tuple[Start, tuple[Transport, ...]]:
    """Return what starts a server, and what it speaks. Raise LookupError with why it cannot be."""
    if name == "ours":
        return running_ours, BOTH
    if name == "nchan":
        return functools.partial(_running_nchan, *_find_nchan()), BOTH
    if name == "ceiling":
        return functools.partial(_running_lines, [str(compile_c("ceiling"))]), BOTH
    python = sys.executable if name == "tornado" else _environment(name)
    command = [python, "-m", f"benchmarks.fanouts.{name}_fanout"]
    transports = (Transport.WEBSOCKET,) if name == "websockets" else BOTH
    return functools.partial(_running_lines, command), transports


@contextmanager
def running_ours(need: Need) -> Iterator[Target]:
    """Run `run.py` on embedded stores of its own; every connection is another user's."""
    port, environment = _free_port(), _environment_without_settings()
    with ExitStack() as stack:
        folder = stack.enter_context(_temporary_folder())
        tokens = folder / "tokens"
        tokens.write_text("".join(f"{token(user(i))}\n" for i in range(need.connections)))
        environment |= {
            "RT_DATA_DIR": str(folder / "data"),
            "RT_PORT": str(port),
            "RT_JWT_SECRET": SECRET,
            "RT_LOG_LEVEL": "WARNING",
            "RT_MAX_CONNECTIONS_PER_USER": "0",
            "RT_MAX_CONNECTIONS_PER_ADDRESS": "0",
            "RT_MAX_SOCKETS_PER_ADDRESS": "0",
            "RT_REQUESTS_PER_SECOND": "0",
            "RT_WORKER_CONCURRENCY": "0",
            "RT_DRAIN_SECONDS": "0",
        }
        process = stack.enter_context(
            _process([sys.executable, str(ROOT / "run.py")], folder, environment)
        )
        _wait_until(functools.partial(_answers, f"http://127.0.0.1:{port}/readyz"), process)
        # Only the server: its stores run where there is room.
        _pin(process.pid, need.cores.server)
        content = {"content": "x" * max(need.size - ENVELOPE_BYTES, 1)}
        compose = functools.partial(notification, **content)
        publisher = HttpPublisher(port, "/api/broadcast", compose, token("publisher", "rt:admin"))
        stack.callback(publisher.close)
        yield Target(
            port,
            (process.pid,),
            OURS,
            publisher,
            need.cores,
            greeted=True,
            tokens=tokens,
            data_dir=folder / "data",
        )


def user(number: int) -> str:
    """Return the user of one connection."""
    return f"user{number}"


def token(user_id: str, scope: str = "") -> str:
    """Sign a token that outlives the benchmark."""
    claims = {"sub": user_id, "exp": int(time.time() + TOKEN_SECONDS), "scope": scope}
    return jwt.encode(claims, SECRET, algorithm="HS256")


@contextmanager
def _running_lines(command: list[str], need: Need) -> Iterator[Target]:
    """Run a program that takes its port and that of `serve_publishing`."""
    port, publish_port = _free_port(), _free_port()
    with ExitStack() as stack:
        folder = stack.enter_context(_temporary_folder())
        arguments = [*command, str(port), str(publish_port)]
        process = stack.enter_context(_process(arguments, folder, dict(os.environ)))
        for one in (port, publish_port):
            _wait_until(functools.partial(_listens, one), process)
        _pin(process.pid, need.cores.server)
        publisher = LinePublisher(publish_port, need.size)
        stack.callback(publisher.close)
        yield Target(port, (process.pid,), PLAIN, publisher, need.cores)


@contextmanager
def _running_nchan(nginx: str, module: Path, need: Need) -> Iterator[Target]:
    port = _free_port()
    with ExitStack() as stack:
        folder = stack.enter_context(_temporary_folder())
        # Its worker runs as another user, and writes no more than what stands in memory.
        template = string.Template((SOURCES / "nchan.conf").read_text())
        configuration = folder / "nginx.conf"
        configuration.write_text(
            template.substitute(
                module=module, folder=folder, port=port, connections=need.connections + 1000
            )
        )
        command = [nginx, "-p", str(folder), "-e", "error.log", "-c", str(configuration)]
        process = stack.enter_context(_process(command, folder, dict(os.environ)))
        _wait_until(functools.partial(_listens, port), process)
        _wait_until(lambda: bool(_children(process.pid)), process)
        pids = (process.pid, *_children(process.pid))
        for pid in pids:
            _pin(pid, need.cores.server)
        publisher = HttpPublisher(port, "/publish", functools.partial(message_text, need.size))
        stack.callback(publisher.close)
        yield Target(port, pids, PLAIN, publisher, need.cores)


def _find_nchan() -> tuple[str, Path]:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    files = (Path(folder) / "ngx_nchan_module.so" for folder in MODULE_FOLDERS)
    module = next(filter(Path.exists, files), None)
    if nginx is None or module is None:
        raise LookupError("there is no nginx with nchan (apt-get install nginx libnginx-mod-nchan)")
    return nginx, module


def _environment(name: str) -> str:
    """Make the environment of a compared server; return its Python. Raise LookupError."""
    folder = ENVIRONMENTS / name
    python = str(folder / "bin" / "python")
    if not Path(python).exists():
        venv.create(folder, with_pip=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*pip, *PACKAGES[name]], check=False).returncode:
        raise LookupError(f"{PACKAGES[name][0]} cannot be installed")
    return python


@contextmanager
def _process(
    command: list[str], folder: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command in a group of its own; at the end no process of it is left."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=functools.partial(_begin, os.cpu_count() or 1),
        )
    try:
        yield process
    except Failed as error:
        lines = log.read_text(errors="replace").strip().splitlines()
        raise Failed("; ".join([str(error), *lines[-1:]])) from None
    finally:
        _stop(process)


def _begin(cores: int) -> None:
    """Run on any core, and end with the benchmark (prctl(2))."""
    os.sched_setaffinity(0, range(cores))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fanout-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _environment_without_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RT_")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2):
        return True
    return False


def _answers(url: str) -> bool:
    with contextlib.suppress(urllib.error.URLError, OSError):
        urllib.request.urlopen(url, timeout=2).close()
        return True
    return False


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Raise Failed when the process ends, or is not ready in time."""
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed("the server did not start")
        time.sleep(0.05)


def _children(pid: int) -> tuple[int, ...]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return tuple(map(int, text.split()))


def _pin(pid: int, core: int) -> None:
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})
