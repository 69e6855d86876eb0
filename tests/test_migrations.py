"""Data of earlier versions, opened by this one from outside; later ones are refused.

The folders were made by `python -m tests.fixtures.make`.
"""

import asyncio
import contextlib
import json
import signal
import subprocess
import tarfile
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from tornado.ioloop import IOLoop

from services.migrations import DATA_VERSION, DataRefused, data_fault, prepare_redis
from services.migrations import redis as redis_migration
from services.queue import QueueService
from tests import forks
from tests.conftest import ROOT, SECRET, ServerProcess, start_server, stop_server
from tests.fixtures.killed import migrate
from tests.fixtures.make import COMMITS, ENVIRONMENT, FOLDER, ask
from tests.waiting import until
from tornado_rt import __version__
from tornado_rt.mongo import open_database
from tornado_rt.protocol import Cursor
from tornado_rt.stores import embedded_stores, running_addresses

pytestmark = pytest.mark.long

HERE = ENVIRONMENT | {
    "RT_WORKER_HANDLER": "tests.fixtures.fixture_handler:work",
    "FIXTURE_HANG_SECONDS": "0",
    "RT_QUEUE_USER_LIMIT": "3",
}
STATES = ("completed", "failed", "cancelled", "dead", "processing", "queued", "delayed")
USERS = {"completed": "alice", "failed": "alice", "cancelled": "alice", "dead": "carol"}
Found = dict[str, Any]


@pytest.fixture(params=COMMITS)
def name(request: pytest.FixtureRequest) -> str:
    """The name of each fixture."""
    found: str = request.param
    return found


@pytest.fixture
def unpack(tmp_path: Path) -> Callable[[str], tuple[Path, Found]]:
    """Unpack a fixture; return its folder and all that must be found there."""

    def unpack(name: str) -> tuple[Path, Found]:
        with tarfile.open(FOLDER / f"{name}.tar.xz") as packed:
            packed.extractall(tmp_path, filter="data")
        return tmp_path / "data", json.loads((FOLDER / f"{name}.json").read_text())

    return unpack


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the product to its end."""
    return forks.run(*arguments, cwd=ROOT, **HERE | environment)


def check(data: Path) -> None:
    """Raise AssertionError unless everything agrees with everything."""
    checked = run("queue", "check", RT_DATA_DIR=str(data))
    assert (checked.returncode, checked.stdout) == (0, "every task is in its place\n"), checked


def shown(server: ServerProcess, state: str, task_id: str) -> Found:
    found: Found = ask(server.url, "GET", f"/api/tasks/{task_id}", USERS.get(state, "bob"))
    return found


def test_all_is_there_as_it_was_and_goes_on(
    name: str, unpack: Callable[[str], tuple[Path, Found]], io_loop: IOLoop
) -> None:
    """The server finds everything; then a worker comes."""
    data, expected = unpack(name)
    server = start_server(data, **HERE, RT_WORKER_CONCURRENCY="0")
    try:
        all_is_there(server, expected, keyed=name != "stream-1")
        check(data)
        worker = forks.fork(forks.command, "worker", cwd=ROOT, **HERE, RT_DATA_DIR=str(data))
        try:
            io_loop.run_sync(lambda: it_goes_on(server, expected), timeout=60)
        finally:
            worker.terminate()
            assert worker.end().returncode == 0
        check(data)
    finally:
        assert stop_server(server) == 0


def all_is_there(server: ServerProcess, expected: Found, keyed: bool) -> None:
    """Every task has its state, a delayed one its time; notifications and settings are there.

    `keyed`: a task was submitted under a key.
    """
    for state in STATES:
        found = {shown(server, state, task_id)["status"] for task_id in expected[state]}
        assert found == {state}
    assert shown(server, "delayed", *expected["delayed"])["run_at"] == "2100-01-01T00:00:00.000Z"
    positions = [shown(server, "queued", id_)["position"] for id_ in expected["queued"]]
    assert positions == [1, 2, 3, 4, 5]
    ended = ask(server.url, "GET", f"/api/batches/{expected['ended_batch']}", "alice")
    assert (ended["status"], ended["completed"], ended["failed"]) == ("partial", 1, 1)
    waiting = ask(server.url, "GET", f"/api/batches/{expected['waiting_batch']}", "bob")
    assert (waiting["status"], waiting["queued"]) == ("queued", 2)
    listed = ask(server.url, "GET", "/api/notifications", "alice")
    assert [item["title"] for item in listed["items"]] == expected["titles"]
    assert (listed["unread"], listed["items"][-1]["status"]) == (7, "read")
    settings = ask(server.url, "GET", "/api/settings", "root")
    assert settings["ws_heartbeat_interval_seconds"] == 25
    if keyed:
        again = partial(ask, server.url, "POST", "/api/tasks", "bob", Idempotency_Key="the key")
        assert again({"symbol": "DONE"})["task_id"] == expected["keyed"]
        with pytest.raises(urllib.error.HTTPError, match="422"):
            again({"symbol": "FAIL"})


async def it_goes_on(server: ServerProcess, expected: Found) -> None:
    """A task that waited or was cut off ends, the dead come back, untold ends are told."""

    def states(state: str) -> set[str]:
        return {shown(server, state, task_id)["status"] for task_id in expected[state]}

    await until(lambda: states("queued") <= {"completed", "failed"}, what="the line is empty")
    await until(lambda: states("processing") == {"completed"}, what="the lost one is run again")
    assert states("delayed") == {"delayed"}
    ended = ask(server.url, "GET", f"/api/batches/{expected['waiting_batch']}", "bob")
    assert ended["status"] == "partial"
    retried = run("queue", "retry", *expected["dead"], RT_DATA_DIR=str(server.data_dir))
    assert retried.returncode == 0, retried
    await until(lambda: states("dead") == {"completed"}, what="the dead one is run again")
    await until(lambda: len(told(server, "dora")) == 1, what="what was untold is told")
    fresh = ask(server.url, "POST", "/api/tasks", "bob", {"symbol": "DONE"})["task_id"]
    await until(lambda: shown(server, "", fresh)["status"] == "completed", what="new ones run")
    body = {"user_id": "alice", "type": "alert", "title": "after"}
    news = ask(server.url, "POST", "/api/notifications", "alice", body)
    assert told(server, "alice")[0] == news["title"]
    assert len(told(server, "alice")) == len(expected["titles"]) + 1


def told(server: ServerProcess, user: str) -> list[str]:
    items = ask(server.url, "GET", "/api/notifications", user)["items"]
    return [item["title"] for item in items]


@contextlib.asynccontextmanager
async def opened(data: Path) -> AsyncIterator[tuple[Redis, str]]:
    """Run the Redis of a folder alone; yield a client of it and its address."""
    async with embedded_stores(data, mongodb=False) as addresses:
        redis = Redis.from_url(addresses.redis_url)
        try:
            yield redis, addresses.redis_url
        finally:
            await redis.aclose()


async def have_states(redis: Redis, expected: Found) -> None:
    queue = QueueService(redis)
    for state in STATES:
        for task_id in expected[state]:
            task = await queue.get_task(task_id)
            assert task is not None
            assert task.status == state
    assert await queue.check_invariants() == []


@pytest.mark.parametrize("layout", list(COMMITS))
@pytest.mark.gen_test
async def test_migration_that_is_killed_is_done_by_the_next_start(
    layout: str, unpack: Callable[[str], tuple[Path, Found]]
) -> None:
    """It may be killed before any command."""
    data, expected = unpack(layout)
    async with opened(data) as (redis, url):
        number, killed = 3, 0
        while True:
            ended = await asyncio.to_thread(forks.fork(migrate, url, number).end)
            if ended.returncode == 0:
                break
            assert ended.returncode == -signal.SIGKILL, ended
            # That it runs out, `test_several_processes_migrate_once` shows.
            await redis.delete("{rtq}:migrating")
            killed, number = killed + 1, number + 13
        assert killed > 1
        assert await redis.get("{rtq}:version") == str(DATA_VERSION).encode()
        await have_states(redis, expected)


@pytest.mark.gen_test
async def test_events_of_an_earlier_version_are_replayed(
    unpack: Callable[[str], tuple[Path, Found]],
) -> None:
    """A client that comes back with a cursor of that time gets all later messages."""
    for layout in COMMITS:
        data, expected = unpack(layout)
        async with opened(data) as (redis, _):
            await prepare_redis(redis, "rtq")
            queue = QueueService(redis)
            epoch = (await queue.read_events("task", expected["completed"][0])).cursor.epoch
            replay = await queue.read_events("task", expected["completed"][0], Cursor(epoch, 1))
            assert replay.resync is None
            assert [message.type for message in replay.messages][-2:] == ["progress", "finished"]
            offsets = [Cursor.parse(str(message.id)).offset for message in replay.messages]
            assert offsets == list(range(2, replay.cursor.offset + 1))


@pytest.mark.gen_test
async def test_migration_waits_for_no_process_of_an_earlier_version(
    unpack: Callable[[str], tuple[Path, Found]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that runs would write data that this version does not read: it must be stopped first."""
    monkeypatch.setattr(redis_migration, "LEAVE_SECONDS", 0.5)
    data, expected = unpack("stream-2")
    async with opened(data) as (redis, url), Redis.from_url(url).pubsub() as earlier:
        await earlier.subscribe("rt:control")
        with pytest.raises(DataRefused, match=r"1 processes of an earlier version .* stop them"):
            await prepare_redis(redis, "rtq")
        await earlier.unsubscribe("rt:control")
        await prepare_redis(redis, "rtq")
        await have_states(redis, expected)


@pytest.mark.gen_test
async def test_several_processes_migrate_once(
    unpack: Callable[[str], tuple[Path, Found]],
) -> None:
    """One does it, the others wait; the lock of one that was killed runs out."""
    data, expected = unpack("stream-2")
    async with opened(data) as (redis, _):
        await redis.set("{rtq}:migrating", "of one that was killed", px=300)
        await asyncio.gather(*(prepare_redis(redis, "rtq") for _ in range(4)))
        assert not await redis.exists("{rtq}:migrating")
        await have_states(redis, expected)


@pytest.mark.gen_test
async def test_later_version_is_refused_by_every_command(
    unpack: Callable[[str], tuple[Path, Found]],
) -> None:
    """In one line that says who made it; nothing is changed."""
    data, _ = unpack("made")
    async with opened(data) as (redis, url):
        commands = ["worker", "queue check", "queue dead", "serve"]
        for version, command in [*(("99", one) for one in commands), ("newest", "queue check")]:
            await redis.mset({"{rtq}:version": version, "{rtq}:made_by": "tornado_rt 9"})
            before = {key: await redis.dump(key) for key in await redis.keys("*")}
            refused = await asyncio.to_thread(
                run, *command.split(), RT_REDIS_URL=url, RT_DATA_DIR=str(data.parent / "other")
            )
            line = f"run.py: the data in Redis has version '{version}', made by tornado_rt 9; "
            assert refused.returncode == 1, refused
            assert refused.stderr.startswith(line), refused
            assert refused.stderr.count("\n") == 1, refused
            assert {key: await redis.dump(key) for key in await redis.keys("*")} == before
        for version in ("0", "-1", "3.0", "", "\u0663"):
            await redis.set("{rtq}:version", version)
            with pytest.raises(DataRefused, match=f"reads versions 1 to {DATA_VERSION}"):
                await prepare_redis(redis, "rtq")
        await redis.delete("{rtq}:version")
        await redis.hset("{rtq}:version", "a", "b")
        with pytest.raises(DataRefused, match="is not a version"):
            await prepare_redis(redis, "rtq")


def test_later_version_in_mongodb_is_refused_at_start(
    unpack: Callable[[str], tuple[Path, Found]], io_loop: IOLoop
) -> None:
    """Also when Redis could be migrated: then that is not done."""
    data, _ = unpack("fields-1")

    async def write() -> None:
        async with (
            embedded_stores(data, redis=False) as addresses,
            open_database(addresses.mongodb_url, "tornado_rt") as database,
        ):
            later = {"_id": "data", "version": DATA_VERSION + 1, "made_by": "tornado_rt 9"}
            await database["meta"].insert_one(later)

    async def version() -> bytes | None:
        async with opened(data) as (redis, _):
            found: bytes | None = await redis.get("{rtq}:version")
            return found

    io_loop.run_sync(write, timeout=60)
    refused = run("serve", RT_DATA_DIR=str(data), RT_PORT="0")
    line = f"run.py: the data in MongoDB has version '{DATA_VERSION + 1}', made by"
    assert refused.returncode == 1
    assert refused.stderr.startswith(line), refused
    assert io_loop.run_sync(version, timeout=60) is None


def test_fresh_folder_has_this_version(tmp_path: Path, io_loop: IOLoop) -> None:
    """In both stores, with the maker's name."""
    server = start_server(tmp_path / "data", RT_JWT_SECRET=SECRET)

    async def read() -> tuple[Any, Any]:
        addresses = json.loads((tmp_path / "data" / "stores.json").read_text())
        async with open_database(addresses["mongodb_url"], "tornado_rt") as database:
            stored = await database["meta"].find_one({"_id": "data"})
        redis = Redis.from_url(addresses["redis_url"])
        found = await redis.mget("{rtq}:version", "{rtq}:made_by")
        await redis.aclose()
        return found, stored

    try:
        (version, made_by), stored = io_loop.run_sync(read)
        assert (version, made_by) == (
            str(DATA_VERSION).encode(),
            f"tornado_rt {__version__}".encode(),
        )
        assert (stored["version"], stored["made_by"]) == (DATA_VERSION, f"tornado_rt {__version__}")
        io_loop.run_sync(lambda: is_unready_while_it_cannot_read(server.url, tmp_path / "data"))
    finally:
        assert stop_server(server) == 0


def said_of_readiness(url: str) -> str:
    """Return the faults that /readyz names; nothing when it is 200."""
    try:
        urllib.request.urlopen(url + "/readyz").close()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.read().decode()
    return ""


async def is_unready_while_it_cannot_read(url: str, data: Path) -> None:
    redis = Redis.from_url(running_addresses(data).redis_url)
    await redis.set("{rtq}:version", "99")
    await until(lambda: "the data in Redis has version '99'" in said_of_readiness(url))
    await redis.set("{rtq}:version", str(DATA_VERSION))
    await until(lambda: said_of_readiness(url), equal="")
    await redis.aclose()


def test_data_that_cannot_be_read_make_a_server_unready(io_loop: IOLoop, redis: Redis) -> None:
    """When the data are replaced under it."""

    async def scenario() -> None:
        assert await data_fault(redis, "rtq") is None
        await redis.set("{rtq}:version", "99")
        assert "version '99'" in str(await data_fault(redis, "rtq"))
        await redis.delete("{rtq}:version")
        await redis.zadd("{rtq}:waiting", {"a": 1})
        await redis.hset("{rtq}:task:a", mapping={"status": "queued", "head": "x"})
        assert "version 2" in str(await data_fault(redis, "rtq"))

    io_loop.run_sync(scenario)
