"""The page for all: axe-core finds nothing serious, at two sizes, by light and by dark."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browsing import PHONE, ask, chromium, expect_live, status_of
from tests.conftest import ServerProcess
from tests.elements import submit

WIDE = {"width": 1280, "height": 900}
SERIOUS = {"serious", "critical"}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium of the system."""
    with chromium() as browser:
        yield browser


def serious_faults(page: Page) -> list[Any]:
    """Return the serious faults: the rule, and the elements."""
    # Wait until everything has faded in before measuring it.
    page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished))")
    found = Axe().run(page).response["violations"]
    return [
        (one["id"], [node["target"] for node in one["nodes"]])
        for one in found
        if one["impact"] in SERIOUS
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, WIDE], ids=["phone", "desktop"])
def test_page_has_no_serious_fault_of_accessibility(
    browser: Browser,
    client_server: ServerProcess,
    make_token: Callable[..., str],
    tmp_path: Path,
    scheme: Any,
    size: Any,
) -> None:
    """Signed out, empty, with a running task, a failed one, a batch, the inbox and the wire."""
    user = f"access-{scheme}-{size['width']}"
    token = make_token(user)
    context = browser.new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.goto(client_server.url)
    expect(page.locator("#token")).to_be_visible()
    assert serious_faults(page) == []
    page.fill("#token", token)
    page.click("#login")
    expect_live(page)
    expect(page.locator("#tasks-empty")).to_have_text("You have no tasks yet.")
    page.click("#submit-task")
    expect(page.locator("#param-symbol-error")).not_to_have_text("")
    assert serious_faults(page) == []
    gate = tmp_path / "gate"
    gate.touch()
    task = submit(client_server, token, "client.gated", params={"gate": str(gate)}, label="Film")
    page.goto(f"{client_server.url}/?task={task}")
    expect(status_of(page)).to_have_text("processing")
    assert serious_faults(page) == []
    body = {"kind": "client.fails", "items": [{"label": "one"}, {"label": "two"}]}
    batch = ask(client_server, "POST", "/api/batches", token, body)["batch_id"]
    page.goto(f"{client_server.url}/?batch={batch}")
    expect(page.locator("#view [part=task][data-status=failed]")).to_have_count(2)
    assert serious_faults(page) == []
    for severity in ("info", "success", "warning", "error"):
        note = {"user_id": user, "type": "alert", "title": severity, "severity": severity}
        ask(client_server, "POST", "/api/notifications", token, note)
    page.click("#bell")
    expect(page.locator("#notifications > li", has_text="info")).to_be_visible()
    page.get_by_role("button", name="Menu: error").click()
    assert serious_faults(page) == []
    page.click("#inbox-close")
    page.click("#wire-toggle")
    assert serious_faults(page) == []
    gate.unlink()
    context.close()
