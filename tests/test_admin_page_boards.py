"""The operator's page: connections, schedules, webhooks, settings, broadcast and the log."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, expect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.browsing import ask, note_faults
from tests.conftest import SECRET, ServerProcess, start_server, stop_server
from tests.operators import ADMIN, Operator, complaints, sign_in
from tests.waiting import wait_until

pytestmark = pytest.mark.long

CLOSED_BY_ADMIN = 4403


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose tokens the test can make; webhooks may lead to this machine."""
    server = start_server(
        tmp_path_factory.mktemp("boards") / "data",
        RT_JWT_SECRET=SECRET,
        RT_KINDS="tests.client_kinds",
        RT_DRAIN_SECONDS="0",
        RT_REQUESTS_PER_SECOND="0",
        RT_CALLBACK_ALLOW_PRIVATE="true",
    )
    yield server
    stop_server(server)


@pytest.fixture
def operator(
    request: pytest.FixtureRequest,
    browser: Browser,
    server: ServerProcess,
    make_token: Callable[..., str],
) -> Iterator[Operator]:
    """A signed-in operator, whose page complains of nothing."""
    user = re.sub(r"\W+", "-", request.node.name).removeprefix("test_")[:40]
    token = make_token(ADMIN, scope="rt:admin")
    faults: list[str] = []
    with browser.new_context() as context:
        page = context.new_page()
        note_faults(page, server, faults)
        sign_in(page, token, f"{server.url}/admin")
        yield Operator(page, server, token, user, make_token(user))
    assert complaints(faults) == []


def connected(operator: Operator) -> ClientConnection:
    """Open a WebSocket of the user; it has been greeted."""
    address = operator.server.url.replace("http", "ws")
    socket = connect(f"{address}/api/ws/notifications?token={operator.user_token}")
    assert "connected" in str(socket.recv(30))
    return socket


def code_of_end(socket: ClientConnection) -> int | None:
    """Wait until a socket is closed; return the code."""
    try:
        while True:
            socket.recv(30)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else None


def test_connections_are_listed_and_closed(operator: Operator) -> None:
    """One of them, and then all of a user."""
    page, user = operator.page, operator.user
    first, second, third = (connected(operator) for _ in range(3))
    operator.open("connections")
    page.fill("#filter-user", user)
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(page).to_have_url(re.compile(f"connections.user={user}"))
    expect(rows.first.locator("[data-title=Address]")).to_have_text("127.0.0.1")
    expect(rows.first.locator("[data-title=Over]")).to_have_text("WebSocket")
    expect(rows.first.locator("[data-title=Follows]")).to_contain_text("user:")
    # The oldest stands first.
    rows.first.get_by_role("button").click()
    operator.confirm("Close 1 connection?", "Close 1")
    assert code_of_end(first) == CLOSED_BY_ADMIN
    page.mouse.move(1, 1)
    expect(rows).to_have_count(2)
    operator.press(f"Close all of {user}")
    operator.confirm("Close 2 connections?", "Close 2")
    operator.told("2 connections closed.")
    assert {code_of_end(second), code_of_end(third)} == {CLOSED_BY_ADMIN}
    expect(page.locator(".empty")).to_have_text("No connection is like this.")


def test_schedules_of_all_users_are_run_switched_and_deleted(operator: Operator) -> None:
    page, user = operator.page, operator.user
    body = {"name": "hourly", "every": 3600, "kind": "client.echo", "params": {"value": 7}}
    ask(operator.server, "POST", "/api/schedules", operator.user_token, body)

    def read() -> list[dict[str, object]]:
        items: list[dict[str, object]] = operator.ask("GET", f"/api/schedules?user={user}")["items"]
        return items

    before = read()[0]
    operator.open("schedules")
    row = page.locator("tbody tr", has_text=user)
    expect(row).to_contain_text("every 1h")
    operator.press(f"Switch off: hourly of {user}", row)
    operator.told("hourly is off.")
    expect(row.locator("[data-title=Next]")).to_have_text("off")
    assert read()[0]["enabled"] is False
    operator.undo("hourly is off.")
    operator.told("hourly is on.")
    assert read()[0]["enabled"] is True
    assert read()[0]["params"] == before["params"]
    operator.press(f"Delete: hourly of {user}", row)
    operator.confirm(f"hourly of {user}", "Delete it")
    operator.undo("hourly was deleted.")
    wait_until(lambda: len(read()), equal=1)
    operator.press(f"Run now: hourly of {user}", row)
    expect(page).to_have_url(re.compile("#task/"))
    expect(page.locator(".facts")).to_contain_text(user)


def test_webhooks_show_their_last_answers(operator: Operator) -> None:
    """The receiver has no such address."""
    url = f"{operator.server.url}/nowhere"
    made = ask(operator.server, "POST", "/api/webhooks", operator.user_token, {"url": url})
    ask(operator.server, "POST", f"/api/webhooks/{made['id']}/test", operator.user_token)
    operator.open("webhooks")
    row = operator.row(url)
    expect(row).to_contain_text(operator.user)
    expect(row.locator(".state")).to_have_text("enabled")
    answers = row.get_by_role("button", name=f"Last answers of {url}")
    expect(answers).to_contain_text("404")
    answers.click()
    expect(row.locator(".answers li").first).to_contain_text("404")
    expect(answers).to_have_attribute("aria-expanded", "true")


def test_settings_are_checked_saved_and_taken_back(operator: Operator) -> None:
    page = operator.page
    name = "ws_heartbeat_interval_seconds"
    before = operator.ask("GET", "/api/settings")[name]
    operator.open("settings")
    page.fill(f"#field-{name}", "soon")
    page.fill("#field-ws_max_connections_per_user", "49")
    operator.press("Save")
    expect(page.locator(f"[data-field={name}] .error")).to_contain_text("must be a number")
    expect(page.locator("#field-ws_max_connections_per_user")).to_have_value("49")
    page.fill(f"#field-{name}", "25")
    operator.press("Save")
    toast = "The settings were saved."
    operator.told(toast)
    assert operator.ask("GET", "/api/settings")[name] == 25
    expect(page.locator(f"[data-field={name}] .error")).to_have_text("")
    operator.undo(toast)
    wait_until(lambda: operator.ask("GET", "/api/settings")[name], equal=before)
    assert operator.ask("GET", "/api/settings")["ws_max_connections_per_user"] == 50


def test_broadcast_reaches_who_is_connected(operator: Operator) -> None:
    page = operator.page
    operator.open("broadcast")
    page.fill("#field-title", "Down at noon")
    page.fill("#field-link", "not an address")
    operator.press("Send …")
    operator.confirm("Down at noon", "Send")
    expect(page.locator("[data-field=link] .error")).to_contain_text("link")
    page.fill("#field-link", "/news")
    with connected(operator) as socket:
        operator.press("Send …")
        operator.confirm("2 users on 2 connections", "Send")
        operator.told("Sent to")
        assert "Down at noon" in str(socket.recv(30))
    expect(page.locator("#field-title")).to_have_value("")


def test_broadcast_is_kept_for_all(operator: Operator) -> None:
    page = operator.page
    # The server knows a user by their notifications.
    note = {"user_id": operator.user, "type": "alert", "title": "Before"}
    ask(operator.server, "POST", "/api/notifications", operator.user_token, note)
    operator.open("broadcast")
    page.fill("#field-title", "Read this later")
    page.select_option("#field-reach", "kept")
    operator.press("Send …")
    operator.confirm("all users, and is kept", "Send")
    operator.told("Sent to all users")

    def titles() -> list[str]:
        kept = ask(operator.server, "GET", "/api/notifications", operator.user_token)
        return [one["title"] for one in kept["items"]]

    wait_until(lambda: "Read this later" in titles())


def test_log_says_who_did_what(operator: Operator) -> None:
    """Each change by this page is in it, with the address and the outcome."""
    page = operator.page
    began = datetime.now(UTC)
    operator.ask("POST", "/api/queue/pause", {"kind": "client.brief"})
    operator.ask("POST", "/api/queue/resume", {"kind": "client.brief"})
    operator.open("log")
    row = page.locator("tbody tr", has_text="POST /api/queue/pause").first
    expect(row).to_contain_text(ADMIN)
    expect(row.locator("[data-title=From]")).to_have_text("127.0.0.1")
    expect(row.locator("[data-title=Outcome]")).to_have_text("done")
    told = row.locator("time").get_attribute("datetime")
    assert told is not None
    assert datetime.fromisoformat(told) >= began.replace(microsecond=0)
    row.get_by_role("button", name="Details of POST /api/queue/pause").click()
    expect(row.locator("pre")).to_contain_text('"kind": "client.brief"')
    page.fill("#filter-user", "nobody-of-this-name")
    expect(page.locator(".empty")).to_have_text("Nobody has changed anything yet.")
