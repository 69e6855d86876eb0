"""A stop while a store stands still: requests get their answers, or clear refusals."""

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.conftest import SECRET, ServerProcess, start_server
from tests.peers import CLOSE, request, upgrade
from tests.test_mongo_access import pid_of_mongodb
from tests.test_run import ask
from tests.waiting import wait_until

GOING_AWAY = 1001
PATH = "/api/notifications"


@attrs.define
class Held:
    """A server whose MongoDB stands still, so that what asks for it waits."""

    server: ServerProcess
    token: str
    store: int

    def send(self, head: bytes, body: bytes = b"") -> socket.socket:
        """Send a request; return the connection."""
        opened = self.connect()
        opened.sendall(head + body)
        return opened

    def create(self) -> socket.socket:
        """Ask for what MongoDB has to store."""
        body = json.dumps({"user_id": "alice", "type": "alert", "title": "hello"}).encode()
        head = request(PATH, self.token, f"Content-Length: {len(body)}")
        return self.send(head.replace(b"GET", b"POST", 1), body)

    def connect(self) -> socket.socket:
        port = int(self.server.url.rpartition(":")[2])
        return socket.create_connection(("127.0.0.1", port), timeout=30)

    def stop(self) -> None:
        """Ask it to stop once it has begun with all that was sent; wait until nobody listens.

        Requests get to know after five seconds that the store is away.
        """
        # Its loop goes through sockets in the order in which they have something to read.
        for _ in range(2):
            ask(self.server, self.token, "/healthz")
        self.server.process.terminate()
        wait_until(self.is_deaf, what="nobody listens")

    def is_deaf(self) -> bool:
        with contextlib.suppress(OSError), self.connect():
            return False
        return True

    def go_on(self) -> None:
        os.kill(self.store, signal.SIGCONT)


@pytest.fixture
def hold(tmp_path: Path, make_token: Callable[..., str]) -> Iterator[Callable[..., Held]]:
    held: list[Held] = []

    def hold(**environment: str) -> Held:
        data = tmp_path / "data"
        server = start_server(data, RT_JWT_SECRET=SECRET, RT_DRAIN_SECONDS="0", **environment)
        token = make_token("alice", scope="rt:publish")
        held.append(Held(server, token, pid_of_mongodb(data)))
        os.kill(held[0].store, signal.SIGSTOP)
        return held[0]

    yield hold
    for one in held:
        with contextlib.suppress(ProcessLookupError):
            one.go_on()
        one.server.process.kill()
        one.server.process.wait()


def test_request_of_before_a_stop_gets_its_answer(hold: Callable[..., Held]) -> None:
    """And hears that its connection closes; one that only rests is closed at once."""
    held = hold(RT_REQUEST_GRACE_SECONDS="30")
    resting = held.send(request("/healthz", held.token))
    asked = held.create()
    held.stop()
    assert answer(resting)[0] == 200
    held.go_on()
    status, headers, body = answer(asked)
    assert (status, headers["connection"]) == (201, "close")
    assert body["title"] == "hello"
    assert held.server.process.wait(30) == 0


def test_what_takes_too_long_at_a_stop_is_refused(hold: Callable[..., Held]) -> None:
    """A request and a stream by 503, a socket by 1001; and the log has no fault of ours."""
    held = hold(RT_REQUEST_GRACE_SECONDS="0.5")
    asked = [held.create(), held.send(request(f"{PATH}/stream", held.token))]
    opened = held.send(upgrade("/api/ws/notifications", held.token))
    held.stop()
    for one in asked:
        status, headers, body = answer(one)
        assert (status, headers["retry-after"]) == (503, "1")
        assert body["detail"] == "the server stops; try again"
    head, _, frames = received(opened).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101")
    assert (frames[0] & 15, int.from_bytes(frames[2:4])) == (CLOSE, GOING_AWAY)
    held.go_on()
    assert held.server.process.wait(30) == 0
    lines = [json.loads(one) for one in held.server.log.read_text().splitlines() if one[:1] == "{"]
    assert [one for one in lines if one.get("level") in ("error", "critical")] == []


def received(opened: socket.socket) -> bytes:
    """Return all that comes until the end."""
    with opened:
        return b"".join(iter(lambda: opened.recv(65536), b""))


def answer(opened: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Return the status, the headers in small letters, and the body of the only answer."""
    head, _, body = received(opened).partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    return int(first.split()[1]), headers, json.loads(body)
