"""Callbacks: the end of a task, posted to an address that its submitter named.

The address is the submitter's word, so it may name this machine, its network, or a receiver that
never answers. Each name is looked up once, all of its addresses are checked, and only checked ones
are connected to.
"""

import asyncio
import ipaddress
import re
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import attrs
import orjson
import structlog
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.netutil import Resolver
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from tornado_rt.metrics import Metrics
from tornado_rt.turns import Turns
from tornado_rt.work import clean_text

log = structlog.get_logger(__name__)

URL_LENGTH = 2000
HOST_LENGTH = 253
ATTEMPTS = 3
BACKOFF_SECONDS = 1.0
# The longest wait that a receiver may ask for with `Retry-After`.
MOST_RETRY_AFTER_SECONDS = 60.0
# From the look-up of the name to the end of the answer.
TIMEOUT_SECONDS = 5.0
WAITING = 1000
WAITING_BYTES = 32 * 1024 * 1024
AT_ONCE = 8
# At once of one user, and to one host.
AT_ONCE_EACH = 2
# A name server that hangs keeps a thread after its callback has given up, for up to half a minute.
LOOKUP_THREADS = 64
# More of an answer is not read.
ANSWER_BYTES = 65536
ANSWER_HEADER_BYTES = 16384
# Answers that say that a later attempt may succeed (RFC 9110 section 15.5, RFC 6585 section 4).
PASSING = {408, 425, 429}
# Tornado's own, for a connection that failed or took too long.
NO_ANSWER = 599
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


def validate_callback_url(url: str) -> None:
    """Raise ValueError unless it is an http(s) address with a host and without a password."""
    if not 0 < len(url) <= URL_LENGTH:
        raise ValueError(f"callback_url must have 1 to {URL_LENGTH} characters")
    if not all("!" <= one <= "~" for one in url) or "\\" in url:
        raise ValueError("callback_url must be ASCII, without spaces, backslashes and line breaks")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("callback_url must have a valid host and port") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("callback_url must be an http(s) address")
    if parts.username is not None or parts.password is not None:
        raise ValueError("callback_url must not hold a user name or password")
    if port == 0 or not AUTHORITY.fullmatch(parts.netloc) or not _is_host(host):
        raise ValueError("callback_url must have a valid host and port")


def _is_host(host: str) -> bool:
    if ":" not in host:
        return len(host) <= HOST_LENGTH and HOST_NAME.fullmatch(host) is not None
    try:
        return ipaddress.IPv6Address(host).scope_id is None
    except ValueError:
        return False


@attrs.frozen
class _Callback:
    """One event that is to be posted."""

    user_id: str
    url: str
    event_id: str
    body: bytes


# Gets the user, the event's id and why its callback was given up, in words for that user.
GaveUp = Callable[[str, str, str], Awaitable[None]]


class CallbackSender:
    """Posts each event at most 3 times; forgets what is over a bound, and what waits at its end.

    Users are served in turns, 2 at once of one user and to one host. Of a user at most
    `most_waiting_a_user` wait (0: any number); while 1,000 or 32 MiB wait in all, one more of those
    users who have none. Private and other special addresses are refused unless `allow_private`.
    """

    def __init__(
        self,
        *,
        allow_private: bool,
        most_waiting_a_user: int = 100,
        gave_up: GaveUp | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._allow_private = allow_private
        self._most_waiting_a_user = most_waiting_a_user
        self._gave_up = gave_up
        self._sent = (metrics or Metrics()).callbacks
        self._turns = Turns(AT_ONCE, AT_ONCE_EACH)
        self._given: asyncio.Queue[_Callback] = asyncio.Queue()
        self._waiting_of: Counter[str] = Counter()
        self._in_all = 0
        self._bytes = 0

    def send(self, user_id: str, url: str, event_id: str, event: dict[str, Any]) -> None:
        """Post an event soon."""
        try:
            body = orjson.dumps(event)
        except TypeError:
            self._sent.labels("failed").inc()
            log.exception("callback_lost", event_id=event_id)
            return
        own = self._waiting_of[user_id]
        over = 0 < self._most_waiting_a_user <= own
        if over or (own and (self._in_all >= WAITING or self._bytes >= WAITING_BYTES)):
            self._sent.labels("dropped").inc()
            log.warning("callback_dropped", event_id=event_id, user_id=user_id, waiting=own)
            return
        self._waiting_of[user_id] += 1
        self._in_all += 1
        self._bytes += len(body)
        self._given.put_nowait(_Callback(user_id, url, event_id, body))

    async def run(self) -> None:
        """Send what waits, until cancelled."""
        resolver = CheckedResolver(self._allow_private)
        client = SimpleAsyncHTTPClient(
            force_instance=True,
            max_clients=AT_ONCE,
            resolver=resolver,
            max_header_size=ANSWER_HEADER_BYTES,
            max_body_size=ANSWER_BYTES,
        )
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    group.create_task(self._deliver(client, await self._given.get()))
        finally:
            client.close()
            resolver.close()

    async def _deliver(self, client: SimpleAsyncHTTPClient, callback: _Callback) -> None:
        try:
            failure = await self._try(client, callback)
            self._sent.labels("failed" if failure else "sent").inc()
            if failure is not None and self._gave_up is not None:
                await self._gave_up(callback.user_id, callback.event_id, _in_words(failure))
        except Exception:
            log.exception("callback_lost", event_id=callback.event_id)
        finally:
            self._in_all -= 1
            self._bytes -= len(callback.body)
            self._waiting_of[callback.user_id] -= 1
            if not self._waiting_of[callback.user_id]:
                del self._waiting_of[callback.user_id]

    async def _try(self, client: SimpleAsyncHTTPClient, callback: _Callback) -> Exception | None:
        """Post it; return the last failure when it was given up."""
        for attempt in range(1, ATTEMPTS + 1):
            failure = await self._post_in_turn(client, callback)
            if failure is None:
                return None
            final = _is_final(failure)
            reason = clean_text(f"{type(failure).__name__}: {clean_text(failure, 300)}", 300)
            about = {"event_id": callback.event_id, "attempt": attempt, "final": final}
            log.warning("callback_failed", **about, user_id=callback.user_id, error=reason)
            if final or attempt == ATTEMPTS:
                return failure
            backoff = BACKOFF_SECONDS * 2 ** (attempt - 1)
            await asyncio.sleep(max(backoff, _asked_wait(failure)))
        return None

    async def _post_in_turn(
        self, client: SimpleAsyncHTTPClient, callback: _Callback
    ) -> Exception | None:
        """Return what went wrong, of whatever type: the next entry is another."""
        try:
            async with self._turns.turn(f"user:{callback.user_id}", f"host:{_host(callback.url)}"):
                await _post(client, callback)
        except Exception as error:
            return error
        return None


def _host(url: str) -> str:
    """Return one spelling of a receiver's name."""
    return (urlsplit(url).hostname or "").rstrip(".")


def _in_words(failure: Exception) -> str:
    """Say why a callback was given up; nothing of our network, which is not the submitter's."""
    if isinstance(failure, HTTPClientError) and failure.code != NO_ANSWER:
        return f"not sent: the receiver answered {failure.code}"
    if isinstance(failure, ValueError):
        return f"not sent: {failure}"
    return "not sent: the receiver cannot be reached"


def _is_final(error: Exception) -> bool:
    if isinstance(error, HTTPClientError):
        return 300 <= error.code < 500 and error.code not in PASSING
    # An address that is not understood or not allowed stays so; an outage passes.
    return not isinstance(error, OSError)


def _asked_wait(failure: Exception) -> float:
    """Return for how long the receiver asks to be left alone; 0 when it does not say."""
    response = failure.response if isinstance(failure, HTTPClientError) else None
    return 0.0 if response is None else seconds_of(response.headers.get("Retry-After", ""))


def seconds_of(retry_after: str) -> float:
    """Return what `Retry-After` asks for (RFC 9110 section 10.2.3), up to a minute."""
    if retry_after.isascii() and retry_after.isdecimal():
        # Of more digits the first say enough.
        asked = float(retry_after[:9])
    else:
        try:
            moment = parsedate_to_datetime(retry_after)
            asked = (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, OverflowError):
            return 0.0
    return min(max(asked, 0.0), MOST_RETRY_AFTER_SECONDS)


async def _post(client: SimpleAsyncHTTPClient, callback: _Callback) -> None:
    validate_callback_url(callback.url)
    heads: list[str] = []
    parts = urlsplit(callback.url)
    request = HTTPRequest(
        # A colon without a port is a good address that Tornado takes for a part of the name.
        parts._replace(netloc=parts.netloc.removesuffix(":")).geturl(),
        method="POST",
        headers={"Content-Type": "application/json", "X-Event-Id": callback.event_id},
        body=callback.body,
        follow_redirects=False,
        connect_timeout=TIMEOUT_SECONDS,
        request_timeout=TIMEOUT_SECONDS,
        header_callback=heads.append,
        # The rest of an answer says nothing to us.
        streaming_callback=lambda _: None,
        decompress_response=False,
    )
    try:
        async with asyncio.timeout(2 * TIMEOUT_SECONDS):
            await client.fetch(request)
    except HTTPClientError:
        # Cut off in the body of a good answer: the event has come.
        if not _is_good(heads):
            raise


def _is_good(heads: list[str]) -> bool:
    return bool(heads) and re.match(r"HTTP/1\.[01] 2\d\d\b", heads[0]) is not None


class CheckedResolver(Resolver):
    """Looks names up, and answers only when all of their addresses may be connected to."""

    def initialize(self, allow_private: bool) -> None:
        self._allow_private = allow_private
        # Of its own: a name server that hangs holds up nobody else's threads.
        self._executor = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="callback-lookup")

    async def resolve(
        self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[tuple[int, Any]]:
        """Return the addresses. Raise NotPublic, or OSError when there are none."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._executor, _look_up, host, port, family)
        for _, address in found:
            if not self._allow_private and not is_public(ipaddress.ip_address(address[0])):
                raise NotPublic("the receiver is not at a public address")
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
