"""The embedded stores: durable, one owner a folder, gone with their parent."""

import asyncio
import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.waiting import until_done
from tornado_rt.folder_watch import FolderWatch
from tornado_rt.mongo import BadMongodbUrl, open_database
from tornado_rt.redis import BadRedisUrl, open_redis
from tornado_rt.stores import (
    DataFolderInUse,
    StoreError,
    embedded_stores,
    running_addresses,
)


@pytest.mark.gen_test(timeout=60)
async def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    async with embedded_stores(tmp_path) as addresses:
        client = Redis.from_url(addresses.redis_url)
        await client.set("k", "v")
        await client.aclose()
        async with open_database(addresses.mongodb_url, "t") as database:
            await database.things.insert_one({"_id": 1})
    async with embedded_stores(tmp_path) as addresses:
        client = Redis.from_url(addresses.redis_url)
        assert await client.get("k") == b"v"
        await client.aclose()
        async with open_database(addresses.mongodb_url, "t") as database:
            assert await database.things.find_one({}) == {"_id": 1}


@pytest.mark.gen_test(timeout=60)
async def test_a_second_owner_of_the_folder_is_refused(tmp_path: Path) -> None:
    async with embedded_stores(tmp_path, mongodb=False) as addresses:
        with pytest.raises(DataFolderInUse, match="another server"):
            async with embedded_stores(tmp_path, mongodb=False):
                pass
        assert running_addresses(tmp_path) == addresses
    with pytest.raises(StoreError, match="no server runs"):
        running_addresses(tmp_path)


@pytest.mark.gen_test(timeout=60)
async def test_a_store_that_dies_is_started_again(tmp_path: Path) -> None:
    async with embedded_stores(tmp_path, mongodb=False) as addresses:
        client = Redis.from_url(addresses.redis_url)
        pid = (await client.info("server"))["process_id"]
        os.kill(pid, signal.SIGKILL)

        async def is_another() -> bool:
            return await _redis_pid(client) not in (pid, None)

        await until_done(is_another, 10, "a new Redis")
        await client.aclose()


async def _redis_pid(client: Redis) -> int | None:
    try:
        return int((await client.info("server"))["process_id"])
    except RedisError:
        return None


def open_to_others(folder: Path) -> list[str]:
    """Name what others than the owner may use."""
    found = [folder, *folder.rglob("*")]
    return [str(path) for path in found if stat.S_IMODE(path.lstat().st_mode) & 0o077]


@pytest.mark.gen_test(timeout=60)
async def test_stores_are_for_their_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    async with embedded_stores(folder):
        assert open_to_others(folder) == []


@pytest.mark.gen_test(timeout=60)
async def test_files_of_an_older_folder_are_closed_and_strange_ones_left(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for name in ("redis/appendonly.aof", "progress/t.json", "stores.json", "mine/notes"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, mode=0o755)
        path.touch(0o644)
    async with embedded_stores(tmp_path, mongodb=False):
        assert set(open_to_others(tmp_path)) == {
            str(path) for path in (tmp_path, tmp_path / "mine", tmp_path / "mine/notes")
        }


@pytest.mark.gen_test(timeout=60)
async def test_mongodb_asks_for_the_password_and_nobody_can_read_it(tmp_path: Path) -> None:
    async with embedded_stores(tmp_path, redis=False) as addresses:
        password = (tmp_path / "mongodb/password").read_text()
        host = addresses.mongodb_url.rpartition("@")[2].partition("/")[0]
        with MongoClient[dict[str, object]](f"mongodb://{host}/?directConnection=true") as client:
            for ask in (client.list_database_names, client.t.things.find_one):
                with pytest.raises(OperationFailure):
                    await asyncio.to_thread(ask)
        shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True).stdout
        assert password.encode() not in shown
        assert password not in (tmp_path / "mongodb/log").read_text()


@pytest.mark.gen_test(timeout=60)
async def test_folder_without_a_password_gets_one_and_keeps_its_data(tmp_path: Path) -> None:
    async with (
        embedded_stores(tmp_path, redis=False) as addresses,
        open_database(addresses.mongodb_url, "t") as database,
    ):
        await database.things.insert_one({"_id": 1})
    (tmp_path / "mongodb/password").unlink()
    async with (
        embedded_stores(tmp_path, redis=False) as addresses,
        open_database(addresses.mongodb_url, "t") as database,
    ):
        assert await database.things.find_one({}) == {"_id": 1}


NAMES = ["a#b", "a%20b", "a?b=c", "a b", "a'b\"c", "größe", "a\nb", "-x", "x" * 120]


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("name", NAMES)
async def test_any_name_of_the_folder_works(tmp_path: Path, name: str) -> None:
    async with embedded_stores(tmp_path / name) as addresses:
        async with open_redis(addresses.redis_url) as redis:
            assert await redis.set("k", "v")
        async with open_database(addresses.mongodb_url, "t") as database:
            await database.things.insert_one({"_id": 1})
        assert (tmp_path / name / "redis/appendonly.aof").stat().st_size


@pytest.mark.gen_test(timeout=60)
async def test_folder_that_cannot_be_one_is_refused_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "data"):
        with pytest.raises(StoreError, match=r"cannot be used: (File exists|Not a directory)"):
            async with embedded_stores(folder):
                pass


@pytest.mark.gen_test(timeout=60)
async def test_path_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not UTF-8"):
        async with embedded_stores(tmp_path / "bytes\udcff"):
            pass


@pytest.mark.gen_test(timeout=60)
async def test_folder_that_is_away_or_another_is_noticed_until_it_is_back(tmp_path: Path) -> None:
    folder, away = tmp_path / "data", tmp_path / "away"
    async with embedded_stores(folder, mongodb=False) as addresses:
        watch = FolderWatch(folder, addresses)
        assert watch.look() == ""
        folder.rename(away)
        assert "was removed" in watch.look()
        (folder / "redis").mkdir(parents=True)
        for name in ("lock", "redis/appendonly.aof"):
            (folder / name).touch()
        assert "was replaced" in watch.look()
        folder.rename(tmp_path / "other")
        away.rename(folder)
        assert watch.look() == ""
        async with open_redis(addresses.redis_url) as redis:
            await redis.set("k", "v")
            await redis.bgrewriteaof()

            async def is_rewritten() -> bool:
                return not (await redis.info("persistence"))["aof_rewrite_in_progress"]

            await until_done(is_rewritten, 10, "a new append-only file")
        assert watch.look() == ""


@pytest.mark.gen_test(timeout=60)
async def test_addresses_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    async with embedded_stores(tmp_path, mongodb=False):
        for content in (b"{", b"[]", b'{"a": 1}'):
            (tmp_path / "stores.json").write_bytes(content)
            with pytest.raises(StoreError, match="cannot be read"):
                running_addresses(tmp_path)


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize(
    "url", ["redis://user:geheim/x@host:1/0", "redis://:geheim@host:port", "redis://[geheim@host"]
)
async def test_address_of_redis_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BadRedisUrl) as refused:
        async with open_redis(url):
            pass
    assert "geheim" not in str(refused.value)


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize(
    "url", ["mongodb://u:geheim/x@host:1/", "mongo://u:geheim@host", "mongodb://u:geheim@host:port"]
)
async def test_address_of_mongodb_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(BadMongodbUrl) as refused:
        async with open_database(url, "t"):
            pass
    assert "geheim" not in str(refused.value)
