"""Pictures of the page for README.md: `make screenshots` writes them into docs/images."""

import tempfile
from pathlib import Path
from typing import Any

import attrs
from playwright.sync_api import Browser, Page, expect

from tests.browsing import PHONE, chromium, log_in, status_of, submit
from tests.conftest import ROOT, start_server, stop_server

IMAGES = ROOT / "docs" / "images"
DESKTOP = {"width": 1280, "height": 860}
TALL_PHONE = PHONE | {"height": 844}
# The progress of the running task when it is taken: this many of its steps are done.
STEPS_DONE = 9


@attrs.frozen
class Picture:
    """A page as it is taken: its size, its colours, what is done before, and its language."""

    name: str
    size: Any
    scheme: Any
    begin: Any
    locale: str = "en"


def show_result(page: Page) -> None:
    submit(page, "AAPL")
    expect(status_of(page)).to_have_attribute("data-status", "completed")
    expect(page.locator("#view svg.chart")).to_be_visible()


def show_running(page: Page) -> None:
    submit(page, "MSFT")
    done = page.locator("#view [part=step][data-state=completed]")
    expect(done.nth(STEPS_DONE - 1)).to_be_attached()


def show_inbox(page: Page) -> None:
    submit(page, "AAPL", "NOPE", "IBM")
    expect(status_of(page)).to_have_attribute("data-status", "partial")
    expect(page.locator("#unseen-badge")).to_be_visible()
    page.click("#bell")
    expect(page.locator("#notifications li").nth(1)).to_be_visible()


PICTURES = [
    Picture("desktop-light.png", DESKTOP, "light", show_result),
    Picture("desktop-dark.png", DESKTOP, "dark", show_running),
    Picture("phone-light.png", TALL_PHONE, "light", show_running),
    Picture("phone-dark.png", TALL_PHONE, "dark", show_inbox),
    Picture("desktop-light.zh.png", DESKTOP, "light", show_result, "zh-CN"),
    Picture("phone-light.zh.png", TALL_PHONE, "light", show_running, "zh-CN"),
]


def take(browser: Browser, url: str, picture: Picture) -> None:
    """Sign in, do the steps of the picture, and write it."""
    context = browser.new_context(
        viewport=picture.size,
        color_scheme=picture.scheme,
        reduced_motion="reduce",
        locale=picture.locale,
    )
    page = context.new_page()
    page.goto(url)
    log_in(page, "alice" if picture.locale == "en" else "bob")
    picture.begin(page)
    page.evaluate("scrollTo(0, 0)" if picture.size == DESKTOP else "0")
    page.screenshot(path=IMAGES / picture.name)
    context.close()


def main() -> None:
    """Take all pictures of a server of their own."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        server = start_server(
            Path(folder) / "data",
            RT_DEMO_LOGIN="true",
            RT_STEP_SECONDS="0.4",
            RT_DRAIN_SECONDS="0",
        )
        try:
            for picture in PICTURES:
                take(browser, server.url, picture)
        finally:
            stop_server(server)


if __name__ == "__main__":
    main()
