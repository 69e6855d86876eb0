"""The user's page in other languages: every text is in the catalogue, and a switch keeps all else."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browsing import PHONE, chromium, status_of, submit, tab_of
from tests.conftest import ServerProcess
from tests.languages import bracketed, looked_at

DESKTOP = {"width": 1280, "height": 860}
SERIOUS = ("serious", "critical")
CHINESE = re.compile("[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium of the system."""
    with chromium() as browser:
        yield browser


def enter(page: Page, url: str, user: str) -> None:
    """Open the page and sign in, in whichever language it is."""
    page.goto(url)
    page.select_option("#user", user)
    page.click("#login")
    expect(page.locator("#link-state")).to_have_attribute("data-state", "online")
    expect(page.locator("#submit-task")).to_be_enabled()


def expect_status(page: Page, status: str) -> None:
    expect(status_of(page)).to_have_attribute("data-status", status)


def walk(page: Page) -> None:
    """Go through all that a user does on the page."""
    submit(page, "")
    expect(page.locator("#param-symbol")).to_have_attribute("aria-invalid", "true")
    page.fill("#param-research_depth", "9")
    submit(page, "AAPL")
    expect(page.locator("#param-research_depth")).to_have_attribute("aria-invalid", "true")
    page.fill("#param-research_depth", "1")
    submit(page, "AAPL")
    expect_status(page, "completed")
    for name in ("steps", "output", "params", "attempts", "why", "result"):
        tab_of(page, name)
        looked_at(page)
    submit(page, "ZZZ")
    expect_status(page, "failed")
    submit(page, "IBM", "ZZZ")
    expect_status(page, "partial")
    looked_at(page)
    walk_inbox(page)
    page.click("#wire-toggle")
    page.click("#copy-curl")
    expect(page.locator("#copied")).not_to_be_empty()
    looked_at(page)
    page.click("#wire-close")
    page.context.set_offline(True)
    expect(page.locator("#offline")).to_be_visible()
    looked_at(page)
    page.context.set_offline(False)
    expect(page.locator("#offline")).to_be_hidden()
    page.goto(re.sub(r"\?.*", "?task=none-of-mine", page.url))
    expect(page.locator("rt-task")).to_have_attribute("state", "error")
    looked_at(page)


def walk_inbox(page: Page) -> None:
    page.click("#bell")
    row = page.locator("#notifications > li").first
    row.locator("[data-act=menu]").click()
    looked_at(page)
    row.locator("[data-act='snooze:hour']").click()
    expect(page.locator("#inbox-toast")).to_be_visible()
    for name in ("unread", "pinned", "snoozed", "archived", "inbox"):
        page.click(f"#tab-{name}")
        expect(page.locator("#inbox-panel")).to_have_attribute("aria-busy", "false")
        looked_at(page)
    page.locator("#preferences summary").click()
    page.set_checked("#quiet", True)
    page.locator("#preferences-form [type=submit]").click()
    expect(page.locator("#preferences-told")).not_to_be_empty()
    looked_at(page)
    page.click("#inbox-close")


def test_every_text_of_the_page_is_in_the_catalogue(
    browser: Browser, server_process: ServerProcess
) -> None:
    """In a language of brackets nothing stands outside of them but what the server told."""
    with bracketed(browser) as (context, found):
        page = context.new_page()
        page.goto(server_process.url)
        expect(page.locator("#sign-in")).to_be_visible()
        looked_at(page)
        enter(page, server_process.url, "dave")
        looked_at(page)
        walk(page)
        assert found == set()
