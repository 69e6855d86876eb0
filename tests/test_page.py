"""The page in a real browser, on a real server."""

import collections
import contextlib
import json
import re
import shlex
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
import pytest
from playwright.sync_api import Browser, Page, expect
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from tests.browsing import PHONE, Relay, ask, chromium, note_faults
from tests.conftest import SECRET, LoopThread, ServerProcess, start_server, stop_server
from tests.waiting import wait_until
from tornado_rt.protocol import comes_back


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium of the system."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def faults() -> list[str]:
    """Complaints of the page; a test that provokes one takes it out."""
    return []


@pytest.fixture
def page(browser: Browser, server_process: ServerProcess, faults: list[str]) -> Iterator[Page]:
    """A fresh session on the page; whatever it complains of fails the test."""
    with visit(browser, server_process, faults) as page:
        yield page


@contextlib.contextmanager
def visit(browser: Browser, server: ServerProcess, faults: list[str]) -> Iterator[Page]:
    context = browser.new_context()
    page = context.new_page()
    note_faults(page, server, faults)
    page.goto(server.url)
    yield page
    context.close()
    assert faults == []


@pytest.fixture
def slow_page(browser: Browser, tmp_path: Path, faults: list[str]) -> Iterator[Page]:
    """The page of a server whose tasks run until they are cancelled."""
    server = start_server(
        tmp_path / "data", RT_STEP_SECONDS="600", RT_DRAIN_SECONDS="0", RT_DEMO_LOGIN="true"
    )
    try:
        with visit(browser, server, faults) as page:
            yield page
    finally:
        stop_server(server)


def log_in(page: Page, user: str) -> None:
    page.select_option("#user", user)
    page.click("#login")
    expect(page.locator("#link-state")).to_have_text(f"{user}: connected")


def test_from_login_to_a_finished_task_and_its_notification(page: Page) -> None:
    """Both bars fill, the steps are ticked, the badge counts, the frames are shown."""
    log_in(page, "alice")
    page.fill("#symbol", "AAPL")
    page.click("#submit-task")
    expect(page.locator("#task-status")).to_have_text("completed")
    expect(page.locator("#task-progress")).to_have_js_property("value", 100)
    expect(page.locator("#sse-progress")).to_have_js_property("value", 100)
    expect(page.locator("#steps li[data-state=completed]")).to_have_count(19)
    expect(page.locator("#result")).to_contain_text('"decision"')
    expect(page.locator("#unseen-badge")).to_have_text("1")
    page.click("#bell")
    expect(page.locator("#unseen-badge")).to_be_hidden()
    expect(page.locator("#notifications li").first).to_contain_text("AAPL: analysis completed")
    expect(page.locator("#frames")).to_contain_text('"type":"finished"')
    expect(page.locator("#frames")).to_contain_text("event: finished")
    expect(page.locator("#curl-line")).to_have_text(
        re.compile(r"curl -N -H 'Authorization: Bearer \S+' 'http://\S+/api/tasks/\S+'")
    )
    page.click("#read-all")
    expect(page.locator("#inbox-count")).to_have_text("0 unread")
    expect(page.locator("#notifications li[data-status=unread]")).to_have_count(0)


def test_task_survives_a_reload(page: Page) -> None:
    """The page finds the user, the task and its result again."""
    log_in(page, "bob")
    page.fill("#symbol", "IBM")
    page.click("#submit-task")
    expect(page).to_have_url(re.compile(r"\?task="))
    page.reload()
    expect(page.locator("#link-state")).to_have_text("bob: connected")
    expect(page.locator("#task-name")).to_have_text("IBM")
    expect(page.locator("#task-status")).to_have_text("completed")
    expect(page.locator("#sse-progress")).to_have_js_property("value", 100)
    page.reload()
    expect(page.locator("#task-status")).to_have_text("completed")
    expect(page.locator("#result")).to_contain_text("IBM")


def test_running_task_shows_time_left_and_can_be_cancelled(slow_page: Page) -> None:
    page = slow_page
    log_in(page, "carol")
    page.click("#submit-task")
    expect(page.locator("#task [part=time]")).to_have_text(re.compile("left|now"))
    page.click("#cancel")
    expect(page.locator("#task-status")).to_have_text("cancelled")
    expect(page.locator("#task [part=time]")).to_have_text("")
    expect(page.locator("#cancel")).to_be_hidden()


def test_unknown_symbol_says_why_it_failed(page: Page) -> None:
    log_in(page, "carol")
    page.fill("#symbol", "ZZZ")
    page.click("#submit-task")
    expect(page.locator("#task-status")).to_have_text("failed")
    expect(page.locator("#result")).to_contain_text("known are AAPL")


def test_what_failed_can_be_run_again(page: Page) -> None:
    """The same task, watched anew; what completed offers it not."""
    log_in(page, "carol")
    page.fill("#symbol", "ZZZ")
    page.click("#submit-task")
    expect(page.locator("#task-status")).to_have_text("failed")
    task = page.url
    with page.expect_response(lambda answer: answer.url.endswith("/retry")) as answered:
        page.click("#retry")
    assert answered.value.status == 202
    expect(page.locator("#task-status")).to_have_text("failed")
    expect(page.locator("#retry")).to_be_visible()
    assert page.url == task
    page.fill("#symbol", "IBM")
    page.click("#submit-task")
    expect(page.locator("#task-status")).to_have_text("completed")
    expect(page.locator("#retry")).to_be_hidden()


def test_all_that_failed_is_run_again_at_once(page: Page) -> None:
    """The watched one is watched anew; where nothing failed there is nothing to ask for."""
    log_in(page, "bob")
    expect(page.locator("#retry-all")).to_be_hidden()
    page.fill("#symbol", "ZZZ, ZZZ")
    page.click("#submit-batch")
    expect(page.locator("#task-status")).to_have_text("failed")
    page.locator("#tasks button").first.click()
    expect(page.locator("#task-name")).to_have_text("ZZZ")
    with page.expect_response(lambda answer: answer.url.endswith("/api/tasks/retry")) as answered:
        page.click("#retry-all")
    assert answered.value.json() == {"retried": 2}
    expect(page.locator("#task-status")).to_have_text("failed")
    expect(page.locator("#retry-all")).to_be_visible()


def test_batch_is_watched(page: Page) -> None:
    log_in(page, "dave")
    page.fill("#symbol", "AAPL, IBM, ZZZ")
    page.click("#submit-batch")
    expect(page.locator("#task-status")).to_have_text("partial")
    expect(page.locator("#notifications li").first).to_contain_text("2 of 3 completed")
    expect(page.locator("#tasks li")).to_have_count(3)


def test_page_is_usable_by_keyboard(page: Page) -> None:
    """From the first Tab to a finished task without a mouse, the focus always visible."""
    page.locator("body").press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#user")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#submit-task")).to_be_enabled()
    page.locator("#login").focus()
    while not page.evaluate("document.activeElement.id === 'symbol'"):
        page.keyboard.press("Tab")
    page.keyboard.type("MSFT")
    page.keyboard.press("Enter")
    expect(page.locator("#task-status")).to_have_text("completed")


def test_page_fits_a_phone(page: Page) -> None:
    """No sideways scrolling, and targets that a thumb can hit."""
    page.set_viewport_size(PHONE)
    log_in(page, "alice")
    page.click("#submit-task")
    expect(page.locator("#task-progress")).to_be_in_viewport()
    expect(page.locator("#task-status")).to_have_text("completed")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for button in page.locator("button:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert box["height"] >= 44


def test_page_comes_back_after_its_connections_were_cut(
    page: Page, server_process: ServerProcess, faults: list[str]
) -> None:
    """Both transports resume by themselves, and nothing is missed or shown twice."""
    relay = Relay(server_process.url)
    page.goto(relay.url)
    log_in(page, "carol")
    page.click("#submit-task")
    expect(page.locator("#task [part=time]")).to_have_text(re.compile("left|now"))
    relay.cut()
    expect(page.locator("#link-state")).to_have_text("carol: connected")
    expect(page.locator("#task-status")).to_have_text("completed")
    expect(page.locator("#sse-progress")).to_have_js_property("value", 100)
    expect(page.locator("#frames")).to_contain_text("closed with 1006")
    expect(page.locator("#frames")).to_contain_text('"recovered":true')
    expect(page.locator("#task-link")).to_be_hidden()
    completed = page.locator("#notifications li", has_text="AAPL: analysis completed")
    expect(completed).to_have_count(1)
    page.goto("about:blank")
    relay.close()
    # The browser itself reports lost connections, and the relay is another origin.
    faults.clear()


def test_unknown_task_says_why_and_is_not_asked_for_again(
    page: Page, server_process: ServerProcess, faults: list[str]
) -> None:
    log_in(page, "bob")
    page.goto(server_process.url + "/?task=nobody")
    expect(page.locator("#task-link")).to_have_text("closed: no such task")
    expect(page.locator("#sse-link")).to_have_text("closed: there is no task nobody")
    expect(page.locator("#cancel")).to_be_hidden()
    # The browser reports each 404.
    faults[:] = [fault for fault in faults if "404" not in fault]


@pytest.mark.parametrize("id_", ["../notifications/1", "$(id)", "a'b", "x" * 65])
def test_link_that_names_no_task_is_not_followed(
    page: Page, server_process: ServerProcess, id_: str
) -> None:
    """Content of a stranger's link gets neither into an address nor into the curl line."""
    log_in(page, "bob")
    page.goto(f"{server_process.url}/?task={quote(id_, safe='')}")
    expect(page.locator("#submit-error")).to_have_text("The link names no task")
    expect(page.locator("#task")).to_be_hidden()
    assert page.text_content("#curl-line") == ""


def test_link_to_a_task_outlives_the_login(page: Page, server_process: ServerProcess) -> None:
    """A user who opens a link and logs in sees its task; the next user does not."""
    log_in(page, "alice")
    page.fill("#symbol", "GOOG")
    page.click("#submit-task")
    expect(page).to_have_url(re.compile(r"\?task="))
    link = page.url
    page.evaluate("sessionStorage.clear()")
    page.goto(link)
    expect(page.locator("#submit-task")).to_be_disabled()
    log_in(page, "alice")
    expect(page.locator("#task-name")).to_have_text("GOOG")
    expect(page.locator("#task-status")).to_have_text("completed")
    log_in(page, "bob")
    expect(page.locator("#task")).to_be_hidden()
    expect(page).to_have_url(server_process.url + "/")


def test_copied_curl_line_shows_the_same_events(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    log_in(page, "bob")
    page.click("#submit-task")
    page.click("#copy-curl")
    expect(page.locator("#copied")).to_have_text("copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.inner_text("#curl-line")
    curl, no_buffer, header_option, header, url = shlex.split(copied)
    assert (curl, no_buffer, header_option) == ("curl", "-N", "-H")
    request = urllib.request.Request(url, headers=dict([header.split(": ", 1)]))
    with urllib.request.urlopen(request, timeout=20) as stream:
        events = stream.read().decode()
    assert "event: connected" in events
    assert "event: finished" in events


def test_what_one_tab_reads_is_read_in_the_other(page: Page) -> None:
    log_in(page, "dave")
    page.click("#submit-task")
    expect(page.locator("#task-status")).to_have_text("completed")
    expect(page.locator("#unseen-badge")).to_be_visible()
    other = page.context.new_page()
    other.goto(page.url)
    log_in(other, "dave")
    page.click("#bell")
    other.click("#bell")
    expect(other.locator("#notifications li[data-status=unread]").first).to_be_visible()
    page.click("#read-all")
    expect(other.locator("#inbox-count")).to_have_text("0 unread")
    expect(other.locator("#notifications li[data-status=unread]")).to_have_count(0)


def test_several_symbols_are_no_task(page: Page) -> None:
    """Rather than to drop all but the first in silence."""
    log_in(page, "carol")
    page.fill("#symbol", "AAPL, IBM")
    page.click("#submit-task")
    expect(page.locator("#submit-error")).to_contain_text("submit several as a batch")
    expect(page.locator("#task")).to_be_hidden()


def test_silent_connection_is_taken_for_dead(page: Page, server_process: ServerProcess) -> None:
    """No heartbeat for two and a half intervals: the page comes back by itself."""
    page.clock.install()
    page.goto(server_process.url)
    log_in(page, "bob")
    page.clock.fast_forward(60_000)
    expect(page.locator("#frames")).not_to_contain_text("silent for too long")
    page.clock.fast_forward(20_000)
    expect(page.locator("#frames")).to_contain_text("silent for too long")
    expect(page.locator("#frames")).to_contain_text('"recovered":true')
    expect(page.locator("#link-state")).to_have_text("bob: connected")


class Closing(WebSocketHandler):
    """Closes with the code in its path; `4000` after `connected` with a table of its own."""

    def initialize(self, counts: collections.Counter[int]) -> None:
        self.counts = counts

    def check_origin(self, _: str) -> bool:
        return True

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        return subprotocols[0]

    async def open(self, *path: str, **_: str) -> None:
        code = int(path[0])
        self.counts[code] += 1
        if code == OVERRULED:
            data = {"heartbeat_interval": 0, "reconnect": {str(code): False}}
            await self.write_message({"type": "connected", "data": data, "id": "e-1"})
        if code == 1006:
            assert self.ws_connection is not None
            self.ws_connection.stream.close()
        elif code == 1005:
            self.close()
        else:
            self.close(code, "why")


OVERRULED = 4000
SENT = [1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014]
SENT += [3000, 3999, 4001, 4399, *range(4400, 4411), 4429, 4499, 4500, 4508, 4510, 4599, 4600]

FOLLOW_CODES = """async ([url, codes]) => {
    const { RealtimeSocket } = await import("/static/js/socket.js");
    window.ended = {};
    const nothing = () => {};
    for (const code of codes) {
        const state = (text, why) => { if (why) window.ended[code] = why; };
        new RealtimeSocket(`${url}/${code}`, () => "t", { message: nothing, raw: nothing, state });
    }
}"""


def test_page_comes_back_after_the_codes_of_the_protocol(
    browser: Browser, server_process: ServerProcess
) -> None:
    """Each code on the wire, and each number by the page's table."""
    counts: collections.Counter[int] = collections.Counter()
    thread = LoopThread()
    sockets = bind_sockets(0, "127.0.0.1")
    application = Application([(r"/(\d+)", Closing, {"counts": counts})])

    async def listen() -> HTTPServer:
        server = HTTPServer(application)
        server.add_sockets(sockets)
        return server

    server = thread.run(listen())
    context = browser.new_context(bypass_csp=True)
    page = context.new_page()
    page.goto(server_process.url)
    url = f"ws://127.0.0.1:{sockets[0].getsockname()[1]}"
    page.evaluate(FOLLOW_CODES, [url, [*SENT, OVERRULED]])
    final = {code for code in SENT if not comes_back(code)} | {OVERRULED}
    back = set(SENT) - final
    wait_until(lambda: all(counts[code] >= 2 for code in back), what="all have come back")
    ended = page.evaluate("window.ended")
    assert ended == {str(code): code for code in final}
    assert {code: counts[code] for code in final} == dict.fromkeys(final, 1)
    found = page.evaluate("""async () => {
        const { comesBack } = await import("/static/js/close-codes.js");
        return Array.from({ length: 4000 }, (_, i) => comesBack(1000 + i));
    }""")
    assert found == [comes_back(code) for code in range(1000, 5000)]
    context.close()
    thread.run(_stop(server))
    thread.close()


async def _stop(server: HTTPServer) -> None:
    server.stop()
    await server.close_all_connections()


@pytest.fixture(scope="module")
def known_secret(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose tokens the test can make."""
    folder = tmp_path_factory.mktemp("known")
    server = start_server(folder / "data", RT_JWT_SECRET=SECRET, RT_DRAIN_SECONDS="0")
    yield server
    if server.process.poll() is None:
        stop_server(server)


@attrs.frozen
class Source:
    """A plain EventSource in a browser, and all that it dispatches: [name, readyState, data]."""

    page: Page

    @property
    def events(self) -> list[tuple[str, int, dict[str, Any] | None]]:
        found = self.page.evaluate("window.events")
        return [
            (name, state, json.loads(data) if data else None)
            for name, state, data in found
            if name != "heartbeat"
        ]

    @property
    def names(self) -> list[tuple[str, int]]:
        return [(name, state) for name, state, _ in self.events]

    def wait_for(self, *names: tuple[str, int]) -> None:
        """Wait until it ends with these."""
        wait_until(lambda: tuple(self.names[-len(names) :]), what=str(names), equal=names)


OPEN_SOURCE = """(url) => {
    window.events = [];
    const source = new EventSource(url);
    for (const name of ["connected", "progress", "finished", "problem", "error"]) {
        source.addEventListener(name, (event) =>
            window.events.push([name, source.readyState, event.data ?? ""]));
    }
}"""
SIGN_IN = """async (token) => {
    const headers = {Authorization: `Bearer ${token}`};
    const answer = await fetch("/api/auth/session", {method: "POST", headers});
    if (!answer.ok || document.cookie) throw new Error(answer.status + document.cookie);
}"""
CONNECTING, OPEN, CLOSED = 0, 1, 2


@pytest.fixture
def open_source(
    browser: Browser, known_secret: ServerProcess, make_token: Callable[..., str]
) -> Iterator[Callable[..., Source]]:
    """A factory of plain EventSources of alice; `ttl` [s] is what is left of her token then.

    `credential` is what the address has in place of the token; "": a cookie.
    """
    context = browser.new_context()

    def open_(
        path: str,
        ttl: float = 3600,
        url: str = known_secret.url,
        credential: str | None = None,
    ) -> Source:
        page = context.new_page()
        page.goto(url)
        token = make_token("alice", ttl=ttl)
        if credential == "":
            page.evaluate(SIGN_IN, token)
        shown = f"token={token}" if credential is None else credential
        page.evaluate(OPEN_SOURCE, f"{url}{path}{'&' if '?' in path else '?'}{shown}")
        return Source(page)

    yield open_
    context.close()


def test_event_source_tells_our_error_from_a_lost_connection(
    known_secret: ServerProcess,
    open_source: Callable[..., Source],
    make_token: Callable[..., str],
) -> None:
    """A token that expires: told while the stream is open; then 401, which ends it for good."""
    task = {"symbol": "AAPL", "delay": 3600}
    task_id = ask(known_secret, "POST", "/api/tasks", make_token("alice"), task)["task_id"]
    source = open_source(f"/api/tasks/{task_id}", ttl=4)
    source.wait_for(("error", CLOSED))
    assert source.names == [
        ("connected", OPEN),
        ("progress", OPEN),
        ("problem", OPEN),
        ("error", CONNECTING),
        ("error", CLOSED),
    ]
    [problem] = [data for name, _, data in source.events if name == "problem"]
    assert problem is not None
    assert problem["code"] == "token_expired"
    assert [data for name, _, data in source.events if name == "error"] == [None, None]


def test_event_source_comes_back_when_it_was_cut_off_and_when_it_was_idle(
    known_secret: ServerProcess,
    open_source: Callable[..., Source],
    make_token: Callable[..., str],
) -> None:
    """The first is an error without a message of ours; the second comes after one."""
    task = {"symbol": "AAPL", "delay": 3600}
    task_id = ask(known_secret, "POST", "/api/tasks", make_token("alice"), task)["task_id"]
    relay = Relay(known_secret.url)
    source = open_source(f"/api/tasks/{task_id}", url=relay.url)
    source.wait_for(("progress", OPEN))
    relay.cut()
    begun = [("connected", OPEN), ("progress", OPEN)]
    back = [("error", CONNECTING), ("connected", OPEN)]
    source.wait_for(*begun, *back)
    admin = make_token("root", scope="rt:admin")
    ask(known_secret, "PUT", "/api/settings", admin, {"sse_task_max_idle_seconds": 0.2})
    wait_until(lambda: ("problem", OPEN) in source.names, what="the end for want of news")
    ask(known_secret, "PUT", "/api/settings", admin, {"sse_task_max_idle_seconds": 0})
    expected = [*begun, *back, ("problem", OPEN), *back]
    wait_until(lambda: len(source.names) >= len(expected), what="the return")
    assert source.names[: len(expected)] == expected
    connected = [data for name, _, data in source.events if name == "connected" and data]
    assert [data["recovered"] for data in connected[:3]] == [False, True, True]
    source.page.goto("about:blank")
    relay.close()


@pytest.mark.parametrize("by", ["ticket", "cookie"])
def test_event_source_of_many_topics_survives_cuts(
    known_secret: ServerProcess,
    open_source: Callable[..., Source],
    make_token: Callable[..., str],
    by: str,
) -> None:
    """By the ticket in its address, or by the cookie of a page: each time it resumes all topics."""
    alice = make_token("alice")
    tasks = [
        ask(known_secret, "POST", "/api/tasks", alice, {"symbol": "AAPL", "delay": 3600})["task_id"]
        for _ in range(2)
    ]
    ticket = ask(known_secret, "POST", "/api/auth/ticket", alice)["ticket"]
    relay = Relay(known_secret.url)
    path = f"/api/stream?topics=task:{tasks[0]},task:{tasks[1]}"
    credential = f"ticket={ticket}" if by == "ticket" else ""
    source = open_source(path, url=relay.url, credential=credential)
    begun = [("connected", OPEN), ("progress", OPEN), ("progress", OPEN)]
    source.wait_for(*begun)
    back = [("error", CONNECTING), ("connected", OPEN)]
    for count in range(1, 4):
        relay.cut()
        source.wait_for(*begun, *back * count)
    relay.is_away = True
    relay.cut()
    source.wait_for(("error", CONNECTING))
    for task in tasks:
        ask(known_secret, "DELETE", f"/api/tasks/{task}", alice)
    relay.is_away = False
    # Both ends come, and then it is stopped.
    source.wait_for(("finished", OPEN), ("error", CONNECTING), ("error", CLOSED))
    ended = [data for name, _, data in source.events if name == "finished" and data]
    assert sorted(one["topic"] for one in ended) == sorted(f"task:{one}" for one in tasks)
    source.page.goto("about:blank")
    relay.close()


def test_event_source_is_stopped_by_the_end(
    known_secret: ServerProcess,
    open_source: Callable[..., Source],
    make_token: Callable[..., str],
) -> None:
    """It comes back once with the id of `finished`, and the answer 204 is the last."""
    task = {"symbol": "AAPL"}
    task_id = ask(known_secret, "POST", "/api/tasks", make_token("alice"), task)["task_id"]
    source = open_source(f"/api/tasks/{task_id}")
    source.wait_for(("finished", OPEN), ("error", CONNECTING), ("error", CLOSED))
    assert [name for name, _ in source.names].count("finished") == 1
    assert "problem" not in [name for name, _ in source.names]


def test_event_source_is_told_that_the_server_goes_away(
    known_secret: ServerProcess, open_source: Callable[..., Source]
) -> None:
    """And goes on to come back. The last test of this server."""
    source = open_source("/api/notifications/stream")
    source.wait_for(("connected", OPEN))
    stop_server(known_secret)
    wait_until(lambda: len(source.names) >= 3, what="the end of the stream")
    assert source.names[1:3] == [("problem", OPEN), ("error", CONNECTING)]
    problem = source.events[1][2]
    assert problem is not None
    assert problem["code"] == "going_away"


def test_protocol_module_is_cached_as_the_other_assets(server_process: ServerProcess) -> None:
    path = server_process.url + "/static/js/protocol.js"
    with urllib.request.urlopen(path) as first:
        assert first.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert first.headers["Cache-Control"] == "no-cache"
        etag = first.headers["ETag"]
        assert b'ERROR_EVENT = "problem"' in first.read()
    again = urllib.request.Request(path, headers={"If-None-Match": etag})
    with pytest.raises(urllib.error.HTTPError, match="304"):
        urllib.request.urlopen(again)
    with urllib.request.urlopen(urllib.request.Request(path, method="HEAD")) as head:
        assert head.headers["ETag"] == etag
