"""Tabs of one user share one connection; the tab that has it may close, freeze or hang."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext

from tests.browsing import Relay, ask
from tests.conftest import ServerProcess
from tests.js_forms import SECONDS, PageForm
from tests.waiting import wait_until

pytestmark = pytest.mark.long

Token = Callable[..., str]
TABS = 10


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context()
    yield opened
    opened.close()


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    """A user that no other test has."""
    return str(request.node.name)


@pytest.fixture
def token(make_token: Token, user: str) -> str:
    return make_token(user, scope="rt:publish", topics=["room:*"])


@pytest.fixture
def admin(make_token: Token) -> str:
    return make_token("root", scope="rt:admin")


def connections(server: ServerProcess, admin: str, user: str) -> int:
    """Return how many connections a user has."""
    found: dict[str, int] = ask(server, "GET", "/api/ws/stats", admin)["users"]
    return found.get(user, 0)


def publish(server: ServerProcess, token: str, topic: str, data: Any) -> None:
    ask(server, "POST", "/api/publish", token, {"topic": topic, "data": data})


def open_tabs(
    context: BrowserContext, url: str, token: str, count: int, topic: str
) -> list[PageForm]:
    """Open tabs, each with a client that follows a topic."""
    tabs = [PageForm(context, url) for _ in range(count)]
    for tab in tabs:
        tab.open("a", url, token)
        tab.follow("a", topic, "me")
    for tab in tabs:
        tab.wait_for("a", "online")
    return tabs


def all_told(tabs: list[PageForm], topic: str, expected: list[Any]) -> None:
    for tab in tabs:
        wait_until(lambda tab=tab: tab.told("a", topic), SECONDS, equal=expected)
        assert not tab.told("a", topic, "resync")


def leader_of(tabs: list[PageForm]) -> PageForm:
    """Return the tab that has the connection."""
    held = "return (await navigator.locks.query()).held.map(one => [one.name, one.clientId])"
    [client_id] = [id_ for name, id_ in tabs[0].run(held) if name.endswith("]")]
    own = (
        "const name = 'me ' + Math.random(); return await navigator.locks.request(name, async () =>"
        " (await navigator.locks.query()).held.find(one => one.name === name).clientId)"
    )
    [leader] = [tab for tab in tabs if tab.run(own) == client_id]
    return leader


def test_ten_tabs_have_one_socket(
    context: BrowserContext, client_server: ServerProcess, token: str, admin: str, user: str
) -> None:
    """Each gets what it follows once; one that comes later begins with the last message."""
    url, room = client_server.url, f"room:{user}"
    tabs = open_tabs(context, url, token, TABS, room)
    assert connections(client_server, admin, user) == 1
    for number in range(3):
        publish(client_server, token, room, number)
    all_told(tabs, room, [0, 1, 2])
    body = {"user_id": user, "type": "alert", "title": "news"}
    ask(client_server, "POST", "/api/notifications", token, body)
    for tab in tabs:
        wait_until(lambda tab=tab: tab.told("a", "me", "notification"), SECONDS, equal=["news"])
    tabs[3].follow("a", f"{room}.own", "hall:1")
    wait_until(lambda: tabs[3].log("a", "hall:1"), SECONDS)
    assert tabs[3].log("a", "hall:1")[0][2][:2] == ["ApiError", 403]
    publish(client_server, token, f"{room}.own", "own")
    wait_until(lambda: tabs[3].told("a", f"{room}.own"), SECONDS, equal=["own"])
    assert tabs[4].log("a", f"{room}.own") == []
    result = tabs[5].run(
        "const task = await driver.clients.a.submit('client.echo', {value: 7});"
        "return task.result({timeout: 60})"
    )
    assert result == 7
    late = open_tabs(context, url, token, 1, room)
    all_told(late, room, [2])
    assert connections(client_server, admin, user) == 1


def test_tab_that_has_the_socket_closes(
    context: BrowserContext, client_server: ServerProcess, token: str, admin: str, user: str
) -> None:
    """Again and again: another one goes on, and nobody misses or doubles anything."""
    room = f"room:{user}"
    tabs = open_tabs(context, client_server.url, token, 5, room)
    sent = []

    def send() -> None:
        sent.append(len(sent))
        publish(client_server, token, room, sent[-1])

    send()
    all_told(tabs, room, sent)
    while len(tabs) > 1:
        leader = leader_of(tabs)
        tabs.remove(leader)
        send()
        leader.page.close()
        send()
        send()
        all_told(tabs, room, sent)
        wait_until(lambda: connections(client_server, admin, user), SECONDS, equal=1)


def test_tab_that_has_the_socket_freezes(
    context: BrowserContext, client_server: ServerProcess, token: str, admin: str, user: str
) -> None:
    """It gets what it has missed when it goes on, from the tab that has the socket by then."""
    room = f"room:{user}"
    tabs = open_tabs(context, client_server.url, token, 3, room)
    leader = leader_of(tabs)
    others = [tab for tab in tabs if tab is not leader]
    publish(client_server, token, room, 0)
    all_told(tabs, room, [0])
    leader.run("document.dispatchEvent(new Event('freeze'))")
    publish(client_server, token, room, 1)
    all_told(others, room, [0, 1])
    assert leader.told("a", room) == [0]
    assert leader.status("a")["state"] == "offline"
    leader.run("document.dispatchEvent(new Event('resume'))")
    all_told(tabs, room, [0, 1])
    wait_until(lambda: connections(client_server, admin, user), SECONDS, equal=1)


def test_tab_that_has_the_socket_hangs(
    context: BrowserContext, client_server: ServerProcess, token: str, admin: str, user: str
) -> None:
    """Its script never comes back for a while: the socket is taken away from it."""
    room = f"room:{user}"
    tabs = open_tabs(context, client_server.url, token, 2, room)
    leader = leader_of(tabs)
    [other] = [tab for tab in tabs if tab is not leader]
    publish(client_server, token, room, 0)
    all_told(tabs, room, [0])
    other.page.bring_to_front()
    hang = "driver.hang = () => { const end = Date.now() + 11000; while (Date.now() < end); }"
    leader.run(f"{hang}; setTimeout(driver.hang, 0)")
    publish(client_server, token, room, 1)
    wait_until(lambda: other.told("a", room), 10, "the other tab leads", equal=[0, 1])
    all_told([leader], room, [0, 1])
    wait_until(lambda: connections(client_server, admin, user), SECONDS, equal=1)


def test_other_users_and_rights_have_sockets_of_their_own(
    context: BrowserContext, client_server: ServerProcess, make_token: Token, admin: str, user: str
) -> None:
    """Nothing of one comes to the other."""
    room = f"room:{user}"
    tabs = []
    for name, topics in ((user, ["room:*"]), (f"{user}2", ["room:*"]), (user, ["hall:*"])):
        [tab] = open_tabs(context, client_server.url, make_token(name, topics=topics), 1, room)
        tabs.append(tab)
    publish(client_server, make_token("x", scope="rt:publish"), room, 1)
    all_told(tabs[:2], room, [1])
    assert tabs[2].log("a", room)[0][2][:2] == ["ApiError", 403]
    assert connections(client_server, admin, user) == 2
    assert connections(client_server, admin, f"{user}2") == 1


def test_expired_token_of_one_tab_does_not_close_the_others(
    context: BrowserContext, client_server: ServerProcess, make_token: Token, user: str
) -> None:
    """The next one leads by its own token, which is still good."""
    rights = {"scope": "rt:publish", "topics": ["room:*"]}
    short, long = make_token(user, ttl=8, **rights), make_token(user, **rights)
    room = f"room:{user}"
    source = (
        "const client = driver.clients.a = new driver.Client(args[0], {token: args[1]});"
        "driver.logs.a = {}; driver.states.a = [];"
        "client.addEventListener('state', e => driver.states.a.push([e.detail.state]))"
    )
    tabs = []
    for token in (short, long):
        tab = PageForm(context, client_server.url)
        tab.run(source, client_server.url, token)
        tab.follow("a", room)
        tab.wait_for("a", "online")
        tabs.append(tab)
    tabs[0].wait_for("a", "closed")
    assert tabs[0].log("a", room)[-1][2][:2] == ["ConnectionClosed", 4401]
    publish(client_server, long, room, 1)
    all_told(tabs[1:], room, [1])
    assert tabs[1].status("a")["state"] == "online"


def test_tabs_come_through_cuts_together(
    context: BrowserContext, client_server: ServerProcess, token: str, user: str
) -> None:
    """Of the one socket; each tab has all, once, and knows where the connection stands."""
    relay = Relay(client_server.url)
    room = f"room:{user}"
    try:
        tabs = open_tabs(context, relay.url, token, 3, room)
        for number in range(10):
            publish(client_server, token, room, number)
            relay.cut()
        all_told(tabs, room, [*range(10)])
        relay.is_away = True
        relay.cut()
        for tab in tabs:
            wait_until(
                lambda tab=tab: tab.status("a")["state"] in ("offline", "connecting"), SECONDS
            )
        relay.is_away = False
        for tab in tabs:
            tab.wait_for("a", "online")
    finally:
        relay.close()
