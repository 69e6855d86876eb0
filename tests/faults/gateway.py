"""The address that a client is given: a relay to whatever server runs, as a load balancer is."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Self

import attrs

from tests.faults.system import Server

# What a request has that follows something, a WebSocket or an event stream; in small letters.
FOLLOWS = (b"upgrade: websocket", b"accept: text/event-stream")
PIECE = 65536


@attrs.define
class Straight:
    """The address of one server itself; nobody counts the connections."""

    server: Server
    connections: int = 0

    @property
    def url(self) -> str:
        """The address."""
        return self.server.url

    def cut(self) -> None:
        """Leave all connections as they are."""


class Gateway:
    """Brings each connection to one server, and after a lost one the next ones to another.

    `connections` counts those that follow something. `server` is where the last one of them is.
    """

    def __init__(self, servers: Callable[[], Sequence[Server]], server: Server) -> None:
        self.server = server
        self.connections = 0
        self._servers = servers
        self._writers: set[asyncio.StreamWriter] = set()
        self._jobs: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)

    def begin(self, server: Server) -> None:
        """Begin anew, at this server."""
        self.server = server
        self.connections = 0

    @property
    def url(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        job = asyncio.create_task(self._serve(reader, writer), name="gateway")
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, EOFError):
                await self._relay(reader, writer)
        finally:
            writer.transport.abort()
            self._writers.discard(writer)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        server, follows = self.server, any(one in head.lower() for one in FOLLOWS)
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", server.port)
        except OSError:
            self._leave(server)
            raise
        self._writers.add(to_server)
        self.connections += follows
        try:
            to_server.write(head)
            await asyncio.gather(_copy(reader, to_server), _copy(from_server, writer))
        finally:
            to_server.transport.abort()
            self._writers.discard(to_server)
            if follows:
                self._leave(server)

    def _leave(self, server: Server) -> None:
        """Bring those who come next to another server, unless that is so already."""
        servers = self._servers()
        if server is self.server:
            at = servers.index(server) if server in servers else 0
            self.server = servers[(at + 1) % len(servers)]


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
    writer.close()
