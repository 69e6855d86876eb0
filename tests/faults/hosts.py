"""Where JavaScript clients live: a process of Node, and pages of Chromium. Many share one."""

import abc
import asyncio
import collections
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

from playwright.async_api import Browser, Page, async_playwright
from playwright.async_api import Error as PlaywrightError

from tests.browsing import ARGUMENTS
from tests.conftest import program
from tests.js_forms import BLANK, DRIVER, FIXTURES, LOAD

LINE_BYTES = 2**20
SECONDS = 30.0

Listen = Callable[[dict[str, Any]], None]


class Host(abc.ABC):
    """Runs the driver of the JavaScript client, and hands on the events of a client."""

    def __init__(self) -> None:
        self._listeners: dict[str, Listen] = {}

    @abc.abstractmethod
    async def run(self, source: str, *args: Any) -> Any:
        """Run a function's body, which has `driver` and `args`; return what it returns."""

    async def open(self, name: str, url: str, *tokens: str, listen: Listen, **options: Any) -> None:
        """Open a client of this name; `listen` hears of its states and of its topics' events."""
        self._listeners[name] = listen
        await self.run("driver.open(...args)", name, url, tokens, options)

    async def report(self, name: str, topic: str) -> None:
        """Have the events of a topic told."""
        await self.run("driver.report(...args)", name, topic)

    async def end(self, name: str) -> None:
        """Close a client, and listen to it no more."""
        await self.run("driver.end(...args)", name)
        self._listeners.pop(name, None)

    def hear(self, told: dict[str, Any]) -> None:
        """Hand on what a client tells."""
        if listen := self._listeners.get(told["name"]):
            listen(told)


class Node(Host):
    """A process of Node that has the package, and a WebSocket of its own."""

    def __init__(self, package: Path) -> None:
        super().__init__()
        self._package = package
        self._answers: collections.deque[asyncio.Future[Any]] = collections.deque()

    async def __aenter__(self) -> Self:
        flags = ["--experimental-websocket", "--no-warnings"]
        self._process = await asyncio.create_subprocess_exec(
            *(program("node"), *flags, str(FIXTURES / "js_node.mjs"), str(DRIVER)),
            cwd=self._package,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_BYTES,
        )
        self._reading = asyncio.create_task(self._read(), name="node")
        await self.run(
            "driver.tell = (told) => process.stdout.write(`${JSON.stringify({told})}\\n`)"
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        await self._process.wait()
        await self._reading

    def freeze(self) -> None:
        """Let the process do nothing: it reads nothing, and answers no ping."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    async def run(self, source: str, *args: Any) -> Any:
        assert self._process.stdin is not None
        answer = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self._process.stdin.write(json.dumps({"source": source, "args": args}).encode() + b"\n")
        async with asyncio.timeout(SECONDS):
            return await answer

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = json.loads(line)
            if "told" in said:
                self.hear(said["told"])
                continue
            answer = self._answers.popleft()
            if answer.done():
                continue
            if "error" in said:
                answer.set_exception(RuntimeError(str(said["error"])))
            else:
                answer.set_result(said["value"])


class Chromium(Host):
    """A page in a context of its own, which has loaded the client from the server at `url`."""

    def __init__(self, page: Page) -> None:
        super().__init__()
        self._page = page

    @classmethod
    async def load(cls, browser: Browser, url: str) -> Self:
        """Load a page from a server."""
        host = cls(await (await browser.new_context()).new_page())
        await host._page.expose_function("tell", host.hear)
        await host._page.goto(url + BLANK)
        await host._page.evaluate(LOAD % DRIVER.read_text())
        await host.run("driver.tell = window.tell")
        return host

    async def run(self, source: str, *args: Any) -> Any:
        wrapped = f"async (args) => {{ const driver = window.driver; {source} }}"
        return await self._page.evaluate(wrapped, list(args))


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Headless Chromium of the system, on this loop."""
    path = program("chromium", "chromium-browser")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        with contextlib.suppress(PlaywrightError):
            await browser.close()
