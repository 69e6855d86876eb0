"""The page in a real browser, on a real server."""

import asyncio
import contextlib
import re
import shlex
import urllib.request
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from tests.conftest import LoopThread, ServerProcess, program

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
PHONE: ViewportSize = {"width": 390, "height": 667}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium of the system."""
    chromium = program("chromium", "chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def faults() -> list[str]:
    """What the page complained of; a test that provokes a complaint takes it out."""
    return []


@pytest.fixture
def page(browser: Browser, server_process: ServerProcess, faults: list[str]) -> Iterator[Page]:
    """A fresh session on the page; whatever it complains of fails the test."""
    context = browser.new_context()
    page = context.new_page()
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.on(
        "request", lambda r: faults.append(r.url) if not _is_own(r.url, server_process) else None
    )
    page.goto(server_process.url)
    yield page
    context.close()
    assert faults == []


def _is_own(url: str, server: ServerProcess) -> bool:
    return url.startswith((server.url, server.url.replace("http", "ws")))


def log_in(page: Page, user: str) -> None:
    page.select_option("#user", user)
    page.click("#login")
    expect(page.locator("#link-state")).to_have_text(f"{user}: connected")


def test_from_login_to_a_finished_task_and_its_notification(page: Page) -> None:
    """Both bars fill, the steps are ticked, the badge counts, the frames are shown."""
    log_in(page, "alice")
    page.fill("#symbol", "AAPL")
    page.click("#submit-task")
    expect(page.locator("#task-status")).to_have_text("completed", timeout=20_000)
    expect(page.locator("#task-progress")).to_have_js_property("value", 100)
    expect(page.locator("#sse-progress")).to_have_js_property("value", 100)
    expect(page.locator("#steps li[data-state=completed]")).to_have_count(19)
    expect(page.locator("#result")).to_contain_text('"decision"')
    expect(page.locator("#unread-badge")).to_have_text("1")
    expect(page.locator("#notifications li").first).to_contain_text("AAPL: analysis completed")
    expect(page.locator("#frames")).to_contain_text('"type":"finished"')
    expect(page.locator("#frames")).to_contain_text("event: finished")
    expect(page.locator("#curl-line")).to_have_text(
        re.compile(r"curl -N -H 'Authorization: Bearer \S+' 'http://\S+/api/tasks/\S+'")
    )
    page.click("#read-all")
    expect(page.locator("#unread-badge")).to_be_hidden()
    expect(page.locator("#notifications li[data-status=unread]")).to_have_count(0)


def test_task_survives_a_reload(page: Page) -> None:
    """The page finds the user, the task and its result again."""
    log_in(page, "bob")
    page.fill("#symbol", "IBM")
    page.click("#submit-task")
    expect(page).to_have_url(re.compile(r"\?task="))
    page.reload()
    expect(page.locator("#link-state")).to_have_text("bob: connected")
    expect(page.locator("#task-name")).to_have_text("IBM")
    expect(page.locator("#task-status")).to_have_text("completed", timeout=20_000)
    expect(page.locator("#sse-progress")).to_have_js_property("value", 100)
    page.reload()
    expect(page.locator("#task-status")).to_have_text("completed")
    expect(page.locator("#result")).to_contain_text("IBM")


def test_running_task_shows_time_left_and_can_be_cancelled(page: Page) -> None:
    log_in(page, "carol")
    page.click("#submit-task")
    expect(page.locator("#time-left")).to_contain_text("left")
    page.click("#cancel")
    expect(page.locator("#task-status")).to_have_text("cancelled")
    expect(page.locator("#time-left")).to_have_text("")
    expect(page.locator("#cancel")).to_be_hidden()


def test_unknown_symbol_says_why_it_failed(page: Page) -> None:
    log_in(page, "carol")
    page.fill("#symbol", "ZZZ")
    page.click("#submit-task")
    expect(page.locator("#task-status")).to_have_text("failed", timeout=20_000)
    expect(page.locator("#result")).to_contain_text("known are AAPL")


def test_batch_is_watched(page: Page) -> None:
    log_in(page, "dave")
    page.fill("#symbol", "AAPL, IBM, ZZZ")
    page.click("#submit-batch")
    expect(page.locator("#task-status")).to_have_text("partial", timeout=30_000)
    expect(page.locator("#notifications li").first).to_contain_text("2 of 3 completed")
    expect(page.locator("#tasks li")).to_have_count(3)


def test_page_is_usable_by_keyboard(page: Page) -> None:
    """From the first Tab to a finished task without a mouse, the focus always visible."""
    page.locator("body").press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#user")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#submit-task")).to_be_enabled()
    page.locator("#login").focus()
    while not page.evaluate("document.activeElement.id === 'symbol'"):
        page.keyboard.press("Tab")
    page.keyboard.type("MSFT")
    page.keyboard.press("Enter")
    expect(page.locator("#task-status")).to_have_text("completed", timeout=20_000)


def test_page_fits_a_phone(page: Page) -> None:
    """No sideways scrolling, and targets that a thumb can hit."""
    page.set_viewport_size(PHONE)
    log_in(page, "alice")
    page.click("#submit-task")
    expect(page.locator("#task-progress")).to_be_in_viewport()
    expect(page.locator("#task-status")).to_have_text("completed", timeout=20_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for button in page.locator("button:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44


class Relay:
    """A TCP relay to the server, whose connections can be cut without a word."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = LoopThread()
        self._server: asyncio.Server = self._thread.run(self._listen())
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Reset every open connection."""
        self._thread.run(self._cut())

    def close(self) -> None:
        self._server.close()
        self.cut()
        self._thread.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._relay, "127.0.0.1", 0)

    async def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = await asyncio.open_connection(self._target.hostname, self._target.port)
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


def test_page_comes_back_after_its_connections_were_cut(
    page: Page, server_process: ServerProcess, faults: list[str]
) -> None:
    """Both transports resume by themselves, and nothing is missed or shown twice."""
    relay = Relay(server_process.url)
    page.goto(relay.url)
    log_in(page, "carol")
    page.click("#submit-task")
    expect(page.locator("#time-left")).to_contain_text("left")
    relay.cut()
    expect(page.locator("#link-state")).to_have_text("carol: connected")
    expect(page.locator("#task-status")).to_have_text("completed", timeout=20_000)
    expect(page.locator("#sse-progress")).to_have_js_property("value", 100)
    expect(page.locator("#frames")).to_contain_text("closed with 1006")
    expect(page.locator("#frames")).to_contain_text('"recovered":true')
    expect(page.locator("#task-link")).to_be_hidden()
    completed = page.locator("#notifications li", has_text="AAPL: analysis completed")
    expect(completed).to_have_count(1)
    page.goto("about:blank")
    relay.close()
    # The browser itself reports lost connections, and the relay is another origin.
    faults.clear()


def test_unknown_task_says_why_and_is_not_asked_for_again(
    page: Page, server_process: ServerProcess, faults: list[str]
) -> None:
    log_in(page, "bob")
    page.goto(server_process.url + "/?task=nobody")
    expect(page.locator("#task-link")).to_have_text("closed: no such task")
    expect(page.locator("#sse-link")).to_have_text("closed: there is no task nobody")
    expect(page.locator("#cancel")).to_be_hidden()
    # The browser reports each 404.
    faults[:] = [fault for fault in faults if "404" not in fault]


@pytest.mark.parametrize("id_", ["../notifications/1", "$(id)", "a'b", "x" * 65])
def test_link_that_names_no_task_is_not_followed(
    page: Page, server_process: ServerProcess, id_: str
) -> None:
    """What a stranger's link holds gets neither into an address nor into the curl line."""
    log_in(page, "bob")
    page.goto(f"{server_process.url}/?task={quote(id_, safe='')}")
    expect(page.locator("#submit-error")).to_have_text("The link names no task")
    expect(page.locator("#task")).to_be_hidden()
    assert page.text_content("#curl-line") == ""


def test_link_to_a_task_outlives_the_login(page: Page, server_process: ServerProcess) -> None:
    """Who opens a link and logs in sees its task; the next user does not."""
    log_in(page, "alice")
    page.fill("#symbol", "GOOG")
    page.click("#submit-task")
    expect(page).to_have_url(re.compile(r"\?task="))
    link = page.url
    page.evaluate("sessionStorage.clear()")
    page.goto(link)
    expect(page.locator("#submit-task")).to_be_disabled()
    log_in(page, "alice")
    expect(page.locator("#task-name")).to_have_text("GOOG")
    expect(page.locator("#task-status")).to_have_text("completed", timeout=20_000)
    log_in(page, "bob")
    expect(page.locator("#task")).to_be_hidden()
    expect(page).to_have_url(server_process.url + "/")


def test_copied_curl_line_shows_the_same_events(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    log_in(page, "bob")
    page.click("#submit-task")
    page.click("#copy-curl")
    expect(page.locator("#copied")).to_have_text("copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.inner_text("#curl-line")
    curl, no_buffer, header_option, header, url = shlex.split(copied)
    assert (curl, no_buffer, header_option) == ("curl", "-N", "-H")
    request = urllib.request.Request(url, headers=dict([header.split(": ", 1)]))
    with urllib.request.urlopen(request, timeout=20) as stream:
        events = stream.read().decode()
    assert "event: connected" in events
    assert "event: finished" in events


def test_what_one_tab_reads_is_read_in_the_other(page: Page) -> None:
    log_in(page, "dave")
    page.click("#submit-task")
    expect(page.locator("#task-status")).to_have_text("completed", timeout=20_000)
    expect(page.locator("#unread-badge")).to_be_visible()
    other = page.context.new_page()
    other.goto(page.url)
    log_in(other, "dave")
    expect(other.locator("#notifications li[data-status=unread]").first).to_be_visible()
    page.click("#read-all")
    expect(other.locator("#unread-badge")).to_be_hidden()
    expect(other.locator("#notifications li[data-status=unread]")).to_have_count(0)


def test_several_symbols_are_no_task(page: Page) -> None:
    """Rather than to drop all but the first in silence."""
    log_in(page, "carol")
    page.fill("#symbol", "AAPL, IBM")
    page.click("#submit-task")
    expect(page.locator("#submit-error")).to_contain_text("submit several as a batch")
    expect(page.locator("#task")).to_be_hidden()


def test_silent_connection_is_taken_for_dead(page: Page, server_process: ServerProcess) -> None:
    """No heartbeat for two and a half intervals: the page comes back by itself."""
    page.clock.install()
    page.goto(server_process.url)
    log_in(page, "bob")
    page.clock.fast_forward(60_000)
    expect(page.locator("#frames")).not_to_contain_text("silent for too long")
    page.clock.fast_forward(20_000)
    expect(page.locator("#frames")).to_contain_text("silent for too long")
    expect(page.locator("#frames li").first).to_contain_text('"recovered":true')
    expect(page.locator("#link-state")).to_have_text("bob: connected")
