"""The embedded stores: durable, one owner a folder, gone with their parent."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.testing import capture_logs

from tests.waiting import until
from tornado_rt.mongo import open_database
from tornado_rt.stores import (
    DataFolderInUse,
    StoreError,
    embedded_stores,
    running_addresses,
)

pytestmark = pytest.mark.long


@pytest.mark.gen_test
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


# As a kill leaves them: tables of whose column groups none was made.
UNFINISHED = """
import sys
from wiredtiger import WiredTigerError, wiredtiger_open

connection = wiredtiger_open(sys.argv[1], "log=(enabled=true)")
session = connection.open_session()
made = 0
for number in range(16):
    table = f"table:secantus_documents_sh{number}"
    try:
        session.open_cursor(table).close()
    except WiredTigerError:
        columns = "key_format=S,value_format=u,columns=(k,v),colgroups=(main)"
        session.create(table, columns)
        made += 1
connection.close()
print(made)
"""


@pytest.mark.gen_test
async def test_mongodb_starts_after_a_kill_while_it_made_a_table(tmp_path: Path) -> None:
    """It would not start any more; what was written is there, and new collections can be made."""
    async with things(tmp_path) as database:
        await database.things.insert_one({"_id": 1})
    command = [sys.executable, "-c", UNFINISHED, str(tmp_path / "mongodb" / "files")]
    made = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
    assert int(made.stdout) > 5
    async with things(tmp_path) as database:
        assert await database.things.find_one({}) == {"_id": 1}
        for number in range(40):
            await database[f"more{number}"].insert_one({"_id": number})
    assert "was not finished" in (tmp_path / "mongodb" / "log").read_text()


@contextlib.asynccontextmanager
async def things(folder: Path) -> AsyncIterator[Any]:
    """Run MongoDB over the folder; give a database."""
    async with (
        embedded_stores(folder, redis=False) as addresses,
        open_database(addresses.mongodb_url, "t") as database,
    ):
        yield database


@pytest.mark.gen_test
async def test_a_second_owner_of_the_folder_is_refused(tmp_path: Path) -> None:
    async with embedded_stores(tmp_path, mongodb=False) as addresses:
        with pytest.raises(DataFolderInUse, match="another server"):
            async with embedded_stores(tmp_path, mongodb=False):
                pass
        assert running_addresses(tmp_path) == addresses
    with pytest.raises(StoreError, match="no server runs"):
        running_addresses(tmp_path)
    with pytest.raises(StoreError, match="no server runs"):
        running_addresses(tmp_path / "typo" / "data")
    assert not (tmp_path / "typo").exists()


@pytest.mark.gen_test
async def test_a_store_that_dies_is_started_again(tmp_path: Path) -> None:
    async with embedded_stores(tmp_path, mongodb=False) as addresses:
        client = Redis.from_url(addresses.redis_url)
        pid = (await client.info("server"))["process_id"]
        os.kill(pid, signal.SIGKILL)
        await until(lambda: _is_another(client, pid))
        await client.aclose()


async def _is_another(client: Redis, pid: int) -> bool:
    try:
        return bool((await client.info("server"))["process_id"] != pid)
    except RedisError:
        return False


@pytest.mark.gen_test
async def test_store_whose_folder_was_away_is_started_again_when_it_is_back(tmp_path: Path) -> None:
    folder, away = tmp_path / "data", tmp_path / "away"
    with capture_logs() as logged:
        async with embedded_stores(folder, mongodb=False) as addresses:
            client = Redis.from_url(addresses.redis_url)
            pid = (await client.info("server"))["process_id"]
            folder.rename(away)
            os.kill(pid, signal.SIGKILL)
            await until(lambda: "child_not_started" in [one["event"] for one in logged])
            away.rename(folder)
            await until(lambda: _is_another(client, pid))
            await client.aclose()


@pytest.mark.gen_test
async def test_files_of_a_store_that_are_removed_are_noticed(tmp_path: Path) -> None:
    async with embedded_stores(tmp_path, mongodb=False) as addresses:
        assert addresses.watch is not None
        assert addresses.watch._find() is None
        client = Redis.from_url(addresses.redis_url)
        await client.bgrewriteaof()
        await until(lambda: _is_rewritten(client))
        await client.aclose()
        assert addresses.watch._find() is None
        (tmp_path / "redis/appendonly.aof").unlink()
        assert str(addresses.watch._find()).endswith("appendonly.aof was removed, or moved away")


async def _is_rewritten(client: Redis) -> bool:
    found = await client.info("persistence")
    return not found["aof_rewrite_in_progress"] and bool(found["aof_last_rewrite_time_sec"] >= 0)
