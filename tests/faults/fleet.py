"""Makes clients of every form. Those in JavaScript share a process of Node, and a browser."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from playwright.async_api import Browser

from tests.faults.clients import AsyncPython, Client, Script, SyncPython
from tests.faults.gateway import Gateway
from tests.faults.hosts import Chromium, Node, chromium
from tests.faults.system import Server, System


class Form(StrEnum):
    """Where a client runs, and over what."""

    NODE = "Node, by a WebSocket"
    NODE_STREAM = "Node, by an event stream"
    CHROMIUM = "Chromium"
    ASYNC = "asynchronous Python"
    SYNC = "synchronous Python"


# The forms of the two clients that each user has.
PAIRS = ((Form.NODE, Form.ASYNC), (Form.CHROMIUM, Form.SYNC), (Form.NODE, Form.NODE_STREAM))
# A page takes long to open; it is there for those who stay.
WATCHING = (Form.NODE, Form.NODE_STREAM, Form.ASYNC, Form.SYNC)
# Servers of the versions before the topics have only these.
OLD = (Form.ASYNC, Form.SYNC)


class Fleet:
    """The clients of a system; `package` has the JavaScript client installed."""

    def __init__(self, system: System, package: Path) -> None:
        self._system = system
        self._package = package
        self._stack = contextlib.AsyncExitStack()
        self._making = asyncio.Lock()
        self._node: Node | None = None
        self._browser: Browser | None = None
        # Pages that are free, each with the address that it was loaded from.
        self._pages: list[tuple[Chromium, Gateway]] = []

    async def __aenter__(self) -> Self:
        self._system.fleet = self
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @contextlib.asynccontextmanager
    async def following(
        self, form: Form, user: str, topic: str, *, server: Server, **options: Any
    ) -> AsyncIterator[Client]:
        """Have a client follow a topic, `me` or `task:ID`; it begins at this server."""
        async with self._client(form, user, topic, server=server, **options) as client, client:
            yield client

    @contextlib.asynccontextmanager
    async def node(self) -> AsyncIterator[Node]:
        """Have a process of Node of one's own."""
        async with Node(self._package) as node:
            yield node

    @contextlib.asynccontextmanager
    async def _client(
        self, form: Form, user: str, topic: str, **options: Any
    ) -> AsyncIterator[Client]:
        match form:
            case Form.ASYNC:
                yield AsyncPython(self._system, user, topic, **options)
            case Form.SYNC:
                yield SyncPython(self._system, user, topic, **options)
            case Form.CHROMIUM:
                async with self._page(options["server"]) as (host, gateway):
                    yield Script(self._system, user, topic, host=host, gateway=gateway, **options)
            case _:
                transport = "stream" if form is Form.NODE_STREAM else "socket"
                host = await self._shared_node()
                yield Script(self._system, user, topic, host=host, transport=transport, **options)

    async def _shared_node(self) -> Node:
        async with self._making:
            if self._node is None:
                self._node = await self._stack.enter_async_context(Node(self._package))
        return self._node

    @contextlib.asynccontextmanager
    async def _page(self, server: Server) -> AsyncIterator[tuple[Chromium, Gateway]]:
        """Lend a page, which is loaded from a server if none is free."""
        async with self._making:
            if self._browser is None:
                self._browser = await self._stack.enter_async_context(chromium())
        if self._pages:
            host, gateway = self._pages.pop()
            gateway.begin(server)
        else:
            gateway = Gateway(lambda: self._system.servers, server)
            await self._stack.enter_async_context(gateway)
            host = await Chromium.load(self._browser, gateway.url)
        yield host, gateway
        self._pages.append((host, gateway))
