"""The page in a real browser, on a real server."""

import os
import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import ServerProcess

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium of the system."""
    if CHROMIUM is None:
        if os.environ.get("RT_REQUIRE_BROWSER") == "1":
            pytest.fail("RT_REQUIRE_BROWSER is set and there is no chromium")
        pytest.skip("there is no chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, server_process: ServerProcess) -> Iterator[Page]:
    """A fresh session on the page; whatever it complains of fails the test."""
    context = browser.new_context()
    page = context.new_page()
    faults: list[str] = []
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
        re.compile(r'curl -N -H "Authorization: Bearer \S+" http://\S+/api/tasks/\S+')
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
    log_in(page, "admin")
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
    expect(page.locator("#task-status")).to_have_text("completed", timeout=20_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for button in page.locator("button:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44
