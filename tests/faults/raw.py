"""Peers that misbehave: bare sockets that read slowly, vanish without a word, or reset."""

import asyncio
import base64
import contextlib
import ctypes
import json
import os
import socket
import struct
from typing import Any, Self

import attrs

# A socket option of Linux that Python does not name.
SO_ATTACH_FILTER = 26
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort),
        ("jt", ctypes.c_ubyte),
        ("jf", ctypes.c_ubyte),
        ("k", ctypes.c_uint),
    )


def vanish(sock: Any) -> None:
    """Drop every packet that comes from now on, as a cut cable does: nothing is acknowledged."""
    # A classic BPF program of one instruction: return 0, keep no byte (socket(7)).
    program = (_Instruction * 1)(_Instruction(0x06, 0, 0, 0))
    sock.setsockopt(
        socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", 1, ctypes.addressof(program))
    )


def reset_at_close(sock: Any) -> None:
    """Have the next close send RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def request(path: str, token: str, *headers: str) -> bytes:
    """Return the head of a GET."""
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def upgrade(path: str, token: str) -> bytes:
    """Return the head of a WebSocket's handshake (RFC 6455 section 4.1)."""
    key = base64.b64encode(os.urandom(16)).decode()
    return request(
        path,
        token,
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    )


@attrs.define
class RawSocket:
    """A WebSocket client over a bare socket, light enough to have thousands."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    code: int | None = None

    @property
    def socket(self) -> Any:
        """The socket below."""
        return self.writer.get_extra_info("socket")

    async def message(self) -> dict[str, Any] | None:
        """Return the next message; None at the end, with the close code in `code`."""
        while True:
            try:
                opcode, payload = await self._frame()
            except (EOFError, OSError):
                return None
            if opcode == TEXT:
                decoded: dict[str, Any] = json.loads(payload)
                return decoded
            if opcode == PING:
                self.writer.write(b"\x8a\x80" + os.urandom(4))
            elif opcode == CLOSE:
                self.code = struct.unpack("!H", payload[:2])[0]
                return None

    async def message_of(self, type_: str) -> dict[str, Any]:
        """Return the next message of one type. Raise ConnectionError at the end."""
        while message := await self.message():
            if message["type"] == type_:
                return message
        raise ConnectionError(f"closed with {self.code}")

    async def close(self) -> None:
        """Close without a close frame."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def _frame(self) -> tuple[int, bytes]:
        first, size = await self.reader.readexactly(2)
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 0x0F, await self.reader.readexactly(size)


class Peers:
    """Bare connections; all that are left are closed at the end."""

    def __init__(self) -> None:
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(one.wait_closed() for one in self._writers), return_exceptions=True)

    async def connect(self, port: int, receive_bytes: int = 0) -> Streams:
        """Connect to a server; `receive_bytes` bounds what is taken unread (0: the usual)."""
        sock = socket.socket()
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        try:
            sock.connect(("127.0.0.1", port))
        except OSError:
            sock.close()
            raise
        reader, writer = await asyncio.open_connection(sock=sock, limit=receive_bytes or 2**16)
        self._writers.append(writer)
        return reader, writer

    async def open(self, port: int, path: str, token: str, receive_bytes: int = 0) -> RawSocket:
        """Open a WebSocket. Raise OSError or EOFError when that fails."""
        reader, writer = await self.connect(port, receive_bytes)
        writer.write(upgrade(path, token))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(head.decode())
        return RawSocket(reader, writer)
