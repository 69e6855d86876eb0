"""A running server in the test's own loop, and a client of its API."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Self
from weakref import WeakKeyDictionary

import attrs
from tornado.httpclient import AsyncHTTPClient, HTTPRequest, HTTPResponse
from tornado.websocket import WebSocketClientConnection, websocket_connect

from settings import Settings
from tests.documents import hold_answer, hold_event, hold_frame
from tests.realtime import EventStream
from tornado_rt.app import running_server

# Where each socket of a client leads.
ADDRESSES: WeakKeyDictionary[WebSocketClientConnection, str] = WeakKeyDictionary()


@attrs.frozen
class Answer:
    """An HTTP answer with its JSON."""

    status: int
    headers: Any
    body: Any

    @classmethod
    def of(cls, response: HTTPResponse) -> "Answer":
        is_json = "json" in response.headers.get("Content-Type", "")
        return cls(
            response.code,
            response.headers,
            json.loads(response.body) if is_json and response.body else response.body,
        )


@attrs.frozen
class Client:
    """Speaks to the server with one token. `core` is that of a server in this process."""

    url: str
    token: str
    core: Any
    opened: list[WebSocketClientConnection]

    def as_user(self, token: str) -> "Client":
        """Return a client of another user."""
        return attrs.evolve(self, token=token)

    async def send(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """Send one request; `body` goes as JSON, or as it is when it is bytes."""
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        if content is None and method in ("POST", "PUT"):
            content = b""
        own = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = HTTPRequest(
            self.url + path,
            method=method,
            body=content,
            headers={"Accept": "application/json"} | own | (headers or {}),
        )
        response = await AsyncHTTPClient().fetch(request, raise_error=False)
        hold_answer(method, path, content, response.code, response.headers, response.body)
        return Answer.of(response)

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.send("GET", path, headers=headers)

    async def post(self, path: str, body: Any = None) -> Answer:
        return await self.send("POST", path, body)

    async def delete(self, path: str) -> Answer:
        return await self.send("DELETE", path)

    async def submit(self, symbol: str = "AAPL", **more: Any) -> str:
        """Submit a task; return its id."""
        answer = await self.post("/api/tasks", {"symbol": symbol, **more})
        assert answer.status == 202, answer.body
        task_id: str = answer.body["task_id"]
        return task_id

    async def stream(self, path: str, **headers: str) -> EventStream:
        """Open an event stream."""
        port = int(self.url.rpartition(":")[2])
        own = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return await HeldStream.open(port, path, own | headers)

    async def socket(self, path: str) -> WebSocketClientConnection:
        """Open a WebSocket; it is closed with the server."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        request = HTTPRequest(self.url.replace("http", "ws") + path, headers=headers)
        socket = await websocket_connect(request)
        self.opened.append(socket)
        ADDRESSES[socket] = path
        return socket


class HeldStream(EventStream):
    """An event stream whose events are held against docs/openapi.yaml."""

    address: str

    @classmethod
    async def open(cls, port: int, path: str, *arguments: Any) -> Self:
        stream = await super().open(port, path, *arguments)
        stream.address = path
        return stream

    async def event(self) -> dict[str, str]:
        """Return the next event's fields. Raise EOFError at the end of the stream."""
        event = await super().event()
        if "event" in event:
            hold_event(self.address, event)
        return event


async def frame(socket: WebSocketClientConnection) -> dict[str, Any]:
    """Return the next frame."""
    text = await asyncio.wait_for(socket.read_message(), 60)
    assert isinstance(text, str), f"closed with {socket.close_code}"
    decoded: dict[str, Any] = json.loads(text)
    if socket in ADDRESSES:
        hold_frame(ADDRESSES[socket], decoded)
    return decoded


async def frame_of(socket: WebSocketClientConnection, type_: str) -> dict[str, Any]:
    """Return the next frame of one type."""
    while (one := await frame(socket))["type"] != type_:
        pass
    return one


async def notified(client: Client) -> dict[str, Any] | None:
    """Return the page of notifications when there is something on it."""
    page: dict[str, Any] = (await client.get("/api/notifications")).body
    return page if page["items"] else None


async def count_processing(client: Client) -> int:
    """Return how many tasks run."""
    count: int = (await client.get("/api/queue/stats")).body["processing"]
    return count


async def event_of(stream: EventStream, type_: str) -> dict[str, Any]:
    """Return the data of the next event of one type."""
    while (one := await asyncio.wait_for(stream.event(), 60)).get("event") != type_:
        pass
    decoded: dict[str, Any] = json.loads(one["data"])
    return decoded


@contextlib.asynccontextmanager
async def serving(settings: Settings, token: str) -> AsyncIterator[Client]:
    """Run a server; what a test changed is in `settings`."""
    opened: list[WebSocketClientConnection] = []
    try:
        async with running_server(settings) as server:
            yield Client(server.url, token, server.core, opened)
    finally:
        for socket in opened:
            socket.close()
