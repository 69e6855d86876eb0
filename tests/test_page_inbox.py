"""The inbox on several devices of one user: pages in real browsers, on a real server."""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browsing import PHONE, ask, chromium, note_faults
from tests.conftest import SECRET, ServerProcess, start_server, stop_server
from tests.inbox_writer import InboxWriter
from tests.waiting import wait_until

# Within this time each device shows what another one did [s].
SOON = 1.0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium of the system."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose tokens the test can make."""
    folder = tmp_path_factory.mktemp("inbox")
    server = start_server(
        folder / "data",
        RT_JWT_SECRET=SECRET,
        RT_DRAIN_SECONDS="0",
        RT_REQUESTS_PER_SECOND="0",
    )
    yield server
    stop_server(server)


@pytest.fixture(scope="module")
def writer(server: ServerProcess) -> Iterator[InboxWriter]:
    """What stores for the server's users."""
    writer = InboxWriter(server.data_dir)
    yield writer
    writer.close()


@attrs.frozen
class Device:
    """A page of one user, whose panel is open."""

    page: Page

    def line(self, title: str) -> Locator:
        return self.page.locator("#notifications > li", has_text=title)

    @property
    def titles(self) -> list[str]:
        return self.page.locator("#notifications > li > .heading > :is(a, b)").all_inner_texts()

    @property
    def counts(self) -> tuple[str, str, str]:
        """What the badge, the line above the list, and the tab say."""
        told = [self.page.text_content(f"#{id_}") or "" for id_ in ("unseen-badge", "inbox-count")]
        return told[0], told[1], self.page.text_content("#tab-unread") or ""

    def open(self) -> None:
        self.page.click("#bell")

    def tab(self, name: str) -> None:
        self.page.click(f"#tab-{name}")
        expect(self.page.locator("#inbox-panel")).to_have_attribute("aria-busy", "false")

    def choose(self, title: str, label: str) -> float:
        """Choose in a line's menu; return when the server had answered."""
        self.line(title).get_by_role("button", name=f"Menu: {title}").click()
        return self.press(self.line(title).get_by_role("button", name=label, exact=True))

    def press(self, button: Locator) -> float:
        """Press what asks the server; return when that had answered."""
        with self.page.expect_response(lambda answer: answer.request.method == "POST"):
            button.click()
        return time.monotonic()


Devices = Callable[..., list[Device]]


@attrs.frozen
class User:
    """A user with nothing but what the test makes."""

    name: str
    token: str
    server: ServerProcess

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return ask(self.server, method, f"/api/notifications{path}", self.token, body)

    def notify(self, title: str, **more: Any) -> str:
        draft = {"user_id": self.name, "type": "alert", "title": title, **more}
        return str(self.ask("POST", "", draft)["id"])

    @property
    def counts(self) -> tuple[str, str, str]:
        """What each device says when it says the truth."""
        told = self.ask("GET", "/unread_count")
        unread = told["unread"]
        tab = f"Unread {unread}" if unread else "Unread"
        return str(told["unseen"]), f"{unread} unread", tab


@pytest.fixture
def user(
    request: pytest.FixtureRequest, server: ServerProcess, make_token: Callable[..., str]
) -> User:
    name = re.sub(r"\W+", "-", request.node.name)[:60]
    return User(name, make_token(name), server)


@pytest.fixture
def faults() -> list[str]:
    """Complaints of the pages; a test that provokes one takes it out."""
    return []


@pytest.fixture
def devices(
    browser: Browser, server: ServerProcess, user: User, faults: list[str]
) -> Iterator[Devices]:
    """Two desktop browsers and a phone of the user, or fewer."""
    contexts = []

    def open_(count: int = 3) -> list[Device]:
        sizes = [{}, {}, {"viewport": PHONE, "has_touch": True, "is_mobile": True}]
        for size in sizes[-count:]:
            contexts.append(browser.new_context(**size))
        return [_device(context.new_page(), user, faults) for context in contexts[-count:]]

    yield open_
    for context in contexts:
        context.close()
    assert faults == []


def _device(page: Page, user: User, faults: list[str]) -> Device:
    note_faults(page, user.server, faults)
    page.goto(user.server.url)
    page.fill("#token", user.token)
    page.click("#login")
    expect(page.locator("#link-state")).to_have_text("connected")
    expect(page.locator("#submit-task")).to_be_enabled()
    return Device(page)


def expect_soon(check: Callable[[int], None], answered: float) -> None:
    """Check with what is left of the time since an answer [ms]."""
    check(max(1, int(1000 * (answered + SOON - time.monotonic()))))


def expect_counts(user: User, devices: list[Device]) -> None:
    wait_until(
        lambda: [device.counts for device in devices] == [user.counts] * len(devices),
        what=f"all say {user.counts}",
    )


STEPS = [
    # The tab where it is done, what is chosen, and the tab where it then stands.
    ("inbox", "Mark as read", "inbox"),
    ("inbox", "Mark as unread", "unread"),
    ("inbox", "Pin", "pinned"),
    ("pinned", "Unpin", "inbox"),
    ("inbox", "Archive", "archived"),
    ("archived", "Move to the inbox", "inbox"),
    ("unread", "Snooze 1 hour", "snoozed"),
    ("snoozed", "Back to the inbox now", "inbox"),
    ("inbox", "Snooze until tomorrow", "snoozed"),
    ("snoozed", "Snooze until next week", "snoozed"),
    ("snoozed", "Archive", "archived"),
    ("archived", "Delete", None),
]


def test_each_verb_is_seen_on_the_other_devices_within_a_second(
    user: User, devices: Devices
) -> None:
    """And the counts are the same everywhere after each."""
    user.notify("first")
    user.notify("the one")
    opened = devices()
    for device in opened:
        device.open()
    for number, (tab, label, target) in enumerate(STEPS):
        actor = opened[number % 3]
        others = [one for one in opened if one is not actor]
        actor.tab(tab)
        expect(actor.line("the one")).to_be_visible()
        for other in others:
            other.tab(target or tab)
        answered = actor.choose("the one", label)
        for other in others:
            line = other.line("the one")
            if target is None:
                expect_soon(
                    lambda ms, line=line: expect(line).to_have_count(0, timeout=ms), answered
                )
            elif label.startswith("Mark as"):
                status = label.removeprefix("Mark as ")
                told = re.compile(f"^{status}$")
                expect_soon(
                    lambda ms, line=line, told=told: expect(line).to_have_attribute(
                        "data-status", told, timeout=ms
                    ),
                    answered,
                )
            else:
                expect_soon(lambda ms, line=line: expect(line).to_be_visible(timeout=ms), answered)
        expect_counts(user, opened)
