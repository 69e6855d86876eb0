"""The language of an element: its own, that around it, else the reader's; and an author's."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import ServerProcess
from tests.elements import LOAD, add, submit
from tests.js_forms import BLANK
from tests.waiting import wait_until

ADD_GERMAN = """async () => {
  const { addMessages } = await import("/static/rt-elements.js");
  addMessages("de", async () => ({ "completed": "fertig", "Run again": "Noch einmal" }));
}"""


@pytest.fixture
def token(make_token: Callable[..., str]) -> str:
    return make_token("lena")


@pytest.fixture
def page(browser: Browser, client_server: ServerProcess, token: str) -> Iterator[Page]:
    """A page of an author, in a browser in English."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(client_server.url + BLANK)
        page.evaluate(LOAD, [client_server.url, token])
        page.evaluate("(token) => (window.token = token)", token)
        yield page


def test_element_is_in_the_language_around_it(
    page: Page, client_server: ServerProcess, token: str
) -> None:
    """Its own `lang` goes before that of the page; each changes live."""
    task = submit(client_server, token, "client.echo", params={"value": 1})
    first, own = add(page, "rt-task", task_id=task), add(page, "rt-task", task_id=task, lang="zh")
    expect(first.locator("[part=status]")).to_have_text("completed")
    expect(own.locator("[part=status]")).to_have_text("已完成")
    page.evaluate("document.documentElement.lang = 'zh-CN'")
    expect(first.locator("[part=status]")).to_have_text("已完成")
    own.evaluate("(one) => (one.lang = 'en')")
    expect(own.locator("[part=status]")).to_have_text("completed")
    expect(first.locator("[part=status]")).to_have_text("已完成")
    # For a language without texts the reader's is shown.
    page.evaluate("document.documentElement.lang = 'fr'")
    expect(first.locator("[part=status]")).to_have_text("completed")


def test_what_comes_later_is_in_the_language_of_its_element(page: Page) -> None:
    """Also in an element of another language than the page."""
    inbox = add(page, "rt-inbox", lang="zh-CN")
    expect(inbox.locator("#inbox-title")).to_have_text("通知")
    expect(inbox.locator("#inbox-empty")).to_have_text("全部已读。")
    page.evaluate("client.notify('lena', { type: 'alert', title: 'News' })")
    row = inbox.locator("#notifications li").first
    expect(row.locator("time")).to_have_text(re.compile("现在|前$"))
    row.locator("[data-act=menu]").click()
    expect(row.locator(".menu")).to_contain_text("归档")


def test_author_adds_a_language(page: Page, client_server: ServerProcess, token: str) -> None:
    """It is loaded when it is first shown; what it does not have is English."""
    page.evaluate(ADD_GERMAN)
    page.evaluate("document.documentElement.lang = 'de-AT'")
    task = submit(client_server, token, "client.echo", params={"value": 1})
    shown = add(page, "rt-task", task_id=task)
    expect(shown.locator("[part=status]")).to_have_text("fertig")
    full = add(page, "rt-task", task_id=task, full="")
    expect(full.locator("[data-tab=steps]")).to_have_text("Steps")


def test_choice_of_the_reader_holds_where_the_page_has_none(page: Page) -> None:
    page.evaluate("document.documentElement.removeAttribute('lang')")
    page.evaluate("localStorage.setItem('tornado_rt.language', 'zh-CN')")
    inbox = add(page, "rt-inbox")
    expect(inbox.locator("#inbox-title")).to_have_text("通知")


@pytest.mark.parametrize("share", ["true", "false"])
def test_client_comes_back_in_another_language(page: Page, share: str) -> None:
    """Alone, or sharing its connection with other tabs; what is followed goes on."""
    made = f"client = new client.constructor(client.url, {{ token: window.token, share: {share} }})"
    page.evaluate(f"client.close(); window.{made}; client.constructor.default = client")
    opened: list[str] = []
    page.on("websocket", lambda one: opened.append(one.url))
    inbox = add(page, "rt-inbox")
    expect(inbox).to_have_attribute("state", "online")
    assert not opened[-1].endswith("locale=zh-CN")
    page.evaluate("client.locale = 'zh-CN'")
    wait_until(lambda: page.evaluate("client.state") == "online" and "zh-CN" in opened[-1])
    with page.expect_request("**/api/notifications") as asked:
        page.evaluate("client.notify('lena', { type: 'alert', title: 'Later' })")
    assert asked.value.headers["accept-language"] == "zh-CN"
    expect(inbox.locator("#notifications")).to_contain_text("Later")
    assert page.evaluate(
        "(() => { try { client.locale = 'no tag' } catch (e) { return e.name } })()"
    )


def test_event_stream_is_asked_for_in_the_language(page: Page) -> None:
    options = "{ token: window.token, transport: 'stream', share: false, locale: 'zh-CN' }"
    with page.expect_request("**/api/stream?*") as asked:
        page.evaluate(f"window.other = new client.constructor(client.url, {options})")
        page.evaluate("void other.inbox.addEventListener('counts', () => {})")
    assert "locale=zh-CN" in asked.value.url
    wait_until(lambda: page.evaluate("other.state") == "online")
