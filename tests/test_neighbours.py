"""The sites of `examples/` beside a server, in a browser: Django by its own server, and FastAPI."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from standardwebhooks import Webhook

from tests.conftest import ROOT, SECRET, ServerProcess, start_server, stop_server
from tests.ports import free_port
from tests.waiting import wait_until
from tornado_rt_client import Client

pytestmark = pytest.mark.long

PASSWORD = "wonderland"
USER = {"DJANGO_SUPERUSER_USERNAME": "alice", "DJANGO_SUPERUSER_PASSWORD": PASSWORD}


@attrs.frozen
class Site:
    """A site that runs, and the server beside it."""

    name: str
    url: str
    server: ServerProcess

    def client(self, user: str, *scopes: str) -> Client:
        return Client(self.server.url, secret=SECRET, user=user, scopes=scopes)

    def call_back(self, body: bytes, headers: dict[str, str]) -> int:
        """Post as the server does; return the status."""
        request = urllib.request.Request(f"{self.url}/hooks/tasks", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status: int = answer.status
        except urllib.error.HTTPError as error:
            return error.code
        return status


@pytest.fixture(scope="module", params=["django_site", "fastapi_app"])
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """Both processes, as the README of the site starts them."""
    folder, port = tmp_path_factory.mktemp(request.param), free_port()
    url = f"http://127.0.0.1:{port}"
    server = start_server(
        folder / "data",
        RT_JWT_SECRET=SECRET,
        RT_TRUSTED_ORIGINS=url,
        RT_CALLBACK_ALLOW_PRIVATE="true",
        RT_DELIVERY_RETRY_SCALE="0.02",
        RT_STEP_SECONDS="0.02",
        RT_DRAIN_SECONDS="0",
        RT_WORKER_GRACE_SECONDS="0.5",
    )
    started = {"django_site": start_django, "fastapi_app": start_fastapi}
    process = started[request.param](folder, port, server.url)
    try:
        wait_until(lambda: process.poll() is not None or answers(url), 60, "the site answers")
        assert process.poll() is None, (folder / "log").read_text()
        yield Site(request.param, url, server)
        # Not SIGINT: a shell in the background has its children ignore it.
        process.terminate()
        process.wait(30)
        assert "Traceback" not in (folder / "log").read_text()
    finally:
        process.kill()
        process.wait()
        stop_server(server)


def start_django(folder: Path, port: int, rt_url: str) -> "subprocess.Popen[bytes]":
    more = {"DATABASE": str(folder / "db.sqlite3"), **USER}
    start_site(["manage.py", "migrate", "-v0"], folder, rt_url, **more).wait(60)
    made = ["manage.py", "createsuperuser", "--noinput", "--email", "alice@site.example"]
    start_site(made, folder, rt_url, **more).wait(60)
    return start_site(["manage.py", "runserver", "--noreload", str(port)], folder, rt_url, **more)


def start_fastapi(folder: Path, port: int, rt_url: str) -> "subprocess.Popen[bytes]":
    return start_site(["-m", "uvicorn", "app:app", "--port", str(port)], folder, rt_url)


def start_site(
    arguments: list[str], folder: Path, rt_url: str, **more: str
) -> "subprocess.Popen[bytes]":
    own = {name: value for name, value in os.environ.items() if not name.startswith("RT_")}
    own |= {"RT_URL": rt_url, "RT_JWT_SECRET": SECRET, **more}
    name = "django_site" if "manage.py" in arguments else "fastapi_app"
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=ROOT / "examples" / name,
            env=own | {"PYTHONPATH": str(ROOT / "clients" / "python" / "src")},
            stdout=log,
            stderr=log,
        )


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=60).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@pytest.fixture
def page(browser: Browser, site: Site) -> Iterator[Page]:
    """The page of the site, for alice, who has signed in there."""
    credentials: Any = {"username": "alice", "password": PASSWORD}
    context: BrowserContext = browser.new_context(http_credentials=credentials)
    page = context.new_page()
    page.goto(site.url)
    if site.name == "django_site":
        page.fill("[name=username]", "alice")
        page.fill("[name=password]", PASSWORD)
        page.click("button")
    expect(page.locator("#form")).to_be_visible()
    yield page
    context.close()


def test_order_is_followed_to_its_end_and_told(site: Site, page: Page) -> None:
    """By the page at the server, by the callback to the site, and by a notification of the site."""
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.fill("#symbol", "MSFT")
    page.click("#form button")
    expect(page.locator("#message")).to_have_text("completed")
    expect(page.locator("#progress")).to_have_js_property("value", 100)
    expect(page.locator("#news")).to_contain_text("Your order of MSFT is completed")
    page.reload()
    expect(page.locator("#orders")).to_contain_text("MSFT: completed")
    with site.client("alice") as alice:
        [task] = [one for one in alice.tasks() if one.label == "Order of MSFT"]
        decision = alice.task(task.task_id).result()["decision"]
    expect(page.locator("#orders")).to_contain_text(f"MSFT: completed {decision}")
    assert faults == []


def test_order_that_is_refused_says_why(site: Site, page: Page) -> None:
    """In the words of the server."""
    page.fill("#symbol", "x" * 300)
    page.click("#form button")
    expect(page.locator("#error")).to_contain_text("symbol must have")
    expect(page.locator("#orders")).not_to_contain_text("xxx")


def test_only_what_the_server_signed_is_taken(site: Site, page: Page) -> None:
    """And told once, however often it comes."""
    page.fill("#symbol", "IBM")
    page.click("#form button")
    expect(page.locator("#news")).to_contain_text("Your order of IBM is completed")
    with site.client("alice") as alice, site.client("admin", "rt:admin") as admin:
        [task] = [one for one in alice.tasks() if one.label == "Order of IBM"]
        secret = admin.request("GET", "/api/webhooks/callback_secret")["secret"]
        told = {"event_id": "e1", "task_id": task.task_id, "status": "failed", "result": None}
        body = json.dumps(told)
        assert site.call_back(body.encode(), {}) == 400
        assert site.call_back(body.encode(), signed("whsec_" + "A" * 32, body)) == 400
        assert site.call_back(body.encode() + b" ", signed(secret, body)) == 400
        page.reload()
        expect(page.locator("#orders")).to_contain_text("IBM: completed")
        for _ in range(2):
            assert site.call_back(body.encode(), signed(secret, body)) == 204
        page.reload()
        expect(page.locator("#orders")).to_contain_text("IBM: failed")
        titles = [one.title for one in alice.inbox() if "IBM" in one.title]
        assert titles == ["Your order of IBM is failed", "Your order of IBM is completed"]


def signed(secret: str, body: str) -> dict[str, str]:
    """Return the headers of a callback."""
    now = datetime.now(UTC)
    return {
        "webhook-id": "e1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("e1", now, body),
        "Content-Type": "application/json",
    }
