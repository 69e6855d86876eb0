"""An operator at the page `/admin`, in a real browser."""

import re
from typing import Any

import attrs
from playwright.sync_api import Locator, Page, expect

from tests.browsing import ask
from tests.conftest import ServerProcess

ADMIN = "root"


@attrs.frozen
class Operator:
    """The page of a signed-in operator, and what they know of the server."""

    page: Page
    server: ServerProcess
    token: str
    # A user of this test alone, and a token of theirs.
    user: str
    user_token: str

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return ask(self.server, method, path, self.token, body)

    def submit(self, kind: str, params: Any = None, **more: Any) -> str:
        """Submit a task of the user; return its id."""
        body = {"kind": kind, "params": params or {}, "notify": False, **more}
        made = ask(self.server, "POST", "/api/tasks", self.user_token, body)
        return str(made["task_id"])

    def status(self, task_id: str) -> str:
        return str(self.ask("GET", f"/api/tasks/{task_id}")["status"])

    def open(self, hash_: str) -> None:
        """Go to a view by its address."""
        self.page.goto(f"{self.server.url}/admin#{hash_}")
        expect(self.page.locator("#nav a[aria-current=page]")).to_have_count(1)

    def row(self, text: str) -> Locator:
        return self.page.locator("tbody tr", has_text=text)

    def press(self, name: str | re.Pattern[str], within: Locator | None = None) -> None:
        place = self.page if within is None else within
        place.get_by_role("button", name=name, exact=isinstance(name, str)).click()

    def confirm(self, says: str, name: str) -> None:
        """Answer a question, which says how much it is about."""
        dialog = self.page.get_by_role("dialog")
        expect(dialog).to_contain_text(says)
        self.press(name, dialog)

    def told(self, text: str) -> Locator:
        """Return a message that has come."""
        toast = self.page.locator(".toast", has_text=text)
        expect(toast).to_be_visible()
        return toast

    def undo(self, text: str) -> None:
        """Take back what a message tells."""
        self.press("Undo", self.told(text).first)


def sign_in(page: Page, token: str, url: str) -> None:
    """Open the page, and sign in by a token."""
    page.goto(url)
    page.fill("#token", token)
    page.press("#token", "Enter")
    expect(page.locator("#nav")).to_be_visible()


def complaints(faults: list[str]) -> list[str]:
    """Return the faults of a page but for the answers that it shows by itself: 404 and 422."""
    shown = re.compile(r"the server responded with a status of (404|422)")
    return [one for one in faults if not shown.search(one)]
