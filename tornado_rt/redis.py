"""How this product connects to Redis: bounded connections, quick to give up, quick to return.

| URL | |
| --- | --- |
| `redis://[user:password@]host:port/db` | one server |
| `rediss://…?ssl_ca_certs=FILE` | the same with TLS, as is every other form with `rediss` |
| `unix:///path?db=N` | one server on a Unix socket |
| `redis+sentinel://host1:port,host2:port/service/db` | the master that Sentinel names |
| `redis+cluster://host1:port,host2:port` | the master of one hash slot of a cluster |

With the last two each connection goes to whoever is the master when it is made. One that finds that
it talks to another is closed and made anew, and with it all that had been made to the old master.
"""

import asyncio
import builtins
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

import attrs
from redis.asyncio import BlockingConnectionPool, Redis, Sentinel, SSLConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError, MovedError, RedisError, TimeoutError

CONNECTIONS = 64
# Whoever asks while Redis stands still has his refusal in less than 2 s: so long until he has a
# connection, and so long until it brings an answer.
CONNECTION_SECONDS = 0.7
ANSWER_SECONDS = 1.0
# A maintenance command may take long over a large queue.
MAINTENANCE_SECONDS = 60.0
RETRIES = 2
# How long one of several is asked who the master is: two may be silent while we have time.
GUIDE_SECONDS = 0.25
# What every key begins with that is none of the queue's.
SHARED_HOME = "{rt}:"
CREDENTIALS = ("username", "password")
MANY = {"redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"}

Address = tuple[str, int]


class BadRedisUrl(ValueError):
    """The URL cannot be understood; the message says why."""


class _Guide(Protocol):
    """Knows who the master is."""

    async def discover_master(self, service_name: str) -> Address:
        """Return its address. Raise redis.exceptions.ConnectionError when nobody knows."""
        ...

    async def aclose(self) -> None:
        """Close what is open."""
        ...


@attrs.frozen
class _Location:
    """What a URL says: of whom to ask for a service, and how to connect."""

    guides: list[Address]
    service: str
    options: dict[str, Any]
    guide_options: dict[str, Any]


class _Pool(BlockingConnectionPool):
    """Bounds the whole wait for a connection; the base bounds each step of each repetition."""

    async def get_connection(self, *arguments: Any, **named: Any) -> Any:
        """Return a connection that is open. Raise redis.exceptions.TimeoutError."""
        try:
            async with asyncio.timeout(CONNECTION_SECONDS):
                return await super().get_connection(*arguments, **named)  # type: ignore[no-untyped-call]
        except builtins.TimeoutError as error:
            raise TimeoutError(f"no connection within {CONNECTION_SECONDS:g} s") from error


class _MasterPool(SentinelConnectionPool, _Pool):
    """Connects to the master; leaves the old one altogether when there is another."""

    async def get_master_address(self) -> Address:
        """Return where the master is now."""
        before = self.master_address
        address: Address = await super().get_master_address()  # type: ignore[no-untyped-call]
        if before not in (None, address):
            # A subscription is among those in use. Whatever else is cut off is sent again.
            await self.disconnect(inuse_connections=True)
        return address


class _MasterConnection(SentinelManagedConnection):
    """A connection that is made anew when the slot of its keys has another master."""

    async def read_response(self, *arguments: Any, **named: Any) -> Any:
        """Return one reply. Raise ConnectionError in place of MovedError, so that it is retried."""
        try:
            return await super().read_response(*arguments, **named)
        except MovedError as error:
            await self.disconnect()
            raise ConnectionError(f"the slot has moved: {error}") from error


class _MasterTlsConnection(_MasterConnection, SSLConnection):
    """The same with TLS."""


class _Cluster:
    """Asks the nodes of a cluster for the master of a key's slot, as Sentinel is asked."""

    def __init__(self, addresses: list[Address], options: dict[str, Any]) -> None:
        self._named = addresses
        self._known = addresses
        self._options = options

    async def discover_master(self, service_name: str) -> Address:
        """Return the address of the node that has the slot of the key."""
        slot = key_slot(service_name.encode())
        errors: list[str] = []
        for address in self._known:
            try:
                ranges = await self._ask(address)
            except (RedisError, OSError) as error:
                errors.append(f"{address[0]}:{address[1]}: {error}")
                continue
            # Who has answered is asked first the next time.
            nodes = [node for _, _, *nodes in ranges for node in nodes]
            known = [address, *(_address(node, address) for node in nodes), *self._named]
            self._known = list(dict.fromkeys(known))
            for first, last, master, *_ in ranges:
                if first <= slot <= last:
                    return _address(master, address)
            errors.append(f"{address[0]}:{address[1]}: nobody has slot {slot}")
        raise ConnectionError(f"no node of the cluster knows the master: {', '.join(errors)}")

    async def aclose(self) -> None:
        """Do nothing: no connection is kept."""

    async def _ask(self, address: Address) -> list[Any]:
        host, port = address
        async with Redis(host=host, port=port, **self._options) as node:
            ranges: list[Any] = await node.execute_command(  # type: ignore[no-untyped-call]
                "CLUSTER", "SLOTS"
            )
        return ranges


def _address(node: list[Any], asked: Address) -> Address:
    # A node that does not know its own name leaves it empty.
    host = node[0].decode() if node[0] else asked[0]
    return host, int(node[1])


@contextlib.asynccontextmanager
async def open_redis(
    url: str, home: str = SHARED_HOME, answer_seconds: float = ANSWER_SECONDS
) -> AsyncIterator[Redis]:
    """Open a pool; it connects when first used and reconnects by itself.

    In a cluster all keys must be in the slot of `home`; that node takes the subscriptions too.

    A command raises `redis.exceptions.RedisError` within about a second without a server, and
    after `answer_seconds` from one that does not answer. A command whose reply is lost is sent
    again. A blocking read must wait less than `answer_seconds`. Raise BadRedisUrl.
    """
    timeouts = {"socket_connect_timeout": CONNECTION_SECONDS, "socket_timeout": answer_seconds}
    async with contextlib.AsyncExitStack() as stack:
        pool = _open_pool(
            stack,
            url,
            home,
            max_connections=CONNECTIONS,
            timeout=CONNECTION_SECONDS,
            retry=Retry(
                ExponentialWithJitterBackoff(base=0.05, cap=0.3), RETRIES, (ConnectionError,)
            ),
            **timeouts,
        )
        client = Redis.from_pool(pool)
        stack.push_async_callback(client.aclose)
        yield client


def _open_pool(stack: contextlib.AsyncExitStack, url: str, home: str, **bounds: Any) -> Any:
    try:
        parts = urlsplit(url)
        if parts.scheme not in MANY:
            pool: Any = _Pool.from_url(url, **bounds)
        else:
            location = _locate(parts, home)
            guide = _guide(parts.scheme, location)
            stack.push_async_callback(guide.aclose)
            options = location.options | bounds
            pool = _MasterPool(location.service, guide, **options)  # type: ignore[no-untyped-call]
        # An option that there is not would else be found when the first one connects.
        pool.make_connection()
    except (ValueError, TypeError) as error:
        raise BadRedisUrl(f"redis_url: {error}") from None
    return pool


def _guide(scheme: str, location: _Location) -> _Guide:
    options = location.guide_options | {
        "socket_connect_timeout": GUIDE_SECONDS,
        "socket_timeout": GUIDE_SECONDS,
        "retry": Retry(NoBackoff(), 0),
    }
    if scheme.endswith("cluster"):
        return _Cluster(location.guides, options)
    guide: _Guide = Sentinel(  # type: ignore[no-untyped-call]
        location.guides, sentinel_kwargs=options
    )
    return guide


def _locate(parts: SplitResult, home: str) -> _Location:
    """Read `redis+sentinel://user:password@host1:port,host2:port/service/db?option=value`."""
    scheme, _, kind = parts.scheme.partition("+")
    who, at, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if kind == "cluster" and service:
        raise ValueError("a cluster has neither a service nor numbered databases")
    if kind == "sentinel" and not service:
        raise ValueError("the name of Sentinel's service is missing: redis+sentinel://…/service/0")
    if not (database or "0").isdecimal():
        raise ValueError("the database is not a number")
    each: list[dict[str, Any]] = [
        dict(parse_url(f"{scheme}://{who}{at}{host}/{database or 0}?{parts.query}"))
        for host in hosts.split(",")
    ]
    guides = [(one.pop("host", ""), one.pop("port", 0)) for one in each]
    if not all(host and port for host, port in guides):
        raise ValueError("each address needs a host and a port: host1:port,host2:port")
    options = each[0]
    tls = options.pop("connection_class", None) is not None
    options["connection_class"] = _MasterTlsConnection if tls else _MasterConnection
    # Sentinels have names and passwords of their own, the nodes of a cluster the same.
    theirs = {name: options.pop(f"sentinel_{name}", None) for name in CREDENTIALS}
    if kind == "cluster":
        theirs = {name: options.get(name) for name in CREDENTIALS}
    theirs |= {name: value for name, value in options.items() if name.startswith("ssl_")}
    service = home if kind == "cluster" else service
    return _Location(guides, service, options, theirs | {"ssl": tls})
