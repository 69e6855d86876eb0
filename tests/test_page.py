"""The page in a real browser, on a real server."""

import json
import re
import shlex
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browsing import (
    PHONE,
    Relay,
    expect_live,
    log_in,
    note_faults,
    status_of,
    submit,
    tab_of,
)
from tests.conftest import ServerProcess
from tests.waiting import wait_until

pytestmark = pytest.mark.long

SECONDS = 60


@pytest.fixture
def faults() -> list[str]:
    """Complaints of the page; a test that provokes one takes it out."""
    return []


@pytest.fixture
def page(browser: Browser, server_process: ServerProcess, faults: list[str]) -> Iterator[Page]:
    """A fresh session on the page; whatever it complains of fails the test."""
    context = browser.new_context()
    page = context.new_page()
    note_faults(page, server_process, faults)
    page.goto(server_process.url)
    yield page
    context.close()
    assert faults == []


def test_from_sign_in_to_a_finished_task_and_its_notification(page: Page) -> None:
    """The bar fills, the steps are ticked, the result is drawn, the badge counts."""
    log_in(page, "alice")
    submit(page, "AAPL")
    expect(status_of(page)).to_have_text("completed")
    expect(page.locator("#view [role=progressbar]")).to_have_attribute("aria-valuenow", "100")
    expect(page.locator("#view [part=step][data-state=completed]")).to_have_count(19)
    # Its result comes to the front by itself.
    chart = page.locator("#view svg.chart")
    expect(chart).to_be_visible()
    expect(chart).to_have_attribute("aria-label", re.compile("^AAPL: from .* USD in 2000-01 to"))
    expect(page.locator("#view .decision")).to_have_text("BUY")
    expect(page.locator("#view .scores li")).to_contain_text(["Market", "Fundamentals", "Balance"])
    expect(page.locator("#view [part=facts]")).to_contain_text(re.compile("ended .* took"))
    expect(page.locator("#unseen-badge")).to_have_text("1")
    page.click("#bell")
    expect(page.locator("#unseen-badge")).to_be_hidden()
    expect(page.locator("#notifications li").first).to_contain_text("AAPL: analysis completed")
    page.click("#read-all")
    expect(page.locator("#inbox-count")).to_have_text("0 unread")
    expect(page.locator("#notifications li[data-status=unread]")).to_have_count(0)


def test_tabs_of_a_task_tell_the_rest_of_it(page: Page, faults: list[str]) -> None:
    log_in(page, "bob")
    submit(page, "IBM")
    expect(status_of(page)).to_have_text("completed")
    expect(tab_of(page, "params")).to_contain_text("Research depth")
    expect(tab_of(page, "params")).to_contain_text("Market, Fundamentals")
    expect(tab_of(page, "attempts")).to_contain_text("Attempt 1 completed")
    expect(tab_of(page, "output").locator("li").last).to_contain_text("Done")
    page.locator("#view [data-tab=output]").press("ArrowLeft")
    expect(page.locator("#view [data-tab=result]")).to_be_focused()
    expect(page.locator("#view .decision")).to_be_visible()


def test_task_survives_a_reload(page: Page) -> None:
    """The page finds the user, the task and its result again."""
    log_in(page, "bob")
    submit(page, "IBM")
    expect(page).to_have_url(re.compile(r"\?task="))
    page.reload()
    expect_live(page)
    expect(page.locator("#view [part=title]")).to_have_text("IBM")
    expect(status_of(page)).to_have_text("completed")
    page.reload()
    expect(status_of(page)).to_have_text("completed")
    expect(page.locator("#view [part=result-analysis]")).to_contain_text("IBM")


def test_unknown_symbol_says_once_why_it_failed(page: Page) -> None:
    log_in(page, "carol")
    submit(page, "ZZZ")
    expect(status_of(page)).to_have_text("failed")
    expect(page.locator("#view [part=failure]")).to_contain_text("known are AAPL")
    expect(
        page.locator("#view").get_by_text("known are AAPL").locator("visible=true")
    ).to_have_count(1)


def test_what_failed_is_run_again_and_what_completed_as_a_copy(page: Page) -> None:
    """The first is the same task, watched anew; the second is another one."""
    log_in(page, "carol")
    submit(page, "ZZZ")
    expect(status_of(page)).to_have_text("failed")
    task = page.url
    with page.expect_response(lambda answer: answer.url.endswith("/retry")) as answered:
        page.get_by_role("button", name="Run again", exact=True).click()
    assert answered.value.status == 202
    expect(status_of(page)).to_have_text("failed")
    assert page.url == task
    submit(page, "IBM")
    expect(status_of(page)).to_have_text("completed")
    completed = page.url
    page.get_by_role("button", name="Run a copy").click()
    expect(page).not_to_have_url(completed)
    expect(page.locator("#view [part=title]")).to_have_text("IBM")
    expect(status_of(page)).to_have_text("completed")


def test_batch_says_which_failed_and_why(page: Page) -> None:
    """Each leads to its task; what failed is run again as a batch, or with all that failed."""
    log_in(page, "dave")
    submit(page, "AAPL", "IBM", "ZZZ")
    expect(status_of(page)).to_have_text("partial")
    expect(page.locator("#view [part=detail]")).to_have_text("2 of 3 completed · 1 failed")
    failed = page.locator("#view [part=task][data-status=failed]")
    expect(failed).to_have_count(1)
    expect(failed).to_contain_text("unknown symbol 'ZZZ'")
    expect(page.locator("#view [part=task][data-status=completed]")).to_have_count(2)
    expect(page.locator("#tasks li")).to_have_count(1)
    expect(page.locator("#tasks li")).to_contain_text("2 of 3 completed, 1 failed")
    page.click("#bell")
    expect(page.locator("#notifications li").first).to_contain_text("2 of 3 completed")
    page.keyboard.press("Escape")
    first = page.url
    page.locator("#view").get_by_role("button", name="Run again what failed").click()
    expect(page).not_to_have_url(first)
    expect(page.locator("#view [part=detail]")).to_have_text("0 of 1 completed · 1 failed")
    second = page.url
    failed.get_by_role("link").click()
    expect(page.locator("#view [part=title]")).to_have_text("ZZZ")
    expect(page.locator("#view [part=failure]")).to_contain_text("known are AAPL")
    page.go_back()
    expect(page).to_have_url(second)
    expect(failed).to_have_count(1)
    with page.expect_response(lambda answer: answer.url.endswith("/api/tasks/retry")) as answered:
        page.click("#retry-all")
    assert answered.value.json() == {"retried": 2}


def test_page_is_usable_by_keyboard(page: Page) -> None:
    """From the first Tab to a finished task without a mouse."""
    expect(page.locator("#user")).to_be_visible()
    page.locator("body").press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.locator("#user").focus()
    page.keyboard.press("Tab")
    expect(page.locator("#login")).to_be_focused()
    page.keyboard.press("Enter")
    expect_live(page)
    page.locator("#bell").focus()
    focused = "document.activeElement.shadowRoot?.activeElement?.id"
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate(focused) == "param-symbol":
            break
    page.keyboard.type("MSFT")
    page.keyboard.press("Enter")
    expect(status_of(page)).to_have_text("completed")


def test_page_fits_a_phone(page: Page) -> None:
    """One column, no sideways scrolling, targets for a thumb, and the inbox a tap away."""
    page.set_viewport_size(PHONE)
    log_in(page, "alice")
    submit(page, "AAPL")
    expect(page.locator("#view [role=progressbar]")).to_be_in_viewport()
    expect(status_of(page)).to_have_text("completed")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for button in page.locator("button:visible, #tasks a:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44, button.inner_text()
    expect(page.locator("#bell")).to_be_in_viewport()
    page.click("#bell")
    expect(page.locator("#notifications li").first).to_be_in_viewport()


def test_page_comes_back_after_its_connection_was_cut(
    browser: Browser, server_process: ServerProcess, make_token: Callable[..., str]
) -> None:
    """It resumes by itself, and nothing is missed or shown twice."""
    relay = Relay(server_process.url)
    context = browser.new_context()
    page = context.new_page()
    page.goto(relay.url)
    log_in(page, "dave")
    submit(page, "GOOG")
    expect(page.locator("#view [part=step][data-state=completed]").first).to_be_attached()
    relay.cut()
    page.click("#wire-toggle")
    expect(page.locator("#frames")).to_contain_text("closed with 1006")
    expect(page.locator("#frames")).to_contain_text('"recovered":true')
    expect_live(page)
    expect(status_of(page)).to_have_text("completed")
    expect(page.locator("#view [part=notice]")).to_be_hidden()
    page.click("#wire-close")
    page.click("#bell")
    completed = page.locator("#notifications li", has_text="GOOG: analysis completed")
    expect(completed).to_have_count(1)
    context.close()
    relay.close()


def test_page_says_within_two_seconds_that_it_is_offline(page: Page, faults: list[str]) -> None:
    """And nothing goes on by the clock meanwhile; it comes back by itself."""
    page.clock.install()
    log_in(page, "carol")
    expect(page.locator("#offline")).to_be_hidden()
    page.context.set_offline(True)
    expect(page.locator("#link-state")).to_have_text("Offline")
    expect(page.locator("#offline")).to_be_visible()
    page.clock.run_for(5_000)
    expect(page.locator("#link-state")).to_have_text("Offline")
    page.context.set_offline(False)
    expect_live(page)
    expect(page.locator("#offline")).to_be_hidden()
    # The browser itself reports lost connections.
    faults[:] = [one for one in faults if "ERR_INTERNET_DISCONNECTED" not in one]


def test_silent_connection_is_taken_for_dead(page: Page, server_process: ServerProcess) -> None:
    """One heartbeat may be late, two may not: within two seconds the page comes back."""
    page.clock.install()
    page.goto(server_process.url)
    log_in(page, "bob")
    page.click("#wire-toggle")
    frames = page.locator("#frames")
    # A connection that is cut off before it has cursors has nothing to recover.
    for topic in ("me", "tasks"):
        expect(frames).to_contain_text(f'"type":"subscribed","topic":"{topic}"')
    page.clock.fast_forward(59_000)
    expect(frames).not_to_contain_text("closed with")

    def is_taken_for_dead() -> bool:
        # A real heartbeat may have come meanwhile: then the silence begins anew.
        page.clock.fast_forward(3_000)
        return "closed with" in frames.inner_text()

    wait_until(is_taken_for_dead)
    expect(frames).to_contain_text('"recovered":true')
    expect_live(page)


def test_unknown_task_says_so_and_is_not_asked_for_again(
    page: Page, server_process: ServerProcess, faults: list[str]
) -> None:
    log_in(page, "bob")
    page.goto(server_process.url + "/?task=nobody")
    expect(status_of(page)).to_have_text("not found")
    expect(page.locator("#view [part=notice]")).to_have_text("there is no task nobody")
    expect(page.locator("#view").get_by_role("button")).to_have_count(0)
    assert faults == []


@pytest.mark.parametrize("id_", ["../notifications/1", "$(id)", "a'b", "x" * 65])
def test_link_that_names_no_task_is_not_followed(
    page: Page, server_process: ServerProcess, id_: str
) -> None:
    """Content of a stranger's link gets neither into an address nor into the curl line."""
    log_in(page, "bob")
    page.goto(f"{server_process.url}/?task={quote(id_, safe='')}")
    expect(page.locator("#page-error")).to_have_text("The link names no task")
    expect(page.locator("#view rt-task")).to_have_count(0)
    assert id_ not in str(page.text_content("#curl-line"))


def test_link_to_a_task_outlives_the_sign_in(
    page: Page, server_process: ServerProcess, faults: list[str]
) -> None:
    """A user who opens a link and signs in sees its task; the next user does not."""
    log_in(page, "alice")
    submit(page, "GOOG")
    expect(page).to_have_url(re.compile(r"\?task="))
    link = page.url
    page.context.clear_cookies()
    page.goto(link)
    expect(page.locator("#work")).to_be_hidden()
    log_in(page, "alice")
    expect(page.locator("#view [part=title]")).to_have_text("GOOG")
    expect(status_of(page)).to_have_text("completed")
    log_in(page, "bob")
    expect(page.locator("#view-empty")).to_be_visible()
    expect(page).to_have_url(server_process.url + "/")
    # The requests of the page without its cookie.
    faults[:] = [one for one in faults if "401" not in one]


def test_copied_curl_line_shows_the_same_events(page: Page, server_process: ServerProcess) -> None:
    """It names no token: the shell has it in a variable."""
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    log_in(page, "bob")
    submit(page, "AAPL")
    expect(status_of(page)).to_have_text("completed")
    page.click("#wire-toggle")
    page.click("#copy-curl")
    expect(page.locator("#copied")).to_have_text("copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.inner_text("#curl-line")
    assert shlex.split(copied)[:3] == ["curl", "-N", "-H"]
    asked = urllib.request.Request(
        f"{server_process.url}/api/auth/demo",
        data=b'{"user_id": "bob"}',
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
        token = json.load(answer)["token"]
    told = subprocess.run(
        ["bash", "-c", copied],
        env={"TOKEN": token, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        timeout=SECONDS,
        check=True,
    ).stdout.decode()
    assert "event: connected" in told
    assert "event: finished" in told
    assert token not in str(page.text_content("#frames"))


def test_tabs_share_the_sign_in_and_show_the_same(page: Page, faults: list[str]) -> None:
    """Neither asks again; what one does is seen in the other; both sign out."""
    log_in(page, "dave")
    submit(page, "AAPL")
    expect(status_of(page)).to_have_text("completed")
    expect(page.locator("#unseen-badge")).to_be_visible()
    other = page.context.new_page()
    other.goto(page.url)
    expect_live(other)
    page.click("#bell")
    other.click("#bell")
    expect(other.locator("#notifications li[data-status=unread]").first).to_be_visible()
    page.click("#read-all")
    expect(other.locator("#inbox-count")).to_have_text("0 unread")
    expect(other.locator("#notifications li[data-status=unread]")).to_have_count(0)
    before = other.locator("#notifications > li").count()
    page.get_by_role("button", name="Menu: AAPL").first.click()
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(other.locator("#notifications > li")).to_have_count(before - 1)
    page.keyboard.press("Escape")
    lines = other.locator("#tasks li").count()
    submit(page, "IBM")
    expect(other.locator("#tasks li")).to_have_count(min(lines + 1, 10))
    expect(other.locator("#tasks li").first).to_contain_text("IBM")
    other.keyboard.press("Escape")
    other.click("#sign-out")
    expect(page.locator("#login")).to_be_visible()
    expect(page.locator("#work")).to_be_hidden()
    # Its requests from before it heard of that.
    faults[:] = [one for one in faults if "401" not in one]


def test_form_proposes_what_it_needs(page: Page) -> None:
    """It can be submitted as it is."""
    log_in(page, "carol")
    expect(page.locator("#param-symbol")).to_have_value("AAPL")
    page.click("#submit-task")
    expect(page.locator("#view [part=title]")).to_have_text("AAPL")
    expect(status_of(page)).to_have_text("completed")


def test_form_says_in_words_what_is_wrong_at_each_field(page: Page, faults: list[str]) -> None:
    log_in(page, "carol")
    page.get_by_label("news").check()
    page.get_by_label("news").uncheck()
    page.fill("#param-research_depth", "9")
    page.fill("#param-symbol", "")
    page.click("#submit-task")
    errors = {
        "symbol": "Symbol must have 1 to 64 characters",
        "analysts": "Analysts must name one or more analysts, each once",
        "research_depth": "Research depth must be from 1 to 5",
    }
    for name, told in errors.items():
        expect(page.locator(f"#param-{name}-error")).to_have_text(told)
        expect(page.locator(f"#param-{name}")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#param-symbol")).to_be_focused()
    page.fill("#param-symbol", "IBM")
    page.fill("#param-research_depth", "1")
    page.get_by_label("news").check()
    page.click("#submit-task")
    expect(status_of(page)).to_have_text("completed")
    expect(page.locator("#param-symbol-error")).to_have_text("")
    # The browser reports the 422.
    faults[:] = [one for one in faults if "422" not in one]


def test_progress_is_in_the_title(page: Page) -> None:
    log_in(page, "alice")
    titles = "window.titles = []; new MutationObserver(() => titles.push(document.title))"
    page.evaluate(f"{titles}.observe(document.querySelector('title'), {{ childList: true }})")
    submit(page, "MSFT")
    expect(status_of(page)).to_have_text("completed")
    assert any(re.search(r"\d+% MSFT · tornado_rt", one) for one in page.evaluate("titles"))
    expect(page).to_have_title(re.compile(r"^(\(\d+\) )?tornado_rt$"))
