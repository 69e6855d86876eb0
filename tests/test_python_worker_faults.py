"""The worker of the Python client while connections, servers and workers come and go."""

import logging
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browsing import Relay
from tests.client_forms import SECONDS, Answer, FaultyPeer, forward, http_answer
from tests.conftest import SECRET, ServerProcess, start_server, stop_server
from tests.elsewhere import Place, status_of, worker_program, working
from tests.waiting import wait_until
from tornado_rt_client import Client, Mint

pytestmark = pytest.mark.long

# Long enough for a worker to come back on a busy machine, short enough to wait for.
RETURN_SECONDS = "3"
SETTINGS = {
    "RT_JWT_SECRET": SECRET,
    "RT_DRAIN_SECONDS": "0",
    "RT_QUEUE_USER_LIMIT": "0",
    "RT_QUEUE_GLOBAL_LIMIT": "0",
    "RT_REQUESTS_PER_SECOND": "0",
    "RT_REMOTE_RETURN_SECONDS": RETURN_SECONDS,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose workers have little time to come back."""
    server = start_server(tmp_path_factory.mktemp("elsewhere") / "data", **SETTINGS)
    yield server
    stop_server(server)


@pytest.fixture
def relay(server: ServerProcess) -> Iterator[Relay]:
    """A way to the server that can be cut."""
    made = Relay(server.url)
    yield made
    made.close()


@pytest.fixture
def client(server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of a user that no other test has."""
    with Client(server.url, secret=SECRET, user=request.node.name) as client:
        yield client


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A folder with a gate, which is opened at the end."""
    place = Place(tmp_path)
    yield place
    place.open()


def attempts(client: Client, task_id: str) -> int:
    """Return which attempt at a task is the last."""
    return int(client.request("GET", f"/api/tasks/{task_id}")["attempt"])


def message(client: Client, task_id: str) -> str:
    return str(client.request("GET", f"/api/tasks/{task_id}")["message"])


@pytest.mark.parametrize("transport", ["websocket", "http"])
def test_worker_that_was_cut_off_goes_on_with_its_task(
    client: Client, relay: Relay, place: Place, transport: str
) -> None:
    """The same attempt reports and ends, whatever number of cuts."""
    with working(relay.url, transport=transport):
        task = client.submit("away.gated", place.params)
        place.await_count("begun", 1)
        for _ in range(5):
            relay.cut()
            before = message(client, task.id)
            wait_until(lambda told=before: message(client, task.id) != told, what="it reports")
        place.open()
        assert task.result(timeout=SECONDS)["attempt"] == 1
    assert (place.count("begun"), place.count("stopped")) == (1, 0)


def test_end_that_was_not_heard_is_told_again(client: Client, relay: Relay, place: Place) -> None:
    """The result is not lost with the connection."""
    with working(relay.url):
        task = client.submit("away.gated", place.params)
        place.await_count("begun", 1)
        relay.is_away = True
        relay.cut()
        place.open()
        # It has ended there, and nobody has heard.
        (place.folder / "other").touch()
        assert status_of(client, task.id) == "processing"
        relay.is_away = False
        assert task.result(timeout=SECONDS)["attempt"] == 1
    assert place.count("begun") == 1


def test_worker_that_does_not_return_loses_its_task(
    server: ServerProcess, client: Client, relay: Relay, place: Place
) -> None:
    """Another goes on; when the first is back its handler is stopped, and its end is not taken."""
    with working(relay.url):
        task = client.submit("away.gated", place.params)
        place.await_count("begun", 1)
        relay.is_away = True
        relay.cut()
        with working(server.url):
            place.await_count("begun", 2)
            assert place.count("stopped") == 0
            relay.is_away = False
            place.await_count("stopped", 1)
            place.open()
            assert task.result(timeout=SECONDS)["attempt"] == 2


def test_task_of_a_worker_that_was_killed_is_another_s(
    server: ServerProcess, client: Client, place: Place
) -> None:
    """Long before its lease would run out; the attempt counts."""
    with worker_program(server.url) as process:
        task = client.submit("away.gated", place.params)
        place.await_count("begun", 1)
        process.kill()
        process.wait(SECONDS)
        with working(server.url):
            place.await_count("begun", 2)
            place.open()
            assert task.result(timeout=SECONDS)["attempt"] == 2


def test_signal_drains_a_worker_and_a_second_one_hurries_it(
    server: ServerProcess, client: Client, tmp_path: Path
) -> None:
    """No task is lost, none counts as an attempt."""
    (tmp_path / "one").mkdir()
    place = Place(tmp_path / "one")
    with worker_program(server.url, "--grace", "60") as process:
        task = client.submit("away.gated", place.params)
        place.await_count("begun", 1)
        process.send_signal(signal.SIGTERM)
        # It takes no more.
        later = client.submit("away.echo", {"value": 5})
        wait_until(lambda: status_of(client, later.id) == "queued")
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    assert place.count("stopped") == 1
    place.open()
    with working(server.url):
        assert task.result(timeout=SECONDS)["attempt"] == 1
        assert later.result(timeout=SECONDS) == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_worker_outlives_its_server(tmp_path: Path, number: signal.Signals) -> None:
    """A task that runs meanwhile goes on, and its result is taken by the server that comes back."""
    first = start_server(tmp_path / "data", **SETTINGS)
    relay = Relay(first.url)
    place = Place(tmp_path)
    try:
        with working(relay.url), Client(relay.url, secret=SECRET, user="u") as client:
            task = client.submit("away.gated", place.params)
            place.await_count("begun", 1)
            first.process.send_signal(number)
            first.process.wait(30)
            second = start_server(tmp_path / "data", **SETTINGS)
            try:
                relay.lead_to(second.url)
                assert attempts(client, task.id) == 1
                place.open()
                assert task.result(timeout=SECONDS)["attempt"] == 1
                assert client.submit("away.echo", {"value": 2}).result(timeout=SECONDS) == 2
            finally:
                stop_server(second)
        assert place.count("begun") == 1
    finally:
        relay.close()
        first.process.kill()


def test_http_takes_over_where_no_websocket_gets_through(
    server: ServerProcess, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that knows nothing of them answers the handshake by an error."""
    # The proxy of this test does not see that a client leaves.
    monkeypatch.setattr("tornado_rt_client.worker.polling.WAIT_SECONDS", 0.5)
    refuse, through = http_answer(400, "{}"), forward(server.url, loses=False)

    def proxy(opened: socket.socket, head: str) -> None:
        answer: Answer = refuse if "/api/ws/" in head else through
        answer(opened, head)

    with FaultyPeer([proxy]) as peer:
        with working(peer.url):
            assert client.submit("away.echo", {"value": 3}).result(timeout=SECONDS) == 3
        asked = [head.split()[1] for head in peer.heads]
    assert asked[:2] == ["/api/ws/worker"] * 2
    assert "/api/worker/claim" in asked[2:]


def test_token_is_renewed_while_a_task_runs(
    server: ServerProcess, client: Client, place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Before it expires, on the open connection."""
    caplog.set_level(logging.INFO, "tornado_rt_client")
    minted: list[float] = []
    mint = Mint(SECRET, "worker", scopes=["rt:work"], ttl=4)

    def token() -> str:
        minted.append(time.monotonic())
        return mint()

    with working(server.url, token=token, secret=None) as worker:
        task = client.submit("away.gated", place.params)
        place.await_count("begun", 1)
        began = time.monotonic()
        # Longer than one token is good for.
        wait_until(lambda: minted[-1] > began + 6, what="a later token was asked for")
        place.open()
        assert task.result(timeout=SECONDS)["attempt"] == 1
        assert not worker.is_over
    assert "connecting again" not in caplog.text


def test_process_of_a_task_ends_with_its_worker(
    server: ServerProcess, client: Client, place: Place
) -> None:
    """Nothing goes on that nobody waits for."""
    with worker_program(server.url, "--process-per-task") as process:
        task = client.submit("away.gated", place.params)
        place.await_count("begun", 1)
        process.kill()
        process.wait(SECONDS)
    told = message(client, task.id)
    with working(server.url):
        place.await_count("begun", 2)
        wait_until(lambda: message(client, task.id) != told)
        place.open()
        assert task.result(timeout=SECONDS)["attempt"] == 2
