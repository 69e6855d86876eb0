"""The page in headless Chromium."""

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from tests.conftest import ServerProcess, program

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
PHONE: ViewportSize = {"width": 390, "height": 667}


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Headless Chromium of the system."""
    path = program("chromium", "chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


def note_faults(page: Page, server: ServerProcess, faults: list[str]) -> None:
    """Note what a page complains of, and what it asks of others than the server."""
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
    page.on("request", lambda r: None if _is_own(r.url, server) else faults.append(r.url))


def _is_own(url: str, server: ServerProcess) -> bool:
    return url.startswith((server.url, server.url.replace("http", "ws")))


def ask(server: ServerProcess, method: str, path: str, token: str, body: Any = None) -> Any:
    """Ask the server; return its JSON. Raise HTTPError."""
    request = urllib.request.Request(
        server.url + path,
        data=None if body is None else json.dumps(body).encode(),
        method=method,
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read() or b"null")
