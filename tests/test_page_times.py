"""The time left as people see it, on the page and in the elements, with a faked clock."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browsing import PHONE, ask, note_faults, status_of
from tests.conftest import ServerProcess
from tests.elements import LOAD, add, submit
from tests.js_forms import BLANK, SECONDS
from tests.waiting import wait_until

pytestmark = pytest.mark.long

Token = Callable[..., str]
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
CLOCKS = re.compile(r"\d+:\d\d(?: [AP]M)?")
STEPS = [
    {"name": "a", "description": "Decode", "weight": 0.2, "status": "completed"},
    {"name": "b", "description": "Encode", "weight": 0.6, "status": "current"},
    {"name": "c", "description": "Upload " + "x" * 80, "weight": 0.2, "status": "pending"},
]
TIMES = [
    {"started_after": 0.0, "duration": 20.0, "usual_duration": 15.0},
    {"started_after": 20.0, "usual_duration": 60.0},
    {"usual_duration": 20.0},
]
SNAPSHOT: dict[str, Any] = {
    "task_id": "t",
    "kind": "film",
    "label": "Film",
    "status": "processing",
    "attempt": 1,
    "progress": 20.0,
    "message": "Encode",
    "current_step": 1,
    "current_step_name": "Encode",
    "elapsed_time": 20.0,
    "remaining_time": 300.0,
    "remaining_low": 200.0,
    "remaining_high": 600.0,
    "updated_at": NOON.isoformat(),
    "steps": [step | time for step, time in zip(STEPS, TIMES, strict=True)],
}
GIVE = "(e, snapshot) => { e.snapshot = snapshot }"


@pytest.fixture
def token(request: pytest.FixtureRequest, make_token: Token) -> str:
    """The token of a user that no other test has."""
    return make_token(request.node.name)


@pytest.fixture
def gates(tmp_path: Path) -> Iterator[list[Path]]:
    """The files that hold back the three steps of a timed task."""
    paths = [tmp_path / f"gate.{number}" for number in range(3)]
    for path in paths:
        path.touch()
    yield paths
    for path in paths:
        path.unlink(missing_ok=True)


Open = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser, client_server: ServerProcess, token: str) -> Iterator[Open]:
    """A factory of pages with a client; `now`: the time of their clock, which then stands still."""
    contexts = []
    faults: list[str] = []

    def make(now: datetime | None = None, **options: Any) -> Page:
        options = {"locale": "en-GB", "timezone_id": "UTC"} | options
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        note_faults(page, client_server, faults)
        page.clock.install(time=now)
        page.goto(client_server.url + BLANK)
        page.evaluate(LOAD, [client_server.url, token])
        if now is not None:
            page.clock.pause_at(now + timedelta(seconds=60))
        return page

    yield make
    for context in contexts:
        context.close()
    # A page without an icon asks for one.
    assert [fault for fault in faults if "404" not in fault] == []


Submit = Callable[..., str]


@pytest.fixture
def timed(client_server: ServerProcess, token: str, gates: list[Path]) -> Iterator[Submit]:
    """A factory of tasks that wait at their gates, and are cancelled: none learns from another."""
    made: list[str] = []

    def submit_one(kind: str = "client.timed") -> str:
        params = params_of(gates)
        made.append(submit(client_server, token, kind, params=params, label="The film"))
        return made[-1]

    yield submit_one
    for task in reversed(made):
        ask(client_server, "DELETE", f"/api/tasks/{task}", token)
    wait_until(lambda: all(is_over(client_server, token, one) for one in made), SECONDS)


def is_over(server: ServerProcess, token: str, task: str) -> bool:
    return ask(server, "GET", f"/api/tasks/{task}", token)["ended_at"] is not None


def params_of(gates: list[Path]) -> dict[str, Any]:
    return {"gate": str(gates[0].with_suffix(""))}


def part(element: Locator, name: str) -> Locator:
    return element.locator(f"[part={name}]")


def percent(element: Locator, name: str = "fill", side: str = "width") -> float:
    """Return where a part of the bar is [%]."""
    found: float = part(element, name).evaluate("(e, side) => parseFloat(e.style[side])", side)
    return found


def clocks(element: Locator) -> list[str]:
    """Return the times of day that are told of its end."""
    return CLOCKS.findall(part(element, "time").inner_text())


def test_time_left_and_the_bar_go_on_by_the_clock(
    opened: Open, client_server: ServerProcess, token: str, timed: Submit
) -> None:
    """The finish stays where it is, the bar stays within the step, and nothing is below zero."""
    task = timed()
    page = opened()
    shown = add(page, "rt-task", task_id=task)
    left = part(shown, "time")
    expect(left).to_have_text(re.compile(r"^about 10m left · about .*, at the latest "))
    begun, told = percent(shown), clocks(shown)
    assert len(told) == 2
    assert percent(shown) < percent(shown, "band", "left") < percent(shown, "likely", "left")
    page.clock.fast_forward("04:00")
    expect(left).to_have_text(re.compile("^about 6m left · "))
    assert clocks(shown) == told
    assert begun < percent(shown) <= 20
    for _ in range(3):
        page.clock.fast_forward("59:00")
        expect(left).to_have_text("any moment now")
        assert percent(shown) <= 20
    assert "null" not in shown.inner_text()
    assert "NaN" not in shown.inner_text()
    ask(client_server, "DELETE", f"/api/tasks/{task}", token)
    expect(part(shown, "status")).to_have_text("cancelled")
    expect(left).to_have_text("")
    assert percent(shown) <= 20


def test_page_shows_the_same_after_a_reload(
    opened: Open, client_server: ServerProcess, token: str, timed: Submit
) -> None:
    """The bar, the finish and the steps come from the snapshot and the clock alone."""
    task = timed()
    page = opened()
    page.goto(f"{client_server.url}/?task={task}")
    page.fill("#token", token)
    page.click("#login")
    shown = page.locator("#view rt-task")
    steps = part(shown, "step")
    expect(part(shown, "time")).to_have_text(re.compile("^about .*[0-9]m left · about"))
    expect(steps).to_have_count(3)
    before = percent(shown), clocks(shown), part(shown, "step-time").all_inner_texts()
    page.reload()
    expect(part(shown, "time")).to_have_text(re.compile("^about .*[0-9]m left · about"))
    # The clock goes on meanwhile.
    assert percent(shown) == pytest.approx(before[0], abs=1)
    assert percent(shown) >= before[0]
    assert set(clocks(shown)) <= set(before[1])
    assert len(part(shown, "step-time").all_inner_texts()) == len(before[2])
    page.clock.fast_forward("02:00")
    expect(steps.nth(0)).to_contain_text("2m")
    assert clocks(shown) == before[1]
    shown.get_by_role("button", name="Cancel").click()
    expect(status_of(page)).to_have_text("cancelled")
    expect(part(shown, "time")).to_have_text("")


def test_reason_is_told_when_it_takes_longer(
    opened: Open, client_server: ServerProcess, token: str, timed: Submit
) -> None:
    """The time left rises with the server's reason, and since when it is slow."""
    task = timed("client.brief")
    shown = add(opened(), "rt-task", task_id=task)
    reason = part(shown, "reason")
    expect(reason).to_have_text(re.compile(r"^\d\d:\d\d: step Decode takes longer than expected\."))
    expect(reason).to_contain_text(re.compile(r"Slow since \d\d:\d\d\."))
    expect(shown.locator("[aria-live]")).to_contain_text("takes longer than expected")
    ask(client_server, "DELETE", f"/api/tasks/{task}", token)
    expect(reason).to_have_text("")


def test_waiting_task_says_when_it_starts(opened: Open, timed: Submit) -> None:
    _, second = timed(), timed()
    page = opened()
    shown = add(page, "rt-task", task_id=second)
    expect(part(shown, "detail")).to_have_text("number 1 in the line")
    expect(part(shown, "time")).to_have_text(re.compile(r"^starts in about \d+m"))
    expect(part(shown, "percent")).to_have_text("")
    before = part(shown, "time").inner_text()
    page.clock.fast_forward("02:00")
    expect(part(shown, "time")).not_to_have_text(before)
    page.clock.fast_forward("50:00")
    expect(part(shown, "time")).to_have_text("starts any moment now")


def test_ended_task_shows_how_long_each_step_took_and_usually_takes(
    opened: Open, client_server: ServerProcess, token: str, gates: list[Path]
) -> None:
    for gate in gates:
        gate.unlink()

    def has_learned() -> bool:
        nonlocal task
        task = submit(client_server, token, "client.stepped", params=params_of(gates))
        wait_until(lambda: is_over(client_server, token, task), SECONDS)
        steps = ask(client_server, "GET", f"/api/tasks/{task}", token)["steps"]
        return all("usual_duration" in step for step in steps)

    task = ""
    wait_until(has_learned, SECONDS)
    shown = add(opened(), "rt-task", task_id=task)
    expect(part(shown, "status")).to_have_text("completed")
    assert percent(shown) == 100
    expect(shown.locator("li[data-state=completed]")).to_have_count(3)
    expect(part(shown, "step-time").first).to_have_text(re.compile(r"^\d\.\ds, usually \d\.\ds$"))
    expect(shown.locator("[part=usual]:not([hidden])")).to_have_count(3)
    expect(shown.locator("[part=real]:not([hidden])")).to_have_count(3)


def test_browser_whose_clock_is_wrong_tells_the_finish_by_its_own(
    opened: Open, client_server: ServerProcess, timed: Submit
) -> None:
    """The server's timestamps say how far it is off."""
    task = timed()
    ahead = datetime.now(UTC) + timedelta(hours=5, minutes=30)
    page = opened(ahead)
    shown = add(page, "rt-task", task_id=task)
    expect(part(shown, "time")).to_have_text(re.compile("^about 10m left · about"))
    finish = ahead + timedelta(minutes=11)
    near = {(finish + timedelta(minutes=n)).strftime("%H:%M") for n in (-1, 0, 1)}
    assert clocks(shown)[0] in near
    assert page.evaluate("client.skew") == pytest.approx(-19860, abs=60)


def give(page: Page, **more: Any) -> Locator:
    """Add an element that draws a snapshot made here."""
    shown = add(page, "rt-snapshot", label="Film")
    shown.evaluate(GIVE, SNAPSHOT | more)
    return shown


@pytest.mark.parametrize(
    ("locale", "zone", "seconds", "told"),
    [
        ("en-GB", "UTC", 300, "about 4m left · about 12:05, at the latest 12:10"),
        (
            "en-US",
            "America/New_York",
            300,
            "about 4m left · about 7:05 AM, at the latest 7:10 AM",
        ),
        ("de-DE", "Europe/Berlin", 300, "about 4m left · about 13:05, at the latest 13:10"),
        ("en-GB", "UTC", 80, "about 20s left, at most 2m"),
        ("en-GB", "UTC", 2e5, "about 2d left · about 2 Dec, 19:33, at the latest 5 Dec, 03:06"),
        (
            "en-GB",
            "Pacific/Auckland",
            300,
            "about 4m left · about 01:05, at the latest 01:10",
        ),
    ],
)
def test_finish_is_told_in_the_readers_clock_and_language(
    opened: Open, locale: str, zone: str, seconds: float, told: str
) -> None:
    """The snapshot was made a minute ago; over a day it has the date."""
    page = opened(NOON, locale=locale, timezone_id=zone)
    shown = give(page, remaining_time=seconds, remaining_high=seconds * 2)
    # Some languages write a space of their own before AM.
    assert part(shown, "time").inner_text().replace("\u202f", " ") == told


@pytest.mark.parametrize("name", ["rt-task", "rt-batch"])
def test_bar_has_a_name_before_there_is_a_title(
    browser: Browser, client_server: ServerProcess, name: str
) -> None:
    """It has no client yet, so it knows nothing of what it is to show."""
    page = browser.new_page()
    page.goto(client_server.url + BLANK)
    page.evaluate("import('/static/rt-elements.js')")
    shown = add(page, name)
    expect(shown.get_by_role("progressbar")).to_have_accessible_name("Progress")
    page.close()


def test_what_is_unknown_is_no_number(opened: Open) -> None:
    """Neither without any time, nor with a time that has no bounds."""
    page = opened(NOON)
    unknown = {"remaining_time": None, "remaining_low": None, "remaining_high": None}
    shown = give(page, **unknown, steps=STEPS)
    expect(part(shown, "time")).to_have_text("")
    expect(part(shown, "percent")).to_have_text("20%")
    expect(part(shown, "band")).to_be_hidden()
    expect(shown.locator("[part=real]:visible, [part=usual]:visible")).to_have_count(0)
    bare = give(page, remaining_low=None, remaining_high=None)
    expect(part(bare, "time")).to_have_text("about 4m left · about 12:05")
    expect(part(bare, "band")).to_be_hidden()
    for one in (shown, bare):
        assert "null" not in one.inner_text()
        assert "null" not in str(part(one, "bar").get_attribute("aria-valuetext"))


def test_slow_and_silent_tasks_say_since_when(opened: Open) -> None:
    page = opened(NOON)
    told = {"slow_since": "2026-11-30T11:40:00.000Z", "stalled_since": "2026-11-30T11:58:30.000Z"}
    shown = give(page, **told)
    words = "Slow since 11:40. No sign of life since 11:58."
    expect(part(shown, "reason")).to_have_text(words)


def test_one_timer_serves_all_and_rests_when_nothing_is_seen(opened: Open) -> None:
    """Not when they are hidden, out of view, or ended."""
    page = opened(NOON)
    page.evaluate(
        "() => { window.timers = new Set(); const set = setInterval, clear = clearInterval;"
        " window.setInterval = (...a) => { const id = set(...a); timers.add(id); return id };"
        " window.clearInterval = (id) => { timers.delete(id); clear(id) } }"
    )
    shown = [give(page) for _ in range(40)]
    count = "timers.size"
    wait_until(lambda: page.evaluate(count), SECONDS, equal=1)
    first = part(shown[0], "time")
    hidden = part(shown[-1], "time").inner_text()
    page.clock.run_for(120_000)
    expect(first).to_contain_text("about 2m left")
    # Out of view it is not drawn, until it is looked at.
    assert part(shown[-1], "time").inner_text() == hidden
    shown[-1].scroll_into_view_if_needed()
    expect(part(shown[-1], "time")).to_contain_text("about 2m left")
    page.evaluate("document.body.style.display = 'none'")
    wait_until(lambda: page.evaluate(count), SECONDS, equal=0)
    page.evaluate("document.body.style.display = ''")
    wait_until(lambda: page.evaluate(count), SECONDS, equal=1)
    for one in shown:
        one.evaluate(GIVE, SNAPSHOT | {"status": "completed", "progress": 100.0})
    wait_until(lambda: page.evaluate(count), SECONDS, equal=0)


def test_those_who_hear_the_page_are_told_now_and_then(opened: Open) -> None:
    """A report each second changes what they are told every ten seconds, and the end at once."""
    page = opened(NOON)
    shown = give(page)
    part(shown, "bar").evaluate(
        "e => { window.told = []; new MutationObserver(() => told.push(e.ariaValueText))"
        ".observe(e, { attributeFilter: ['aria-valuenow', 'aria-valuetext'] }) }"
    )
    for second in range(60):
        page.clock.run_for(1000)
        shown.evaluate(GIVE, SNAPSHOT | {"progress": 20 + second / 2})
    assert 4 <= len(page.evaluate("told")) <= 7
    shown.evaluate(GIVE, SNAPSHOT | {"status": "completed", "progress": 100.0})
    expect(part(shown, "bar")).to_have_attribute("aria-valuenow", "100")
    assert shown.locator("[aria-live]").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_times_fit_a_phone_and_move_only_for_those_who_like_it(opened: Open, scheme: Any) -> None:
    page = opened(NOON, color_scheme=scheme, reduced_motion="reduce")
    page.evaluate("document.documentElement.style.colorScheme = 'light dark'")
    shown = give(page, slow_since=NOON.isoformat())
    for size in (PHONE, {"width": 1280, "height": 800}):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        for one in ("time", "reason", "steps"):
            expect(part(shown, one)).to_be_in_viewport()
    fill = part(shown, "fill")
    assert fill.evaluate("e => getComputedStyle(e).transitionProperty") == "none"
    colours = [
        part(shown, one).first.evaluate("e => getComputedStyle(e).backgroundColor")
        for one in ("fill", "band", "bar")
    ]
    assert len(set(colours)) == 3
