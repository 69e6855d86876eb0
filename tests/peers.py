"""WebSocket clients that write whatever bytes they like, over TCP or TLS, to see every frame."""

import asyncio
import base64
import contextlib
import json
import os
import socket
import ssl
import struct
from typing import Any, Self

import attrs

FIN, RSV1 = 0x80, 0x40
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(port: int, receive_bytes: int = 0, tls: ssl.SSLContext | None = None) -> Streams:
    """Connect to a server; `receive_bytes` bounds what is taken unread (0: the usual)."""
    sock = socket.socket()
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    try:
        sock.connect(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    hostname = "127.0.0.1" if tls else None
    return await asyncio.open_connection(
        sock=sock, ssl=tls, server_hostname=hostname, limit=receive_bytes or 2**16
    )


def request(path: str, token: str, *headers: str) -> bytes:
    """Return the head of a GET."""
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {token}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def upgrade(path: str, token: str, *headers: str) -> bytes:
    """Return the head of a WebSocket's handshake (RFC 6455 section 4.1)."""
    return request(path, token, *handshake_headers(), *headers)


def handshake_headers() -> list[str]:
    """Return the lines that make a GET a handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    return [
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
    ]


def read_until(opened: socket.socket, text: bytes) -> bytes:
    """Read from a plain socket up to a text, and perhaps more; return all of it."""
    received = b""
    while text not in received:
        part = opened.recv(65536)
        assert part, received
        received += part
    return received


def client_frame(opcode: int, payload: bytes = b"", bits: int = FIN, masked: bool = True) -> bytes:
    """Return a frame of a client (RFC 6455 section 5.2)."""
    mask_bit, size = 0x80 * masked, len(payload)
    if size < 126:
        head = struct.pack("!BB", bits | opcode, mask_bit | size)
    elif size < 65536:
        head = struct.pack("!BBH", bits | opcode, mask_bit | 126, size)
    else:
        head = struct.pack("!BBQ", bits | opcode, mask_bit | 127, size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


@attrs.define
class Peer:
    """A WebSocket client over a bare socket, light enough to have thousands.

    `extensions` is what the server agreed on, `code` that of its close frame.
    """

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    extensions: str = ""
    code: int | None = None

    @classmethod
    async def open(
        cls,
        port: int,
        path: str,
        token: str,
        *,
        behind: bytes = b"",
        extensions: str = "",
        receive_bytes: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """Connect, and open a WebSocket."""
        peer = cls(*await connect(port, receive_bytes, tls))
        await peer.handshake(path, token, behind=behind, extensions=extensions)
        return peer

    @property
    def socket(self) -> Any:
        """The socket below."""
        return self.writer.get_extra_info("socket")

    async def handshake(
        self, path: str, token: str, *, behind: bytes = b"", extensions: str = ""
    ) -> None:
        """Ask for a WebSocket; send `behind` in one piece with that.

        Raise OSError or EOFError when there is none.
        """
        offer = [f"Sec-WebSocket-Extensions: {extensions}"] if extensions else []
        self.send(upgrade(path, token, *offer), behind)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        if not head.startswith("HTTP/1.1 101"):
            raise ConnectionError(head)
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        self.extensions = headers.get("sec-websocket-extensions", "")

    async def frame(self) -> tuple[int, bytes]:
        """Return the first byte and the payload of the next frame. Raise EOFError at the end."""
        first, size = await self.reader.readexactly(2)
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        payload = await self.reader.readexactly(size)
        if first & 15 == CLOSE:
            (self.code,) = struct.unpack("!H", payload[:2])
        return first, payload

    async def frame_of(self, opcode: int, within: bytes = b"") -> bytes:
        """Return the payload of the next frame of a kind that holds `within`."""
        while True:
            first, payload = await self.frame()
            if first & 15 == opcode and within in payload:
                return payload

    async def close_code(self) -> int | None:
        """Read up to the close frame; return its code."""
        await self.frame_of(CLOSE)
        return self.code

    async def message(self) -> dict[str, Any] | None:
        """Return the next message, and answer pings before it; None at the end."""
        with contextlib.suppress(EOFError, OSError):
            while self.code is None:
                first, payload = await self.frame()
                if first & 15 == TEXT:
                    decoded: dict[str, Any] = json.loads(payload)
                    return decoded
                if first & 15 == PING:
                    self.send(client_frame(PONG, payload))
        return None

    async def message_of(self, type_: str) -> dict[str, Any]:
        """Return the next message of one type. Raise ConnectionError at the end."""
        while message := await self.message():
            if message["type"] == type_:
                return message
        raise ConnectionError(f"closed with {self.code}")

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    async def close(self) -> None:
        """Close without a close frame."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


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

    async def connect(self, port: int) -> Streams:
        """Connect to a server, as `connect` does."""
        reader, writer = await connect(port)
        self._writers.append(writer)
        return reader, writer

    async def open(self, port: int, path: str, token: str) -> Peer:
        """Open a WebSocket. Raise OSError or EOFError when that fails."""
        peer = Peer(*await self.connect(port))
        await peer.handshake(path, token)
        return peer
