"""The data folder and the stores in it: private, in any place, and noticed when it goes."""

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pymongo
import pytest
from pymongo.errors import OperationFailure
from redis.asyncio import Redis

from settings import Settings
from tests.api import Client, serving
from tests.waiting import until
from tornado_rt.data_folder import OTHERS, BadFolder, FolderWatch, open_data_folder
from tornado_rt.mongo import open_database
from tornado_rt.stores import StoreError, embedded_stores, running_addresses

pytestmark = pytest.mark.long

Token = Callable[..., str]


def open_to_others(folder: Path) -> list[str]:
    """Return what others than the owner may do something with."""
    everything = [folder, *folder.rglob("*")]
    return [str(one) for one in everything if stat.S_IMODE(one.lstat().st_mode) & OTHERS]


def without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


@pytest.mark.gen_test
async def test_nobody_else_reads_or_asks_the_stores(tmp_path: Path) -> None:
    async with embedded_stores(tmp_path / "data") as stores:
        async with Redis.from_url(stores.redis_url) as redis:
            await redis.set("k", "v")
        assert open_to_others(tmp_path / "data") == []
        with pymongo.MongoClient(without_credentials(stores.mongodb_url)) as stranger:
            with pytest.raises(OperationFailure, match="auth"):
                stranger.admin.command("listDatabases")
            with pytest.raises(OperationFailure, match="auth"):
                stranger.t.things.insert_one({"_id": 1})
    password = (tmp_path / "data" / "mongodb" / "password").read_text()
    # Neither on a command line nor in a log.
    logs = [path.read_text() for path in (tmp_path / "data").rglob("log")]
    assert not [log for log in logs if password in log]


@pytest.mark.gen_test
async def test_folder_of_an_earlier_version_is_closed_and_its_data_kept(tmp_path: Path) -> None:
    """It was open to others, and its MongoDB had no user."""
    data = tmp_path / "data"
    async with embedded_stores(data) as stores:
        async with open_database(stores.mongodb_url, "t") as database:
            await database.things.insert_one({"_id": 1})
        # As a stranger may have made one while nobody was asked.
        with pymongo.MongoClient(stores.mongodb_url) as client:
            client.admin.command("createUser", "stranger", pwd="x" * 20, roles=["root"])
    (data / "mongodb" / "password").unlink()
    for path in (data, *data.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    async with embedded_stores(data) as stores:
        assert open_to_others(data) == []
        async with open_database(stores.mongodb_url, "t") as database:
            assert await database.things.find_one({}) == {"_id": 1}
        with pymongo.MongoClient(stores.mongodb_url) as client:
            users = client.admin.command("usersInfo", 1)["users"]
        assert [user["user"] for user in users] == ["tornado_rt"]


def test_folder_with_other_things_keeps_its_own_mode(tmp_path: Path) -> None:
    """Our own entries in it are closed all the same."""
    tmp_path.chmod(0o755)
    (tmp_path / "photo").write_text("mine")
    (tmp_path / "redis").mkdir(mode=0o755)
    open_data_folder(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "photo").stat().st_mode) & 0o044
    assert open_to_others(tmp_path / "redis") == []


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "50%",
        "a#b",
        "what?",
        "it's",
        'say "x"',
        "张三",
        "line\nbreak",
        "-x",
        "%41",
        "d" * 120,
    ],
)
async def test_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    async with embedded_stores(tmp_path / name, mongodb=False) as stores:
        async with Redis.from_url(stores.redis_url) as redis:
            await redis.set("k", "v")
        assert running_addresses(tmp_path / name) == stores
    assert (tmp_path / name / "redis" / "appendonly.aof").stat().st_size


@pytest.mark.gen_test
async def test_mongodb_works_in_a_folder_of_any_name(tmp_path: Path) -> None:
    async with (
        embedded_stores(tmp_path / "a #%?'\" 张\n", redis=False) as stores,
        open_database(stores.mongodb_url, "t") as database,
    ):
        await database.things.insert_one({"_id": 1})


@pytest.mark.gen_test
@pytest.mark.parametrize("name", [os.fsdecode(b"\xff"), "file"])
async def test_folder_that_cannot_be_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadFolder, match=r"^data_dir: "):
        async with embedded_stores(tmp_path / name, mongodb=False):
            pass


@pytest.mark.gen_test
async def test_addresses_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    async with embedded_stores(tmp_path, mongodb=False):
        (tmp_path / "stores.json").write_text("{")
        with pytest.raises(StoreError, match=r"stores\.json cannot be read"):
            running_addresses(tmp_path)


@pytest.mark.gen_test
async def test_folder_that_is_removed_or_replaced_is_noticed(tmp_path: Path) -> None:
    folder = open_data_folder(tmp_path / "data")
    for name in ("redis", "mongodb"):
        (folder / name).mkdir()
    (folder / "lock").touch()
    watch = FolderWatch(folder, ["redis", "mongodb"])
    assert watch._find() is None
    (folder / "redis").rename(folder / "away")
    assert str(watch._find()).endswith("redis was removed, or moved away")
    (folder / "redis").mkdir()
    assert str(watch._find()).endswith("redis was replaced by another")
    (folder / "redis").rmdir()
    (folder / "away").rename(folder / "redis")
    assert watch._find() is None


@pytest.fixture
def own_stores(settings: Settings) -> Settings:
    """Settings of a server that runs its own stores."""
    return settings.changed(redis_url="", mongodb_url="", worker_concurrency=1)


async def faults_of(client: Client) -> list[str]:
    answer = await client.get("/readyz")
    return [] if answer.status == 200 else list(answer.body["errors"])


@pytest.mark.gen_test
async def test_nothing_is_acknowledged_while_the_folder_is_away(
    own_stores: Settings, make_token: Token
) -> None:
    """And it goes on when the folder is back."""
    away = own_stores.server.data_dir.with_name("away")
    async with serving(own_stores, make_token("alice")) as alice:
        own_stores.server.data_dir.rename(away)

        async def is_noticed() -> bool:
            return any("was removed, or moved away" in fault for fault in await faults_of(alice))

        await until(is_noticed)
        refused = await alice.post("/api/tasks", {"symbol": "AAPL"})
        assert refused.status == 503
        assert "nothing can be stored" in refused.body["detail"]
        away.rename(own_stores.server.data_dir)
        await until(lambda: faults_of(alice), equal=[])
        assert (await alice.post("/api/tasks", {"symbol": "AAPL"})).status == 202


@pytest.mark.gen_test
async def test_full_redis_refuses_what_takes_room_and_ends_what_there_is(
    own_stores: Settings, make_token: Token
) -> None:
    """A running task ends, one is cancelled, and the answers say that Redis is full."""
    slow = own_stores.changed(step_seconds=0.05)
    async with serving(slow, make_token("alice")) as alice:
        running, waiting = await alice.submit(), await alice.submit(delay=99)
        redis = alice.core.redis

        async def is_running() -> bool:
            return bool((await alice.get(f"/api/tasks/{running}")).body["status"] == "processing")

        await until(is_running)
        await redis.config_set("maxmemory", 1)
        refused = await alice.post("/api/tasks", {"symbol": "AAPL"})
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert refused.body["detail"].startswith("Redis is full")
        assert "Redis is full" in await until(lambda: faults_of(alice))
        assert (await alice.delete(f"/api/tasks/{waiting}")).body["status"] == "cancelled"

        async def has_ended() -> bool:
            return bool((await alice.get(f"/api/tasks/{running}")).body["status"] == "completed")

        await until(has_ended)

        async def is_told() -> bool:
            return len((await alice.get("/api/notifications")).body["items"]) == 2

        await until(is_told)
        socket = await alice.socket("/api/ws/notifications")
        assert "connected" in str(await socket.read_message())
        await redis.config_set("maxmemory", 0)
        await until(lambda: faults_of(alice), equal=[])
        assert (await alice.post("/api/tasks", {"symbol": "AAPL"})).status == 202


@pytest.mark.gen_test
async def test_store_that_answers_but_takes_no_writes_is_not_ready(
    own_stores: Settings, make_token: Token
) -> None:
    async with serving(own_stores, make_token("alice")) as alice:
        assert await faults_of(alice) == []
        await alice.core.redis.config_set("min-replicas-to-write", 1)
        [fault] = await until(lambda: faults_of(alice))
        assert fault.startswith("Redis does not take writes: NOREPLICAS")
        await alice.core.redis.config_set("min-replicas-to-write", 0)
        await until(lambda: faults_of(alice), equal=[])


def test_removed_folder_is_made_anew_at_the_next_start(tmp_path: Path) -> None:
    folder = open_data_folder(tmp_path / "data")
    shutil.rmtree(folder)
    assert open_data_folder(tmp_path / "data").is_dir()


@pytest.mark.parametrize("target", ["gone", "link", "file"])
def test_link_that_leads_to_no_folder_is_refused_with_the_reason(
    tmp_path: Path, target: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(BadFolder, match="link is not a folder"):
        open_data_folder(tmp_path / "link")


@pytest.mark.parametrize(("name", "reason"), [("a\0b", "has a NUL"), ("\ud800", "is not UTF-8")])
def test_name_that_no_folder_has_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    """In one line, which names it; a file of settings may hold any text."""
    with pytest.raises(BadFolder, match=reason):
        open_data_folder(tmp_path / name)
