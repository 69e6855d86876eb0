"""Connections to Redis: bounded, quick to give up, quick to return.

| URL | |
| --- | --- |
| `redis://[user:password@]host:port/db` | one server |
| `rediss://…?ssl_ca_certs=FILE` | the same with TLS, as is every other form with `rediss` |
| `unix:///path?db=N` | one server on a Unix socket |
| `redis+sentinel://host1:port,host2:port/service/db` | the master that Sentinel names |
| `redis+cluster://host1:port,host2:port` | the master of one hash slot of a cluster |

With the last two each connection goes to the server that is the master when it is made. One that
finds another master is closed and made again, and so are all others to the old master.

It is long because each form of an address has its way to the master, over one pool.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.connection import HiredisRespSerializer
from redis.crc import key_slot
from redis.driver_info import DriverInfo
from redis.exceptions import (
    AskError,
    ClusterDownError,
    DataError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from settings import StoreSettings
from tornado_rt.store_urls import without_credentials

# A maintenance command may take long over a large queue. It is no setting: people wait for such a
# command, and stop it when they have waited enough.
MAINTENANCE_SECONDS = 60.0
# It is no setting: each repetition adds its own wait to that of the caller.
RETRIES = 2
BACKOFF = ExponentialWithJitterBackoff(base=0.05, cap=0.3)
# Longest wait for one node's word on the master [s]: two nodes may be silent within our time.
GUIDE_SECONDS = 0.25
DEFAULTS = StoreSettings()
# Prefix of every key that is not the queue's.
SHARED_HOME = "{rt}:"
# The name that a connection gives itself. Made once: each would read the version from the installed
# files.
DRIVER = DriverInfo()
# Stands before every script: it deletes a key of ours that is of another type.
KEY_TYPES = (Path(__file__).parent / "key_types.lua").read_text()
CREDENTIALS = ("username", "password")
MANY = {"redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster"}

# Answers of a server that cannot serve now, though the command is good. For a script's commands
# they stand in the middle of the script's error.
PASSING = (
    AskError,
    ClusterDownError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
PASSING_CODES = re.compile(
    r"\b(BUSY|CLUSTERDOWN|LOADING|MASTERDOWN|MISCONF|NOREPLICAS|NOSCRIPT|OOM|READONLY|TRYAGAIN)\b"
)

Address = tuple[str, int]
Send = Callable[..., Awaitable[Any]]
# Asks one of several; returns the master's address, if it knows that, and whom else to ask.
Ask = Callable[[Send, Address], Awaitable[tuple[Address | None, list[Address]]]]


class BadRedisUrl(ValueError):
    """The URL cannot be understood; the message says why."""


def is_outage(error: BaseException) -> bool:
    """Say whether a call may succeed when it is repeated later, as it is.

    A script's error, a key of another type or an argument that cannot be sent fail each time.
    """
    if isinstance(error, DataError):
        return False
    if isinstance(error, ResponseError):
        return isinstance(error, PASSING) or bool(PASSING_CODES.search(str(error)))
    return isinstance(error, RedisError | OSError)


class _Pool(BlockingConnectionPool):
    """Bounds the whole wait for a connection; the base bounds each step of each repetition.

    A connection that is open and free is taken and put back without the base, whose locks, timers
    and measurements cost more than all else that a command does.
    """

    is_closed = False

    @property
    def _is_calm(self) -> bool:
        """Whether nobody waits for a connection: more may be opened."""
        is_whole = not (self.is_closed or self._in_maintenance)
        return is_whole and len(self._in_use_connections) < self.max_connections

    async def get_connection(self, *arguments: Any, **named: Any) -> Any:
        """Return a connection that is open. Raise TimeoutError or ConnectionError of redis-py."""
        if self._is_calm and self._available_connections:
            ready: Any = self.get_available_connection()  # type: ignore[no-untyped-call]
            if await _is_ready(ready):
                return ready
            # The base opens it again.
            self._put_back(ready)
        try:
            async with asyncio.timeout(self.timeout):
                connection: Any = await super().get_connection(*arguments, **named)  # type: ignore[no-untyped-call]
        except TimeoutError as error:
            raise RedisTimeout(f"no connection within {self.timeout:g} s") from error
        if self.is_closed:
            await self.release(connection)
            raise RedisConnectionError("the pool was closed")
        return connection

    async def release(self, connection: Any) -> None:
        """Take a connection back; one that was opened when the others were closed is closed too."""
        if self.is_closed:
            await connection.disconnect(nowait=True)
        if self._is_calm and not connection.should_reconnect():
            self._put_back(connection)
        else:
            await super().release(connection)

    def _put_back(self, connection: Any) -> None:
        self._in_use_connections.remove(connection)
        self._available_connections.append(connection)

    def make_connection(self) -> Any:
        """Return a connection that packs its commands in C, and sends them as ours do."""
        connection: Any = super().make_connection()  # type: ignore[no-untyped-call]
        connection.pack_command = HiredisRespSerializer().pack
        connection.send_packed_command = _sender(connection)
        return connection


async def _is_ready(connection: Any) -> bool:
    """Say whether a connection is open, with nothing left to read from the command before."""
    try:
        return connection.is_connected and not await connection.can_read()
    except RedisConnectionError:
        return False


def _sender(connection: Any) -> Callable[..., Awaitable[None]]:
    """Return how a connection sends: as redis-py does, but for its way to keep `socket_timeout`.

    Its `asyncio.wait_for` writes a step of the loop later than it looks whether there is a
    connection, and swallows a cancellation that comes in that step, up to Python 3.11.
    """

    async def send_packed_command(
        command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        if not connection.is_connected:
            await connection.connect_check_health(check_health=False)
        if check_health:
            await connection.check_health()
        if not connection.is_connected:
            raise RedisConnectionError("the connection was lost before the command was sent")
        whole = command.encode() if isinstance(command, str) else command
        try:
            writer = connection._writer
            writer.writelines([whole] if isinstance(whole, bytes) else whole)
            if not writer.transport.get_write_buffer_size():
                # The kernel has all of it.
                return
            async with asyncio.timeout(connection.socket_timeout):
                await writer.drain()
        except BaseException as error:
            # A command that was sent in part cannot be continued.
            await connection.disconnect(nowait=True)
            if isinstance(error, TimeoutError):
                raise RedisTimeout("timeout writing to the socket") from None
            if isinstance(error, OSError):
                raise RedisConnectionError(f"error writing to the socket: {error}") from error
            raise

    return send_packed_command


class _Master:
    """Where the master is now. When it changes, all connections to the old one are cut."""

    def __init__(
        self, guides: list[Address], kind: type[Connection], options: dict[str, Any], ask: Ask
    ) -> None:
        self._named = guides
        self._known = guides
        self._kind: Any = kind
        self._options = options
        self._ask = ask
        self._address: Address | None = None
        self._pool: BlockingConnectionPool | None = None

    def serve(self, pool: BlockingConnectionPool) -> None:
        """Cut the connections of this pool."""
        self._pool = pool

    async def find(self) -> Address:
        """Return its address. Raise redis.exceptions.ConnectionError when nobody knows."""
        address = await self._find()
        # When several find the new master together, the first one cuts the old connections; the
        # others are on their way.
        before, self._address = self._address, address
        if before not in (None, address) and self._pool is not None:
            # A subscription is among them. Other commands that are cut off are sent again.
            await self._pool.disconnect(inuse_connections=True)
        return address

    async def _find(self) -> Address:
        errors: list[str] = []
        for host, port in self._known:
            try:
                async with asyncio.timeout(GUIDE_SECONDS), self._connected(host, port) as send:
                    address, others = await self._ask(send, (host, port))
            except (RedisError, OSError) as error:
                errors.append(f"{host}:{port}: {str(error) or type(error).__name__}")
                continue
            self._known = list(dict.fromkeys([(host, port), *others, *self._named]))
            if address is not None:
                return address
            errors.append(f"{host}:{port} knows none")
        raise RedisConnectionError(f"nobody knows the master: {', '.join(errors)}")

    @contextlib.asynccontextmanager
    async def _connected(self, host: str, port: int) -> AsyncIterator[Send]:
        """Connect to one of several; yield what sends it a command and returns the reply."""
        # Without `socket_timeout`: redis-py's way to keep it swallows a cancellation now and then,
        # with the `wait_for` of Python 3.11.
        connection = self._kind(host=host, port=port, socket_timeout=None, **self._options)

        async def send(*command: str) -> Any:
            await connection.send_command(*command)
            return await connection.read_response()

        try:
            await connection.connect()
            yield send
        finally:
            # It waits for nothing, so that a second cancellation leaves no connection open.
            await connection.disconnect(nowait=True)


class _MasterConnection(Connection):
    """A connection to the master, made again when the master is another."""

    def __init__(self, *, master: _Master, **named: Any) -> None:
        super().__init__(**named)
        self._master = master

    async def _connect(self) -> None:
        self.host, self.port = await self._master.find()
        await super()._connect()  # type: ignore[no-untyped-call]

    async def read_response(self, *arguments: Any, **named: Any) -> Any:
        """Return one reply. Raise ConnectionError, which is retried, where there is another."""
        try:
            return await super().read_response(*arguments, **named)
        except (MovedError, ReadOnlyError) as error:
            await self.disconnect()
            raise RedisConnectionError(f"the master is another: {error}") from error


class _MasterTlsConnection(_MasterConnection, SSLConnection):
    """The same with TLS."""


def _ask_sentinel(service: str) -> Ask:
    async def ask(send: Send, _: Address) -> tuple[Address | None, list[Address]]:
        found = await send("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
        return (found[0].decode(), int(found[1])) if found else None, []

    return ask


def _ask_node(home: str) -> Ask:
    slot = key_slot(home.encode())

    async def ask(send: Send, asked: Address) -> tuple[Address | None, list[Address]]:
        ranges = await send("CLUSTER", "SLOTS")
        nodes = [[_address(node, asked) for node in nodes] for _, _, *nodes in ranges]
        owners = [
            masters[0]
            for (first, last, *_), masters in zip(ranges, nodes, strict=True)
            if first <= slot <= last
        ]
        return owners[0] if owners else None, [one for some in nodes for one in some]

    return ask


def _address(node: list[Any], asked: Address) -> Address:
    # A node that does not know its own name leaves it empty.
    host = node[0].decode() if node[0] else asked[0]
    return host, int(node[1])


def is_of_another_type(error: BaseException) -> bool:
    """Say whether a command met a key that another program has written as another type."""
    return isinstance(error, ResponseError) and "WRONGTYPE" in str(error)


def is_full(error: BaseException) -> bool:
    """Say whether Redis refused a write for want of memory, also one of a script."""
    return isinstance(error, ResponseError) and "command not allowed when used memory" in str(error)


@contextlib.asynccontextmanager
async def open_redis(
    url: str,
    home: str = SHARED_HOME,
    stores: StoreSettings = DEFAULTS,
    *,
    answer_seconds: float | None = None,
) -> AsyncIterator[Redis]:
    """Open a pool; it connects when first used and reconnects by itself.

    In a cluster all keys must be in the slot of `home`; that node takes the subscriptions too.

    A command raises `redis.exceptions.RedisError` within about a second without a server, and
    after `answer_seconds`, else the time in `stores`, from one that does not answer. A command
    whose reply is lost is sent again. A blocking read must wait less than that. Raise BadRedisUrl.
    """
    pool = _open_pool(
        url,
        home,
        max_connections=stores.redis_connections,
        timeout=stores.redis_connect_seconds,
        socket_connect_timeout=stores.redis_connect_seconds,
        socket_timeout=answer_seconds or stores.redis_answer_seconds,
        driver_info=DRIVER,
        retry=Retry(
            ExponentialWithJitterBackoff(base=0.05, cap=0.3), RETRIES, (RedisConnectionError,)
        ),
    )
    client = Redis.from_pool(pool)
    try:
        yield client
    finally:
        pool.is_closed = True
        await client.aclose()


def _open_pool(url: str, home: str, **bounds: Any) -> _Pool:
    try:
        parts = urlsplit(url)
        if parts.scheme in MANY:
            pool = _open_master_pool(parts, home, bounds)
        else:
            pool = _Pool.from_url(url, **bounds)
        # Otherwise an unknown option would be found only when the first one connects.
        pool.make_connection()
    except (ValueError, TypeError) as error:
        raise BadRedisUrl(f"redis_url: {without_credentials(str(error), url)}") from None
    return pool


def _open_master_pool(parts: SplitResult, home: str, bounds: dict[str, Any]) -> _Pool:
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
    # Sentinels have names and passwords of their own, the nodes of a cluster the same.
    theirs = {name: options.pop(f"sentinel_{name}", None) for name in CREDENTIALS}
    if kind == "cluster":
        theirs = {name: options.get(name) for name in CREDENTIALS}
    theirs |= {name: value for name, value in options.items() if name.startswith("ssl_")}
    theirs |= {"retry": Retry(NoBackoff(), 0)}
    kind_of_guide = SSLConnection if tls else Connection
    ask = _ask_node(home) if kind == "cluster" else _ask_sentinel(service)
    options["master"] = master = _Master(guides, kind_of_guide, theirs, ask)
    connection = _MasterTlsConnection if tls else _MasterConnection
    pool = _Pool(connection_class=connection, **(options | bounds))
    master.serve(pool)
    return pool
