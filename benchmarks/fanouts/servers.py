"""Start each server that is compared, as a process pinned to one core."""

import functools
import os
import shutil
import string
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import attrs

from benchmarks.fanouts.load import (
    ENVIRONMENTS,
    SOURCES,
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
from benchmarks.programs import (
    free_port,
    listens,
    running,
    running_product,
    temporary_folder,
    token,
    wait_until,
)

PACKAGES = {
    "starlette": ["starlette~=1.10.0", "uvicorn[standard]~=0.54.0"],
    "websockets": ["websockets~=17.4.0"],
}
MODULE_FOLDERS = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")
# Bytes of our envelope without `content`.
ENVELOPE_BYTES = 299


@attrs.frozen
class Cores:
    """The core of the server, and that of the client."""

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
        """Open this many connections. Raise Failed."""
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
    """The load that a server is started for: number of connections, bytes of a message."""

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
    port = free_port()
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        tokens = folder / "tokens"
        tokens.write_text("".join(f"{token(user(i))}\n" for i in range(need.connections)))
        process = stack.enter_context(running_product(folder, port))
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


@contextmanager
def _running_lines(command: list[str], need: Need) -> Iterator[Target]:
    """Run a program that takes its port and that of `serve_publishing`."""
    port, publish_port = free_port(), free_port()
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        arguments = [*command, str(port), str(publish_port)]
        process = stack.enter_context(running(arguments, folder, dict(os.environ)))
        for one in (port, publish_port):
            wait_until(functools.partial(listens, one), process)
        _pin(process.pid, need.cores.server)
        publisher = LinePublisher(publish_port, need.size)
        stack.callback(publisher.close)
        yield Target(port, (process.pid,), PLAIN, publisher, need.cores)


@contextmanager
def _running_nchan(nginx: str, module: Path, need: Need) -> Iterator[Target]:
    port = free_port()
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        # Its worker runs as another user, and writes no more than what stands in memory.
        template = string.Template((SOURCES / "nchan.conf").read_text())
        configuration = folder / "nginx.conf"
        configuration.write_text(
            template.substitute(
                module=module, folder=folder, port=port, connections=need.connections + 1000
            )
        )
        command = [nginx, "-p", str(folder), "-e", "error.log", "-c", str(configuration)]
        process = stack.enter_context(running(command, folder, dict(os.environ)))
        wait_until(functools.partial(listens, port), process)
        wait_until(lambda: bool(_children(process.pid)), process)
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


def _children(pid: int) -> tuple[int, ...]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return tuple(map(int, text.split()))


def _pin(pid: int, core: int) -> None:
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})
