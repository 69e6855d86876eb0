"""The user's page in other languages: every text is in the catalogue, a switch keeps all else."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browsing import PHONE, status_of, submit, tab_of
from tests.conftest import ServerProcess, start_server, stop_server
from tests.languages import CHINESE, bracketed, looked_at, serious_faults

pytestmark = pytest.mark.long

DESKTOP = {"width": 1280, "height": 860}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of its own: what its users choose is kept."""
    folder = tmp_path_factory.mktemp("languages")
    settings = {"RT_STEP_SECONDS": "0.05", "RT_DRAIN_SECONDS": "0", "RT_DEMO_LOGIN": "true"}
    server = start_server(folder / "data", **settings)
    yield server
    stop_server(server)


def enter(page: Page, url: str, user: str) -> None:
    """Open the page and sign in, in whichever language it is."""
    page.goto(url)
    page.select_option("#user", user)
    page.click("#login")
    expect(page.locator("#link-state")).to_have_attribute("data-state", "online")
    expect(page.locator("#submit-task")).to_be_enabled()


def enter_again(page: Page, url: str) -> None:
    page.goto(url)
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
    # It may have to wait for its turn to come back.
    expect(page.locator("#offline")).to_be_hidden(timeout=90_000)
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
    browser: Browser, server: ServerProcess
) -> None:
    """In a language of brackets nothing stands outside of them but what the server told."""
    with bracketed(browser) as (context, found):
        page = context.new_page()
        page.goto(server.url)
        expect(page.locator("#sign-in")).to_be_visible()
        looked_at(page)
        enter(page, server.url, "dave")
        looked_at(page)
        walk(page)
        assert sorted(found) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_page_fits_and_is_for_all_in_chinese(
    browser: Browser, server: ServerProcess, size: Any, scheme: Any
) -> None:
    """axe-core finds nothing serious, and nothing is wider than the screen or cut."""
    with browser.new_context(
        locale="zh-CN", viewport=size, color_scheme=scheme, reduced_motion="reduce"
    ) as context:
        page = context.new_page()
        page.goto(server.url)
        expect(page.locator("#sign-in-title")).to_have_text("登录")
        assert serious_faults(page) == []
        enter(page, server.url, "carol")
        expect(page.locator("#mine-title")).to_have_text("我的任务")
        analysts = page.locator("#param-analysts label")
        expect(analysts).to_have_text(["市场", "基本面", "新闻", "社交媒体"])
        submit(page, "AAPL")
        expect_status(page, "completed")
        expect(status_of(page)).to_have_text("已完成")
        expect(page.locator("#view .decision")).to_have_text("买入")
        expect(page.locator("#view [part=facts]")).to_contain_text("用时")
        expect_fits(page)
        # On a phone the form makes room for the task.
        enter_again(page, server.url)
        submit(page, "IBM", "ZZZ")
        expect_status(page, "partial")
        expect(page.locator("#view [part=detail]")).to_have_text("已完成 1 / 2 · 1 个失败")
        expect_fits(page)
        page.click("#bell")
        expect(page.locator("#inbox-title")).to_have_text("通知")
        page.locator("#preferences summary").click()
        expect(page.locator("#preferences-form")).to_be_visible()
        expect_fits(page)


def expect_fits(page: Page) -> None:
    """Nobody is kept out, and no header, button or tab is cut off or wraps into two lines."""
    assert serious_faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    cut = "(all) => all.filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.id)"
    assert page.locator("button:not(#bell):visible, #language").evaluate_all(cut) == []
    assert page.locator(".top").evaluate("(one) => one.offsetHeight") < 70


def test_switch_keeps_what_the_user_was_at(browser: Browser, server: ServerProcess) -> None:
    """The typed text, the tab, the open menu and the focus stay; only the language changes."""
    with browser.new_context() as context:
        page = context.new_page()
        enter(page, server.url, "bob")
        submit(page, "MSFT")
        expect_status(page, "completed")
        tab_of(page, "attempts")
        page.fill("#param-symbol", "half a na")
        page.click("#bell")
        page.locator("#notifications [data-act=menu]").first.click()
        page.focus("#language")
        page.select_option("#language", "zh-CN")
        expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        expect(page.locator("#mine-title")).to_have_text("我的任务")
        expect(status_of(page)).to_have_text("已完成")
        attempts = page.locator("#view [part=view-attempts]")
        expect(attempts).to_contain_text("第 1 次尝试")
        expect(page.locator("#view [data-tab=attempts]")).to_have_attribute("aria-selected", "true")
        expect(page.locator("#param-symbol")).to_have_value("half a na")
        expect(page.locator("#language")).to_be_focused()
        expect(page.locator("#notifications .menu").first).to_contain_text("归档")
        expect(page.locator("#tasks time").first).to_have_text(re.compile("现在|前$"))
        expect(page.locator("#bell")).to_have_attribute("aria-label", CHINESE)


def test_choice_is_kept_in_the_browser_and_for_the_user(
    browser: Browser, server: ServerProcess
) -> None:
    """Another browser of the user takes it; errors of the server are asked for in it."""
    preferences = "/api/notifications/preferences"
    with browser.new_context() as context:
        page = context.new_page()
        enter(page, server.url, "alice")
        with page.expect_response(
            lambda one: one.url.endswith(preferences) and one.request.method == "PUT"
        ) as kept:
            page.select_option("#language", "zh-CN")
        assert kept.value.json()["locale"] == "zh-CN"
        page.reload()
        expect(page.locator("#mine-title")).to_have_text("我的任务")
    with browser.new_context() as context:
        page = context.new_page()
        asked_in: list[str | None] = []
        page.on("request", lambda one: asked_in.append(one.headers.get("accept-language")))
        sockets: list[str] = []
        page.on("websocket", lambda one: sockets.append(one.url))
        enter(page, server.url, "alice")
        expect(page.locator("#mine-title")).to_have_text("我的任务")
        expect(page.locator("#link-state")).to_have_text("实时")
        page.fill("#param-symbol", "IBM")
        page.click("#submit-task")
        expect_status(page, "completed")
        assert asked_in[-1] == "zh-CN"
        assert sockets[-1].endswith("?locale=zh-CN")
        page.select_option("#language", "en")
        expect(page.locator("#mine-title")).to_have_text("My tasks")
        expect(page.locator("#link-state")).to_have_text("Live")


def test_reader_of_english_loads_no_other_language(browser: Browser, server: ServerProcess) -> None:
    with browser.new_context(locale="en-GB") as context:
        page = context.new_page()
        loaded: list[str] = []
        page.on("request", lambda one: loaded.append(one.url))
        enter(page, server.url, "carol")
        assert [one for one in loaded if "/locales/" in one] == []
        assert [one for one in loaded if one.endswith("/rt-elements.js")] != []
