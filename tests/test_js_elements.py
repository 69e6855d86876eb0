"""The custom elements in Chromium, under the server's own policy of contents."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browsing import PHONE, Relay, ask
from tests.conftest import ServerProcess
from tests.elements import LOAD, add, submit
from tests.js_forms import BLANK, SECONDS
from tests.waiting import wait_until

pytestmark = pytest.mark.long

Token = Callable[..., str]
WIDE = {"width": 1280, "height": 800}


SIGN_IN = """async (token) => {
  const headers = { Authorization: `Bearer ${token}` };
  return (await fetch("/api/auth/session", { method: "POST", headers })).status;
}"""


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    """A user that no other test has."""
    return str(request.node.name)


@pytest.fixture
def token(make_token: Token, user: str) -> str:
    return make_token(user, scope="rt:publish")


@pytest.fixture
def relay(client_server: ServerProcess) -> Iterator[Relay]:
    made = Relay(client_server.url)
    yield made
    made.close()


@pytest.fixture
def page(browser: Browser, relay: Relay, token: str) -> Iterator[Page]:
    """A page with a default client, and without a fault of the policy or the scripts."""
    opened = browser.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda m: faults.append(m.text) if "Policy" in m.text else None)
    opened.goto(relay.url + BLANK)
    opened.evaluate(LOAD, [relay.url, token])
    yield opened
    opened.close()
    assert faults == []


def notify(server: ServerProcess, token: str, user: str, **fields: Any) -> str:
    body = {"user_id": user, "type": "alert", **fields}
    return str(ask(server, "POST", "/api/notifications", token, body)["id"])


def test_task_is_shown_to_its_end(
    page: Page, client_server: ServerProcess, token: str, tmp_path: Path
) -> None:
    """Its bar says where it is, to those too who do not see it."""
    gate = tmp_path / "gate"
    gate.touch()
    params = {"gate": str(gate), "counts": 4}
    task = submit(client_server, token, "client.gated", params=params, label="The film")
    page.evaluate(
        "window.ended = []; addEventListener('rt-finished', e => ended.push(e.detail.status))"
    )
    shown = add(page, "rt-task", task_id=task)
    bar = shown.get_by_role("progressbar", name="The film")
    expect(shown.locator("[part=status]")).to_have_text("processing")
    gate.with_name("gate.1").touch()
    # It goes on by the clock, by a tenth at most.
    expect(shown.locator("[part=percent]")).to_have_text(re.compile(r"^(2[5-9]|3[0-5])%$"))
    expect(bar).to_have_attribute("aria-valuenow", re.compile("^(2[5-9]|3[0-5])$"))
    expect(bar).to_have_attribute("aria-valuetext", re.compile("^(2[5-9]|3[0-5])%, count 1"))
    assert 25 <= shown.locator("[part=fill]").evaluate("e => parseFloat(e.style.width)") <= 35
    gate.unlink()
    expect(shown.locator("[part=status]")).to_have_text("completed")
    expect(bar).to_have_attribute("aria-valuenow", "100")
    expect(shown.locator("[aria-live]")).to_have_text("The film: completed")
    expect(shown.get_by_role("button")).to_have_count(0)
    assert page.evaluate("ended") == ["completed"]


def test_output_of_before_is_shown(
    page: Page, client_server: ServerProcess, token: str, tmp_path: Path
) -> None:
    """Each message once, in order, with those that came before the view was opened."""
    gate = tmp_path / "gate"
    gate.touch()
    task = submit(client_server, token, "client.gated", params={"gate": str(gate)})

    def told() -> object:
        return ask(client_server, "GET", f"/api/tasks/{task}", token)["message"]

    for number in (1, 2):
        gate.with_name(f"gate.{number}").touch()
        wait_until(told, equal=f"count {number}")
    shown = add(page, "rt-task", task_id=task, full="")
    shown.get_by_role("tab", name="Output").click()
    lines = shown.locator("[part=view-output] li span")
    expect(lines).to_have_text(["Waiting", "count 1", "count 2"])
    gate.with_name("gate.3").touch()
    expect(lines).to_have_text(["Waiting", "count 1", "count 2", "count 3"])
    page.evaluate("window.client.locale = document.documentElement.lang = 'zh-CN'")
    expect(lines.first).not_to_have_text("Waiting")
    expect(lines).to_have_count(4)
    gate.unlink()
    expect(lines).to_have_count(5)


def test_task_is_cancelled_and_run_again(
    page: Page, client_server: ServerProcess, token: str, tmp_path: Path
) -> None:
    """By its button, from the keyboard; a reader may have none."""
    gate = tmp_path / "gate"
    gate.touch()
    task = submit(client_server, token, "client.gated", params={"gate": str(gate)})
    shown = add(page, "rt-task", task_id=task)
    quiet = add(page, "rt-task", task_id=task, readonly="", label="Mine")
    expect(quiet.locator("[part=title]")).to_have_text("Mine")
    first = page.locator("rt-task").first
    first.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")
    expect(first.locator("[part=status]")).to_have_text("cancelled")
    gate.unlink()
    first.get_by_role("button", name="Run again").click()
    expect(first.locator("[part=status]")).to_have_text("completed")
    expect(shown.get_by_role("button")).to_have_count(0)


def test_batch_is_shown(page: Page, client_server: ServerProcess, token: str) -> None:
    """By how many of its tasks have ended."""
    body = {"kind": "client.echo", "items": [{"params": {"value": n}} for n in range(3)]}
    batch = ask(client_server, "POST", "/api/batches", token, body)["batch_id"]
    shown = add(page, "rt-batch", batch_id=batch)
    expect(shown.locator("[part=status]")).to_have_text("completed")
    expect(shown.locator("[part=detail]")).to_have_text("3 of 3 completed")


def test_element_says_what_is_wrong(page: Page, relay: Relay, token: str) -> None:
    """A task that there is not, a wrong id, a server that is away, a token that is refused."""
    lost = add(page, "rt-task", task_id="nope")
    expect(lost.locator("[part=status]")).to_have_text("not found")
    expect(lost.locator("[part=notice]")).to_have_text("there is no task nope")
    expect(lost).to_have_attribute("state", "error")
    wrong = add(page, "rt-task", task_id="../x")
    expect(wrong.locator("[part=notice]")).to_contain_text("not an id")
    page.evaluate("document.body.replaceChildren()")
    inbox = add(page, "rt-inbox")
    expect(inbox.locator("[part=empty]")).to_have_text("You have read it all.")
    expect(inbox).to_have_attribute("state", "online")
    relay.is_away = True
    relay.cut()
    expect(inbox.locator("[part=notice]")).to_contain_text("Offline")
    relay.is_away = False
    expect(inbox).to_have_attribute("state", "online")
    expect(inbox.locator("[part=notice]")).to_be_hidden()
    refused = add(page, "rt-inbox", src=relay.url, token="nonsense")
    expect(refused.locator("[part=notice]")).to_contain_text("the token is not valid")
    expect(refused).to_have_attribute("state", "closed")


def test_client_comes_from_a_property_attributes_or_the_default(
    page: Page, relay: Relay, client_server: ServerProcess, make_token: Token, user: str
) -> None:
    """In this order; elements with the same attributes share a client, and close it."""
    other = make_token(f"{user}2")
    notify(client_server, other, f"{user}2", title="for the other")
    first = add(page, "rt-inbox", src="/", token=other)
    expect(first.locator("li")).to_contain_text("for the other")
    add(page, "rt-inbox", src="/", token=other)
    same = "([...document.querySelectorAll('rt-inbox')].map(e => e.client))"
    assert page.evaluate(f"(all => all[0] === all[1] && all[0] !== client)({same})")
    page.evaluate(f"window.shared = {same}[0]; document.body.replaceChildren()")
    wait_until(lambda: page.evaluate("shared.state"), SECONDS, equal="closed")
    mine = add(page, "rt-inbox")
    expect(mine.locator("[part=empty]")).to_have_text("You have read it all.")
    page.evaluate(
        "async ([url, token]) => { const { Client } = await import('/static/rt-client.js');"
        " document.querySelector('rt-inbox').client = new Client(url, { token }) }",
        [relay.url, other],
    )
    expect(mine.locator("li")).to_contain_text("for the other")


def test_inbox_is_live_and_does_what_it_is_told(
    page: Page, client_server: ServerProcess, token: str, user: str
) -> None:
    """Values of others are text, never a part of the page; its links are of http alone."""
    inbox = add(page, "rt-inbox", label="News")
    expect(inbox.locator("[part=title]")).to_have_text("News")
    # The inbox announces nothing that was there before.
    expect(inbox.locator("#inbox-panel")).to_have_attribute("aria-busy", "false")
    notify(client_server, token, user, title="<img src=x onerror=alert(1)>", link="/orders/7")
    expect(inbox.locator("#announcement")).to_contain_text("New notification: <img")
    expect(inbox.locator("li img")).to_have_count(0)
    expect(inbox.get_by_role("link")).to_have_attribute("href", "/orders/7")
    actions = [{"id": "keep", "label": "Keep it", "answer": True}]
    notify(client_server, token, user, title="Order 7", content="a\nb", actions=actions)
    expect(inbox.locator("[part=badge]")).to_have_text("2")
    expect(inbox.locator("li .name")).to_have_text(["Order 7", "<img src=x onerror=alert(1)>"])
    inbox.get_by_role("button", name="Keep it: Order 7").click()
    expect(inbox.get_by_role("button", name="Answered: Keep it")).to_be_disabled()
    expect(inbox.locator("[part=badge]")).to_have_text("1")
    inbox.get_by_role("button", name="Mark all as read").click()
    expect(inbox.locator("[part=badge]")).to_be_hidden()
    inbox.get_by_role("button", name="Menu: Order 7").click()
    inbox.get_by_role("button", name="Archive", exact=True).click()
    expect(inbox.locator("li")).to_have_count(1)
    inbox.get_by_role("button", name="Undo").click()
    expect(inbox.locator("li")).to_have_count(2)


def test_inbox_is_used_by_keyboard(
    page: Page, client_server: ServerProcess, token: str, user: str
) -> None:
    """Arrows move, `e` archives, and the place is kept when news come."""
    for title in ("one", "two", "three"):
        notify(client_server, token, user, title=title)
    inbox = add(page, "rt-inbox")
    rows = inbox.locator("li")
    expect(rows).to_have_count(3)
    rows.first.focus()
    page.keyboard.press("ArrowDown")
    root = "document.querySelector('rt-inbox').shadowRoot"
    focused = f"{root}.activeElement?.querySelector('.name')?.textContent"
    assert page.evaluate(focused) == "two"
    notify(client_server, token, user, title="four")
    expect(rows).to_have_count(4)
    assert page.evaluate(focused) == "two"
    page.keyboard.press("End")
    assert page.evaluate(focused) == "one"
    page.keyboard.press("e")
    expect(rows).to_have_count(3)
    expect(inbox.locator("li[tabindex='0']")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_elements_fit_a_phone_and_a_page_of_either_scheme(
    page: Page, client_server: ServerProcess, token: str, user: str, scheme: Any
) -> None:
    """Nothing is wider than the page, a property changes a colour, and motion can be reduced."""
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.evaluate("document.documentElement.style.colorScheme = 'light dark'")
    notify(client_server, token, user, title="A title that is long " * 8, content="x" * 400)
    add(page, "rt-inbox")
    task = submit(client_server, token, "client.echo", label="y" * 100)
    shown = add(page, "rt-task", task_id=task)
    expect(shown.locator("[part=status]")).to_have_text("completed")
    for size in (PHONE, WIDE):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        wide = "document.documentElement.scrollWidth <= innerWidth"
        assert page.evaluate(wide)
    surface = "e => getComputedStyle(e).backgroundColor"
    assert (
        shown.evaluate(surface)
        == {"light": "rgb(255, 255, 255)", "dark": "rgb(27, 30, 35)"}[scheme]
    )
    fill = shown.locator("[part=fill]")
    assert fill.evaluate("e => getComputedStyle(e).transitionProperty") == "none"
    page.evaluate(
        "document.querySelector('rt-task').style.setProperty('--rt-surface', 'rgb(1, 2, 3)')"
    )
    assert shown.evaluate(surface) == "rgb(1, 2, 3)"


def test_elements_use_the_cookie_of_a_session(
    browser: Browser, client_server: ServerProcess, token: str, user: str
) -> None:
    """Without a token in the page: `src` is enough, and changes get through too."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(client_server.url + BLANK)
    signed_in = page.evaluate(SIGN_IN, token)
    assert signed_in == 200
    page.evaluate("import('/static/rt-elements.js')")
    notify(client_server, token, user, title="First")
    task = submit(client_server, token, "client.echo", params={"value": 1}, label="Echo")
    inbox = add(page, "rt-inbox", src="/")
    shown = add(page, "rt-task", src="/", task_id=task)
    expect(inbox.get_by_text("First")).to_be_visible()
    expect(shown.locator("[part=status]")).to_have_text("completed")
    notify(client_server, token, user, title="Second")
    expect(inbox.get_by_text("Second", exact=True)).to_be_visible()
    inbox.get_by_role("button", name="Mark all as read").click()
    counts = partial(ask, client_server, "GET", "/api/notifications/unread_count", token)
    wait_until(lambda: counts()["unread"], SECONDS, equal=0)
    # No script of the page can read it.
    assert page.evaluate("document.cookie") == ""
    context.close()
