"""The page for all: axe-core finds nothing serious, at two sizes, by light and by dark."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.browsing import PHONE, ask, expect_live, status_of
from tests.conftest import ServerProcess
from tests.elements import submit
from tests.languages import serious_faults

pytestmark = pytest.mark.long

WIDE = {"width": 1280, "height": 900}


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
    page.fill("#param-symbol", "")
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
