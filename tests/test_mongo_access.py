"""Turns at MongoDB, and what happens while it stands still."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import PyMongoError

from services.notifications import NotificationDraft, NotificationService, NotificationType
from tests.inboxes import Published
from tests.waiting import stopwatch, until
from tornado_rt.mongo import MongoAccess, StoreAway, open_database
from tornado_rt.stores import embedded_stores
from tornado_rt.turns import TooManyWaiting

# Until when everybody who asks a store that stands still has their refusal [s].
REFUSED_SECONDS = 8.0


def draft(user_id: str) -> NotificationDraft:
    return NotificationDraft(user_id=user_id, type=NotificationType.ALERT, title="hello")


def pid_of_mongodb(folder: Path) -> int:
    """Return the process that keeps its data under this folder."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if "secantus" in command and str(folder) in command:
                return int(entry.name)
    raise AssertionError("it does not run")


@contextlib.asynccontextmanager
async def frozen(folder: Path) -> AsyncIterator[NotificationService]:
    """Let MongoDB stand still for the block; then it has to be found again."""
    async with (
        embedded_stores(folder, redis=False) as stores,
        open_database(stores.mongodb_url, "tornado_rt") as database,
    ):
        access = MongoAccess(database)
        service = NotificationService(database, Published(), access=access)
        await service.prepare()
        await service.create(draft("alice"))
        pid = pid_of_mongodb(folder)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield service
        finally:
            os.kill(pid, signal.SIGCONT)
        await until(lambda: answers(service))
        await access.close()


@pytest.mark.gen_test
async def test_nobody_waits_long_for_a_store_that_stands_still(tmp_path: Path) -> None:
    """However many ask at once; and it is found again, whichever caller ended the search."""
    async with frozen(tmp_path) as service:
        async with stopwatch() as seconds:
            asked: list[Any] = [service.create(draft(f"user{n % 20}")) for n in range(300)]
            asked += [service.counts(f"user{n}") for n in range(20)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(one, PyMongoError) for one in answers)
            assert seconds() < REFUSED_SECONDS
        # From here on nobody waits at all.
        async with stopwatch() as seconds:
            with pytest.raises(StoreAway):
                await service.counts("alice")
            assert seconds() < 0.5
        [search] = [job for job in asyncio.all_tasks() if job.get_name() == "mongodb-probe"]
        search.cancel()
        await asyncio.wait([search])


@pytest.mark.gen_test
async def test_users_have_turns_and_a_bound_on_who_waits(database: Any) -> None:
    access = MongoAccess(database, most=2, most_a_user=1, most_waiting_a_user=1)
    leave, inside = asyncio.Event(), []

    async def work(user_id: str) -> None:
        async with access.turn(user_id):
            inside.append(user_id)
            await leave.wait()

    jobs = [asyncio.create_task(work("greedy")) for _ in range(2)]
    await until(lambda: inside, equal=["greedy"])
    with pytest.raises(TooManyWaiting):
        await work("greedy")
    jobs.append(asyncio.create_task(work("alice")))
    await until(lambda: inside, equal=["greedy", "alice"])
    leave.set()
    await asyncio.gather(*jobs)
    await access.close()


@pytest.mark.gen_test
async def test_error_of_the_block_is_the_callers(database: Any) -> None:
    """Also a time-out that is not the store's."""
    access = MongoAccess(database)
    with pytest.raises(KeyError):
        async with access.turn("alice"):
            raise KeyError("x")
    with pytest.raises(TimeoutError):
        async with access.turn("alice"), asyncio.timeout(0):
            await asyncio.Event().wait()
    await access.close()


@pytest.mark.gen_test
async def test_who_comes_anew_waits_for_no_turn_of_others(database: Any) -> None:
    """Thousands come at once after a restart: they share their reads."""
    access = MongoAccess(database, most=1, wait_seconds=0.1)
    service = NotificationService(database, Published(), access=access)
    await service.prepare()
    async with access.turn("greedy"):
        replays = await asyncio.gather(*(service.replay(f"user{n}") for n in range(100)))
        assert {replay.cursor.offset for replay in replays} == {0}
        assert (await service.counts("greedy"))["unread"] == 0
    await access.close()


async def answers(service: NotificationService) -> bool:
    try:
        await service.counts("alice")
    except PyMongoError:
        return False
    return True
