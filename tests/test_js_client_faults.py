"""The JavaScript client through cuts, restarts and refusals: nothing missed, nothing doubled."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.browsing import Relay, ask
from tests.client_forms import FaultyPeer, http_answer
from tests.conftest import SECRET, ServerProcess, start_server, stop_server
from tests.js_forms import (
    SECONDS,
    Driven,
    NodeForm,
    PageForm,
    RefusingRelay,
    page_form,
)
from tests.ports import free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.long

Token = Callable[..., str]
CUTS = 30
ROOMS = [f"room:{number}" for number in range(4)]
FORMS = ["node", "node-socket", "chromium"]


@pytest.fixture
def node(js_package: Path) -> Iterator[NodeForm]:
    """Node with WebSockets."""
    made = NodeForm(js_package, sockets=True)
    yield made
    made.close()


@pytest.fixture
def relay(client_server: ServerProcess) -> Iterator[Relay]:
    """A way to the server that can be cut."""
    made = Relay(client_server.url)
    yield made
    made.close()


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest, js_package: Path, relay: Relay) -> Iterator[Driven]:
    """A place where the client runs, behind the relay."""
    if request.param == "chromium":
        with page_form(request.getfixturevalue("browser"), relay.url) as page:
            yield page
        return
    made = NodeForm(js_package, sockets=request.param == "node-socket")
    yield made
    made.close()


@pytest.fixture
def user(request: pytest.FixtureRequest) -> str:
    """A user that no other test has."""
    return str(request.node.name)


@pytest.fixture
def token(make_token: Token, user: str) -> str:
    """A token of this user, who may publish in rooms and follow them."""
    return make_token(user, scope="rt:publish", topics=["room:*"])


def publish(server: ServerProcess, token: str, topic: str, data: Any) -> None:
    ask(server, "POST", "/api/publish", token, {"topic": topic, "data": data})


def notify(server: ServerProcess, token: str, user: str, title: str) -> None:
    body = {"user_id": user, "type": "alert", "title": title}
    ask(server, "POST", "/api/notifications", token, body)


def in_room(room: str, user: str) -> str:
    """Return the name of a room of this test."""
    return f"{room}:{user.replace('[', '.').replace(']', '')}"


def ids_are_unique(form: Driven, topic: str) -> bool:
    ids = [one[1] for one in form.log("a", topic) if one[1]]
    return len(ids) == len(set(ids))


def test_nothing_is_missed_or_doubled_through_thirty_cuts(
    form: Driven,
    relay: Relay,
    client_server: ServerProcess,
    token: str,
    user: str,
    tmp_path: Path,
) -> None:
    """Rooms, notifications, all tasks and one task, over one connection after another."""
    gate = tmp_path / "gate"
    gate.touch()
    body = {"kind": "client.gated", "params": {"gate": str(gate), "counts": 200}, "notify": False}
    task = ask(client_server, "POST", "/api/tasks", token, body)["task_id"]
    rooms = [in_room(room, user) for room in ROOMS]
    topics = [*rooms, "me", "tasks", f"task:{task}"]
    form.open("a", relay.url, token)
    form.follow("a", *topics)
    wait_until(lambda: form.log("a", "me") and form.log("a", "tasks"), SECONDS)
    # A first subscription gets nothing of what was published before it.
    for room in rooms:
        publish(client_server, token, room, 0)
        wait_until(lambda room=room: form.told("a", room), SECONDS)
    sent: dict[str, list[int]] = {room: [0] for room in rooms}
    titles: list[str] = []
    for number in range(1, CUTS + 1):
        for _ in range(random.randint(1, 4)):
            room = random.choice(rooms)
            sent[room].append(len(sent[room]))
            publish(client_server, token, room, sent[room][-1])
        titles.append(f"news {number}")
        notify(client_server, token, user, titles[-1])
        gate.with_name(f"gate.{number}").touch()
        # Half of the cuts come while the topics are still being followed.
        form.wait_for("a", "online")
        if number % 2:
            wait_until(lambda: form.told("a", "me", "notification"), SECONDS)
        relay.cut()
        publish(client_server, token, rooms[0], len(sent[rooms[0]]))
        sent[rooms[0]].append(len(sent[rooms[0]]))
    more = ask(
        client_server, "POST", "/api/tasks", token, {**body, "kind": "client.echo", "params": {}}
    )
    gate.unlink()
    wait_until(lambda: form.told("a", f"task:{task}", "end"), SECONDS, equal=[None])
    wait_until(lambda: [form.told("a", room) for room in rooms], SECONDS, equal=[*sent.values()])
    wait_until(lambda: len(form.told("a", "me", "notification")) >= len(titles), SECONDS)
    assert form.told("a", "me", "notification") == titles
    assert form.told("a", f"task:{task}", "finished") == ["completed"]

    def states() -> dict[str, str]:
        changes = [*form.told("a", "tasks", "list"), *form.told("a", "tasks", "changed")]
        return {item["task_id"]: item["status"] for items in changes for item in items}

    wait_until(states, SECONDS, equal={task: "completed", more["task_id"]: "completed"})
    for topic in topics:
        assert not form.told("a", topic, "resync")
        assert ids_are_unique(form, topic), topic
    assert form.transports("a") == {form.transport}
    assert form.states("a").count("online") > CUTS / 2


@pytest.fixture(scope="module")
def options() -> dict[str, str]:
    """The settings of a server of one's own."""
    return {
        "RT_JWT_SECRET": SECRET,
        "RT_KINDS": "tests.client_kinds",
        "RT_DRAIN_SECONDS": "0.2",
        "RT_WORKER_GRACE_SECONDS": "0.5",
        "RT_REQUESTS_PER_SECOND": "0",
        "RT_MAX_CONNECTIONS_PER_USER": "0",
        "RT_MAX_CONNECTIONS_PER_ADDRESS": "0",
    }


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_server_that_comes_back_is_resumed(
    node: NodeForm,
    js_package: Path,
    options: dict[str, str],
    tmp_path: Path,
    token: str,
    user: str,
    signal_: int,
) -> None:
    """By a hundred clients at once, over sockets and over streams, spread over some time."""
    stream = NodeForm(js_package)
    server = start_server(tmp_path / "data", **options)
    port = server.url.rpartition(":")[2]
    count = 50
    try:
        for form in (node, stream):
            form.run(
                "for (let n = 0; n < args[2]; n++) driver.open(`a${n}`, args[0], [args[1]])",
                server.url,
                token,
                count,
            )
            form.run("for (let n = 0; n < args[0]; n++) driver.follow(`a${n}`, 'room:1')", count)
            form.run("for (let n = 0; n < args[0]; n++) driver.follow(`a${n}`, 'me')", count)
        publish(server, token, "room:1", 0)
        told = "return driver.toldToAll('room:1', 'message')"
        for form in (node, stream):
            wait_until(lambda form=form: form.run(told), SECONDS, equal=[[0]] * count)
        server.process.send_signal(signal_)
        server.process.wait(30)
        assert "closed" not in node.states("a0")
        server = start_server(tmp_path / "data", **options, RT_PORT=port)
        publish(server, token, "room:1", 1)
        notify(server, token, user, "back")
        notes = "return driver.toldToAll('me', 'notification')"
        for form in (node, stream):
            wait_until(lambda form=form: form.run(told), SECONDS, equal=[[0, 1]] * count)
            wait_until(lambda form=form: form.run(notes), SECONDS, equal=[["back"]] * count)
        if signal_ == signal.SIGTERM:
            reasons = node.run(
                "return driver.states.a0.filter(one => one[0] === 'offline').map(one => one[2])"
            )
            assert "going" in reasons[0], reasons
    finally:
        stream.close()
        stop_server(server)


def test_slow_reader_is_closed_and_resumes(
    node: NodeForm, options: dict[str, str], tmp_path: Path, token: str
) -> None:
    """By 4508, and then it gets all that it has not read."""
    bounds = {
        "RT_MAX_PENDING_BYTES": "100000",
        "RT_TOPIC_HISTORY": "1000",
        "RT_REPLAY_LIMIT": "2000",
    }
    server = start_server(tmp_path / "data", **options, **bounds)
    try:
        node.open("a", server.url, token)
        node.follow("a", "room:1")
        publish(server, token, "room:1", [0, ""])
        wait_until(lambda: node.told("a", "room:1"), SECONDS)
        node.pause()
        count = 250
        for number in range(1, count):
            publish(server, token, "room:1", [number, "x" * 60_000])
        wait_until(lambda: ask(server, "GET", "/api/ws/stats", token)["closed_slow"], SECONDS)
        node.resume()
        numbers = "return driver.toldToAll('room:1', 'message')[0].map(one => one[0])"
        wait_until(lambda: node.run(numbers), SECONDS, equal=[*range(count)])
        assert ids_are_unique(node, "room:1")
    finally:
        node.resume()
        stop_server(server)


def test_token_is_renewed_before_it_expires(
    node: NodeForm, js_package: Path, client_server: ServerProcess, make_token: Token, user: str
) -> None:
    """On a socket the connection stays, on a stream the topics go on in the next one."""
    stream = NodeForm(js_package)
    rights = {"scope": "rt:publish", "topics": ["room:*"]}
    tokens = [make_token(user, ttl=ttl, **rights) for ttl in (3, 6, 3600)]
    room = in_room("room:9", user)
    try:
        for form in (node, stream):
            form.open("a", client_server.url, *tokens, share=False)
            form.follow("a", room)
            form.wait_for("a", "online")
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 7, SECONDS, "the first two have expired")
        publish(client_server, tokens[-1], room, "late")
        for form in (node, stream):
            wait_until(lambda form=form: form.told("a", room), SECONDS, equal=["late"])
            assert "closed" not in form.states("a")
        assert node.states("a") == ["connecting", "online"]
    finally:
        stream.close()


def test_refused_token_is_asked_for_once_more(
    node: NodeForm, client_server: ServerProcess, token: str
) -> None:
    """After that, or if there is no other, the client is closed; `connect` tries again."""
    node.open("a", client_server.url, "nonsense", token)
    node.follow("a", "me")
    node.wait_for("a", "online")
    node.run("driver.open('b', args[0], []); driver.clients.b.close()", client_server.url)
    node.run(
        "driver.clients.c = new driver.Client(args[0], {token: 'nonsense'}); driver.logs.c = {}",
        client_server.url,
    )
    node.follow("c", "me")
    wait_until(lambda: node.log("c", "me"), SECONDS)
    assert node.log("c", "me")[0][2][:2] == ["ConnectionClosed", 4401]
    node.run(
        "driver.heard = 0;driver.clients.a.inbox.addEventListener('counts', () => driver.heard++)"
    )
    wait_until(lambda: node.run("return driver.heard"), SECONDS, equal=1)
    node.run("driver.clients.a.close()")
    wait_until(lambda: node.told("a", "me", "error"), SECONDS)
    node.run("driver.clients.a.connect()")
    wait_until(lambda: node.run("return driver.heard"), SECONDS, equal=2)
    assert node.status("a")["state"] == "online"


def test_final_codes_are_not_tried_again(
    node: NodeForm, options: dict[str, str], tmp_path: Path, token: str
) -> None:
    """4401 and 4429 close the client; a topic that is not there or not allowed only its readers."""
    server = start_server(tmp_path / "data", **{**options, "RT_MAX_CONNECTIONS_PER_USER": "1"})
    relay = RefusingRelay(server.url)
    relay.refuses = False
    try:
        node.open("a", relay.url, token)
        node.follow("a", "me", "hall:1", "task:nope")
        node.wait_for("a", "online")
        wait_until(lambda: node.log("a", "hall:1") and node.log("a", "task:nope"), SECONDS)
        assert relay.upgrades == 1
        for name, given, code in (("b", token, 4429), ("c", "nonsense", 4401)):
            before = relay.upgrades
            node.run(
                "const options = {token: args[2], backoff: {first: 0.01}};"
                "driver.clients[args[0]] = new driver.Client(args[1], options);"
                "driver.logs[args[0]] = {}; driver.states[args[0]] = []",
                *(name, relay.url, given),
            )
            node.follow(name, "me")
            wait_until(lambda name=name: node.log(name, "me"), SECONDS)
            assert node.log(name, "me")[0][2][:2] == ["ConnectionClosed", code]
            assert node.status(name)["state"] == "closed"
            # The other client is served meanwhile: time enough for one that tries again.
            publish(server, token, "room:1", 1)
            assert relay.upgrades == before + 1
        assert node.status("a")["state"] == "online"
    finally:
        relay.close()
        stop_server(server)


def test_stream_serves_where_sockets_do_not_get_through(
    node: NodeForm, client_server: ServerProcess, token: str, user: str
) -> None:
    """The socket is tried again, and takes over without a miss or a double."""
    relay = RefusingRelay(client_server.url)
    room = in_room("room:7", user)
    try:
        node.open("a", relay.url, token, socketAgain={"first": 0.3, "most": 0.3})
        node.follow("a", room, "me")
        node.wait_for("a", "online")
        assert node.status("a")["transport"] == "stream"
        sent = []

        def send() -> None:
            sent.append(len(sent))
            publish(client_server, token, room, sent[-1])

        send()
        wait_until(lambda: node.told("a", room), SECONDS, equal=sent)
        tried = relay.upgrades
        wait_until(lambda: relay.upgrades > tried + 1, SECONDS, "a socket is tried again")
        assert node.status("a")["transport"] == "stream"
        relay.refuses = False

        def send_until(transport: str) -> None:
            # No more than the history of a topic holds.
            most = len(sent) + 50

            def is_on() -> bool:
                if len(sent) < most:
                    send()
                return bool(node.status("a")["transport"] == transport)

            wait_until(is_on, SECONDS)
            send()

        send_until("socket")
        # And back: what the socket has brought is not brought again by a stream.
        relay.refuses = True
        relay.cut()
        send_until("stream")
        wait_until(lambda: node.told("a", room), SECONDS, equal=sent)
        assert node.states("a").count("closed") == 0
    finally:
        relay.close()


def test_retry_after_is_the_least_wait(js_package: Path) -> None:
    """A stream comes no earlier than it was told to, and a request neither."""
    waits = http_answer(503, "{}", "Retry-After: 1")
    stream = NodeForm(js_package)
    with FaultyPeer([waits]) as peer:
        stream.open("a", peer.url, "t")
        stream.follow("a", "me")
        wait_until(lambda: len(peer.heads) >= 2, SECONDS)
        connecting = stream.run(
            "return driver.states.a.filter(one => one[0] === 'connecting').map(one => one[3])"
        )
        assert connecting[1] - connecting[0] >= 1000
    stream.close()


def test_server_that_is_not_there_is_noticed_at_once(node: NodeForm) -> None:
    """The WebSocket of Node tells an error then, and no close."""
    node.open("a", f"http://127.0.0.1:{free_port()}", "t", transport="socket")
    node.follow("a", "me")
    wait_until(lambda: node.states("a").count("offline") > 2, 5, "it is told offline")


def test_silent_connection_is_given_up(
    node: NodeForm, options: dict[str, str], tmp_path: Path, token: str
) -> None:
    """After two missed heartbeats: the relay holds back, and nobody closes anything."""
    server = start_server(tmp_path / "data", **options, RT_WS_HEARTBEAT_SECONDS="0.5")
    try:
        node.open("a", server.url, token)
        node.follow("a", "me")
        node.wait_for("a", "online")
        server.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: "offline" in node.states("a"), 10, "it is told offline")
        server.process.send_signal(signal.SIGCONT)
        node.wait_for("a", "online")
    finally:
        server.process.send_signal(signal.SIGCONT)
        stop_server(server)


def test_page_without_a_network_says_so(
    browser: Browser, client_server: ServerProcess, token: str, user: str
) -> None:
    """Offline within two seconds, and online again with all that was missed."""
    room = in_room("room:8", user)
    with page_form(browser, client_server.url) as form:
        form.open("a", client_server.url, token)
        form.follow("a", room)
        form.wait_for("a", "online")
        publish(client_server, token, room, 0)
        wait_until(lambda: form.told("a", room), SECONDS, equal=[0])
        form.page.context.set_offline(True)
        wait_until(lambda: form.states("a")[-1] in ("offline", "connecting"), 2, "it is offline")
        publish(client_server, token, room, 1)
        assert form.told("a", room) == [0]
        form.page.context.set_offline(False)
        form.wait_for("a", "online")
        wait_until(lambda: form.told("a", room), SECONDS, equal=[0, 1])


def test_page_that_is_frozen_holds_no_connection(
    browser: Browser, client_server: ServerProcess, token: str, user: str
) -> None:
    """It comes back where it was when it goes on."""
    room = in_room("room:6", user)
    with page_form(browser, client_server.url) as form:
        form.open("a", client_server.url, token)
        form.follow("a", room)
        form.wait_for("a", "online")
        form.run("document.dispatchEvent(new Event('freeze'))")
        form.wait_for("a", "offline")
        publish(client_server, token, room, 1)
        form.run("document.dispatchEvent(new Event('resume'))")
        form.wait_for("a", "online")
        wait_until(lambda: form.told("a", room), SECONDS, equal=[1])
        assert isinstance(form, PageForm)
