"""The two forms of the Python client behind one way to call them, and a peer that misbehaves."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, Self
from urllib.parse import urlsplit

import attrs
import pytest

from tests.conftest import SECRET, LoopThread
from tests.peers import read_until
from tornado_rt_client import AsyncClient, Backoff, Client

# Waits that are short for tests; the server's `retry:` is bounded by them too.
QUICK = Backoff(first=0.02, most=0.1)
# Longer than anything takes that works, on a busy machine too.
SECONDS = 60.0


class SyncForm:
    """Calls the synchronous client."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def client(self, url: str, **more: Any) -> Any:
        """Open a client; `user` alone is enough to be one."""
        return self._stack.enter_context(Client(url, **_options(more)))

    def call(self, value: Any) -> Any:
        """Return what a call returned."""
        return value

    def each(self, events: Any) -> Iterator[Any]:
        """Iterate over a stream or list."""
        return iter(events)

    def close(self) -> None:
        self._stack.close()


class AsyncForm:
    """Calls the asynchronous client, on a loop in a thread."""

    def __init__(self) -> None:
        self._thread = LoopThread()
        self._clients: list[AsyncClient] = []

    def client(self, url: str, **more: Any) -> Any:
        """Open a client; `user` alone is enough to be one."""
        self._clients.append(AsyncClient(url, **_options(more)))
        return self._clients[-1]

    def call(self, value: Any) -> Any:
        """Return what a coroutine returns; a value that is none as it is."""
        return self._thread.run(value) if hasattr(value, "__await__") else value

    def each(self, events: Any) -> Iterator[Any]:
        """Iterate over a stream or list."""
        iterator = aiter(events)
        try:
            while (event := self._thread.run(_next_of(iterator))) is not None:
                yield event
        finally:
            self._thread.run(iterator.aclose())

    def close(self) -> None:
        for client in self._clients:
            self._thread.run(client.close())
        self._thread.close()


Form = SyncForm | AsyncForm


@pytest.fixture(params=[SyncForm, AsyncForm], ids=["sync", "async"])
def form(request: pytest.FixtureRequest) -> Iterator[Form]:
    """One form of the client; a module of tests imports it by this name."""
    made = request.param()
    yield made
    made.close()


async def _next_of(iterator: Any) -> Any:
    return await anext(iterator, None)


def _options(more: dict[str, Any]) -> dict[str, Any]:
    secret = {} if "token" in more else {"secret": SECRET}
    return {"backoff": QUICK, **secret, **more}


Answer = Callable[[socket.socket, str], None]


@attrs.define
class FaultyPeer:
    """A server that answers each connection by the next of `answers`, the last one for all others.

    It does what no test can ask of a real server, at the right moment. `heads` are the requests.
    """

    answers: list[Answer]
    heads: list[str] = attrs.Factory(list)
    _listener: socket.socket = attrs.field(factory=lambda: socket.create_server(("127.0.0.1", 0)))
    _threads: list[threading.Thread] = attrs.Factory(list)
    _open: list[socket.socket] = attrs.Factory(list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        """Close everything; what an answer waits for ends with that."""
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(SECONDS)
            assert not thread.is_alive()

    def _run(self, function: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=function, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                opened, _ = self._listener.accept()
                self._open.append(opened)
                self._run(self._answer, opened)

    def _answer(self, opened: socket.socket) -> None:
        with contextlib.suppress(OSError, AssertionError):
            head = read_until(opened, b"\r\n\r\n").decode()
            self.heads.append(head)
            self.answers[min(len(self.heads), len(self.answers)) - 1](opened, head)
            opened.shutdown(socket.SHUT_RDWR)


def header(head: str, name: str) -> str | None:
    """Return a header of a request."""
    lines = (line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
    return {one.lower(): value for one, value in lines}.get(name.lower())


def http_answer(status: int, body: str, *headers: str) -> Answer:
    """Return what answers by one JSON body."""
    lines = [f"HTTP/1.1 {status} Status", f"Content-Length: {len(body)}", *headers]
    head = "\r\n".join([*lines, "Content-Type: application/json", "Connection: close", "", ""])
    return lambda opened, _: opened.sendall((head + body).encode())


def forward(url: str, *, loses: bool) -> Answer:
    """Return what hands a request to a server, and loses the answer or hands it back."""
    target = urlsplit(url)

    def answer(opened: socket.socket, received: str) -> None:
        head, _, body = received.partition("\r\n\r\n")
        while len(body) < int(header(head, "Content-Length") or 0):
            body += opened.recv(65536).decode()
        head = head.replace("Connection: keep-alive", "Connection: close")
        with socket.create_connection((target.hostname, target.port), SECONDS) as server:
            server.sendall(f"{head}\r\n\r\n{body}".encode())
            answered = b"".join(iter(lambda: server.recv(65536), b""))
        assert answered
        opened.sendall(b"" if loses else answered)

    return answer


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n"


def stream_answer(*blocks: str, stays: bool = False) -> Answer:
    """Return what answers by an event stream, and then ends, or stays open without a word."""

    def answer(opened: socket.socket, _: str) -> None:
        opened.sendall(STREAM_HEAD + "".join(blocks).encode())
        if stays:
            opened.recv(1)

    return answer


def cut(opened: socket.socket, _: str) -> None:
    """Answer nothing."""


def block(event: str, data: str, id_: str = "", retry: int | None = None) -> str:
    """Return one event of a stream."""
    head = (f"id: {id_}\n" if id_ else "") + ("" if retry is None else f"retry: {retry}\n")
    return f"{head}event: {event}\ndata: {data}\n\n"
