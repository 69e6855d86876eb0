"""HTTP servers of others, in threads: a model, a receiver of callbacks, a web application."""

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import attrs

SECONDS = 25.0


@attrs.frozen
class Received:
    """A request; `answer` sends the answer that it waits for."""

    headers: Any
    body: Any
    _answers: "queue.Queue[tuple[int, dict[str, str], bytes]]"

    def answer(self, status: int, body: Any = None, **headers: str) -> None:
        """Answer with JSON; in names of headers underscores stand for dashes."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._answers.put((status, named, json.dumps(body).encode()))


class Receiver:
    """Takes POST requests one after another, each answered by the test."""

    def __init__(self, url: str, received: "queue.Queue[Received]") -> None:
        self.url = url
        self._received = received

    def next(self) -> Received:
        """Return the next request, which may be still to come."""
        return self._received.get(timeout=SECONDS)

    @property
    def idle(self) -> bool:
        """Whether no request has come that nobody has looked at."""
        return self._received.empty()


@contextlib.contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver on a free port until the block ends."""
    received: queue.Queue[Received] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answers: queue.Queue[tuple[int, dict[str, str], bytes]] = queue.Queue()
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.put(Received(self.headers, body, answers))
            status, headers, content = answers.get(timeout=SECONDS)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with _served(server):
        yield Receiver(f"http://127.0.0.1:{server.server_port}/done", received)


@contextlib.contextmanager
def serving_wsgi(application: Callable[..., Any]) -> Iterator[str]:
    """Run a WSGI application on a free port until the block ends; give its address."""

    class Silent(WSGIRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = make_server("127.0.0.1", 0, application, handler_class=Silent)
    with _served(server):
        yield f"http://127.0.0.1:{server.server_port}"


@contextlib.contextmanager
def _served(server: Any) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
