"""Real stores, servers and workers, each a process of its own, to be killed, frozen and restarted.

What they hold is counted from outside: by `/proc`, by Redis, and by the servers' statistics.
"""

import asyncio
import collections
import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Container, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import attrs
import jwt
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPRequest

from tests.conftest import ROOT, SECRET
from tests.faults.serve import TASKS_FILE, serve
from tests.forks import Fork, die_with_parent, script, start
from tests.ports import free_port
from tests.waiting import until
from tornado_rt.stores import find_mongodb_server, find_redis_server

if TYPE_CHECKING:
    from tests.faults.fleet import Fleet

START_SECONDS = 30.0
# Interval at which all are checked, and the exit status of one that could not start [s].
SUPERVISE_SECONDS = 0.2
FAILED = 1
STOP_SECONDS = 20.0
REQUEST_SECONDS = 30.0
READY_SECONDS = 3.0
LOG_TAIL = 20
ESTABLISHED_OR_CLOSING = {f"{state:02X}" for state in range(1, 12)} - {"0A"}

ENVIRONMENT = {
    "RT_JWT_SECRET": SECRET,
    "RT_LOG_LEVEL": "WARNING",
    "RT_WORKER_CONCURRENCY": "0",
    "RT_WORKER_HANDLER": "tests.faults.handler:work",
    "RT_KINDS": "tests.faults.handler",
    "RT_WORKER_GRACE_SECONDS": "0.5",
    "RT_QUEUE_USER_LIMIT": "4",
    "RT_QUEUE_GLOBAL_LIMIT": "8",
    "RT_QUEUE_VISIBILITY_SECONDS": "1.5",
    "RT_QUEUE_MAX_ATTEMPTS": "1000",
    "RT_WS_HEARTBEAT_SECONDS": "5",
    "RT_SSE_HEARTBEAT_SECONDS": "5",
    "RT_MAX_CONNECTIONS_PER_USER": "0",
    "RT_MAX_CONNECTIONS_PER_ADDRESS": "0",
    "RT_MAX_SOCKETS_PER_ADDRESS": "0",
    "RT_REQUESTS_PER_SECOND": "0",
    "RT_MAX_PENDING_BYTES": "65536",
    "RT_PEER_TIMEOUT_SECONDS": "1.5",
    "RT_REPLAY_LIMIT": "5000",
    "RT_DRAIN_SECONDS": "0.2",
}


class Child:
    """One process that can be killed, frozen and started again. It ends with us in any case.

    `forked` does what the command does, in a process that has imported this version.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        environment: dict[str, str],
        forked: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._command = command
        self._forked = forked
        self._folder = folder
        self._environment = environment
        # The folder that it runs from: this version's, or another one's.
        self.tree = ROOT
        self._process: subprocess.Popen[bytes] | Fork | None = None
        self._frozen = False

    @property
    def pid(self) -> int:
        """The process id of the running or last process."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there, frozen or not."""
        return self._process is not None and self._process.poll() is None

    @property
    def gave_up(self) -> bool:
        """Whether it ended by itself, with the exit status of a failure."""
        return self._process is not None and self._process.poll() == FAILED

    @property
    def log(self) -> Path:
        """Where it writes what it has to say."""
        return self._folder / f"{self.name}.log"

    def start(self) -> None:
        """Start the process; nobody waits for it yet."""
        assert not self.running
        environment = {k: v for k, v in os.environ.items() if not k.startswith("RT_")}
        environment |= self._environment
        if self._forked is not None and self.tree == ROOT:
            self._process = start(self._forked, environment, self.log)
            return
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self.tree,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def freeze(self) -> None:
        """Stop it where it is, as SIGSTOP does."""
        os.kill(self.pid, signal.SIGSTOP)
        self._frozen = True

    def thaw(self) -> None:
        """Let it go on; harmless when it was not frozen."""
        if self._frozen and self.running:
            os.kill(self.pid, signal.SIGCONT)
        self._frozen = False

    async def kill(self) -> None:
        """End it at once."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """End it as a supervisor does; return its exit status."""
        self.thaw()
        if self.running:
            os.kill(self.pid, signal.SIGTERM)
        try:
            return await self.ended()
        except AssertionError:
            await self.kill()
            raise

    async def ended(self) -> int:
        """Wait for its end; return its exit status."""
        assert self._process is not None
        await until(lambda: not self.running, STOP_SECONDS, f"{self.name} ends")
        self._frozen = False
        return self._process.returncode

    def rss(self) -> int:
        """Return its resident memory [B]."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self) -> dict[int, str]:
        """Return what its file descriptors are."""
        found: dict[int, str] = {}
        for entry in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found[int(entry.name)] = str(entry.readlink())
        return found


class RedisServer(Child):
    """A Redis on a Unix socket that has written each change to disk before it answers."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "redis.sock"
        self.url = f"unix://{self.path}"
        self._files = folder / "redis"
        self._kept = folder / "redis-kept"
        self._files.mkdir()
        command = [
            *(find_redis_server(), "--port", "0", "--unixsocket", str(self.path)),
            *("--dir", str(self._files), "--appendonly", "yes", "--appendfsync", "always"),
            *("--save", "", "--maxmemory-policy", "noeviction", "--maxclients", "10000"),
        ]
        super().__init__("redis", command, folder, {})

    async def ready(self) -> None:
        """Wait until it answers."""
        async with open_client(self.url) as client:
            await until(lambda: _answers(client), START_SECONDS, "Redis answers")

    async def restart(self) -> None:
        """Start and wait until it answers."""
        self.start()
        await self.ready()

    def keep(self) -> None:
        """Set aside what it has written so far."""
        shutil.rmtree(self._kept, ignore_errors=True)
        shutil.copytree(self._files, self._kept)

    def go_back(self) -> None:
        """Put what was set aside in place of what it has; only while it does not run."""
        shutil.rmtree(self._files)
        self._kept.rename(self._files)

    def empty(self) -> None:
        """Forget everything; only while it does not run."""
        shutil.rmtree(self._files)
        self._files.mkdir()


class MongoServer(Child):
    """A MongoDB server on a loopback port."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"mongodb://127.0.0.1:{self.port}/?directConnection=true"
        command = [
            *find_mongodb_server(),
            *("--host", "127.0.0.1", "--port", str(self.port)),
            *("--cache-size", "256M", "--storage-path", str(folder / "mongodb")),
            *("--log-level", "WARNING", "--standalone"),
        ]
        super().__init__("mongodb", command, folder, {"OPENBLAS_NUM_THREADS": "1"})

    async def ready(self) -> None:
        """Wait until it answers."""
        answers = functools.partial(asyncio.to_thread, _ping_mongodb, self.url)
        await until(answers, START_SECONDS, "MongoDB answers")

    async def restart(self) -> None:
        """Start and wait until it answers."""
        self.start()
        await self.ready()


class Server(Child):
    """`run.py` on shared stores."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._tasks_file = folder / f"{name}.tasks"
        # The numbers that it said when it was last asked.
        self._unready = ""
        own = {
            "RT_PORT": str(self.port),
            "RT_DATA_DIR": str(folder / name),
            TASKS_FILE: str(self._tasks_file),
        }
        command = [sys.executable, "-m", "tests.faults.serve"]
        super().__init__(name, command, folder, environment | own, serve)

    async def ready(self) -> None:
        """Wait until it says so."""
        client = AsyncHTTPClient(force_instance=True)
        try:
            await until(lambda: self._is_ready(client), START_SECONDS, f"{self.name} is ready")
        except AssertionError as error:
            lines = [line for line in self.log.read_text().splitlines() if "/readyz" not in line]
            error.add_note("\n".join([self._unready, *lines[-LOG_TAIL:]]))
            raise
        finally:
            client.close()

    async def restart(self) -> None:
        """Start and wait until it is ready."""
        self.start()
        await self.ready()

    async def tasks(self) -> dict[str, int]:
        """Return how many asyncio tasks of each name it has."""
        self._tasks_file.unlink(missing_ok=True)
        os.kill(self.pid, signal.SIGUSR1)
        await until(self._tasks_file.exists, what=f"{self.name} writes its tasks")
        found: dict[str, int] = json.loads(self._tasks_file.read_text())
        return found

    def client_sockets(self, ports: Container[int] | None = None) -> int:
        """Count the sockets of clients that it holds, whatever state they are in.

        `ports`: those of the clients; None for all.
        """
        inodes = set()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            own, other = (int(address.rpartition(":")[2], 16) for address in fields[1:3])
            if own == self.port and (ports is None or other in ports):
                inodes |= {fields[9]} if fields[3] in ESTABLISHED_OR_CLOSING else set()
        held = set(self.descriptors().values())
        return sum(f"socket:[{inode}]" in held for inode in inodes - {"0"})

    async def _is_ready(self, client: AsyncHTTPClient) -> bool:
        assert self.running, f"{self.name} ended"
        try:
            answer = await client.fetch(
                f"{self.url}/readyz", request_timeout=READY_SECONDS, raise_error=False
            )
        except (HTTPError, OSError) as error:
            self._unready = repr(error)
            return False
        self._unready = answer.body.decode()
        return answer.code == 200


class Worker(Child):
    """`run.py worker` on shared stores."""

    def __init__(self, name: str, folder: Path, environment: dict[str, str]) -> None:
        own = {"RT_WORKER_CONCURRENCY": "4", "RT_DATA_DIR": str(folder / name)}
        command = [sys.executable, "run.py", "worker"]
        super().__init__(
            name, command, folder, environment | own, functools.partial(script, "worker")
        )


class Elsewhere(Worker):
    """A worker of the Python client, which has only the address of a server."""

    def __init__(self, folder: Path, url: str, token: str, transport: str) -> None:
        command = [sys.executable, "-m", "tests.faults.elsewhere", url, transport]
        path = os.pathsep.join([str(ROOT), str(ROOT / "clients" / "python" / "src")])
        environment = {"RT_TOKEN": token, "PYTHONPATH": path}
        # Where the client is not installed.
        Child.__init__(self, f"elsewhere-{transport}", command, folder, environment)


@attrs.frozen
class Answer:
    """An HTTP answer; `status` 0 is none, `seconds` how long it took."""

    status: int
    headers: Any
    body: Any
    seconds: float


@attrs.frozen
class Footprint:
    """The numbers of all servers together; with nobody connected they are as at first."""

    channels: int
    pubsub_connections: int
    hub_connections: int
    client_sockets: int
    tasks: int


class System:
    """Two stores, some servers and workers on them, in a temporary folder.

    A `Fleet` that is made for it has its clients.
    """

    fleet: "Fleet"

    def __init__(
        self,
        servers: int = 2,
        workers: int = 1,
        elsewhere: Sequence[str] = (),
        **environment: str,
    ) -> None:
        self._environment = ENVIRONMENT | environment
        self._stack = contextlib.AsyncExitStack()
        self._counts = (servers, workers)
        # The transports of workers that have only the address of the first server.
        self._elsewhere = elsewhere
        # An old version has no kinds but the analysis, and an address for each topic.
        self.is_current = True
        # The number of answers with each status.
        self.statuses: collections.Counter[int] = collections.Counter()
        self.servers: list[Server] = []
        self.workers: list[Worker] = []

    async def __aenter__(self) -> Self:
        name = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="rt-faults-"))
        self._stack.push_async_callback(self._end)
        self.folder = Path(name)
        self.redis_server = RedisServer(self.folder)
        self.mongodb = MongoServer(self.folder)
        self._environment |= {
            "RT_REDIS_URL": self.redis_server.url,
            "RT_MONGODB_URL": self.mongodb.url,
        }
        self.http = AsyncHTTPClient(force_instance=True, max_clients=1000)
        self._stack.callback(self.http.close)
        supervising = asyncio.create_task(self._supervise(), name="supervisor")
        self._stack.callback(supervising.cancel)
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def children(self) -> list[RedisServer | MongoServer | Server | Worker]:
        """Every process."""
        return [self.redis_server, self.mongodb, *self.servers, *self.workers]

    def add_server(self, tree: Path = ROOT) -> Server:
        """Make one more server, of the version in this folder; it is not started."""
        server = Server(f"server{len(self.servers)}", self.folder, self._environment)
        server.tree = tree
        self.servers.append(server)
        return server

    def add_worker(self, tree: Path = ROOT) -> Worker:
        """Start one more worker, of the version in this folder."""
        worker = Worker(f"worker{len(self.workers)}", self.folder, self._environment)
        worker.tree = tree
        worker.start()
        self.workers.append(worker)
        return worker

    def add_elsewhere(self, transport: str) -> Worker:
        """Start a worker that has only the address of the first server."""
        token = self.token("fleet", scope="rt:work", ttl=86400)
        worker = Elsewhere(self.folder, self.servers[0].url, token, transport)
        worker.start()
        self.workers.append(worker)
        return worker

    async def remove(self, child: Server | Worker) -> None:
        """Stop a server or worker for good."""
        await child.stop()
        if isinstance(child, Server):
            self.servers.remove(child)
        else:
            self.workers.remove(child)

    async def repair(self) -> None:
        """Have everything run and answer, whatever was done to it."""
        for child in self.children:
            child.thaw()
        for store in (self.redis_server, self.mongodb):
            if not store.running:
                await store.restart()
        for child in self.children:
            if not child.running:
                child.start()
        await asyncio.gather(*(server.ready() for server in self.servers))

    def token(self, user: str, *, scope: str = "", ttl: float = 3600) -> str:
        """Return a token of a user."""
        claims = {"sub": user, "exp": time.time() + ttl, "scope": scope}
        return jwt.encode(claims, SECRET, algorithm="HS256")

    async def ask(
        self,
        server: Server,
        method: str,
        path: str,
        user: str,
        body: Any = None,
        *,
        scope: str = "",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one request; a connection that fails is an answer too."""
        given = {
            "Authorization": f"Bearer {self.token(user, scope=scope)}",
            "Accept": "application/json",
        }
        request = HTTPRequest(
            server.url + path,
            method=method,
            headers=given | (headers or {}),
            body=None if method in ("GET", "DELETE") else json.dumps(body or {}),
            request_timeout=REQUEST_SECONDS,
        )
        began = time.monotonic()
        try:
            response = await self.http.fetch(request, raise_error=False)
            self.statuses[response.code] += 1
        except (HTTPError, OSError):
            return Answer(0, {}, None, time.monotonic() - began)
        is_json = "json" in response.headers.get("Content-Type", "")
        content = json.loads(response.body) if is_json else response.body
        return Answer(response.code, response.headers, content, time.monotonic() - began)

    async def change_settings(self, **changes: float) -> None:
        """Change the settings of every process, as an admin does."""
        scope = "rt:admin"
        answer = await self.ask(self.servers[0], "PUT", "/api/settings", "a", changes, scope=scope)
        assert answer.status == 200, answer.body

    async def stats(self, server: Server) -> dict[str, Any]:
        """Return the statistics of one server's hub."""
        answer = await self.ask(server, "GET", "/api/ws/stats", "admin", scope="rt:admin")
        assert answer.status == 200, answer
        stats: dict[str, Any] = answer.body
        return stats

    async def connections(self) -> int:
        """Count the open sockets and streams of all servers."""
        found = await asyncio.gather(*map(self.stats, self.servers))
        return sum(stats["total_connections"] for stats in found)

    async def footprint(self) -> Footprint:
        """Count what all servers hold."""
        hub_connections = await self.connections()
        async with open_client(self.redis_server.url) as redis:
            pubsub = await redis.client_list(_type="pubsub")
            channels = await redis.pubsub_channels("rt:*")
        tasks = [await server.tasks() for server in self.servers]
        return Footprint(
            channels=len(channels),
            pubsub_connections=len(pubsub),
            hub_connections=hub_connections,
            # The one that asks for the statistics is kept alive or just closing.
            client_sockets=sum(server.client_sockets() for server in self.servers),
            tasks=sum(sum(names.values()) for names in tasks),
        )

    async def descriptors(self) -> int:
        """Count the file descriptors of all servers."""
        return sum(len(server.descriptors()) for server in self.servers)

    async def redis_connections(self) -> int:
        """Count the connections that Redis has, ours left out."""
        async with open_client(self.redis_server.url) as redis:
            return len(await redis.client_list()) - 1

    def complaints(self) -> list[str]:
        """Return what the servers and workers logged as an error: they answer faults, not fail."""
        logs = [child.log.read_text().splitlines() for child in (*self.servers, *self.workers)]
        return [line for lines in logs for line in lines if '"level": "error"' in line]

    async def _supervise(self) -> None:
        """Start the workers again that gave up, as systemd does: Redis was away when they began."""
        while True:
            for worker in self.workers:
                if worker.gave_up:
                    worker.start()
            await asyncio.sleep(SUPERVISE_SECONDS)

    async def _start(self) -> None:
        self.redis_server.start()
        self.mongodb.start()
        await asyncio.gather(self.redis_server.ready(), self.mongodb.ready())
        for _ in range(self._counts[0]):
            self.add_server().start()
        for _ in range(self._counts[1]):
            self.add_worker()
        for transport in self._elsewhere:
            self.add_elsewhere(transport)
        await asyncio.gather(*(server.ready() for server in self.servers))

    async def _end(self) -> None:
        for child in reversed(self.children):
            child.thaw()
            if child.running:
                os.kill(child.pid, signal.SIGKILL)
        for child in self.children:
            if child.running:
                await child.ended()


@contextlib.asynccontextmanager
async def open_client(url: str) -> AsyncIterator[Redis]:
    """Open a client of our own that gives up at once."""
    client = Redis.from_url(url, socket_timeout=5, retry=Retry(NoBackoff(), 0))
    try:
        yield client
    finally:
        await client.aclose()


async def _answers(client: Redis) -> bool:
    with contextlib.suppress(RedisError, OSError):
        return bool(await client.ping())
    return False


def _ping_mongodb(url: str) -> bool:
    with MongoClient[dict[str, object]](url, serverSelectionTimeoutMS=500) as client:
        try:
            client.admin.command("ping")
        except PyMongoError:
            return False
    return True
