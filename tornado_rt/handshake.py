"""The opening handshake of a WebSocket, on the server's side (RFC 6455 section 4.2)."""

import base64
import hashlib
import re

from tornado.httputil import HTTPHeaders, HTTPServerRequest

from tornado_rt.problems import Problem
from tornado_rt.work.texts import phrase

VERSION = "13"
# 16 bytes in base64 (RFC 6455 section 4.1).
KEY = re.compile(r"[A-Za-z0-9+/]{22}==")
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nServer: tornado_rt\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\nSec-WebSocket-Accept: %b\r\n%b\r\n"
)


def check_handshake(request: HTTPServerRequest) -> None:
    """Raise Problem for what is no handshake (sections 4.2.1 and 9.1)."""
    headers = request.headers
    if request.version == "HTTP/1.0":
        raise Problem(400, phrase("a WebSocket needs HTTP/1.1"))
    if not _names(headers, "Upgrade", "websocket"):
        raise Problem(426, phrase("this address speaks WebSocket"))
    if not _names(headers, "Connection", "upgrade"):
        raise Problem(400, phrase("Connection must name Upgrade"))
    if headers.get("Sec-WebSocket-Version") != VERSION:
        raise Problem(426, phrase("Sec-WebSocket-Version must be {version}", version=VERSION))
    if not KEY.fullmatch(headers.get("Sec-WebSocket-Key", "")):
        raise Problem(400, phrase("Sec-WebSocket-Key must be 16 bytes in base64, once"))


def offered_subprotocols(headers: HTTPHeaders) -> list[str]:
    """Return the subprotocols that the client offers, the one that it likes most first."""
    offered = headers.get("Sec-WebSocket-Protocol", "")
    return [one.strip() for one in offered.split(",")] if offered else []


def accept_handshake(headers: HTTPHeaders, chosen: dict[str, str | None]) -> bytes:
    """Return the answer to a good handshake, with what was `chosen` of the client's offers.

    Of these headers those that are None are left out.
    """
    key = headers["Sec-WebSocket-Key"].encode()
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    lines = [f"{name}: {value}\r\n" for name, value in chosen.items() if value is not None]
    return ANSWER % (accept, "".join(lines).encode("latin1"))


def _names(headers: HTTPHeaders, header: str, token: str) -> bool:
    """Say whether a header that is a list has this token (RFC 9110 section 5.6.1)."""
    listed = headers.get(header, "").lower()
    return listed == token or token in [one.strip() for one in listed.split(",")]
