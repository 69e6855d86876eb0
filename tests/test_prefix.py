"""Everything under a prefix: the addresses, the links, the page, the command and the client."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
import pytest
from playwright.sync_api import Browser, Page, expect
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from services.email import MailLinks
from settings import Settings, load_settings
from tests.api import notified, serving
from tests.browsing import ask, expect_live, log_in, note_faults, status_of, submit
from tests.conftest import ROOT, ServerProcess, program, start_server, stop_server
from tests.forks import run
from tests.ports import free_port
from tests.waiting import until, wait_until
from tornado_rt_client import Client as PythonClient

pytestmark = pytest.mark.long

PREFIX = "/some/where"
HOOK = {"url": "https://hooks.example/"}
SCHEDULE = {"name": "hourly", "every": 3600, "kind": "analysis", "params": {"symbol": "AAPL"}}


@pytest.fixture(scope="module")
def prefixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server process with nothing but the setting."""
    folder = tmp_path_factory.mktemp("prefixed") / "data"
    server = start_server(
        folder, RT_PREFIX=PREFIX, RT_DEMO_LOGIN="true", RT_DRAIN_SECONDS="0", RT_STEP_SECONDS="0.01"
    )
    yield server
    stop_server(server)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh session."""
    with browser.new_context() as context:
        yield context.new_page()


def origin(server: ServerProcess) -> str:
    return server.url.removesuffix(PREFIX)


@pytest.mark.gen_test
async def test_every_link_leads_to_what_it_names(
    settings: Settings, redis: Any, database: Any, make_token: Any
) -> None:
    """Of tasks, batches, schedules, webhooks, and of the notification that a task's end makes."""
    own = settings.changed(prefix=PREFIX, worker_concurrency=1)
    async with serving(own, make_token("alice")) as inside:
        assert inside.url.endswith(PREFIX)
        alice = attrs.evolve(inside, url=inside.url.removesuffix(PREFIX))

        async def made(path: str, body: Any = None) -> list[str]:
            answer = await alice.post(PREFIX + path, body)
            assert answer.status in (201, 202), answer.body
            links = answer.body.get("links", {}).values()
            flat = [one for link in links for one in ([link] if isinstance(link, str) else link)]
            return [answer.headers["Location"], *flat]

        links = await made("/api/tasks", {"symbol": "AAPL"})
        links += await made("/api/batches", {"symbols": ["AAPL", "IBM"]})
        links += await made("/api/schedules", SCHEDULE)
        links += await made("/api/schedules/hourly/run")
        links += await made("/api/webhooks", HOOK)
        page = await until(lambda: notified(inside), what="a task has told its end")
        links.append(page["items"][0]["link"])
        assert len(links) == 18
        for link in links:
            assert link.startswith(f"{PREFIX}/"), link
            answer = await alice.get(link)
            # A WebSocket's asks to speak as one.
            assert answer.status == (426 if "/ws/" in link else 200), link
        assert (await alice.get("/api/tasks")).status == 404
        assert (await alice.get("/healthz")).status == 404


@pytest.mark.gen_test
async def test_page_that_turns_mail_off_is_found(
    settings: Settings, redis: Any, database: Any
) -> None:
    """By the link of a mail, and then by its own form and style."""
    own = settings.changed(prefix=PREFIX, email_secret="a secret of links, 32 bytes or more")
    async with serving(own, "") as nobody:
        host = attrs.evolve(nobody, url=nobody.url.removesuffix(PREFIX))
        links = MailLinks(nobody.url, own.email.email_secret)
        assert links.absolute("/orders/1") == f"{host.url}/orders/1"
        link = links.unsubscribe("alice")
        assert link.startswith(nobody.url)
        text = (await host.get(link.removeprefix(host.url))).body.decode()
        [style] = re.findall('href="(.*?)"', text)
        assert (await host.get(style)).status == 200
        [action] = re.findall('action="(.*?)"', text)
        assert parse_qs(urlsplit(action).query) == parse_qs(urlsplit(link).query)
        assert (await host.post(action)).status == 200


@pytest.mark.gen_test
async def test_prefix_without_a_slash_leads_to_the_page(
    settings: Settings, redis: Any, database: Any
) -> None:
    async with serving(settings.changed(prefix=PREFIX), "") as nobody:
        page = await nobody.get("?task=t1")
        assert page.status == 200
        assert b">tornado_rt</h1>" in page.body
        assert (await nobody.get("x")).status == 404


@pytest.mark.parametrize(
    ("written", "read"),
    [("", ""), ("/", ""), ("/rt", "/rt"), ("/rt/", "/rt"), ("/a/b~1", "/a/b~1")],
)
def test_prefix_is_a_path(written: str, read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RT_PREFIX", written)
    assert load_settings().server.prefix == read


@pytest.mark.parametrize(
    "written", ["rt", "/a//b", "/a b", "/%41", "/../a", "/.", "http://a/rt", "/ä"]
)
def test_what_is_no_prefix_is_refused(written: str) -> None:
    made = run(RT_PREFIX=written)
    assert made.returncode == 2
    assert made.stderr.startswith("run.py: prefix: write it as /rt")


def test_public_address_has_the_prefix() -> None:
    """Else the links of all mails would be wrong."""
    made = run(RT_PREFIX="/rt", RT_PUBLIC_URL="https://app.example")
    assert made.returncode == 2
    assert made.stderr == "run.py: public_url: must end with the prefix /rt\n"
    assert Settings(prefix="/rt", public_url="https://app.example/rt/").server.prefix == "/rt"


def test_command_and_client_take_the_address_with_the_prefix(prefixed: ServerProcess) -> None:
    """As does the curl line that a start prints."""
    own = {"RT_DATA_DIR": str(prefixed.data_dir), "RT_PREFIX": PREFIX}
    for url in ({"RT_URL": prefixed.url}, {"RT_PORT": str(urlsplit(prefixed.url).port)}):
        submitted = run("submit", "analysis", '{"symbol": "AAPL"}', "--user", "alice", **own, **url)
        task_id = submitted.stdout.strip()
        watched = run("watch", task_id, "--user", "alice", **own, **url)
        assert (watched.returncode, watched.stderr) == (0, ""), watched
        assert "completed" in watched.stdout
    token = run("token", "--user", "alice", **own).stdout.strip()
    with PythonClient(prefixed.url, token=token) as client:
        assert client.task(task_id).result()["symbol"] == "AAPL"
        assert client.submit("analysis", {"symbol": "IBM"}).result(timeout=60)["symbol"] == "IBM"
    said = re.sub(r"\x1b\[[0-9;]*m", "", prefixed.log.read_text())
    script = said[said.index("TOKEN=") : said.index("\n", said.index("curl -N"))]
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert "event: finished" in ended.stdout, script


def test_proxy_leaves_the_prefix_on(prefixed: ServerProcess, tmp_path: Path) -> None:
    """nginx as docs/embedding.md has it: requests, event streams, WebSockets and links."""
    text = (ROOT / "docs" / "embedding.md").read_text()
    [config] = re.findall(r"```nginx\n(.*?)```", text, re.DOTALL)
    port = free_port()
    for documented, ours in (
        ("127.0.0.1:8888", urlsplit(prefixed.url).netloc),
        ("listen 8880", f"listen 127.0.0.1:{port}"),
        ("/rt/", f"{PREFIX}/"),
    ):
        assert documented in config
        config = config.replace(documented, ours)
    (tmp_path / "logs").mkdir()
    (tmp_path / "nginx.conf").write_text(f"events {{}}\nhttp {{\n{config}\n}}\n")
    ours = f"daemon off; error_log stderr; pid {tmp_path}/nginx.pid;"
    command = [program("nginx"), "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    proxy = subprocess.Popen([*command, "-g", ours], stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}{PREFIX}"
    token = run("token", "--user", "alice", RT_DATA_DIR=str(prefixed.data_dir)).stdout.strip()
    try:
        wait_until(lambda: is_up(f"{url}/readyz"), 60, "nginx passes on")
        with PythonClient(url, token=token) as client:
            assert client.submit("analysis", {"symbol": "IBM"}).result(60)["symbol"] == "IBM"
        protocols = [Subprotocol("rt.v1"), Subprotocol(f"auth.{token}")]
        socket = f"{url.replace('http', 'ws')}/api/ws/notifications"
        with connect(socket, subprotocols=protocols, origin=Origin(url.removesuffix(PREFIX))) as ws:
            assert json.loads(ws.recv(60))["data"]["user_id"] == "alice"
        assert not is_up(f"{url}/metrics")
    finally:
        proxy.terminate()
        proxy.wait(30)


def test_page_works_under_the_prefix(prefixed: ServerProcess, page: Page) -> None:
    """From the demo login to the end, through a reload, and back."""
    faults: list[str] = []
    note_faults(page, prefixed, faults)
    page.goto(f"{origin(prefixed)}{PREFIX}")
    assert page.url == f"{prefixed.url}/"
    log_in(page, "alice")
    submit(page, "AAPL")
    expect(status_of(page)).to_have_text("completed")
    expect(page.locator("#curl-line")).to_contain_text(f"{prefixed.url}/api/tasks/")
    page.click("#bell")
    link = page.locator("#notifications li a").first
    expect(link).to_have_attribute("href", re.compile(f"^{PREFIX}/\\?task="))
    page.reload()
    expect(status_of(page)).to_have_text("completed")
    assert page.url.startswith(f"{prefixed.url}/?task=")
    log_in(page, "bob")
    assert page.url == f"{prefixed.url}/"
    assert faults == []


def test_service_worker_keeps_to_the_prefix(prefixed: ServerProcess, page: Page) -> None:
    """It serves the pages there, and asks the server there."""
    page.goto(f"{prefixed.url}/")
    made = "navigator.serviceWorker.register('sw.js').then(() => navigator.serviceWorker.ready)"
    assert page.evaluate(f"{made}.then((one) => one.scope)") == f"{prefixed.url}/"
    wait_until(lambda: page.evaluate("1") and page.context.service_workers)
    worker = page.context.service_workers[0]
    assert worker.evaluate("fetch(ICON).then((answer) => answer.status)") == 200
    assert worker.evaluate("pages().then((all) => all.map((one) => one.url))") == [
        f"{prefixed.url}/"
    ]
    assert worker.evaluate("SUBSCRIPTION") == f"{PREFIX}/push-subscription"


@attrs.frozen
class Example:
    """The application of `examples/embed.py`."""

    url: str
    process: "subprocess.Popen[bytes]"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    """It runs, and has ended well after the tests."""
    port = free_port()
    own = {name: value for name, value in os.environ.items() if not name.startswith("RT_")}
    own |= {"PORT": str(port), "RT_DATA_DIR": str(tmp_path_factory.mktemp("example") / "data")}
    log = tmp_path_factory.mktemp("example") / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "examples.embed"],
            cwd=ROOT,
            env=own | {"RT_STEP_SECONDS": "0.01", "RT_DRAIN_SECONDS": "0"},
            stderr=output,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(
            lambda: process.poll() is not None or is_up(f"{url}/rt/readyz"), 60, "it answers"
        )
        yield Example(url, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url) as answer:
            ready: bool = answer.status == 200
    except OSError:
        return False
    return ready


def test_example_signs_in_orders_and_shows_the_page(example: Example, page: Page) -> None:
    """The server knows the user by the cookie of the application, on its own page too."""
    faults: list[str] = []
    none: Any = None
    note_faults(page, ServerProcess(example.url, none, Path(), Path()), faults)
    page.goto(example.url)
    page.fill("[name=name]", "alice")
    page.click("button")
    page.click("#order")
    expect(page.locator("#state")).to_have_text("completed")
    expect(page.locator("#progress")).to_have_js_property("value", 100)
    expect(page.locator("#news")).to_have_text("Your order is under way")
    # A browser asks every site for it.
    faults[:] = [one for one in faults if "404" not in one]
    page.click("a")
    expect_live(page)
    expect(page.locator("#login-form")).to_be_hidden()
    expect(page.locator("#who")).to_have_attribute("title", "alice")
    submit(page, "AAPL")
    expect(status_of(page)).to_have_text("completed")
    expect(page.locator("#curl-line")).to_contain_text("Bearer $TOKEN")
    assert faults == []


def test_client_of_the_page_takes_the_prefix(example: Example, page: Page) -> None:
    """And the cookie of the application in place of a token."""
    page.goto(f"{example.url}/login")
    page.fill("[name=name]", "carol")
    page.click("button")
    page.goto(f"{example.url}/rt/")
    got = page.evaluate(
        """async () => {
          const { Client } = await import("/rt/static/rt-client.js");
          const client = new Client("/rt");
          const task = await client.submit("analysis", { symbol: "IBM" });
          const { symbol } = await task.result();
          client.close();
          return symbol;
        }"""
    )
    assert got == "IBM"


def test_example_by_curl(example: Example, tmp_path: Path) -> None:
    """A cookie is enough to look; a change says where it comes from."""
    jar = str(tmp_path / "cookies")

    def curl(*arguments: str) -> str:
        command = ["curl", "-sS", "-b", jar, "-c", jar, *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True
        ).stdout

    assert json.loads(curl(f"{example.url}/rt/api/tasks"))["status"] == 401
    curl("-d", "name=bob", f"{example.url}/login")
    task_id = json.loads(curl("-X", "POST", f"{example.url}/orders"))["task_id"]
    assert "event: finished" in curl("-N", f"{example.url}/rt/api/tasks/{task_id}")
    body = ("-d", '{"symbol": "AAPL"}', f"{example.url}/rt/api/tasks")
    assert json.loads(curl(*body))["status"] == 403
    links = json.loads(curl("-H", f"Origin: {example.url}", *body))["links"]
    assert "event: finished" in curl("-N", example.url + links["events"])


def test_what_is_not_under_the_prefix_is_not_there(prefixed: ServerProcess) -> None:
    token = run("token", "--user", "alice", RT_DATA_DIR=str(prefixed.data_dir)).stdout.strip()
    assert ask(prefixed, "GET", "/api/tasks", token)["items"] is not None
    outside = attrs.evolve(prefixed, url=origin(prefixed))
    for path in ("/", "/api/tasks", "/readyz", "/sw.js", "/static/js/app.js", f"{PREFIX}s/"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            ask(outside, "GET", path, token)
