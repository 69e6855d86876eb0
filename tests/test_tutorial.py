"""docs/tutorial.md, followed by a script from an empty folder, and in a browser."""

import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browsing import chromium
from tests.conftest import ROOT
from tests.walks import Walk

pytestmark = pytest.mark.long

# From `make run` to a task of one's own kind that has ended [s].
AT_MOST = 180


def test_tutorial_ends_with_ones_own_kind_live_in_ones_own_page(tmp_path: Path) -> None:
    walk = Walk(ROOT / "docs/tutorial.md", tmp_path, is_new=True)
    try:
        began = time.monotonic()
        walk.follow(until="--user alice --watch")
        assert time.monotonic() - began < AT_MOST
        assert "20 pages of May" in walk.printed[-1]
        walk.follow()
        assert walk.printed[-1] == "refused, as it should be\n"
        with chromium() as browser:
            page = browser.new_page()
            faults: list[str] = []
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.goto(f"http://127.0.0.1:{walk.ports['8000']}/")
            page.get_by_role("button", name="Build the report of June").click()
            task = page.locator("rt-task")
            expect(task.locator("[part=title]")).to_have_text("Report of June")
            expect(task.locator("[part=status]")).to_have_text("completed")
            expect(page.locator("rt-inbox")).to_contain_text("20 pages of June")
            assert faults == []
    finally:
        walk.close()
