"""The operator's page in other languages: every text is in the catalogue, and all of it fits."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browsing import PHONE, ask
from tests.conftest import SECRET, ServerProcess, start_server, stop_server
from tests.languages import CHINESE, bracketed, looked_at, serious_faults
from tests.operators import ADMIN, sign_in

pytestmark = pytest.mark.long

DESKTOP = {"width": 1280, "height": 800}
VIEWS = (
    *("overview", "tasks", "running", "kinds", "kind/client.fails", "kind/*", "workers"),
    *("connections", "schedules", "webhooks", "broadcast", "settings", "log"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose tokens the test can make."""
    server = start_server(
        tmp_path_factory.mktemp("languages") / "data",
        RT_JWT_SECRET=SECRET,
        RT_KINDS="tests.client_kinds",
        RT_DRAIN_SECONDS="0",
        RT_WORKER_GRACE_SECONDS="0.5",
        RT_REQUESTS_PER_SECOND="0",
    )
    yield server
    stop_server(server)


@pytest.fixture
def token(make_token: Callable[..., str]) -> str:
    return make_token(ADMIN, scope="rt:admin")


@pytest.fixture
def user(request: pytest.FixtureRequest, make_token: Callable[..., str]) -> str:
    """A token of a user of this test alone."""
    return make_token(re.sub(r"\W+", "-", request.node.name).strip("-")[-40:])


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """A file: while it is there, a task of `client.gated` runs."""
    path = tmp_path / "gate"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


def fill(server: ServerProcess, user: str, gate: Path) -> str:
    """Put something into every list; return a task that failed."""
    post = lambda path, body: ask(server, "POST", path, user, body)  # noqa: E731
    post("/api/schedules", {"name": "hourly", "every": 3600, "kind": "client.echo", "params": {}})
    hook = post("/api/webhooks", {"url": f"{server.url}/nowhere"})
    post(f"/api/webhooks/{hook['id']}/test", {})
    post("/api/tasks", {"kind": "client.gated", "params": {"gate": str(gate)}, "label": "Long"})
    return str(post("/api/tasks", {"kind": "client.fails", "tags": ["striped"]})["task_id"])


def go(page: Page, view: str) -> None:
    page.evaluate("(hash) => (location.hash = hash)", view)
    expect(page.locator("#view .loading")).to_have_count(0)
    looked_at(page)


def dialog(page: Page, button: str, *, confirms: bool = False) -> None:
    """Ask for something, look at the question, and answer it."""
    page.locator(button).first.click()
    expect(page.locator("#dialog")).to_be_visible()
    looked_at(page)
    page.locator("#dialog [value=yes]" if confirms else "#dialog button.quiet").click()
    expect(page.locator("#dialog")).to_be_hidden()
    looked_at(page)


def walk(page: Page, task: str) -> None:
    """Go through all that an operator does."""
    for view in (*VIEWS, f"task/{task}", "task/nosuchtask", "tasks?q=nothing"):
        go(page, view)
    go(page, "kinds")
    dialog(page, "[data-act=pause][value='client.echo']", confirms=True)
    dialog(page, "[data-act=pause][value='']", confirms=True)
    go(page, "overview")
    go(page, "kinds")
    page.locator("[data-act=resume][value='']").first.click()
    go(page, "kind/client.echo")
    page.locator("[data-act=resume]").first.click()
    page.fill("#field-limit", "-2")
    page.locator("#limits [type=submit]").click()
    expect(page.locator("[data-field=limit] .error")).not_to_be_empty()
    page.fill("#field-limit", "7")
    page.locator("#limits [type=submit]").click()
    dialog(page, "[data-act=drop]", confirms=True)
    go(page, "running")
    dialog(page, "[data-act=cancel]")
    go(page, "workers")
    dialog(page, "[data-act=drain]", confirms=True)
    page.locator("[data-act=take-up]").first.click()
    go(page, "connections?user=nobody")
    go(page, "connections")
    dialog(page, "[data-act=close]")
    go(page, "schedules")
    page.locator("[data-act=stop]").first.click()
    looked_at(page)
    dialog(page, "[data-act=delete]")
    go(page, "webhooks")
    page.locator("[data-act=answers]").first.click()
    go(page, "settings")
    page.locator("#settings [type=submit]").click()
    go(page, "broadcast")
    page.fill("#field-title", "News")
    dialog(page, "#broadcast [type=submit]", confirms=True)
    go(page, "tasks?status=failed")
    page.locator("[data-act=choose-all]").check()
    page.locator("[data-act=gather]").click()
    looked_at(page)
    for verb in ("discard", "retry"):
        dialog(page, f"[data-act=verb][value={verb}]", confirms=verb == "retry")
    go(page, "log")
    page.locator("[data-act=data]").first.click()
    page.context.set_offline(True)
    expect(page.locator("#offline")).to_be_visible()
    looked_at(page)
    page.context.set_offline(False)


def test_every_text_of_the_page_is_in_the_catalogue(
    browser: Browser, server: ServerProcess, token: str, user: str, gate: Path
) -> None:
    """In a language of brackets nothing stands outside of them but what the server told."""
    task = fill(server, user, gate)
    with bracketed(browser, viewport=DESKTOP) as (context, found):
        page = context.new_page()
        page.goto(f"{server.url}/admin")
        for wrong in ("no.token.at.all", user):
            page.fill("#token", wrong)
            page.press("#token", "Enter")
            expect(page.locator("[role=alert]:not(:empty), h1 + p + p").first).to_be_visible()
            looked_at(page)
        page.click("#sign-out")
        sign_in(page, token, f"{server.url}/admin")
        walk(page, task)
        assert sorted(found) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_page_fits_and_is_for_all_in_chinese(
    browser: Browser,
    server: ServerProcess,
    token: str,
    user: str,
    gate: Path,
    size: Any,
    scheme: Any,
) -> None:
    """axe-core finds nothing serious, and nothing is wider than the screen."""
    fill(server, user, gate)
    with browser.new_context(
        locale="zh-CN", viewport=size, color_scheme=scheme, reduced_motion="reduce"
    ) as context:
        page = context.new_page()
        page.goto(f"{server.url}/admin")
        expect(page.locator("h1")).to_have_text("登录")
        assert serious_faults(page) == []
        sign_in(page, token, f"{server.url}/admin")
        for view in VIEWS:
            go(page, view)
            expect(page.locator("#view")).to_have_text(CHINESE)
            assert serious_faults(page) == [], view
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), view


def test_operator_switches_the_language_without_losing_what_they_typed(
    browser: Browser, server: ServerProcess, token: str
) -> None:
    """The choice outlasts a reload, and is what the user's notifications are in."""
    with browser.new_context() as context:
        page = context.new_page()
        sign_in(page, token, f"{server.url}/admin#broadcast")
        page.fill("#field-title", "Half a sen")
        page.select_option("#language", "zh-CN")
        expect(page.locator("h1")).to_have_text("广播")
        expect(page.locator("#nav a").first).to_have_text("概览")
        expect(page).to_have_title("广播 · tornado_rt 管理")
        expect(page.locator("#field-title")).to_have_value("Half a sen")
        page.reload()
        expect(page.locator("h1")).to_have_text("广播")
        page.select_option("#language", "en")
        expect(page.locator("h1")).to_have_text("Broadcast")
