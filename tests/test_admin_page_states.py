"""The operator's page: sign-in, offline, other addresses, and whether everybody can use it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browsing import PHONE, Relay, ask, note_faults
from tests.conftest import SECRET, ServerProcess, start_server, stop_server
from tests.operators import ADMIN, complaints, sign_in

pytestmark = pytest.mark.long

# Of `offline`, or of a connection that is lost [ms].
OFFLINE_MS = 2000
DESKTOP = {"width": 1280, "height": 800}
VIEWS = (
    *("overview", "tasks", "running", "kinds", "kind/client.fails", "workers", "connections"),
    *("schedules", "webhooks", "broadcast", "settings", "log"),
)
SERIOUS = ("serious", "critical")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose tokens the test can make, with something in every list."""
    server = start_server(
        tmp_path_factory.mktemp("states") / "data",
        RT_JWT_SECRET=SECRET,
        RT_KINDS="tests.client_kinds",
        RT_DRAIN_SECONDS="0",
        RT_REQUESTS_PER_SECOND="0",
    )
    yield server
    stop_server(server)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh session."""
    with browser.new_context() as context:
        yield context.new_page()


@pytest.fixture
def token(make_token: Callable[..., str]) -> str:
    return make_token(ADMIN, scope="rt:admin")


def test_wrong_token_and_other_users_stay_outside(
    server: ServerProcess, page: Page, make_token: Callable[..., str]
) -> None:
    page.goto(f"{server.url}/admin")
    page.fill("#token", "no.token.at.all")
    page.press("#token", "Enter")
    expect(page.get_by_role("alert")).to_contain_text("does not take this token")
    expect(page.locator("#token")).to_have_attribute("aria-invalid", "true")
    page.fill("#token", make_token("alice"))
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator("h1")).to_have_text("Not for this user")
    expect(page.locator("#view")).to_contain_text("signed in as alice")
    expect(page.locator("#nav")).to_be_hidden()
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("#token")).to_be_visible()


def test_tabs_are_signed_in_and_out_together(server: ServerProcess, page: Page, token: str) -> None:
    """The address of the view that was asked for outlasts the sign-in."""
    other = page.context.new_page()
    other.goto(f"{server.url}/admin#workers")
    expect(other.locator("#token")).to_be_visible()
    sign_in(page, token, f"{server.url}/admin")
    expect(other.locator("h1")).to_have_text("Workers")
    other.get_by_role("button", name="Sign out").click()
    expect(page.locator("#token")).to_be_visible()
    page.reload()
    expect(page.locator("#token")).to_be_visible()


def test_session_that_ended_leads_to_the_sign_in(
    server: ServerProcess, page: Page, token: str
) -> None:
    sign_in(page, token, f"{server.url}/admin#log")
    expect(page.locator("h1")).to_have_text("Log")
    page.context.clear_cookies()
    expect(page.locator("#token")).to_be_visible()
    sign_in(page, token, f"{server.url}/admin#log")
    expect(page.locator("h1")).to_have_text("Log")


def test_offline_is_said_at_once_and_ends_by_itself(
    server: ServerProcess, page: Page, token: str
) -> None:
    sign_in(page, token, f"{server.url}/admin")
    expect(page.locator("#link-state")).to_have_text("live")
    page.context.set_offline(True)
    expect(page.locator("#offline")).to_be_visible(timeout=OFFLINE_MS)
    expect(page.locator("#link-state")).to_have_text("offline")
    # Known values stay.
    expect(page.locator(".tiles a").first).to_be_visible()
    page.context.set_offline(False)
    expect(page.locator("#offline")).to_be_hidden()
    expect(page.locator("#link-state")).to_have_text("live")


def test_page_comes_back_with_its_server(
    server: ServerProcess, page: Page, token: str, make_token: Callable[..., str]
) -> None:
    relay = Relay(server.url)
    sign_in(page, token, f"{relay.url}/admin#tasks?user=comeback")
    expect(page.locator("#link-state")).to_have_text("live")
    relay.is_away = True
    relay.cut()
    expect(page.locator("#offline")).to_be_visible()
    body = {"kind": "client.echo", "label": "While away", "notify": False}
    ask(server, "POST", "/api/tasks", make_token("comeback"), body)
    relay.is_away = False
    expect(page.locator("tbody tr")).to_contain_text("While away")
    expect(page.locator("#offline")).to_be_hidden()
    page.goto("about:blank")
    relay.close()


def fill_lists(server: ServerProcess, token: str) -> str:
    """Have something in the lists; return the id of a task that failed."""
    made = ask(server, "POST", "/api/tasks", token, {"kind": "client.fails", "tags": ["a", "b"]})
    schedule = {"every": 3600, "kind": "client.echo", "params": {}}
    ask(server, "PUT", "/api/schedules/hourly", token, schedule)
    ask(server, "POST", "/api/webhooks", token, {"url": "https://hooks.example/"})
    ask(server, "POST", "/api/queue/pause", token, {"kind": "client.brief"})
    return str(made["task_id"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_everybody_can_use_every_view(
    browser: Browser, server: ServerProcess, token: str, size: Any, scheme: Any
) -> None:
    """axe-core finds nothing serious, and nothing is wider than the screen."""
    task = fill_lists(server, token)
    found: list[str] = []
    faults: list[str] = []
    with browser.new_context(viewport=size, color_scheme=scheme, bypass_csp=True) as context:
        page = context.new_page()
        note_faults(page, server, faults)
        page.goto(f"{server.url}/admin")
        expect(page.locator("#token")).to_be_visible()
        found += faults_of(page, "sign-in")
        sign_in(page, token, f"{server.url}/admin")
        for view in (*VIEWS, f"task/{task}"):
            page.goto(f"{server.url}/admin#{view}")
            expect(page.locator("#nav a[aria-current=page]")).to_have_count(1)
            expect(page.locator(".loading")).to_have_count(0)
            found += faults_of(page, view)
            wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
            assert wide <= 0, (view, wide)
    assert found == []
    assert complaints(faults) == []


def faults_of(page: Page, view: str) -> list[str]:
    """Return what axe-core finds on a page that somebody cannot use."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{view}: {one['id']}: {one['nodes'][0]['html'][:120]}"
        for one in violations
        if one["impact"] in SERIOUS
    ]


def test_page_is_used_by_the_keyboard_alone(server: ServerProcess, page: Page, token: str) -> None:
    """Skip link, sections, a button, its question, and back to where it began."""
    sign_in(page, token, f"{server.url}/admin#kinds")
    expect(page.get_by_role("button", name="Pause client.echo")).to_be_visible()
    page.reload()
    expect(page.get_by_role("button", name="Pause client.echo")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#view")).to_be_focused()
    pause = page.get_by_role("button", name="Pause client.echo")
    pause.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(pause).to_be_focused()


def test_page_is_under_a_prefix_and_where_the_setting_says(
    browser: Browser, tmp_path: Path, make_token: Callable[..., str]
) -> None:
    server = start_server(
        tmp_path / "data",
        RT_JWT_SECRET=SECRET,
        RT_PREFIX="/some/where",
        RT_ADMIN_PATH="/ops",
        RT_DRAIN_SECONDS="0",
    )
    faults: list[str] = []
    with browser.new_context() as context:
        page = context.new_page()
        note_faults(page, server, faults)
        token = make_token(ADMIN, scope="rt:admin")
        sign_in(page, token, f"{server.url}/ops#workers")
        expect(page.locator("tbody tr")).to_have_count(1)
        expect(page.locator("#link-state")).to_have_text("live")
        assert page.request.get(f"{server.url}/admin").status == 404
    stop_server(server)
    assert faults == []
