"""Real stores for the whole session, emptied before each test; a fresh loop for each test."""

import asyncio
import atexit
import contextlib
import functools
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
import hypothesis
import jwt
import pytest
from redis.asyncio import Redis
from tornado.ioloop import IOLoop

from services.notifications import NotificationService
from services.queue import QueueService
from settings import Settings
from tests.forks import Fork, start_script
from tests.inboxes import Make, Published
from tests.made_once import made_once
from tests.modules import Write
from tests.ports import free_port
from tests.stacks import show_tasks
from tests.waiting import wait_until
from tornado_rt import backplane
from tornado_rt.mongo import open_database
from tornado_rt.redis import MAINTENANCE_SECONDS, open_redis
from tornado_rt.stores import StoreAddresses, embedded_stores

# No example has a deadline: on a busy machine any may have to wait for the processor.
hypothesis.settings.register_profile("busy machines", deadline=None)
hypothesis.settings.load_profile("busy machines")

# A machine that is busy with other tests may take longer than the product waits.
backplane.SUBSCRIBE_SECONDS = 20.0

# Else each process that a test starts compiles the whole product anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ROOT = Path(__file__).resolve().parent.parent
SECRET = "a secret of the tests, 32 bytes or more"


class LoopThread:
    """An event loop in a thread of its own, for what must outlive a test's loop."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium of the system, a `playwright.sync_api.Browser`."""
    # Imported where it is needed: it takes a second, and most modules have no page.
    from tests.browsing import chromium

    with chromium() as opened:
        yield opened


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreAddresses]:
    """The embedded stores, as the product starts them."""
    thread = LoopThread()
    manager = embedded_stores(tmp_path_factory.mktemp("stores"))
    yield thread.run(manager.__aenter__())
    thread.run(manager.__aexit__(None, None, None))
    thread.close()


@pytest.fixture
def io_loop(request: pytest.FixtureRequest) -> Iterator[IOLoop]:
    """A Tornado loop over a fresh asyncio loop; pytest-tornado's own predates asyncio.Runner.

    Shortly before a test runs out of time it is shown where its tasks wait.
    """
    with asyncio.Runner() as runner:
        asyncio.set_event_loop(runner.get_loop())
        marker = request.node.get_closest_marker("gen_test")
        if marker is not None:
            most = marker.kwargs.get("timeout", request.config.getoption("async_test_timeout"))
            runner.get_loop().call_later(0.9 * most, show_tasks)
        yield runner.run(_current_loop())


async def _current_loop() -> IOLoop:
    return IOLoop.current()


@pytest.fixture
def settings(stores: StoreAddresses, tmp_path: Path) -> Settings:
    """Settings of a server on the session's stores, with nothing slowed down.

    There are no heartbeats: the first comes at a random moment of the interval.
    """
    return Settings(
        port=0,
        data_dir=tmp_path / "data",
        redis_url=stores.redis_url,
        mongodb_url=stores.mongodb_url,
        jwt_secret=SECRET,
        step_seconds=0.0,
        ws_heartbeat_seconds=0.0,
        sse_heartbeat_seconds=0.0,
        drain_seconds=0.0,
        worker_grace_seconds=0.5,
        worker_concurrency=0,
        requests_per_second=0.0,
    )


@pytest.fixture
def redis(io_loop: IOLoop, stores: StoreAddresses) -> Iterator[Redis]:
    """A client of the real Redis, emptied: the product's own, with more patience."""
    opened = open_redis(stores.redis_url, answer_seconds=MAINTENANCE_SECONDS)
    client = io_loop.run_sync(opened.__aenter__)
    io_loop.run_sync(client.flushall)
    yield client
    io_loop.run_sync(functools.partial(opened.__aexit__, None, None, None))


@pytest.fixture
def make_queue(redis: Redis) -> Callable[..., QueueService]:
    """A factory of queues without bounds, but for the changes."""

    def make(**changes: Any) -> QueueService:
        defaults: dict[str, Any] = {"user_limit": 0, "global_limit": 0, "max_waiting_per_user": 0}
        return QueueService(redis, **{**defaults, **changes})

    return make


@pytest.fixture
def queue(make_queue: Callable[..., QueueService]) -> QueueService:
    """A queue without bounds."""
    return make_queue()


@pytest.fixture
def invariants(io_loop: IOLoop, stores: StoreAddresses) -> Iterator[None]:
    """Everything agrees with everything after the test, whatever it did."""
    yield

    async def check() -> list[str]:
        # Of many tasks it takes long.
        async with open_redis(stores.redis_url, answer_seconds=MAINTENANCE_SECONDS) as redis:
            return await QueueService(redis).check_invariants()

    assert io_loop.run_sync(check) == []


@pytest.fixture
def database(io_loop: IOLoop, stores: StoreAddresses) -> Iterator[Any]:
    """A database of the real MongoDB server, emptied."""
    manager = open_database(stores.mongodb_url, "tornado_rt")
    opened = io_loop.run_sync(manager.__aenter__)
    io_loop.run_sync(lambda: _empty(opened))
    yield opened
    io_loop.run_sync(lambda: manager.__aexit__(None, None, None))


async def _empty(database: Any) -> None:
    for name in await database.list_collection_names():
        await database.drop_collection(name)


@pytest.fixture
def published() -> Published:
    """Where the services of `make_service` publish."""
    return Published()


@pytest.fixture
def make_service(io_loop: IOLoop, database: Any, published: Published) -> Iterator[Make]:
    """A factory of notification services, each as another process has one."""
    made: list[NotificationService] = []

    async def make(**changes: Any) -> NotificationService:
        service = NotificationService(database, published, **changes)
        await service.prepare()
        made.append(service)
        return service

    yield make
    for service in made:
        io_loop.run_sync(service.close)


@pytest.fixture
def service(io_loop: IOLoop, make_service: Make) -> NotificationService:
    """A notification service."""
    made: NotificationService = io_loop.run_sync(make_service)
    return made


@pytest.fixture
def make_token() -> Callable[..., str]:
    """A factory of valid tokens: `make_token("alice", scope="rt:admin", ttl=60)`."""

    def make(
        user_id: str,
        *,
        scope: str = "",
        ttl: float = 3600,
        topics: list[str] | str | None = None,
        kinds: list[str] | str | None = None,
    ) -> str:
        claims = {"sub": user_id, "exp": time.time() + ttl, "scope": scope}
        claims |= {} if topics is None else {"topics": topics}
        claims |= {} if kinds is None else {"kinds": kinds}
        return jwt.encode(claims, SECRET, algorithm="HS256")

    return make


def program(*names: str) -> str:
    """Return where the first of these programs is; skip without it, or fail where all must run."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is not None:
        return found
    if os.environ.get("RT_REQUIRE_PROGRAMS") == "1":
        pytest.fail(f"RT_REQUIRE_PROGRAMS is set and there is no {names[0]}")
    pytest.skip(f"there is no {names[0]}")


@attrs.frozen
class ServerProcess:
    """A running `run.py` and where it answers."""

    url: str
    process: subprocess.Popen[bytes] | Fork
    data_dir: Path
    log: Path


def start_server(
    data_dir: Path, *, prefix: Sequence[str] = (), **environment: str
) -> ServerProcess:
    """Start `run.py` and wait until it is ready; `prefix`: by another program.

    Without one it is forked from a process that has imported the product. `RT_PORT` is the port of
    a server that comes back; else it is a free one.
    """
    if not data_dir.exists():
        prepare_data(data_dir)
    port = int(environment.get("RT_PORT", 0)) or free_port()
    log = data_dir.parent / f"server-{port}.log"
    env = {k: v for k, v in os.environ.items() if not k.startswith("RT_")}
    env |= {"RT_DATA_DIR": str(data_dir), "RT_PORT": str(port), "RT_STEP_SECONDS": "0"}
    env |= environment
    process = _start_by(prefix, env, log) if prefix else start_script(env, log)
    path = environment.get("RT_PREFIX", "")
    server = ServerProcess(f"http://127.0.0.1:{port}{path}", process, data_dir, log)
    _wait_until_ready(server)
    return server


def prepare_data(data_dir: Path) -> None:
    """Make a data folder as a first start leaves it: that start takes the longest."""
    template = _mongodb_with_its_user()
    shutil.copytree(template, data_dir / "mongodb", copy_function=_copy_without_zeros)


def _start_by(
    prefix: Sequence[str], environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            [*prefix, sys.executable, str(ROOT / "run.py")],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )


@functools.cache
def _mongodb_with_its_user() -> Path:
    """Return MongoDB's folder as a first start leaves it: to make its user it starts twice."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)

    thread = LoopThread()
    manager = embedded_stores(folder, redis=False)
    thread.run(manager.__aenter__())
    thread.run(manager.__aexit__(None, None, None))
    thread.close()
    return folder / "mongodb"


def _copy_without_zeros(source: str, target: str) -> None:
    """Copy a file, with a hole for the zeros at its end: a journal is 10 MB of them."""
    content = Path(source).read_bytes()
    Path(target).write_bytes(content.rstrip(b"\0"))
    os.truncate(target, len(content))
    shutil.copymode(source, target)


def _wait_until_ready(server: ServerProcess) -> None:
    process = server.process
    try:
        wait_until(lambda: process.poll() is not None or _is_ready(server), 60, "it is ready")
        assert process.poll() is None
    except AssertionError:
        process.kill()
        raise AssertionError("the server did not start:\n" + server.log.read_text()) from None


def _is_ready(server: ServerProcess) -> bool:
    # It is asked a hundred times: the cheapest client that there is.
    url = urlsplit(server.url)
    link = http.client.HTTPConnection(url.netloc, timeout=2)
    with contextlib.closing(link), contextlib.suppress(OSError, http.client.HTTPException):
        link.request("GET", f"{url.path}/readyz")
        return link.getresponse().status == 200
    return False


def stop_server(server: ServerProcess) -> int:
    """Stop by SIGTERM and return the exit status."""
    server.process.send_signal(signal.SIGTERM)
    return server.process.wait(30)


@pytest.fixture(scope="session")
def server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A whole server with embedded stores of its own, as `make run` starts it."""
    folder = tmp_path_factory.mktemp("server")
    server = start_server(
        folder / "data", RT_STEP_SECONDS="0.05", RT_DRAIN_SECONDS="0", RT_DEMO_LOGIN="true"
    )
    yield server
    stop_server(server)


@pytest.fixture(scope="session")
def client_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server process for the Python client, with kinds of its own and a secret that is known."""
    server = start_server(
        tmp_path_factory.mktemp("client") / "data",
        RT_JWT_SECRET=SECRET,
        RT_KINDS="tests.client_kinds",
        RT_DRAIN_SECONDS="0",
        RT_WORKER_GRACE_SECONDS="0.5",
        RT_WORKER_CONCURRENCY="8",
        RT_QUEUE_USER_LIMIT="0",
        RT_QUEUE_GLOBAL_LIMIT="0",
        RT_REQUESTS_PER_SECOND="0",
    )
    yield server
    stop_server(server)


@pytest.fixture(scope="session")
def js_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that has the JavaScript client installed, as `npm pack` makes it."""
    # It imports what few tests need, and this module.
    from tests.js_forms import install, pack

    folder = made_once(tmp_path_factory, "js", lambda made: install(pack(made), made / "installed"))
    return folder / "installed"


@pytest.fixture
def import_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def write(import_folder: Path) -> Write:
    """A factory of modules in the current folder."""

    def write(name: str, source: str) -> Path:
        path = import_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return path

    return write
