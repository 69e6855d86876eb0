"""Bounds of the JavaScript client, and of pages of the past: on real sockets."""

import contextlib
import itertools
import json
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.browsing import ARGUMENTS, Relay, ask
from tests.conftest import SECRET, ServerProcess, program, start_server, stop_server
from tests.js_forms import BLANK, DRIVER, LOAD, SECONDS, Driven, NodeForm, page_form
from tests.waiting import wait_until

Token = Callable[..., str]
FORMS = ["node", "node-socket", "chromium"]
MOST_TOPICS = 3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server where few topics fit on a connection."""
    started = start_server(
        tmp_path_factory.mktemp("bounds") / "data",
        RT_JWT_SECRET=SECRET,
        RT_DRAIN_SECONDS="0",
        RT_MAX_TOPICS_PER_CONNECTION=str(MOST_TOPICS),
        RT_WORKER_CONCURRENCY="0",
    )
    yield started
    stop_server(started)


@pytest.fixture(params=FORMS)
def form(
    request: pytest.FixtureRequest, js_package: Path, server: ServerProcess
) -> Iterator[Driven]:
    """A place where the client runs."""
    if request.param == "chromium":
        with page_form(request.getfixturevalue("browser"), server.url) as page:
            yield page
        return
    made = NodeForm(js_package, sockets=request.param == "node-socket")
    yield made
    made.close()


@pytest.fixture
def token(request: pytest.FixtureRequest, make_token: Token) -> str:
    """A token of a user that no other test has."""
    return make_token(request.node.name, scope="rt:publish", topics=["room:*"])


def publish(server: ServerProcess, token: str, room: str, number: int) -> None:
    ask(server, "POST", "/api/publish", token, {"topic": room, "data": number})


def test_topics_that_do_not_fit_on_a_connection_are_refused(
    form: Driven, server: ServerProcess, token: str
) -> None:
    """Those that came first go on."""
    rooms = [f"room:{id(form)}.{number}" for number in range(MOST_TOPICS + 2)]
    form.open("a", server.url, token)
    for room in rooms[:MOST_TOPICS]:
        form.follow("a", room)
    form.wait_for("a", "online")
    for room in rooms[:MOST_TOPICS]:
        publish(server, token, room, 1)
        wait_until(lambda room=room: form.told("a", room), SECONDS)
    for room in rooms[MOST_TOPICS:]:
        form.follow("a", room)
        wait_until(lambda room=room: form.told("a", room, "error"), SECONDS)
        [[name, status, _]] = form.told("a", room, "error")
        assert (name, status) == ("ApiError", 409 if form.transport == "socket" else 400)
    for room in rooms[:MOST_TOPICS]:
        publish(server, token, room, 2)
        wait_until(lambda room=room: form.told("a", room)[-1], SECONDS, equal=2)
        assert not form.told("a", room, "error")


class Leading(Relay):
    """A relay that leads the client's socket to another address of the server."""

    address = b""
    sockets = 0

    async def _relay(self, reader: Any, writer: Any, first: bytes = b"") -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.sockets += b"GET /api/ws " in head
        head = head.replace(b"GET /api/ws ", b"GET %b " % self.address)
        await super()._relay(reader, writer, head)


@pytest.mark.parametrize("where", ["node-socket", "chromium"])
@pytest.mark.parametrize(
    ("address", "code"),
    [(b"/api/ws/worker", 4403), (b"/api/ws/tasks/none", 4404)],
    ids=["not allowed", "not there"],
)
def test_refusal_by_a_close_code_is_final(
    request: pytest.FixtureRequest,
    js_package: Path,
    server: ServerProcess,
    token: str,
    where: str,
    address: bytes,
    code: int,
) -> None:
    """The client is closed, says why, and does not come back by a stream neither."""
    relay = Leading(server.url)
    relay.address = address
    with contextlib.ExitStack() as stack:
        stack.callback(relay.close)
        form: Driven
        if where == "chromium":
            browser = request.getfixturevalue("browser")
            form = stack.enter_context(page_form(browser, relay.url))
        else:
            form = NodeForm(js_package, sockets=True)
            stack.callback(form.close)
        form.open("a", relay.url, token)
        form.follow("a", "me")
        wait_until(lambda: form.told("a", "me", "error"), SECONDS)
        assert form.told("a", "me", "error")[0][:2] == ["ConnectionClosed", code]
        assert form.status("a")["state"] == "closed"
        assert relay.sockets == 1
        assert form.states("a").count("connecting") == 1


@pytest.mark.parametrize("sockets", [True, False], ids=["socket", "stream"])
def test_address_of_nothing_is_told(
    js_package: Path, server: ServerProcess, token: str, sockets: bool
) -> None:
    """A WebSocket does not say why it was not opened; the stream after it does."""
    node = NodeForm(js_package, sockets=sockets)
    try:
        node.open("a", f"{server.url}/nowhere", token)
        node.follow("a", "me")
        wait_until(lambda: node.told("a", "me", "error"), SECONDS)
        assert node.told("a", "me", "error")[0][:2] == ["ApiError", 404]
    finally:
        node.close()


def open_connections(server: ServerProcess, token: str) -> int:
    """Return how many connections all users have."""
    found: int = ask(server, "GET", "/api/ws/stats", token)["total_connections"]
    return found


class Tab:
    """A tab of a Chromium of its own, by the DevTools protocol.

    Playwright turns the cache of pages for the way back off, and loses a page that comes out of it.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)

    def evaluate(self, source: str) -> Any:
        """Return the value of an expression."""
        options = {"expression": source, "awaitPromise": True, "returnByValue": True}
        return self._call("Runtime.evaluate", **options)["result"].get("value")

    def open(self, url: str) -> None:
        """Go to another page, and wait until it is there."""
        self._call("Page.navigate", url=url)
        there = "document.readyState === 'complete' && location.href"
        wait_until(lambda: self.evaluate(there), SECONDS, equal=url)

    def _call(self, method: str, **options: Any) -> Any:
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": options}))
        while (answer := json.loads(self._connection.recv(SECONDS))).get("id") != number:
            pass
        return answer["result"]


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    """A tab of Chromium as it is, with its cache of pages."""
    options = ["--headless=new", *ARGUMENTS, "--remote-debugging-port=0"]
    command = [program("chromium", "chromium-browser"), *options, f"--user-data-dir={tmp_path}"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([*command, "about:blank"], stdout=quiet, stderr=quiet)
    told = tmp_path / "DevToolsActivePort"
    try:
        wait_until(lambda: told.exists() and told.read_text().count("\n"), SECONDS)
        port = told.read_text().split()[0]

        def pages() -> list[str]:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
                found = json.load(answer)
            return [one["webSocketDebuggerUrl"] for one in found if one["type"] == "page"]

        address = wait_until(pages, SECONDS, "there is a page")[0]
        with connect(address, max_size=None) as connection:
            yield Tab(connection)
    finally:
        process.kill()
        process.wait()


def test_page_that_comes_out_of_the_cache_goes_on(
    tab: Tab, server: ServerProcess, token: str
) -> None:
    """By the way back: it held no connection meanwhile, and gets what it has missed, once."""
    tab.open(server.url + BLANK)
    tab.evaluate(f"({LOAD % DRIVER.read_text()})()")
    tab.evaluate(f"driver.open('a', {json.dumps(server.url)}, [{json.dumps(token)}]); 0")
    tab.evaluate("driver.follow('a', 'room:kept')")
    tab.evaluate("addEventListener('pageshow', (event) => (driver.cameBack = event.persisted))")
    state, told = "driver.clients.a.state", "driver.logs.a['room:kept'].map((one) => one[2])"
    wait_until(lambda: tab.evaluate(state), SECONDS, equal="online")
    publish(server, token, "room:kept", 1)
    wait_until(lambda: tab.evaluate(told), SECONDS, equal=[1])
    tab.open(f"{server.url}/static/rt-client.js")
    wait_until(lambda: open_connections(server, token), SECONDS, "it is closed", equal=0)
    publish(server, token, "room:kept", 2)
    tab.evaluate("history.back()")
    wait_until(lambda: tab.evaluate("globalThis.driver?.cameBack"), SECONDS, "it is kept")
    wait_until(lambda: tab.evaluate(told), SECONDS, equal=[1, 2])
    assert tab.evaluate(state) == "online"
