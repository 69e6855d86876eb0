"""Addresses of receivers: how they are written, and which may be connected to.

An address is its owner's word, so it may name this machine, its network, or a receiver that never
answers. Each name is looked up anew at each attempt, all of its addresses are checked, and only
checked ones are connected to: no redirect is followed, and no proxy of the environment is asked.
"""

import asyncio
import ipaddress
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from tornado.netutil import Resolver

from tornado_rt.bounds import OutOfBounds
from tornado_rt.work.texts import phrase

URL_LENGTH = 2000
HOST_LENGTH = 253
# A name server that hangs keeps a thread after its attempt has given up, for up to half a minute.
LOOKUP_THREADS = 64
LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
HOST_NAME = re.compile(rf"{LABEL}(\.{LABEL})*\.?")
# The brackets of an IPv6 address enclose all of the host (RFC 3986 section 3.2.2).
AUTHORITY = re.compile(r"(\[[0-9A-Fa-f.]*:[0-9A-Fa-f.:]*\]|[^\[\]:]+)(:[0-9]*)?")
# Addresses that stand for others, which may be private ones: NAT64 (RFC 6052, RFC 8215), 6to4
# (RFC 3056) and its relays (RFC 7526), Teredo (RFC 4380), IPv4-compatible (RFC 4291).
# Then those that Python takes for public: protocol assignments, among them the metadata of Oracle's
# cloud (RFC 6890), the second range of documentation (RFC 9637), and what Azure tells its machines.
SPECIAL = [
    ipaddress.ip_network(text)
    for text in (
        *("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "192.88.99.0/24"),
        *("2001::/32", "::/96"),
        *("192.0.0.0/24", "3fff::/20", "168.63.129.16/32"),
    )
]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotPublic(ValueError):
    """A receiver is on this machine, in a private network, or at another special address."""


def check_address(name: str, url: str) -> None:
    """Raise OutOfBounds unless it is an http(s) address with a host and without a password.

    `name` is what the message calls it.
    """
    if not 0 < len(url) <= URL_LENGTH:
        raise OutOfBounds(
            phrase(
                "{name} must have {least} to {most} characters", name=name, least=1, most=URL_LENGTH
            )
        )
    if not all("!" <= one <= "~" for one in url) or "\\" in url:
        raise OutOfBounds(
            phrase("{name} must be ASCII, without spaces, backslashes and line breaks", name=name)
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise OutOfBounds(phrase("{name} must have a valid host and port", name=name)) from None
    if parts.scheme not in ("http", "https") or not host:
        raise OutOfBounds(phrase("{name} must be an http(s) address", name=name))
    if parts.username is not None or parts.password is not None:
        raise OutOfBounds(phrase("{name} must not hold a user name or password", name=name))
    if port == 0 or not AUTHORITY.fullmatch(parts.netloc) or not _is_host(host):
        raise OutOfBounds(phrase("{name} must have a valid host and port", name=name))


def _is_host(host: str) -> bool:
    if ":" not in host:
        return len(host) <= HOST_LENGTH and HOST_NAME.fullmatch(host) is not None
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


def host_of(url: str) -> str:
    """Return one spelling of a receiver's name."""
    return (urlsplit(url).hostname or "").rstrip(".")


class CheckedResolver(Resolver):
    """Looks names up, and answers only when all of their addresses may be connected to."""

    def initialize(self, allow_private: bool) -> None:
        self._allow_private = allow_private
        # Of its own: a name server that hangs holds up nobody else's threads.
        self._executor = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="receiver-lookup")

    async def resolve(
        self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[tuple[int, Any]]:
        """Return the addresses. Raise NotPublic, or OSError when there are none."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._executor, _look_up, host, port, family)
        for _, address in found:
            if not self._allow_private and not is_public(ipaddress.ip_address(address[0])):
                raise NotPublic(phrase("the receiver is not at a public address"))
        return found

    def close(self) -> None:
        """Let go of the threads."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int, family: socket.AddressFamily) -> list[tuple[int, Any]]:
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    return [(family, address) for family, *_, address in found]


def is_public(address: Address) -> bool:
    """Say whether an address is anybody's on the Internet (IANA special-purpose registries)."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address.scope_id is not None or address.is_site_local:
            return False
    special = address.is_multicast or address.is_reserved or address.is_unspecified
    special = special or any(address in network for network in SPECIAL)
    return address.is_global and not special
