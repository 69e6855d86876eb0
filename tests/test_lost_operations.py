"""A store that is killed between the two writes of an operation loses the first and has the second.

What begins an operation is acknowledged before it is on disk. The steps that follow may go to the
store that was started anew.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.notifications import NotificationService, Verb
from services.notifications.account import Epoch, Operation
from services.notifications.accounts import Accounts
from services.notifications.intents import Create
from services.notifications.ledger import Ledger
from tests.inboxes import Published, check_accounts, draft, titles
from tests.killed_stores import lose_what_is_not_on_disk, stored
from tornado_rt.protocol import MessageType

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


@pytest.mark.gen_test(timeout=60)
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
    async with stored(tmp_path) as (mongodb, database):
        published = Published()
        service = NotificationService(database, published)
        await service.prepare()
        for title in ("first", "second"):
            await service.create(draft(title=title))
        cursor = (await service.replay("alice")).cursor
        before_the_steps(service._accounts, lambda: lose_what_is_not_on_disk(mongodb, database))
        await change(service)
        assert await titles(service) == expected
        counts = await service.counts("alice")
        assert (counts["unread"], counts["unseen"]) == (len(expected), len(expected))
        assert published.of_type(MessageType.UNREAD_COUNT)[-1] == counts
        assert (await service.replay("alice", cursor)).resync is not None
        await service.create(draft(title="behind"))
        assert await titles(service) == ["behind", *expected]
        await check_accounts(database)
        await service.close()


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


@pytest.mark.gen_test(timeout=60)
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


@pytest.mark.gen_test(timeout=120)
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
            if not await database.inbox.find_one({"_id": operation.last_ids[0]}):
                break
        else:
            pytest.fail("nothing was lost")
        await asyncio.gather(service.close(), reader.endings.close())
