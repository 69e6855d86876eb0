"""Devices of one user, each a page with the inbox, and what they must agree on."""

import time
from collections.abc import Callable
from typing import Any

import attrs
from playwright.sync_api import Locator, Page, expect
from pymongo import MongoClient

from tests.browsing import ask, expect_live, note_faults
from tests.conftest import ServerProcess
from tests.waiting import wait_until
from tornado_rt.stores import running_addresses

# Within this time each device shows what another one did [s].
SOON = 1.0


@attrs.frozen
class Device:
    """A page of one user, whose panel is open."""

    page: Page

    def line(self, title: str) -> Locator:
        return self.page.locator("#notifications > li", has_text=title)

    @property
    def titles(self) -> list[str]:
        return self.page.locator(
            "#notifications > li > .body > .heading > :is(a, b)"
        ).all_inner_texts()

    @property
    def counts(self) -> tuple[str, str, str]:
        """The texts of the badge, the line above the list, and the tab."""
        told = [self.page.text_content(f"#{id_}") or "" for id_ in ("unseen-badge", "inbox-count")]
        return told[0], told[1], self.page.text_content("#tab-unread") or ""

    def open(self) -> None:
        self.page.click("#bell")

    def load_more(self) -> None:
        """Load the next page, where there is one."""
        self.page.locator("#more").evaluate("one => { if (!one.hidden) one.click(); }")

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


@attrs.frozen
class User:
    """A user with nothing but what the test makes."""

    name: str
    token: str
    server: ServerProcess

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return ask(self.server, method, f"/api/notifications{path}", self.token, body)

    def notify(self, title: str, **more: Any) -> str:
        draft = {"user_id": self.name, "type": "alert", "title": title} | more
        return str(self.ask("POST", "", draft)["id"])

    @property
    def counts(self) -> tuple[str, str, str]:
        """The texts of each device when it says the truth."""
        told = self.ask("GET", "/unread_count")
        unread = told["unread"]
        tab = f"Unread {unread}" if unread else "Unread"
        return str(told["unseen"]), f"{unread} unread", tab


def change_stored(server: ServerProcess, query: dict[str, Any], fields: dict[str, Any]) -> None:
    """Change a document by hand, to what no request may store."""
    address = running_addresses(server.data_dir).mongodb_url
    with MongoClient[dict[str, Any]](address) as client:
        assert client["tornado_rt"]["inbox"].update_one(query, {"$set": fields}).matched_count == 1


def log_in(page: Page, user: User, faults: list[str], url: str) -> Device:
    """Open the page as a user."""
    note_faults(page, user.server, faults)
    page.goto(url)
    page.fill("#token", user.token)
    page.click("#login")
    expect_live(page)
    return Device(page)


def expect_soon(check: Callable[[int], None], answered: float) -> None:
    """Check with what is left of the time since an answer [ms]."""
    check(max(1, int(1000 * (answered + SOON - time.monotonic()))))


def expect_counts(user: User, devices: list[Device]) -> None:
    wait_until(
        lambda: [device.counts for device in devices] == [user.counts] * len(devices),
        what=f"all say {user.counts}",
    )
