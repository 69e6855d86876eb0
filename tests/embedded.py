"""An application with the server inside, and clients of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import attrs
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler, decode_signed_value
from tornado.web import create_signed_value as sign
from tornado.websocket import WebSocketClientConnection, websocket_connect

from settings import Settings
from tests.api import Client, frame
from tornado_rt.embedding import Authenticate, Identity, Server

COOKIE, COOKIE_SECRET = "user", "the secret of the application's cookies"
# Headers of a browser's request from a page of the same origin.
PAGE = {"Sec-Fetch-Site": "same-origin"}


class Home(RequestHandler):
    """Answers everything that the application has no other handler for."""

    def get(self) -> None:
        self.finish("home")


@attrs.frozen
class Host:
    """An application that listens, with the server in it."""

    rt: Server
    url: str

    def client(self, token: str = "") -> Client:
        core: Any = None
        return Client(self.url, token, core, [])


def cookie_of(user: str) -> dict[str, str]:
    """Return the header by which the application knows a user."""
    return {"Cookie": f"{COOKIE}={sign(COOKIE_SECRET, COOKIE, user).decode()}"}


def signed_in(request: HTTPServerRequest) -> Identity | None:
    """Say whom the application has signed in."""
    cookie = request.cookies.get(COOKIE)
    user = decode_signed_value(COOKIE_SECRET, COOKIE, cookie.value) if cookie else None
    return Identity(user.decode()) if user else None


@contextlib.asynccontextmanager
async def hosting(
    settings: Settings, authenticate: Authenticate | None = signed_in, *more: Server
) -> AsyncIterator[Host]:
    """Run an application with a server that is not started, and others."""
    rt = Server(settings.changed(prefix="/rt"), authenticate)
    application = Application([("/.*", Home)], log_function=lambda _: None)
    application.add_handlers(".*", [rt.rule, *(one.rule for one in more)])
    server = HTTPServer(application)
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    try:
        yield Host(rt, f"http://127.0.0.1:{sockets[0].getsockname()[1]}")
    finally:
        await rt.stop()
        server.stop()
        await server.close_all_connections()


@contextlib.asynccontextmanager
async def embedded(
    settings: Settings, authenticate: Authenticate | None = signed_in
) -> AsyncIterator[Host]:
    """Run an application with a server that runs."""
    async with hosting(settings, authenticate) as host, host.rt:
        yield host


async def connect(host: Host, path: str, headers: dict[str, str]) -> WebSocketClientConnection:
    """Open a WebSocket. Raise HTTPClientError when it is refused."""
    url = host.url.replace("http", "ws") + path
    return await websocket_connect(HTTPRequest(url, headers=headers))


async def outcome(host: Host, path: str, headers: dict[str, str]) -> int | None:
    """Return what comes of a WebSocket: an HTTP status, a close code, or 101 for an open one."""
    try:
        socket = await connect(host, path, headers)
    except HTTPClientError as error:
        return error.code
    if (await frame(socket))["type"] == "error":
        return await close_code(socket)
    socket.close()
    return 101


async def close_code(socket: WebSocketClientConnection) -> int | None:
    """Read to the end of a socket; return the code that it was closed with."""
    while await asyncio.wait_for(socket.read_message(), 60) is not None:
        pass
    code: int | None = socket.close_code
    # Tornado's client keeps one that the server has closed.
    socket.close()
    return code
