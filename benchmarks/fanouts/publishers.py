"""Publishers: they bring a message to each server, with the time at which it was sent."""

import json
import socket
import time
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any, Protocol

from benchmarks.programs import Failed

SECONDS = 60.0


class Publisher(Protocol):
    """Sends one message to all who are connected."""

    def publish(self) -> None:
        """Return when the server has taken it. Raise Failed."""
        ...

    def close(self) -> None: ...


def message_text(size: int) -> str:
    """Return a message of `size` bytes that holds the time."""
    head = f'{{"type":"notification","data":{{"sent_ns":{time.monotonic_ns()},"content":"'
    return head + "x" * (size - len(head) - 3) + '"}}'


class LinePublisher:
    """Sends lines to `serve_publishing`."""

    def __init__(self, port: int, size: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._size = size

    def publish(self) -> None:
        self._socket.sendall(message_text(self._size).encode() + b"\n")
        if self._socket.recv(1) != b"\n":
            raise Failed("the server did not take the message")

    def close(self) -> None:
        self._socket.close()


class HttpPublisher:
    """Posts what `compose` returns, on one connection that is kept."""

    def __init__(
        self, port: int, path: str, compose: Callable[[], str], token: str | None = None
    ) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        self._path = path
        self._compose = compose
        self._headers = {"Content-Type": "application/json"}
        self._headers |= {"Authorization": f"Bearer {token}"} if token else {}

    def publish(self) -> None:
        self._connection.request("POST", self._path, self._compose().encode(), self._headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status >= 300:
            raise Failed(f"{self._path} answered {response.status}: {answer[:200]!r}")

    def close(self) -> None:
        self._connection.close()


def notification(**fields: Any) -> str:
    """Return the body of a notification that holds the time."""
    sent = {"sent_ns": time.monotonic_ns()}
    return json.dumps({"type": "system", "title": "fan-out", "metadata": sent, **fields})
