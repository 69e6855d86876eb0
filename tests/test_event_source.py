"""A plain EventSource in a real browser: how it survives cuts, ends, and tokens that expire."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest
from playwright.sync_api import Browser, Page

from tests.browsing import Relay, ask
from tests.conftest import SECRET, ServerProcess, start_server, stop_server
from tests.waiting import wait_until

pytestmark = pytest.mark.long


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
    """A factory of plain EventSources of alice; `ttl` [s] is the rest of the token's life then.

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
