"""Clients that follow the documented protocol: they keep the last id, drop the ids that they have
seen, and come back when the close code or the end of the stream says so.
"""

import abc
import asyncio
import collections
import contextlib
import json
import random
import time
from typing import Any, Self

import attrs
from tornado.httpclient import HTTPError, HTTPRequest
from tornado.websocket import (
    WebSocketClientConnection,
    WebSocketClosedError,
    WebSocketError,
    websocket_connect,
)

from tests.faults.system import Server, System
from tests.realtime import EventStream
from tornado_rt.protocol import ERROR_EVENT, comes_back

CONNECT_SECONDS = 5.0
FIRST_BACKOFF_SECONDS = 0.05
MOST_BACKOFF_SECONDS = 0.5
# A server that is silent for so many heartbeats is taken for dead.
SILENT_HEARTBEATS = 3
FINAL_STATUSES = {204, 400, 401, 403, 404}
FINAL_ERRORS = {"token_expired", "bad_token"}
PAGE = 100

LOST = (OSError, EOFError, TimeoutError, HTTPError, WebSocketError, WebSocketClosedError)


def key_of(notification: dict[str, Any]) -> str:
    """Return what names a notification once: the task that made it, or its title."""
    task_id = notification["metadata"].get("task_id")
    return f"task:{task_id}" if task_id else str(notification["title"])


@attrs.define(eq=False)
class Journal:
    """All that happened to one client. Times are monotonic seconds."""

    notifications: collections.Counter[str] = attrs.field(factory=collections.Counter)
    broadcasts: collections.Counter[str] = attrs.field(factory=collections.Counter)
    ends: collections.Counter[str] = attrs.field(factory=collections.Counter)
    arrived: dict[str, float] = attrs.field(factory=dict)
    progress: list[dict[str, Any]] = attrs.field(factory=list)
    resyncs: list[str] = attrs.field(factory=list)
    errors: list[tuple[float, str]] = attrs.field(factory=list)
    connected: list[dict[str, Any]] = attrs.field(factory=list)
    codes: list[int | None] = attrs.field(factory=list)
    repeated: int = 0
    heartbeats: int = 0
    last_news: float = 0.0

    def saw_error(self, code: str, since: float = 0.0) -> bool:
        """Say whether such an error came after a time."""
        return any(found == code and at >= since for at, found in self.errors)


class Client(abc.ABC):
    """Follows one path of whatever server is there, until the protocol says that it is over."""

    def __init__(self, system: System, user: str, path: str, *, server: Server) -> None:
        self._system = system
        self.user = user
        self.path = path
        self.server = server
        self.token = system.token(user)
        self.journal = Journal()
        self.last_id = ""
        self.ended = False
        self.up = False
        self._seen: set[str] = set()
        self._reloaded: set[str] = set()
        self._silence = 30.0
        self._backoff = FIRST_BACKOFF_SECONDS
        self._job: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._job = asyncio.create_task(self._run(), name=f"client-{self.user}")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._job is not None
        self._job.cancel()
        await asyncio.gather(self._job, return_exceptions=True)

    @property
    def name(self) -> str:
        """Who it is, for people."""
        return f"{self.user} on {self.server.name} by {self.path}"

    @property
    def failed(self) -> BaseException | None:
        """What broke the client itself; that is a fault of the test."""
        if self._job is None or not self._job.done() or self._job.cancelled():
            return None
        return self._job.exception()

    @property
    def reconnects(self) -> int:
        """How often it came back."""
        return len(self.journal.connected) - 1

    def has(self, key: str) -> bool:
        """Say whether a notification, broadcast or task's end has come."""
        return key in self.journal.arrived

    @abc.abstractmethod
    async def _follow(self) -> None:
        """Connect once and take all there is. Raise one of LOST, or set `ended`."""

    async def _run(self) -> None:
        while not self.ended:
            with contextlib.suppress(*LOST):
                await self._follow()
            self.up = False
            if not self.ended:
                self._change_server()
                await asyncio.sleep(self._backoff * random.uniform(0.5, 1.0))
                self._backoff = min(self._backoff * 2, MOST_BACKOFF_SECONDS)

    def _change_server(self) -> None:
        servers = self._system.servers
        at = servers.index(self.server) if self.server in servers else 0
        self.server = servers[(at + 1) % len(servers)]

    async def _take(self, type_: str, data: dict[str, Any], id_: str | None) -> None:
        if type_ == "heartbeat":
            self.journal.heartbeats += 1
            return
        # Those two say where the stream stands; of the others none has the id of another.
        if id_ in self._seen and type_ not in ("connected", "resync"):
            self.journal.repeated += 1
            return
        if id_:
            self._seen.add(id_)
        action = getattr(self, f"_on_{type_}", None)
        if action is not None:
            await action(data, id_)
        self.last_id = id_ or self.last_id

    async def _on_connected(self, data: dict[str, Any], _: str | None) -> None:
        self.journal.connected.append(data)
        self._silence = SILENT_HEARTBEATS * (data["heartbeat_interval"] or 30.0)
        self._backoff = FIRST_BACKOFF_SECONDS
        self.up = True

    async def _on_notification(self, data: dict[str, Any], id_: str | None) -> None:
        if id_ is None:
            self.journal.broadcasts[data["title"]] += 1
            self._note(data["title"])
        elif key_of(data) in self._reloaded:
            self.journal.repeated += 1
        else:
            self.journal.notifications[key_of(data)] += 1
            self._note(key_of(data))

    async def _on_progress(self, data: dict[str, Any], _: str | None) -> None:
        self.journal.progress.append(data)
        self.journal.last_news = time.monotonic()

    async def _on_finished(self, data: dict[str, Any], _: str | None) -> None:
        self.journal.ends[data["task_id"]] += 1
        self._note(data["task_id"])

    async def _on_resync(self, data: dict[str, Any], _: str | None) -> None:
        self.journal.resyncs.append(data["reason"])
        if "notifications" in self.path:
            await self._reload()
        else:
            # Another log begins: the ids of the old one may come again.
            self._seen.clear()

    async def _on_error(self, data: dict[str, Any], _: str | None) -> None:
        self.journal.errors.append((time.monotonic(), data["code"]))
        self.ended = self.ended or data["code"] in FINAL_ERRORS

    def _note(self, key: str) -> None:
        self.journal.last_news = time.monotonic()
        self.journal.arrived.setdefault(key, self.journal.last_news)

    async def _reload(self) -> None:
        """Read what the stream does not hold any more, newest first."""
        before = ""
        while before is not None:
            query = f"?limit={PAGE}" + (f"&before={before}" if before else "")
            path = "/api/notifications" + query
            answer = await self._system.ask(self.server, "GET", path, self.user)
            if answer.status != 200:
                raise TimeoutError("the notifications cannot be read now")
            for item in answer.body["items"]:
                if not self.journal.notifications[key_of(item)]:
                    self.journal.notifications[key_of(item)] = 1
                    self._reloaded.add(key_of(item))
                    self._note(key_of(item))
            before = answer.body["next"]


class SocketClient(Client):
    """Follows a WebSocket."""

    socket: WebSocketClientConnection | None = None

    async def say(self, type_: str, **data: Any) -> None:
        """Send one message to the server."""
        assert self.socket is not None
        await self.socket.write_message(json.dumps({"type": type_, "data": data}))

    async def _follow(self) -> None:
        query = f"?last_id={self.last_id}" if self.last_id else ""
        request = HTTPRequest(
            self.server.url.replace("http", "ws") + self.path + query,
            headers={"Authorization": f"Bearer {self.token}"},
            connect_timeout=CONNECT_SECONDS,
            request_timeout=CONNECT_SECONDS,
        )
        self.socket = await _connected(request)
        try:
            await self._read(self.socket)
        finally:
            self.socket.close()

    async def _read(self, socket: WebSocketClientConnection) -> None:
        while True:
            async with asyncio.timeout(self._silence):
                text = await socket.read_message()
            if text is None:
                break
            frame = json.loads(text)
            await self._take(frame["type"], frame["data"], frame.get("id"))
        code = socket.close_code
        self.journal.codes.append(code)
        if code is not None and not comes_back(code):
            self.ended = True


async def _connected(request: HTTPRequest) -> WebSocketClientConnection:
    """Connect; whoever is cancelled meanwhile leaves nothing open."""
    connecting = asyncio.ensure_future(websocket_connect(request))
    try:
        return await asyncio.shield(connecting)
    except asyncio.CancelledError:
        connecting.add_done_callback(_close)
        raise


def _close(connecting: "asyncio.Future[WebSocketClientConnection]") -> None:
    if not connecting.cancelled() and connecting.exception() is None:
        connecting.result().close()


class StreamClient(Client):
    """Follows an event stream, as an EventSource does.

    `hurry` divides the time that `retry:` asks for, so that tests are short.
    """

    def __init__(
        self, system: System, user: str, path: str, *, server: Server, hurry: float = 10.0
    ) -> None:
        super().__init__(system, user, path, server=server)
        self._hurry = hurry

    async def _follow(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        headers |= {"Last-Event-ID": self.last_id} if self.last_id else {}
        async with asyncio.timeout(CONNECT_SECONDS):
            stream = await EventStream.open(self.server.port, self.path, headers)
        try:
            if stream.status == 200:
                await self._read(stream)
            else:
                self.journal.codes.append(stream.status)
                self.ended = stream.status in FINAL_STATUSES
        finally:
            stream.writer.close()
            with contextlib.suppress(OSError):
                await stream.writer.wait_closed()

    async def _read(self, stream: EventStream) -> None:
        while True:
            async with asyncio.timeout(self._silence):
                event = await stream.event()
            if "retry" in event:
                self._backoff = int(event["retry"]) / 1000 / self._hurry
            type_ = "error" if event["event"] == ERROR_EVENT else event["event"]
            await self._take(type_, json.loads(event["data"]), event.get("id"))
            if type_ == "finished":
                self.ended = True

    async def _on_connected(self, data: dict[str, Any], id_: str | None) -> None:
        retry = self._backoff
        await super()._on_connected(data, id_)
        self._backoff = retry
