"""The address that a client is given: a relay to whatever server runs, as a load balancer is."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Self

import attrs

from tests.faults.system import Server

# Marks of a request that follows something, by a WebSocket or an event stream; in small letters.
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

    `connections` counts requests that follow something. `server` is where the last one of them is.
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
        # A job may have ended before it began.
        await asyncio.gather(*map(_end, self._writers))

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
        self._writers.add(writer)
        job = asyncio.create_task(self._serve(reader, writer), name="gateway")
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(OSError, EOFError):
                await self._relay(reader, writer)
        finally:
            await _end(writer)
            self._writers.discard(writer)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, server, before = await reader.read(PIECE), self.server, self.connections
        self._count(head)
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", server.port)
        except OSError:
            self._leave(server)
            raise
        self._writers.add(to_server)
        try:
            to_server.write(head)
            await asyncio.gather(_copy(reader, to_server, self._count), _copy(from_server, writer))
        finally:
            if self.connections > before:
                self._leave(server)
            await _end(to_server)
            self._writers.discard(to_server)

    def _count(self, piece: bytes) -> None:
        """Count the requests that follow something: a connection may have many."""
        self.connections += any(one in piece.lower() for one in FOLLOWS)

    def _leave(self, server: Server) -> None:
        """Bring those who come next to another server, unless that is so already."""
        servers = self._servers()
        if server is self.server:
            at = servers.index(server) if server in servers else 0
            self.server = servers[(at + 1) % len(servers)]


async def _end(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def _copy(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    look: Callable[[bytes], None] = lambda _: None,
) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE):
            look(piece)
            writer.write(piece)
            await writer.drain()
    writer.close()
