"""Start servers for a benchmark, this product among them; when it ends, so do they."""

import contextlib
import ctypes
import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jwt

ROOT = Path(__file__).resolve().parent.parent
SECRET = "a secret of the benchmark, 32 bytes or more"
START_SECONDS = 40.0
STOP_SECONDS = 15.0
TOKEN_SECONDS = 12 * 3600.0
PR_SET_PDEATHSIG = 1
# Settings of the product, which others may add to.
PLAIN = {
    "log_level": "WARNING",
    "max_connections_per_user": "0",
    "max_connections_per_address": "0",
    "max_sockets_per_address": "0",
    "requests_per_second": "0",
    "worker_concurrency": "0",
    "drain_seconds": "0",
}


class Failed(Exception):
    """A server or a client did not do what is measured; the message says what."""


@contextmanager
def running_product(
    folder: Path, port: int, seconds: float = START_SECONDS, **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `run.py` with embedded stores in `folder`; raise Failed after `seconds`."""
    own = {"data_dir": str(folder / "data"), "port": str(port), "jwt_secret": SECRET}
    chosen = {f"RT_{name.upper()}": value for name, value in (PLAIN | own | settings).items()}
    others = {name: value for name, value in os.environ.items() if not name.startswith("RT_")}
    with running([sys.executable, str(ROOT / "run.py")], folder, others | chosen) as process:
        ready = functools.partial(answers, f"http://127.0.0.1:{port}/readyz")
        wait_until(ready, process, seconds)
        yield process


def token(user_id: str, scope: str = "") -> str:
    """Sign a token that outlives the benchmark."""
    claims = {"sub": user_id, "exp": int(time.time() + TOKEN_SECONDS), "scope": scope}
    return jwt.encode(claims, SECRET, algorithm="HS256")


@contextmanager
def running(
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
def temporary_folder() -> Iterator[Path]:
    """Make a folder for the block."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def free_port() -> int:
    """Return a loopback port that nobody has at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Say whether somebody accepts connections on a loopback port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2):
        return True
    return False


def answers(url: str) -> bool:
    """Say whether a GET succeeds."""
    with contextlib.suppress(urllib.error.URLError, OSError):
        urllib.request.urlopen(url, timeout=2).close()
        return True
    return False


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = START_SECONDS
) -> None:
    """Raise Failed when the process ends, or is not ready in time."""
    deadline = time.monotonic() + seconds
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed("the server did not start")
        time.sleep(0.05)
