"""The operator's page: tasks, kinds and workers, on a real server in a real browser."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browsing import ask, note_faults
from tests.conftest import SECRET, ServerProcess, start_server, stop_server
from tests.operators import ADMIN, Operator, complaints, sign_in
from tests.waiting import wait_until

pytestmark = pytest.mark.long

MANY = 60
PAGE_SIZE = 50


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose tokens the test can make, with kinds that wait and fail."""
    server = start_server(
        tmp_path_factory.mktemp("admin") / "data",
        RT_JWT_SECRET=SECRET,
        RT_KINDS="tests.client_kinds",
        RT_DRAIN_SECONDS="0",
        RT_WORKER_GRACE_SECONDS="0.5",
        RT_WORKER_CONCURRENCY="8",
        RT_QUEUE_USER_LIMIT="0",
        RT_QUEUE_GLOBAL_LIMIT="0",
        RT_REQUESTS_PER_SECOND="0",
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


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """A file: while it is there, a task of `client.gated` runs."""
    path = tmp_path / "gate"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


def test_overview_moves_by_itself(operator: Operator, gate: Path) -> None:
    """Tiles, kinds and charts follow what happens, over the topic of the admins."""
    page = operator.page
    operator.open("overview")
    running = page.locator(".tiles a", has_text="Running").locator(".tile-value")
    expect(running).to_have_text("0")
    operator.submit("client.gated", {"gate": str(gate)})
    expect(running).to_have_text("1")
    expect(operator.row("client.gated").locator("[data-title=Running]")).to_have_text("1")
    charts = page.locator(".chart svg path.line")
    # Two of each, as soon as three points are known.
    expect(charts).to_have_count(4)
    expect(page.locator(".chart svg").first).to_have_attribute("aria-label", re.compile("highest"))
    operator.press("24h")
    expect(page).to_have_url(re.compile("#overview.span=24h$"))
    expect(page.get_by_role("button", name="24h")).to_have_attribute("aria-pressed", "true")
    gate.unlink()
    expect(running).to_have_text("0")


def test_running_task_is_shown_and_cancelled(operator: Operator, gate: Path) -> None:
    task = operator.submit("client.gated", {"gate": str(gate)}, label="Long one")
    operator.open(f"running?user={operator.user}")
    row = operator.row("Long one")
    (gate.parent / f"{gate.name}.1").touch()
    expect(row.locator("[data-title=Step]")).to_contain_text("count 1")
    expect(row.locator("[data-title=Attempt]")).to_have_text("1 of 3")
    worker = operator.ask("GET", "/api/admin/workers")["items"][0]["worker_id"]
    expect(row.locator("[data-title=Worker]")).to_have_text(worker)
    expect(row.locator("[data-title=Lease]")).to_have_text(re.compile(r"min|s$"))
    operator.press("Cancel Long one")
    operator.confirm(f"Long one of {operator.user}", "Cancel it")
    operator.told("Long one was cancelled")
    expect(operator.page.locator(".card")).to_contain_text("No task runs now.")
    assert operator.status(task) == "cancelled"


def test_search_finds_by_everything_and_is_an_address(operator: Operator) -> None:
    """Words of the label and of errors, user, kind, state and tag; the address holds it all."""
    page, user = operator.page, operator.user
    bad = operator.submit("client.fails", label="Zebra crossing", tags=["striped"])
    good = operator.submit("client.echo", label="Zebra alone")
    wait_until(lambda: (operator.status(bad), operator.status(good)), equal=("failed", "completed"))
    operator.open(f"tasks?user={user}")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.keyboard.press("/")
    expect(page.locator("#search-words")).to_be_focused()
    page.keyboard.type("crossing")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page).to_have_url(re.compile("q=crossing"))
    # A word of its error, too.
    page.fill("#search-words", "meant")
    expect(operator.row("Zebra crossing")).to_contain_text("it was not meant to be")
    page.fill("#search-words", good)
    expect(operator.row("Zebra alone")).to_have_count(1)
    operator.open(f"tasks?user={user}&tag=striped&status=failed&kind=client.fails")
    expect(operator.row("Zebra crossing")).to_have_count(1)
    expect(page.locator("#search-tag")).to_have_value("striped")
    expect(page.locator("#search-kind")).to_have_value("client.fails")
    expect(page.locator("[data-act=status][aria-pressed=true]")).to_contain_text("failed")
    page.locator("[data-act=status][value=completed]").click()
    expect(page.locator(".empty")).to_have_text("No task is like this.")
    operator.press("Clear")
    expect(page.locator("#search-tag")).to_have_value("")
    page.go_back()
    expect(page.locator("#search-tag")).to_have_value("striped")


def test_list_goes_on_and_all_that_match_are_retried(operator: Operator) -> None:
    """Page by page; and the question before it says how many they are, over all pages."""
    page, user = operator.page, operator.user
    items = [{"params": {}} for _ in range(MANY)]
    body = {"kind": "client.fails", "items": items}
    batch = ask(operator.server, "POST", "/api/batches", operator.user_token, body)["batch_id"]
    path = f"/api/batches/{batch}"
    wait_until(lambda: operator.ask("GET", path)["failed"], equal=MANY)
    operator.open(f"tasks?user={user}&status=failed")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(PAGE_SIZE)
    operator.press("Older ones")
    expect(rows).to_have_count(MANY)
    operator.ask("POST", "/api/queue/pause", {"kind": "client.fails"})
    try:
        rows.first.locator("input").check()
        expect(page.locator("[data-name=bulk] [role=status]")).to_have_text("1 chosen")
        operator.press("Choose all that match")
        operator.press(f"Retry {MANY}")
        operator.confirm(f"Retry {MANY} tasks?", f"Retry {MANY}")
        operator.told(f"{MANY} tasks run again.")
        expect(page.locator(".empty")).to_have_text("No task is like this.")
        stats = operator.ask("GET", f"/api/admin/tasks?user={user}&status=queued&limit=200")
        assert len(stats["items"]) == MANY
    finally:
        operator.ask("POST", "/api/queue/resume", {"kind": "client.fails"})


def test_cancel_of_waiting_tasks_is_taken_back(operator: Operator) -> None:
    page, user, kind = operator.page, operator.user, {"kind": "client.timed"}
    operator.ask("POST", "/api/queue/pause", kind)
    tasks = [operator.submit("client.timed", {"gate": f"later{n}"}) for n in range(3)]
    operator.open(f"tasks?user={user}")
    page.get_by_label("Choose all that are shown").check()
    expect(page.get_by_role("button", name="Retry 0")).to_be_disabled()
    operator.press("Cancel 3")
    operator.confirm("3 queued", "Keep as it is")
    assert [operator.status(one) for one in tasks] == ["queued"] * 3
    operator.press("Cancel 3")
    operator.confirm("3 queued", "Cancel 3")
    expect(page.locator("tbody .state[data-state=cancelled]")).to_have_count(3)
    operator.undo("3 tasks cancelled.")
    operator.told("3 tasks put back.")
    expect(page.locator("tbody .state[data-state=queued]")).to_have_count(3)
    assert [operator.status(one) for one in tasks] == ["queued"] * 3
    operator.ask("POST", "/api/admin/tasks/cancel", {"ids": tasks})
    operator.ask("POST", "/api/queue/resume", kind)


def test_discard_is_taken_back(operator: Operator) -> None:
    task = operator.submit("client.fails", label="Wrong one")
    wait_until(lambda: operator.status(task), equal="failed")
    operator.open(f"task/{task}")
    operator.press("Discard")
    operator.confirm("Discard 1 task?", "Discard 1")
    operator.undo("1 task discarded.")
    operator.told("1 task put back.")
    assert operator.status(task) == "failed"


def test_task_shows_its_steps_attempts_and_error(operator: Operator) -> None:
    """The element of the client, which follows it; facts; and the verbs that its state takes."""
    page = operator.page
    task = operator.submit("client.fails", label="Doomed", tags=["night"], params={})
    operator.open(f"task/{task}")
    expect(page.locator("rt-task")).to_contain_text("failed")
    expect(page).to_have_title(re.compile("Doomed: failed"))
    facts = page.locator(".facts")
    for text in (task, "client.fails", operator.user, "night", "1 of 3"):
        expect(facts).to_contain_text(text)
    expect(page.locator("[data-name=cause]")).to_contain_text("it was not meant to be")
    expect(page.get_by_role("region", name="Attempts")).to_contain_text("failed")
    operator.press("Retry")
    operator.confirm("1 failed", "Retry 1")
    operator.told("1 task run again.")
    operator.open("task/nosuchtask")
    expect(page.locator(".empty [role=alert], .empty.error, .empty .error").first).to_be_visible()


def test_kind_is_paused_and_resumed(operator: Operator) -> None:
    page = operator.page
    operator.open("kinds")
    operator.press("Pause client.echo")
    operator.confirm("Pause client.echo?", "Pause")
    operator.told("client.echo paused")
    expect(page.get_by_role("button", name="Resume client.echo")).to_be_visible()
    task = operator.submit("client.echo")
    operator.open("overview")
    expect(page.locator(".attention")).to_contain_text("client.echo is paused, and 1 task waits.")
    assert operator.status(task) == "queued"
    operator.press("Resume client.echo")
    wait_until(lambda: operator.status(task), equal="completed")
    expect(page.locator(".attention")).to_have_count(0)


def test_limits_are_saved_checked_and_taken_back(operator: Operator) -> None:
    page = operator.page
    operator.open("kind/client.brief")
    page.fill("#field-rate", "many")
    page.fill("#field-limit", "4")
    operator.press("Save")
    expect(page.locator("[data-field=rate] .error")).to_contain_text("rate")
    expect(page.locator("#field-rate")).to_have_attribute("aria-invalid", "true")
    # Typed text stays.
    expect(page.locator("#field-limit")).to_have_value("4")
    page.fill("#field-rate", "10/m")
    operator.press("Save")
    operator.told("The limits of client.brief were saved.")
    path = "/api/kinds/client.brief/limits"
    assert operator.ask("GET", path)["changed"] == {"rate": "10/m", "limit": 4}
    expect(page.locator("[data-field=rate] .error")).to_have_text("")
    operator.undo("The limits of client.brief were saved.")
    wait_until(lambda: operator.ask("GET", path)["changed"], equal={})
    expect(page.locator("#field-limit")).to_have_value("0")


def test_worker_is_drained_and_takes_up_again(operator: Operator) -> None:
    page = operator.page
    operator.open("workers")
    [worker] = operator.ask("GET", "/api/admin/workers")["items"]
    row = operator.row(worker["worker_id"])
    expect(row).to_contain_text("client.gated")
    expect(row.locator("[data-title=Running]")).to_contain_text("of 8")
    operator.press(re.compile("^Drain "), row)
    operator.confirm("Drain 1 worker?", "Drain it")
    expect(row.locator("[data-title=State]")).to_contain_text("draining")
    task = operator.submit("client.echo")
    assert operator.status(task) == "queued"
    operator.press(re.compile("^Resume "), row)
    wait_until(lambda: operator.status(task), equal="completed")
    expect(page.get_by_role("button", name=re.compile("^Drain "))).to_be_visible()


def test_rows_stand_still_under_the_pointer(operator: Operator) -> None:
    """They change in place; none comes or goes until the pointer leaves."""
    page, user = operator.page, operator.user
    first = operator.submit("client.echo", label="First", delay=3600)
    operator.open(f"tasks?user={user}")
    row = operator.row("First")
    row.hover()
    operator.submit("client.echo", label="Second", delay=3600)
    operator.ask("DELETE", f"/api/tasks/{first}")
    expect(row.locator(".state")).to_have_text("cancelled")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.mouse.move(1, 1)
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator("tbody tr").first).to_contain_text("Second")


def test_focus_stays_while_rows_come_and_change(operator: Operator) -> None:
    page, user = operator.page, operator.user
    operator.submit("client.echo", label="Kept", delay=3600)
    operator.open(f"tasks?user={user}")
    link = operator.row("Kept").get_by_role("link", name="Kept")
    link.focus()
    operator.submit("client.echo", label="Newer", delay=3600)
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator("tbody tr").first).to_contain_text("Newer")
    expect(link).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Kept")
