"""Epochs over real stores: whose folder is copied, restored, and restored under a process."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.notifications import NotificationService
from tests.inboxes import Make, Published, check_accounts, draft, titles
from tornado_rt.mongo import open_database
from tornado_rt.protocol import Cursor, ResyncReason
from tornado_rt.stores import embedded_stores


@contextlib.asynccontextmanager
async def started(folder: Path) -> AsyncIterator[tuple[NotificationService, Any]]:
    """Run a process on the store of a folder."""
    async with (
        embedded_stores(folder, redis=False) as stores,
        open_database(stores.mongodb_url, "tornado_rt") as database,
    ):
        service = NotificationService(database, Published())
        await service.prepare()
        yield service, database
        await service.close()


async def cursor_of(service: NotificationService) -> Cursor:
    return (await service.replay("alice")).cursor


async def missed(service: NotificationService, cursor: Cursor) -> list[str]:
    """Return the titles that are replayed; fail when they cannot be had."""
    replay = await service.replay("alice", cursor)
    assert replay.resync is None
    return [message.fields()["title"] for message in replay.messages]


@pytest.mark.gen_test
async def test_cursor_of_a_lost_time_gets_a_resync_and_one_from_before_resumes_whole(
    tmp_path: Path,
) -> None:
    """A backup is restored after more was given out, by the same process and by a later one."""
    folder, backup = tmp_path / "data", tmp_path / "backup"
    async with started(folder) as (service, _):
        for title in ("one", "two"):
            await service.create(draft(title=title))
        before = Cursor((await cursor_of(service)).epoch, 1)
        at = await cursor_of(service)
    shutil.copytree(folder, backup)
    lost = []
    for title in ("lost three", "lost four"):
        async with started(folder) as (service, _):
            await service.create(draft(title=title))
            lost.append(await cursor_of(service))
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)
    async with started(folder) as (service, database):
        assert await missed(service, before) == ["two"]
        assert await missed(service, at) == []
        for cursor in lost:
            assert (await service.replay("alice", cursor)).resync == ResyncReason.EPOCH
        for title in ("three", "four", "five"):
            await service.create(draft(title=title))
        for cursor in lost:
            replay = await service.replay("alice", cursor)
            assert (replay.resync, replay.messages) == (ResyncReason.EPOCH, [])
        assert await missed(service, before) == ["two", "three", "four", "five"]
        assert await missed(service, at) == ["three", "four", "five"]
        assert await titles(service) == ["five", "four", "three", "two", "one"]
        await check_accounts(database)


@pytest.mark.gen_test
async def test_plain_restart_resyncs_nobody(make_service: Make) -> None:
    """However many there were, and whichever others wrote in between."""
    service = await make_service()
    await service.create(draft(title="0"))
    cursors = [await cursor_of(service)]
    for number in range(1, 6):
        service = await make_service()
        assert await missed(service, cursors[-1]) == []
        await service.create(draft(title=str(number)))
        cursors.append(await cursor_of(service))
    for place, cursor in enumerate(cursors):
        assert await missed(service, cursor) == [str(n) for n in range(place + 1, 6)]


@pytest.mark.gen_test
async def test_very_old_epoch_is_told_that_it_is_not_known(make_service: Make) -> None:
    """An account remembers some; one beyond gets all anew, and never a part."""
    service = await make_service()
    await service.create(draft())
    first = await cursor_of(service)
    for _ in range(12):
        service = await make_service()
        await service.create(draft())
    assert (await service.replay("alice", first)).resync == ResyncReason.EPOCH


@pytest.mark.gen_test
async def test_processes_beside_each_other_have_one_order_of_epochs(make_service: Make) -> None:
    """An epoch that two processes write in turns never goes back."""
    here, there = await make_service(), await make_service()
    start = await cursor_of(here)
    epochs = []
    for service in (here, there, here, there, here):
        await service.create(draft(title="x"))
        epochs.append((await cursor_of(service)).epoch)
    assert len(set(epochs)) == 2
    assert epochs[1:] == [epochs[1]] * 4
    assert len(await missed(here, start)) == 5


@pytest.mark.gen_test
async def test_store_that_was_restored_under_a_process_is_noticed(
    make_service: Make, database: Any
) -> None:
    """From then on it gives out numbers of another epoch, by what the store knows."""
    service = await make_service()
    for title in ("one", "two"):
        await service.create(draft(title=title))
    at = await cursor_of(service)
    names = ("inbox", "notification_users", "meta")
    backup = {name: await database[name].find({}).to_list(None) for name in names}
    await service.check_store()
    epoch = service._epochs.current
    for _ in range(3):
        await service.create(draft(title="lost"))
    lost = await cursor_of(service)
    await service.check_store()
    assert service._epochs.current == epoch
    for name, documents in backup.items():
        await database[name].delete_many({})
        await database[name].insert_many(documents)
    await service.check_store()
    assert service._epochs.current != epoch
    for title in ("three", "four", "five", "six"):
        await service.create(draft(title=title))
    assert (await service.replay("alice", lost)).resync == ResyncReason.EPOCH
    assert await missed(service, at) == ["three", "four", "five", "six"]
    assert await titles(service) == ["six", "five", "four", "three", "two", "one"]
    await check_accounts(database)


@pytest.mark.gen_test
async def test_meta_that_was_lost_is_made_again(make_service: Make, database: Any) -> None:
    service = await make_service()
    await service.create(draft(title="one"))
    epoch = service._epochs.current
    await database.meta.delete_many({})
    await service.check_store()
    assert service._epochs.current.ordinal > epoch.ordinal
    await service.check_store()
    await service.create(draft(title="two"))
    other = await make_service()
    assert other._epochs.current.ordinal > service._epochs.current.ordinal
    assert await titles(other) == ["two", "one"]
