"""The installed clients, each at a gateway: in both forms of Python, in Node and in Chromium.

They come back, resume and drop what they have seen by themselves. Here is noted what they tell.
"""

import abc
import asyncio
import collections
import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import attrs

from tests.client_forms import QUICK
from tests.faults.gateway import Gateway, Straight
from tests.faults.hosts import Host
from tests.faults.system import Server, System
from tornado_rt_client import (
    ApiError,
    Arrived,
    AsyncClient,
    Event,
    Finished,
    Notification,
    Progress,
    Resync,
)
from tornado_rt_client import Client as SyncClient

ME = "me"
# A client tries for this long to reach a server that was never there [s].
PATIENCE_SECONDS = 60.0
BACKOFF = {"first": QUICK.first, "most": QUICK.most}


def key_of(notification: Mapping[str, Any]) -> str:
    """Return what names a notification once: the task that made it, or its title."""
    task_id = notification["metadata"].get("task_id")
    return f"task:{task_id}" if task_id else str(notification["title"])


@attrs.define(eq=False)
class Journal:
    """All that one client has told. Times are monotonic seconds."""

    notifications: collections.Counter[str] = attrs.field(factory=collections.Counter)
    ends: collections.Counter[str] = attrs.field(factory=collections.Counter)
    arrived: dict[str, float] = attrs.field(factory=dict)
    progress: list[Mapping[str, Any]] = attrs.field(factory=list)
    resyncs: list[str] = attrs.field(factory=list)
    # The close codes that ended connections which had been open, as far as the client tells them.
    codes: list[int] = attrs.field(factory=list)
    # The status or close code of the error that the client ended with.
    refusal: int | None = None
    last_id: str = ""
    last_news: float = 0.0
    _reloaded: set[str] = attrs.field(factory=set)

    def notify(self, notification: Mapping[str, Any]) -> None:
        """Note a notification, unless a list has brought it."""
        key = key_of(notification)
        if key not in self._reloaded:
            self.notifications[key] += 1
            self._note(key)

    def reload(self, notifications: Iterable[Mapping[str, Any]]) -> None:
        """Note what was read from the list because the stream does not hold it any more."""
        for key in map(key_of, notifications):
            if not self.notifications[key]:
                self.notifications[key] = 1
                self._reloaded.add(key)
                self._note(key)

    def move(self, snapshot: Mapping[str, Any]) -> None:
        """Note the progress of a task."""
        self.progress.append(snapshot)
        self.last_news = time.monotonic()

    def end(self, task_id: str) -> None:
        """Note the end of a task."""
        self.ends[task_id] += 1
        self._note(task_id)

    def _note(self, key: str) -> None:
        self.last_news = time.monotonic()
        self.arrived.setdefault(key, self.last_news)


class Client(abc.ABC):
    """Follows a topic, `me` or `task:ID`, by whatever server its gateway brings it to.

    `up` says that the server has told something, `ended` that the client has given up, or has all
    there is. A `gateway` that is given is open already.
    """

    form = ""

    def __init__(
        self,
        system: System,
        user: str,
        topic: str,
        *,
        server: Server,
        gateway: Gateway | Straight | None = None,
        token: str = "",
    ) -> None:
        self.user = user
        self.topic = topic
        self.journal = Journal()
        self.up = False
        self.ended = False
        # An error that broke it: a fault of the client or of the test.
        self.failed: BaseException | None = None
        self._token = token or system.token(user)
        self.gateway = gateway or Gateway(lambda: system.servers, server)
        self._is_given = gateway is not None
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        if isinstance(self.gateway, Gateway) and not self._is_given:
            await self._stack.enter_async_context(self.gateway)
        await self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def name(self) -> str:
        """Its name, for people."""
        return f"{self.form} client of {self.user} on {self.server.name}, following {self.topic}"

    @property
    def server(self) -> Server:
        """Where it is."""
        return self.gateway.server

    @property
    def reconnects(self) -> int:
        """The number of times that it came back."""
        return max(self.gateway.connections - 1, 0)

    def has(self, key: str) -> bool:
        """Say whether a notification or a task's end has come."""
        return key in self.journal.arrived

    @abc.abstractmethod
    async def _begin(self) -> None:
        """Begin to follow; have `_stack` end it."""


class PythonClient(Client):
    """The common part of both forms in Python."""

    def _options(self) -> dict[str, Any]:
        return {"patience": PATIENCE_SECONDS, "backoff": QUICK, "verify": False}

    def _take(self, event: Event) -> None:
        self.up = True
        self.journal.last_id = event.id or self.journal.last_id
        match event:
            case Arrived():
                self.journal.notify(event.notification.data)
            case Progress():
                self.journal.move(event.snapshot.data)
            case Finished():
                self.journal.end(event.task_id)
            case Resync():
                self.journal.resyncs.append(event.reason)

    def _reload(self, items: Iterable[Notification]) -> None:
        self.journal.reload(one.data for one in items)

    def _end(self, error: BaseException | None) -> None:
        self.ended = True
        if isinstance(error, ApiError):
            self.journal.refusal = error.status
        else:
            self.failed = error


class AsyncPython(PythonClient):
    """The asynchronous client, on this loop."""

    form = "asynchronous"

    async def _begin(self) -> None:
        job = asyncio.create_task(self._run(), name=f"client-{self.user}")
        self._stack.push_async_callback(_cancelled, job)

    async def _run(self) -> None:
        try:
            async with AsyncClient(
                self.gateway.url, token=self._token, **self._options()
            ) as client:
                await self._follow(client)
        except Exception as error:
            self._end(error)
        else:
            self._end(None)

    async def _follow(self, client: AsyncClient) -> None:
        kind, _, task_id = self.topic.partition(":")
        watched = client.inbox().watch() if kind == ME else client.task(task_id).watch()
        async with contextlib.aclosing(watched):
            async for event in watched:
                self._take(event)
                if isinstance(event, Resync):
                    self._reload([one async for one in client.inbox()])


async def _cancelled(job: asyncio.Task[None]) -> None:
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)


class _Left(BaseException):
    """The test has ended, and with it the client."""


class SyncPython(PythonClient):
    """The synchronous client, in a thread."""

    form = "synchronous"

    async def _begin(self) -> None:
        self._is_left = False
        self._loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._run, name=f"client-{self.user}")
        self._stack.push_async_callback(self._leave, thread)
        thread.start()

    async def _leave(self, thread: threading.Thread) -> None:
        # A cut stream asks for the token of its next connection.
        self._is_left = True
        while thread.is_alive():
            self.gateway.cut()
            await asyncio.to_thread(thread.join, QUICK.most)

    def _give_token(self) -> str:
        if self._is_left:
            raise _Left
        return self._token

    def _run(self) -> None:
        error: Exception | None = None
        try:
            with SyncClient(self.gateway.url, token=self._give_token, **self._options()) as client:
                self._follow(client)
        except _Left:
            return
        except Exception as broken:
            error = broken
        self._tell(self._end, error)

    def _follow(self, client: SyncClient) -> None:
        kind, _, task_id = self.topic.partition(":")
        watched = client.inbox().watch() if kind == ME else client.task(task_id).watch()
        for event in watched:
            self._tell(self._take, event)
            if isinstance(event, Resync):
                self._tell(self._reload, [*client.inbox()])

    def _tell(self, note: Callable[[Any], None], what: Any) -> None:
        self._loop.call_soon_threadsafe(note, what)


_names = itertools.count()


class Script(Client):
    """The JavaScript client in a host. After its `token` expires it has the `next_token`."""

    def __init__(
        self,
        system: System,
        user: str,
        topic: str,
        *,
        server: Server,
        host: Host,
        transport: str = "auto",
        next_token: str = "",
        gateway: Gateway | Straight | None = None,
        token: str = "",
    ) -> None:
        super().__init__(system, user, topic, server=server, gateway=gateway, token=token)
        self.form = f"{type(host).__name__} ({transport})"
        self._tokens = [self._token, next_token or self._token]
        self._host = host
        self._transport = transport
        self._id = f"client{next(_names)}"
        self._is_online = False
        self._jobs: set[asyncio.Task[None]] = set()

    async def _begin(self) -> None:
        options = {"backoff": BACKOFF, "transport": self._transport}
        await self._host.open(
            self._id, self.gateway.url, *self._tokens, listen=self._hear, **options
        )
        self._stack.push_async_callback(self._host.end, self._id)
        await self._host.report(self._id, self.topic)

    def _hear(self, told: dict[str, Any]) -> None:
        if "state" in told:
            self._change(told["state"], told["code"])
            return
        event = told["event"]
        self.up = self.up or event["type"] not in ("end", "error")
        self.journal.last_id = event.get("id") or self.journal.last_id
        match event["type"]:
            case "notification":
                self.journal.notify(event["notification"])
            case "progress":
                self.journal.move(event["snapshot"])
            case "finished":
                self.journal.end(self.topic.partition(":")[2])
            case "resync":
                self.journal.resyncs.append(event["reason"])
                if self.topic == ME:
                    self._jobs.add(asyncio.create_task(self._reload(), name="reload"))
            case "end":
                self.ended = True
            case "error":
                self.ended = True
                self.journal.refusal = event["code"]
                if event["code"] is None:
                    self.failed = RuntimeError(event["message"])

    def _change(self, state: str, code: int | None) -> None:
        if self._is_online and code is not None:
            self.journal.codes.append(code)
        self._is_online = state == "online"

    async def _reload(self) -> None:
        listed = "return driver.collect(driver.clients[args[0]].inbox.pages())"
        self.journal.reload(await self._host.run(listed, self._id))
