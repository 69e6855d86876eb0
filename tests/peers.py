"""WebSocket clients that write whatever bytes they like, over TCP or TLS, to see every frame."""

import asyncio
import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
import struct
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.realtime import Realtime

FIN, RSV1 = 0x80, 0x40
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


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
    """An open WebSocket; `extensions` is what the server agreed on."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    extensions: str = ""

    @classmethod
    async def open(
        cls,
        core: Realtime,
        token: str,
        *,
        behind: bytes = b"",
        extensions: str = "",
        receive_bytes: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> "Peer":
        """Connect; send `behind` in one piece with the handshake."""
        sock = socket.socket()
        if receive_bytes:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.connect(("127.0.0.1", core.port))
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=tls, server_hostname="localhost" if tls else None, limit=2**16
        )
        lines = [
            "GET /ws HTTP/1.1",
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            f"Authorization: Bearer {token}",
            *([f"Sec-WebSocket-Extensions: {extensions}"] if extensions else []),
        ]
        writer.write("\r\n".join([*lines, "", ""]).encode() + behind)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        assert head[0].split()[1] == "101", head[0]
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        return cls(reader, writer, headers.get("Sec-Websocket-Extensions", ""))

    async def frame(self) -> tuple[int, bytes]:
        """Return the first byte and the payload of the next frame. Raise EOFError at the end."""
        first, size = await self.reader.readexactly(2)
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first, await self.reader.readexactly(size)

    async def frame_of(self, opcode: int, within: bytes = b"") -> bytes:
        """Return the payload of the next frame of a kind that holds `within`."""
        while True:
            first, payload = await self.frame()
            if first & 15 == opcode and within in payload:
                return payload

    async def close_code(self) -> int:
        """Read up to the close frame; return its code."""
        code: int = struct.unpack("!H", (await self.frame_of(CLOSE))[:2])[0]
        return code

    def send(self, *frames: bytes) -> None:
        self.writer.write(b"".join(frames))

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


def make_certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Make a certificate for localhost; return the contexts of its server and of its clients."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cafile=str(path))
