"""The JavaScript client in Node and in Chromium behind one way to call it."""

import abc
import contextlib
import functools
import json
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page
from playwright.sync_api import Error as PlaywrightError

from tests.browsing import Relay
from tests.conftest import ROOT, program
from tests.waiting import wait_until

CLIENT = ROOT / "clients" / "js"
FIXTURES = ROOT / "tests" / "fixtures"
DRIVER = FIXTURES / "js_driver.js"
SECONDS = 30.0
# A document of the server's origin, with its policy of contents, and with no script of its own.
BLANK = "/static/style.css"


class JsError(Exception):
    """An error of the client, as the test's own."""

    def __init__(self, name: str, message: str, status: int | None, code: int | None) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.status = status
        self.code = code


def run(*command: object, cwd: Path, seconds: float = 300) -> str:
    """Run a program; return what it printed."""
    done = subprocess.run(
        [str(one) for one in command], cwd=cwd, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pack(folder: Path) -> Path:
    """Return the tarball of the package, as `npm pack` makes it of a copy of its folder."""
    copy = folder / "source"
    shutil.copytree(CLIENT, copy, ignore=shutil.ignore_patterns("rt-*.js", "*.tgz"))
    run(program("npm"), "pack", "--silent", "--pack-destination", folder, cwd=copy)
    [tarball] = folder.glob("*.tgz")
    return tarball


def install(tarball: Path, folder: Path) -> Path:
    """Install a tarball into an empty folder; return that."""
    folder.mkdir()
    (folder / "package.json").write_text('{"private": true}')
    options = ("--offline", "--no-audit", "--no-fund", "--silent")
    run(program("npm"), "install", *options, tarball, cwd=folder)
    return folder


class Driven(abc.ABC):
    """The common part of both forms. `run` gives a function's body `driver` and `args`."""

    # The transport that the client uses there if nothing hinders it.
    transport = "socket"

    @abc.abstractmethod
    def run(self, source: str, *args: Any) -> Any:
        """Return what the source returns. Raise JsError for what it throws."""

    def open(self, name: str, url: str, *tokens: str, **options: Any) -> None:
        """Open a client of this name."""
        self.run("driver.open(...args)", name, url, tokens, options)

    def follow(self, name: str, *topics: str) -> None:
        """Note the events of topics."""
        for topic in topics:
            self.run("driver.follow(...args)", name, topic)

    def log(self, name: str, topic: str) -> list[list[Any]]:
        """Return the events of a topic so far: type, id, and what is told."""
        noted: list[list[Any]] = self.run("return driver.logs[args[0]][args[1]] ?? []", name, topic)
        return noted

    def told(self, name: str, topic: str, type_: str = "message") -> list[Any]:
        """Return what the events of one type tell."""
        return [one[2] for one in self.log(name, topic) if one[0] == type_]

    def states(self, name: str) -> list[str]:
        """Return the states that the client has told of."""
        return [one[0] for one in self.run("return driver.states[args[0]]", name)]

    def transports(self, name: str) -> set[str]:
        """Return the transports that were online."""
        states = self.run("return driver.states[args[0]]", name)
        return {one[1] for one in states if one[0] == "online"}

    def status(self, name: str) -> dict[str, Any]:
        """Return where the connection stands."""
        source = "const {error, ...status} = driver.clients[args[0]].status;"
        found: dict[str, Any] = self.run(f"{source} return status", name)
        return found

    def wait_for(self, name: str, state: str) -> None:
        """Wait for a state."""
        wait_until(lambda: self.status(name)["state"], SECONDS, f"it is {state}", equal=state)


class NodeForm(Driven):
    """A process of Node that has the package; `sockets`: with its own WebSocket."""

    def __init__(self, package: Path, *, sockets: bool = False) -> None:
        flags = ["--experimental-websocket", "--no-warnings"] if sockets else []
        self.transport = "socket" if sockets else "stream"
        self._process = subprocess.Popen(
            [program("node"), *flags, str(FIXTURES / "js_node.mjs"), str(DRIVER)],
            cwd=package,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, source: str, *args: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"source": source, "args": args}) + "\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], SECONDS)
        assert ready, f"no answer to {source}"
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise JsError(**answer["error"])
        return answer["value"]

    def pause(self) -> None:
        """Let the process do nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()


@functools.cache
def _driver() -> str:
    return DRIVER.read_text()


LOAD = """async () => {
  const module = await import("/static/rt-client.js");
  window.driver = (%s)(module);
}"""


class PageForm(Driven):
    """A page of Chromium that has loaded the client from the server at `url`."""

    def __init__(self, context: BrowserContext, url: str, path: str = BLANK) -> None:
        self.page: Page = context.new_page()
        self.page.goto(url + path)
        self.page.evaluate(LOAD % _driver())

    def run(self, source: str, *args: Any) -> Any:
        wrapped = (
            "async (args) => { const driver = window.driver; try { return {value: await "
            f"(async () => {{ {source} }})() ?? null}} }} catch (error) {{ return {{error: "
            "{name: error.name, message: error.message, status: error.status ?? null, "
            "code: error.code ?? null}} } }"
        )
        answer = self.page.evaluate(wrapped, list(args))
        if "error" in answer:
            raise JsError(**answer["error"])
        return answer["value"]

    def close(self) -> None:
        with contextlib.suppress(PlaywrightError):
            self.page.close()


@contextlib.contextmanager
def page_form(browser: Browser, url: str) -> Iterator[PageForm]:
    """A page in a context of its own: no other page shares its connection."""
    context = browser.new_context()
    form = PageForm(context, url)
    yield form
    form.close()
    context.close()


class RefusingRelay(Relay):
    """A relay that refuses to upgrade, as some proxies do, while `refuses`. `upgrades` counts."""

    refuses = True
    upgrades = 0

    async def _relay(self, reader: Any, writer: Any, first: bytes = b"") -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"upgrade: websocket" in head.lower():
            self.upgrades += 1
            if self.refuses:
                writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                writer.close()
                return
        await super()._relay(reader, writer, head)
