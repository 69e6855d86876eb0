"""A client that costs little: requests made beforehand, answers hardly parsed."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import attrs
import orjson

from benchmarks.programs import Failed

HOST = "127.0.0.1"
# Any 16 bytes (RFC 6455 section 4.1).
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TEXT, CLOSE = 1, 8


@attrs.frozen
class Answer:
    """The answer, and its time [s]."""

    status: int
    content: bytes
    seconds: float

    def json(self) -> Any:
        return orjson.loads(self.content)

    def expect(self, status: int) -> "Answer":
        """Return itself. Raise Failed for another status."""
        if self.status != status:
            raise Failed(f"{self.status} instead of {status}")
        return self


def request(method: str, path: str, token: str, body: Any = None) -> bytes:
    """Make the bytes of a request."""
    content = b"" if body is None else orjson.dumps(body)
    kind = "" if body is None else "Content-Type: application/json\r\n"
    length = "" if method in ("GET", "DELETE") else f"Content-Length: {len(content)}\r\n"
    lines = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n"
    return f"{lines}{kind}{length}\r\n".encode() + content


class Link(asyncio.Protocol):
    """One connection that is kept: a request, then its answer, then the next."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._came = b""
        self._sent_at = 0.0
        self._answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._came += data
        head, end, content = self._came.partition(b"\r\n\r\n")
        if end and len(content) >= _content_length(head):
            seconds = time.perf_counter() - self._sent_at
            self._came = b""
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(Answer(int(head[9:12]), content, seconds))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Failed("the connection was lost"))

    async def ask(self, sent: bytes) -> Answer:
        """Send a request, return its answer. Raise Failed."""
        if self._transport is None or self._transport.is_closing():
            raise Failed("the connection was lost")
        self._answer = asyncio.get_running_loop().create_future()
        self._sent_at = time.perf_counter()
        self._transport.write(sent)
        return await self._answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _content_length(head: bytes) -> int:
    """Return it; 0 for an answer that has none (204)."""
    value = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
    return int(value or 0)


@asynccontextmanager
async def linked(port: int, count: int = 1) -> AsyncIterator[list[Link]]:
    """Open connections for the block."""
    loop = asyncio.get_running_loop()
    links = [(await loop.create_connection(Link, HOST, port))[1] for _ in range(count)]
    try:
        yield links
    finally:
        for link in links:
            link.close()


@attrs.frozen
class Socket:
    """A WebSocket that only reads."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def message(self) -> dict[str, Any]:
        """Return the next message. Raise Failed when the server closes."""
        while True:
            opcode, content = await self._frame()
            if opcode == TEXT:
                message: dict[str, Any] = orjson.loads(content)
                return message
            if opcode == CLOSE:
                raise Failed(f"the socket was closed: {content!r}")

    async def message_of(self, type_: str) -> dict[str, Any]:
        """Return the next message of a type."""
        while (message := await self.message())["type"] != type_:
            pass
        return message

    async def _frame(self) -> tuple[int, bytes]:
        first, size = await self.reader.readexactly(2)
        if size in (126, 127):
            size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8))
        return first & 0x0F, await self.reader.readexactly(size)


@asynccontextmanager
async def socket(port: int, path: str, token: str) -> AsyncIterator[Socket]:
    """Open a WebSocket for the block. Raise Failed."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        asked = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        head = request("GET", path, token).removesuffix(b"\r\n")
        writer.write(head + f"{asked}Sec-WebSocket-Key: {KEY}\r\n\r\n".encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in answer[:13]:
            raise Failed(f"no WebSocket: {answer[:100]!r}")
        yield Socket(reader, writer)
    finally:
        writer.close()
