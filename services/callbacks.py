"""Callbacks: the end of a task, posted to an address that its submitter named."""

import asyncio
import ipaddress
import socket
from typing import Any
from urllib.parse import urlsplit

import orjson
import structlog
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

log = structlog.get_logger(__name__)

URL_LENGTH = 2000
ATTEMPTS = 3
BACKOFF_SECONDS = 1.0
TIMEOUT_SECONDS = 5.0
WAITING = 1000
# So that one receiver that is slow to answer does not hold up everybody's.
AT_ONCE = 8
# Addresses that hold an IPv4 address, which may be a private one (RFC 6052, RFC 3056).
TUNNELS = [ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("2002::/16")]


def validate_callback_url(url: str) -> None:
    """Raise ValueError unless it is an http(s) address with a host and without a password."""
    parts = urlsplit(url)
    if len(url) > URL_LENGTH or not url.isprintable():
        raise ValueError(f"callback_url must have at most {URL_LENGTH} printable characters")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("callback_url must be an http(s) address")
    if parts.username is not None or parts.password is not None:
        raise ValueError("callback_url must not hold a user name or password")


class CallbackSender:
    """Posts at most 3 times each, some at once, and forgets what the queue cannot hold.

    Addresses of this machine and of private networks are refused unless `allow_private`. The name
    is looked up again to connect: against a name server that answers differently the second time
    only a firewall helps.
    """

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._waiting: asyncio.Queue[tuple[str, str, dict[str, Any]]] = asyncio.Queue(WAITING)

    def send(self, url: str, event_id: str, event: dict[str, Any]) -> None:
        """Post an event soon."""
        try:
            self._waiting.put_nowait((url, event_id, event))
        except asyncio.QueueFull:
            log.warning("callback_dropped", event_id=event_id)

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._send_waiting())

    async def _send_waiting(self) -> None:
        while True:
            url, event_id, event = await self._waiting.get()
            await self._try(url, event_id, event)

    async def _try(self, url: str, event_id: str, event: dict[str, Any]) -> None:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._check_address(url)
                await AsyncHTTPClient().fetch(_request(url, event_id, event))
                return
            except (HTTPClientError, OSError, ValueError) as error:
                log.warning("callback_failed", event_id=event_id, attempt=attempt, error=str(error))
            if attempt < ATTEMPTS:
                await asyncio.sleep(BACKOFF_SECONDS * 2 ** (attempt - 1))

    async def _check_address(self, url: str) -> None:
        if self._allow_private:
            return
        parts = urlsplit(url)
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
        for *_, address in found:
            if not _is_public(ipaddress.ip_address(address[0])):
                raise ValueError("the address is not a public one")


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    tunnelled = any(address in network for network in TUNNELS)
    return address.is_global and not address.is_multicast and not tunnelled


def _request(url: str, event_id: str, event: dict[str, Any]) -> HTTPRequest:
    return HTTPRequest(
        url,
        method="POST",
        headers={"Content-Type": "application/json", "X-Event-Id": event_id},
        body=orjson.dumps(event),
        follow_redirects=False,
        connect_timeout=TIMEOUT_SECONDS,
        request_timeout=TIMEOUT_SECONDS,
    )
