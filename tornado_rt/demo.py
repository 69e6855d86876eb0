"""When the page may log in without a password: for this machine's own users, asking directly.

No rule here trusts what a client or a proxy writes: what they write can only close the door.
"""

import contextlib
import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

from tornado.httputil import HTTPServerRequest

from settings import Settings

LOOPBACK_NAMES = {"localhost", "127.0.0.1", "::1"}
# Sent by browsers and plain clients themselves. A header that is not here may be a proxy's: no
# list of those is ever complete (Forwarded, Via, X-Real-Ip, CF-Connecting-IP, Fly-Client-IP, ...).
DIRECT_HEADERS = {
    *("accept", "accept-charset", "accept-encoding", "accept-language", "authorization"),
    *("baggage", "cache-control", "connection", "content-encoding", "content-length"),
    *("content-type", "cookie", "date", "dnt", "expect", "from", "host", "http2-settings"),
    *("idempotency-key", "keep-alive", "last-event-id", "origin", "pragma", "priority"),
    *("purpose", "range", "referer", "save-data", "te", "traceparent", "tracestate", "trailer"),
    *("transfer-encoding", "upgrade", "upgrade-insecure-requests", "user-agent"),
    "x-requested-with",
}
DIRECT_PREFIXES = ("sec-", "if-", "access-control-request-")


def demo_refusal(settings: Settings) -> str:
    """Return why the demo login is off; empty when it is on."""
    if not settings.auth.demo_login:
        return "demo_login is not set"
    if settings.auth.jwt_secret or settings.auth.jwt_public_key or settings.auth.jwt_jwks_url:
        return "a secret or key is configured"
    if settings.server.trust_proxy_headers:
        return "trust_proxy_headers is set"
    return (
        ""
        if is_loopback(settings.server.host)
        else f"{settings.server.host} is not a loopback address"
    )


def asks_directly(request: HTTPServerRequest) -> bool:
    """Say whether this comes from this machine's own user, and through no proxy that can be told.

    Another name for this machine may be a hostile page's (DNS rebinding).
    """
    connection: Any = request.connection
    # A proxy that passes on as little as it can speaks HTTP/1.0, or leaves the target in absolute
    # form; no browser does.
    return (
        request.version != "HTTP/1.0"
        and not getattr(connection, "in_absolute_form", False)
        and _is_peer_here(connection.stream.socket)
        and all(_is_direct(name) for name in request.headers)
        and all(map(_names_loopback, _addresses(request)))
    )


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches the address."""
    if host.lower() == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _is_peer_here(sock: socket.socket | None) -> bool:
    """Ask the socket: `remote_ip` may be what a header says. Behind a Unix socket is a proxy."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    with contextlib.suppress(OSError):
        return is_loopback(sock.getpeername()[0])
    return False


def _is_direct(header: str) -> bool:
    name = header.lower()
    return name in DIRECT_HEADERS or name.startswith(DIRECT_PREFIXES)


def _addresses(request: HTTPServerRequest) -> list[str]:
    """Return the names of the server and of the pages that the client says it comes from."""
    pages = (request.headers.get(name) for name in ("Origin", "Referer"))
    return [f"//{request.headers.get('Host', '')}", *(page for page in pages if page is not None)]


def _names_loopback(address: str) -> bool:
    try:
        return urlsplit(address).hostname in LOOPBACK_NAMES
    except ValueError:
        return False
