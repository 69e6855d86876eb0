"""Pages of the documentation, followed word for word in a folder beside a checkout.

The first word after the fence of a block is its language, the second says how it is run:

- `sh`: in one terminal, block after block, first in the folder `mine` beside the checkout;
- `sh background`: in a terminal of its own, in the checkout, until the page ends;
- `sh install`: not run; all that it installs has to be here, in versions that fit;
- `<!-- stop -->`, which readers do not see: stops what was started last, as Ctrl-C does;
- others: a file, if the first line is a comment with its name; it is written into the folder of the
  terminal. A block without a name is shown, not run: `text`.
"""

import contextlib
import http.client
import importlib.metadata
import json
import os
import re
import shlex
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import attrs
import jwt
from packaging.requirements import Requirement

from tests.conftest import ROOT, prepare_data
from tests.ports import free_port
from tests.waiting import wait_until

PARTS = (
    *("run.py", "settings.py", "tornado_rt", "services", "handlers", "examples", "static"),
    *("clients", "Makefile", "requirements.txt", "requirements-embedded.txt"),
)
# Ports of the pages: a server, an application of the reader's, another server.
PORTS = ("8888", "8000", "8889")
NAME = re.compile(r"^(?:#|//|<!--|/\*) ([\w.-]+\.\w+)(?: -->| \*/)?$")
BLOCK = r"^```(\w+)(?: (\w+))?\n(.*?)^```$|^<!-- stop -->$"
# A command that starts a worker, and no server.
WORKER = re.compile(r" worker |worker\.mjs")
# Loads what it is given, keeps it, and says where it is for the block after it.
SCRIPT = 'set -ea; [ -f {state} ] && . {state}; cd "$PWD"; {{ {block}\n}}; export -p > {state}'


@attrs.frozen
class Block:
    """A block of code: its language, how it is run, and its lines."""

    language: str
    sort: str
    text: str

    @property
    def name(self) -> str | None:
        """The name of the file that it is."""
        found = NAME.match(self.text.split("\n", 1)[0])
        return found[1] if found else None


def blocks_of(text: str) -> list[Block]:
    """Return the blocks of code of a page."""
    found = re.findall(BLOCK, text, re.DOTALL | re.MULTILINE)
    return [Block(language or "stop", sort, code) for language, sort, code in found]


def blocks(text: str, language: str) -> list[str]:
    """Return the text of the blocks in this language that are run in order."""
    return [one.text for one in blocks_of(text) if (one.language, one.sort) == (language, "")]


def make_checkout(folder: Path) -> Path:
    """Return a folder that is laid out as a checkout is, with data of its own."""
    checkout = folder / "tornado_rt"
    checkout.mkdir()
    for name in PARTS:
        (checkout / name).symlink_to(ROOT / name)
    interpreter = checkout / ".venv" / "bin" / "python"
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    interpreter.chmod(0o755)
    # All is installed: `make run` goes on to its command.
    (checkout / ".venv" / "run.stamp").touch()
    return checkout


class Walk:
    """A page that is followed; `close` ends all that it has started."""

    def __init__(self, page: Path, folder: Path, *, is_new: bool = False) -> None:
        """`is_new`: the first start of the server makes its data; else an earlier one has."""
        self.blocks = blocks_of(page.read_text())
        self.checkout = make_checkout(folder)
        if not is_new:
            prepare_data(self.checkout / "data")
        self.mine = folder / "mine"
        self.mine.mkdir()
        self.ports = {port: str(free_port()) for port in PORTS}
        self.url = f"http://127.0.0.1:{self.ports['8888']}"
        self.printed: list[str] = []
        self._folder = folder
        self._started = 0
        self._running: list[subprocess.Popen[bytes]] = []

    def follow(self, until: str = "") -> None:
        """Do block after block, or those up to and with the first that contains this text."""
        while self.blocks:
            block = self.blocks.pop(0)
            self._do(block)
            if until and until in block.text:
                return
        assert not until, f"no block contains {until!r}"

    def close(self) -> None:
        """End the last that was started first."""
        with contextlib.ExitStack() as stack:
            for _ in self._running:
                stack.callback(self._stop)

    def _stop(self) -> None:
        process = self._running.pop()
        # A make and what it runs are one group, and have one log.
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(60)
            wait_until(lambda: not _has_members(process.pid), what="all of its group have ended")
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _do(self, block: Block) -> None:
        if block.language == "stop":
            self._stop()
        elif block.language == "sh":
            run = {"": self._run, "background": self._start, "install": check_installed}
            run[block.sort](self._ported(block.text))
        elif block.name:
            (self._here() / block.name).write_text(self._ported(block.text))

    def _ported(self, text: str) -> str:
        return re.sub("|".join(self.ports), lambda found: self.ports[found[0]], text)

    @property
    def _state(self) -> Path:
        return self._folder / "state"

    def _here(self) -> Path:
        """Return the folder of the terminal."""
        if not self._state.exists():
            return self.mine
        found = re.findall(r"^export PWD='?([^'\n]*)'?$", self._state.read_text(), re.MULTILINE)
        return Path(found[-1])

    def _run(self, text: str) -> None:
        script = SCRIPT.format(state=shlex.quote(str(self._state)), block=text)
        done = subprocess.run(
            ["sh", "-c", script],
            cwd=self._here(),
            env=self._environment() | {"PWD": str(self._here())},
            capture_output=True,
            text=True,
            timeout=300,
        )
        self.printed.append(done.stdout)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}\n{self._logs()}"

    def _start(self, text: str) -> None:
        self._started += 1
        log = self._folder / f"{self._started}.log"
        workers = self._workers() if WORKER.search(text) else 0
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["sh", "-ec", text],
                cwd=self.checkout,
                env=self._environment(),
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._running.append(process)

        def serves() -> bool:
            assert process.poll() is None, log.read_text()
            if WORKER.search(text):
                return self._workers() > workers
            own = [port for port in self.ports.values() if port in _without_origins(text)]
            return _answers(own[0] if own else self.ports["8888"])

        wait_until(serves, 120, f"this serves: {text}")

    def _workers(self) -> int:
        """Return how many workers all kinds have."""
        secret = (self.checkout / "data" / "jwt_secret").read_text().strip()
        claims = {"sub": "reader", "exp": time.time() + 60}
        bearer = jwt.encode(claims, secret, algorithm="HS256")
        request = urllib.request.Request(
            f"{self.url}/api/kinds", headers={"Authorization": f"Bearer {bearer}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return sum(kind["workers"] for kind in json.load(answer)["items"])

    def _environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("RT_")}
        return own | {"RT_PORT": self.ports["8888"], "RT_DRAIN_SECONDS": "0"}

    def _logs(self) -> str:
        return "\n".join(log.read_text()[-3000:] for log in sorted(self._folder.glob("*.log")))


def check_installed(text: str) -> None:
    """Check that what commands install by pip or npm is here, as they ask for it."""
    for word in _installed_by(text):
        if word.startswith("./"):
            assert (ROOT / word.split("[")[0]).exists(), word
        else:
            requirement = Requirement(word)
            version = importlib.metadata.version(requirement.name)
            assert requirement.specifier.contains(version), word


def _installed_by(text: str) -> Iterator[str]:
    for line in text.strip().splitlines():
        command, _, words = line.partition(" install ")
        assert command.endswith("pip"), line
        given = shlex.split(words)
        for option, word in zip(["", *given], given, strict=False):
            if word.startswith("-"):
                continue
            if option == "-r":
                yield f"./{word}"
            else:
                yield word


def _has_members(group: int) -> bool:
    """Say whether a group has a process that has not ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


def _without_origins(text: str) -> str:
    """Return a command without the addresses of others that it names."""
    return re.sub(r"RT_TRUSTED_ORIGINS=\S+|RT_URL=\S+", "", text)


def _answers(port: str) -> bool:
    """Say whether something serves there, with TLS or without, and a server is ready."""
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    for scheme in ("http", "https"):
        with contextlib.suppress(OSError, http.client.HTTPException):
            address = f"{scheme}://127.0.0.1:{port}/readyz"
            try:
                urllib.request.urlopen(address, timeout=2, context=unchecked).close()
            except urllib.error.HTTPError as error:
                return error.code != 503
            return True
    return False
