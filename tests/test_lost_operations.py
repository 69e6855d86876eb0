"""A store that is killed between the two writes of an operation loses the first and has the second.

The store acknowledges the beginning of an operation before that is on disk. The steps that follow
may go to the store that was started anew.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId

from services.notifications import NotificationService, Query, Verb
from services.notifications.account import Account, Change, Epoch, Operation
from services.notifications.accounts import Accounts
from services.notifications.intents import Create
from services.notifications.ledger import Ledger
from tests.inboxes import Published, check_accounts, draft, titles
from tests.killed_stores import lose_what_is_not_on_disk, stored
from tornado_rt.protocol import Cursor, MessageType

pytestmark = pytest.mark.long

ROUNDS = 20


def before_the_steps(accounts: Accounts, happens: Callable[[], Awaitable[None]]) -> None:
    """Let something happen once before the next steps of an operation."""
    do = accounts.do

    async def late(*given: Any) -> Any:
        accounts.do = do  # type: ignore[method-assign]
        await happens()
        return await do(*given)

    accounts.do = late  # type: ignore[method-assign]


async def add(service: NotificationService) -> None:
    await service.create(draft(title="new"))


async def delete_first(service: NotificationService) -> None:
    page = await service.find("alice")
    await service.act("alice", Verb.DELETE, [page.items[-1].id])


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("change", "expected"),
    [(add, ["new", "second", "first"]), (delete_first, ["second"])],
    ids=["create", "delete"],
)
async def test_acknowledged_operation_whose_beginning_was_lost_counts(
    tmp_path: Path,
    change: Callable[[NotificationService], Awaitable[None]],
    expected: list[str],
) -> None:
    """And each device reads anew: the numbers may have been given out again by others."""
    # The store may have written it to disk by itself before.
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        if await kill_amid(folder, change, expected):
            break
    else:
        pytest.fail("nothing was lost")


async def kill_amid(
    folder: Path, change: Callable[[NotificationService], Awaitable[None]], expected: list[str]
) -> bool:
    """Kill the store between the two writes of a change; say whether the first was lost."""
    async with stored(folder) as (mongodb, database):
        published = Published()
        service = NotificationService(database, published)
        await service.prepare()
        for title in ("first", "second"):
            await service.create(draft(title=title))
        await service._accounts.endings.close()
        cursor = (await service.replay("alice")).cursor
        accounts: list[dict[str, Any]] = []

        async def happens() -> None:
            await lose_what_is_not_on_disk(mongodb, database)
            accounts.append(await database.notification_users.find_one({"_id": "alice"}))

        before = await database.notification_users.find_one({"_id": "alice"})
        before_the_steps(service._accounts, happens)
        await change(service)
        [after] = accounts
        is_lost: bool = after["stamp"] <= before["stamp"]
        assert await titles(service) == expected
        counts = await service.counts("alice")
        assert (counts["unread"], counts["unseen"]) == (len(expected), len(expected))
        assert published.of_type(MessageType.UNREAD_COUNT)[-1] == counts
        assert ((await service.replay("alice", cursor)).resync is not None) == is_lost
        await service.create(draft(title="behind"))
        assert await titles(service) == ["behind", *expected]
        await check_accounts(database)
        await service.close()
        return is_lost


async def begin_for_another(database: Any) -> Operation:
    """Begin a create as another process does, and leave it there."""
    other = Accounts(database)
    before = await other.settled(["alice"])
    ledger = Ledger(before["alice"], Epoch(9, "other"), datetime.now(UTC))
    fields = {"type": "alert", "title": "of another", "severity": "info"}
    Create(user_id="alice", fields=fields).apply(ledger)
    operation = ledger.operation()
    assert operation is not None
    assert await other.begin({"alice": operation}, before) == {"alice"}
    await other.endings.close()
    return operation


@pytest.mark.gen_test
async def test_lost_beginning_of_an_operation_that_is_finished_for_another_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Before the store has written it to disk by itself.
    monkeypatch.setattr("services.notifications.accounts.PATIENCE_SECONDS", 0)
    async with stored(tmp_path) as (mongodb, database):
        service = NotificationService(database, Published())
        await service.prepare()
        await service.create(draft(title="first"))
        await begin_for_another(database)
        before_the_steps(service._accounts, lambda: lose_what_is_not_on_disk(mongodb, database))
        assert (await service.counts("alice"))["unread"] == 2
        assert await titles(service) == ["of another", "first"]
        await check_accounts(database)
        await service.close()


@pytest.mark.gen_test
async def test_what_is_told_of_an_operation_of_another_is_on_disk(tmp_path: Path) -> None:
    """The store is killed after its steps were seen, and before they are on disk."""
    async with stored(tmp_path) as (mongodb, database):
        service = NotificationService(database, Published())
        await service.prepare()
        await service.create(draft(title="first"))
        reader = Accounts(database)
        wait = reader._wait_for_disk

        async def late() -> None:
            reader._wait_for_disk = wait  # type: ignore[method-assign]
            await lose_what_is_not_on_disk(mongodb, database)
            await wait()

        # The store may have written it to disk by itself before.
        for _ in range(ROUNDS):
            operation = await begin_for_another(database)
            reader._wait_for_disk = late  # type: ignore[method-assign]
            await reader._lazy_inbox.insert_many(operation.inserted)
            told = (await reader.settled(["alice"]))["alice"]
            kept = await database.inbox.count_documents({"state": "unread"})
            assert told.counts.unread == kept
            if not await database.inbox.find_one({"_id": operation.ids[0]}):
                break
        else:
            pytest.fail("nothing was lost")
        await asyncio.gather(service.close(), reader.endings.close())


Reads = Callable[[NotificationService, Account], Awaitable[list[str]]]


def once_after(place: Any, method: str, happens: Callable[[], Awaitable[None]]) -> None:
    """Let something happen once after a call."""
    do = getattr(place, method)

    async def late(*given: Any) -> Any:
        setattr(place, method, do)
        done = await do(*given)
        await happens()
        return done

    setattr(place, method, late)


async def list_titles(service: NotificationService, known: Account) -> list[str]:
    found = await service._inbox.find("alice", Query(limit=10), known)
    assert found.account.counts.unread == len(found.documents)
    return [one["title"] for one in found.documents]


async def replay_titles(service: NotificationService, known: Account) -> list[str]:
    assert known.epoch is not None
    messages, reason, account = await service._log.read(known, Cursor(known.epoch.id, 0))
    assert (reason, account.counts.unread) == (None, len(messages))
    return [one.fields()["title"] for one in reversed(messages)]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("part", "method", "read"),
    [("_inbox", "_find", list_titles), ("_log", "_news", replay_titles)],
    ids=["list", "replay"],
)
async def test_what_a_reader_has_seen_and_the_store_has_lost_is_not_told(
    tmp_path: Path, part: str, method: str, read: Reads
) -> None:
    """It has read an operation of another that was begun and is not on disk."""
    async with stored(tmp_path) as (mongodb, database):
        service = NotificationService(database, Published())
        await service.prepare()
        await service.create(draft(title="first"))
        for _ in range(ROUNDS):
            known = await service._read_account("alice")
            operation = await begin_for_another(database)
            await Accounts(database)._lazy_inbox.insert_many(operation.inserted)
            place = getattr(service, part)
            once_after(place, method, lambda: lose_what_is_not_on_disk(mongodb, database))
            service._inbox.pages.clear()
            told = await read(service, known)
            kept = [one["title"] async for one in database.inbox.find({"state": "unread"})]
            assert sorted(told) == sorted(kept)
            if not await database.inbox.find_one({"_id": operation.ids[0]}):
                break
        else:
            pytest.fail("nothing was lost")
        await service.close()


@pytest.mark.gen_test
async def test_what_a_writer_has_seen_and_the_store_has_lost_is_read_again(tmp_path: Path) -> None:
    """Another has begun to delete one; it is there again, and is marked as read."""
    async with stored(tmp_path) as (mongodb, database):
        service = NotificationService(database, Published())
        await service.prepare()
        committer = service._committer
        for number in range(ROUNDS):
            made = await service.create(draft(title=str(number)))
            known = await service._read_account("alice")
            away = Change(
                ids=[ObjectId(made.id)], version=known.version + 1, fields={"state": "gone"}
            )
            await Accounts(database)._lazy_inbox.update_many(away.wanted(), away.update())
            once_after(
                committer, "_read_documents", lambda: lose_what_is_not_on_disk(mongodb, database)
            )
            done = await service.act("alice", Verb.READ, [made.id])
            [kept] = await database.inbox.find({"_id": ObjectId(made.id)}).to_list(None)
            if kept["state"] != "gone":
                break
        else:
            pytest.fail("nothing was lost")
        assert (done.changed, kept["state"]) == (1, "read")
        await check_accounts(database)
        await service.close()
