"""The page in headless Chromium."""

import asyncio
import contextlib
import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Locator, Page, ViewportSize, expect, sync_playwright

from tests.conftest import LoopThread, ServerProcess, program
from tests.waiting import until, wait_until

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
PHONE: ViewportSize = {"width": 390, "height": 667}
# A server may be too busy to answer for this long [s].
BUSY_SECONDS = 60.0
# Where the cores are busy a page takes its time [ms].
expect.set_options(timeout=30_000)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Headless Chromium of the system."""
    path = program("chromium", "chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


def log_in(page: Page, user: str) -> None:
    """Sign in on the page by a name; the user before is signed out."""
    expect(page.locator("#login, #sign-out").locator("visible=true")).to_have_count(1)
    if page.locator("#sign-out").is_visible():
        page.click("#sign-out")
    page.select_option("#user", user)
    page.click("#login")
    expect_live(page)


def expect_live(page: Page) -> None:
    """Wait until the page has its connection, and its form."""
    expect(page.locator("#link-state")).to_have_attribute("data-state", "online")
    expect(page.locator("#submit-task")).to_be_enabled()


def submit(page: Page, *symbols: str) -> None:
    """Submit an analysis by the form; of several symbols as a batch."""
    page.set_checked("#several", len(symbols) > 1)
    field = "#task-form textarea" if len(symbols) > 1 else "#param-symbol"
    page.fill(field, "\n".join(symbols))
    page.click("#submit-task")


def status_of(page: Page) -> Locator:
    """Return the status of the task or batch that the page shows."""
    return page.locator("#view [part=status]").first


def tab_of(page: Page, name: str) -> Locator:
    """Choose a tab of the task; return what it shows."""
    page.locator(f"#view [data-tab={name}]").click()
    return page.locator(f"#view [part=view-{name}]")


def note_faults(page: Page, server: ServerProcess, faults: list[str]) -> None:
    """Note what a page complains of, and what it asks of others than the server."""
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.on("request", lambda r: None if _is_own(r.url, server) else faults.append(r.url))


def _is_own(url: str, server: ServerProcess) -> bool:
    return url.startswith((server.url, server.url.replace("http", "ws")))


def ask(server: ServerProcess, method: str, path: str, token: str, body: Any = None) -> Any:
    """Ask the server, again while it is too busy (503); return its JSON. Raise HTTPError.

    A submission that is asked for again is made once.
    """
    key = {} if method != "POST" else {"Idempotency-Key": uuid.uuid4().hex}
    request = urllib.request.Request(
        server.url + path,
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            **key,
        },
    )

    def answer() -> list[Any]:
        try:
            with urllib.request.urlopen(request, timeout=60) as opened:
                return [json.loads(opened.read() or b"null")]
        except urllib.error.HTTPError as refusal:
            if refusal.status != 503:
                raise
            return []

    [answered] = wait_until(answer, BUSY_SECONDS, "the server has time")
    return answered


class Relay:
    """A TCP relay to the server, whose connections can be cut without a word."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._writers: set[asyncio.StreamWriter] = set()
        # Whether it refuses who comes.
        self.is_away = False
        self._thread = LoopThread()
        self._server: asyncio.Server = self._thread.run(self._listen())
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def lead_to(self, target: str) -> None:
        """Bring those who come from now on to another server."""
        self._target = urlsplit(target)

    def cut(self) -> None:
        """Reset every open connection."""
        self._thread.run(self._cut())

    def close(self) -> None:
        self._thread.run(self._end())
        self._thread.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._relay, "127.0.0.1", 0)

    async def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _end(self) -> None:
        self._server.close()
        await self._cut()
        await until(lambda: not self._writers, what="all its connections have ended")

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes = b""
    ) -> None:
        """Connect both sides; `first` is what was read already."""
        if self.is_away:
            writer.transport.abort()
            return
        target = await asyncio.open_connection(self._target.hostname, self._target.port)
        target[1].write(first)
        pair = {writer, target[1]}
        self._writers |= pair
        await asyncio.gather(_copy(reader, target[1]), _copy(target[0], writer))
        self._writers -= pair


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
