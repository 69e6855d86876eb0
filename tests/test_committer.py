"""Changes of many users in few writes."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from pymongo import monitoring
from tornado.ioloop import IOLoop

from services.notifications import NotificationNotFound, NotificationService, Verb
from services.notifications.intents import Create
from services.notifications.ledger import Ledger
from tests.inboxes import Make, Published, check_accounts, draft, titles, unread
from tests.waiting import until
from tornado_rt.mongo import MongoAccess, open_database
from tornado_rt.stores import StoreAddresses
from tornado_rt.turns import NoTurn, TooManyWaiting

WRITES = {"insert", "update", "delete", "findAndModify"}


class Commands(monitoring.CommandListener):
    """Counts commands by their name."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.counting = False

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if self.counting:
            self.counts[event.command_name] += 1

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None: ...

    def failed(self, event: monitoring.CommandFailedEvent) -> None: ...

    @contextlib.contextmanager
    def counted(self) -> Iterator[Counter[str]]:
        """Count in the block."""
        self.counts.clear()
        self.counting = True
        yield self.counts
        self.counting = False


@pytest.fixture
def commands() -> Iterator[Commands]:
    """Counts the commands of clients that are opened after it."""
    listener, before = Commands(), [*monitoring._LISTENERS.command_listeners]
    monitoring.register(listener)
    yield listener
    monitoring._LISTENERS.command_listeners[:] = before


@pytest.fixture
def watched(
    commands: Commands, database: Any, io_loop: IOLoop, stores: StoreAddresses
) -> Iterator[NotificationService]:
    """A service whose commands are counted."""
    manager = open_database(stores.mongodb_url, "tornado_rt")
    opened = io_loop.run_sync(manager.__aenter__)
    service = NotificationService(opened, Published())
    io_loop.run_sync(service.prepare)
    yield service
    io_loop.run_sync(service.close)
    io_loop.run_sync(lambda: manager.__aexit__(None, None, None))


@pytest.mark.gen_test
async def test_creates_of_many_users_take_few_writes(
    watched: NotificationService, commands: Commands, database: Any
) -> None:
    """Notifications that come at once are written at once."""
    with commands.counted() as counts:
        await asyncio.gather(*(watched.create(draft(f"user{n}")) for n in range(100)))
    # Begun and inserted, perhaps in two batches; the accounts are written a moment later.
    assert sum(counts[name] for name in WRITES) <= 6
    assert counts.total() <= 20
    await check_accounts(database)


@pytest.mark.gen_test
async def test_creates_of_one_user_take_few_writes(
    watched: NotificationService, commands: Commands, database: Any
) -> None:
    with commands.counted() as counts:
        made = await asyncio.gather(*(watched.create(draft()) for _ in range(100)))
    assert sum(counts[name] for name in WRITES) <= 14
    assert [one.seq for one in made] == list(range(1, 101))
    await check_accounts(database)


@pytest.mark.gen_test
async def test_change_of_one_takes_two_writes_and_no_read_of_the_account(
    watched: NotificationService, commands: Commands
) -> None:
    """The account is remembered; what changes in it is written with the next operation."""
    made = await watched.create(draft())
    await watched._accounts.endings.close()
    with commands.counted() as counts:
        await watched.create(draft())
        await watched.create(draft())
    assert counts == {"update": 2, "insert": 2}
    await watched._accounts.endings.close()
    with commands.counted() as counts:
        await watched.mark_one("alice", made.id)
    assert counts == {"find": 1, "update": 2}


@pytest.mark.gen_test
async def test_processes_that_change_the_same_user_lose_nothing(
    make_service: Make, database: Any, published: Published
) -> None:
    """Each finds that the other was first, and does it again."""
    services = [await make_service() for _ in range(3)]
    asked = [
        service.create(draft(title=f"{place}-{number}"))
        for number in range(15)
        for place, service in enumerate(services)
    ]
    made = await asyncio.gather(*asked)
    assert sorted(one.seq for one in made) == list(range(1, 46))
    assert len({one.id for one in made}) == 45
    assert sorted(published.versions("alice")) == list(range(1, 46))
    assert await unread(services[0]) == 45
    await check_accounts(database)


@pytest.mark.gen_test
async def test_first_ones_of_new_users_may_come_from_several_processes_at_once(
    make_service: Make, database: Any
) -> None:
    """None of them takes the documents of another for those of an account that was lost."""
    here, there = await make_service(), await make_service()
    for number in range(50):
        asked = [one.create(draft(f"user{number}")) for one in (here, there) for _ in range(2)]
        made = await asyncio.gather(*asked)
        assert sorted(one.seq for one in made) == [1, 2, 3, 4]
    await check_accounts(database)


@pytest.mark.gen_test
async def test_processes_mark_each_once(
    make_service: Make, database: Any, published: Published
) -> None:
    here, there = await make_service(), await make_service()
    ids = [one.id for one in await asyncio.gather(*(here.create(draft()) for _ in range(40)))]
    done = await asyncio.gather(
        *(
            one.act("alice", Verb.READ, ids[n : n + 10])
            for n in range(0, 40, 5)
            for one in (here, there)
        )
    )
    assert sum(one.changed for one in done) == 40
    assert await unread(here) == 0
    assert len(set(published.versions("alice"))) == len(published.versions("alice"))
    await check_accounts(database)


@pytest.mark.gen_test
async def test_user_who_floods_holds_up_nobody(make_service: Make) -> None:
    """Others wait for one batch or two, of which the flood has a part."""
    service = await make_service()
    flood = [asyncio.create_task(service.create(draft("greedy"))) for _ in range(100)]
    await asyncio.sleep(0)
    others = [service.create(draft(f"user{n}")) for n in range(10)]
    await asyncio.gather(*others)
    assert sum(job.done() for job in flood) <= 60
    await asyncio.gather(*flood)


@pytest.mark.gen_test
async def test_line_of_a_user_is_bounded(database: Any) -> None:
    """Others still have room in theirs; so has the user later."""
    access = MongoAccess(database, most_waiting_a_user=5)
    service = NotificationService(database, Published(), access=access)
    await service.prepare()
    asked = [service.create(draft("greedy")) for _ in range(50)] + [service.create(draft("bob"))]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    refused = [one for one in answers if isinstance(one, TooManyWaiting)]
    assert 40 <= len(refused) <= 45
    assert await unread(service, "greedy") == 50 - len(refused)
    assert await unread(service, "bob") == 1
    await service.create(draft("greedy"))
    await service.close()
    await access.close()


@pytest.mark.gen_test
async def test_who_waits_too_long_gets_no_turn(database: Any, published: Published) -> None:
    access = MongoAccess(database, wait_seconds=0.2)
    published.held = asyncio.Event()
    service = NotificationService(database, published, access=access)
    await service.prepare()
    first = asyncio.create_task(service.create(draft(title="held")))
    await until(lambda: database.inbox.count_documents({}), equal=1)
    with pytest.raises(NoTurn):
        await service.create(draft(title="refused"))
    published.held.set()
    with pytest.raises(NoTurn):
        await first
    published.held = None
    # The other was given up before it was begun.
    assert await titles(service) == ["held"]
    await service.close()
    await access.close()


class Broken(Create):
    """An intent that fails after it has read."""

    def apply(self, ledger: Ledger) -> Any:
        raise ArithmeticError("broken")


@pytest.mark.gen_test
async def test_what_fails_fails_alone(service: NotificationService, database: Any) -> None:
    """Beside others of the same user, and of other users."""
    broken = Broken(user_id="alice", fields={})
    asked = [
        service.create(draft(title="before")),
        service._committer.commit(broken),
        service.mark_one("alice", "0" * 24),
        service.create(draft(title="behind")),
        service.create(draft("bob")),
    ]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers[1], ArithmeticError)
    assert isinstance(answers[2], NotificationNotFound)
    assert await titles(service) == ["behind", "before"]
    assert await unread(service, "bob") == 1
    await check_accounts(database)


@pytest.mark.gen_test
async def test_document_that_no_store_takes_fails_alone(
    service: NotificationService, database: Any
) -> None:
    """The driver refuses it before it is sent, with all that would go with it."""
    unstorable = Create(user_id="alice", fields={"metadata": {"a": 2**70}})
    too_large = Create(user_id="carol", fields={"content": "x" * 17_000_000})
    asked = [
        service._committer.commit(unstorable),
        service._committer.commit(too_large),
        service.create(draft("bob")),
        service.create(draft("dora")),
    ]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(answers[0], OverflowError)
    assert isinstance(answers[1], Exception)
    assert await unread(service, "bob") == await unread(service, "dora") == 1
    for user_id in ("alice", "carol"):
        await service.create(draft(user_id))
        assert await unread(service, user_id) == 1
    await check_accounts(database)


@pytest.mark.gen_test
async def test_event_of_another_user_is_another_event(
    service: NotificationService, database: Any
) -> None:
    """Each is told once of it."""
    for user_id in ("alice", "bob", "alice"):
        await service.create(draft(user_id), event_id="e")
    assert await unread(service) == await unread(service, "bob") == 1
    await check_accounts(database)


@pytest.mark.gen_test
async def test_caller_that_gives_up_takes_nothing_from_the_others(
    service: NotificationService, database: Any
) -> None:
    jobs = [asyncio.create_task(service.create(draft(title=str(n)))) for n in range(10)]
    await asyncio.sleep(0)
    for job in jobs[::2]:
        job.cancel()
    answers = await asyncio.gather(*jobs, return_exceptions=True)
    made = [one for one in answers if not isinstance(one, BaseException)]
    assert len(made) == 5
    assert {"1", "3", "5", "7", "9"} <= set(await titles(service))
    await check_accounts(database)


@pytest.mark.gen_test
async def test_closed_committer_refuses_what_waits(
    make_service: Make, database: Any, published: Published
) -> None:
    """Nobody waits for ever for a server that stops."""
    published.held = asyncio.Event()
    service = await make_service()
    jobs = [asyncio.create_task(service.create(draft(f"user{n}"))) for n in range(3)]
    await until(lambda: database.inbox.count_documents({}), equal=3)
    late = asyncio.create_task(service.create(draft("late")))
    await asyncio.sleep(0)
    await service.close()
    answers = await asyncio.gather(*jobs, late, return_exceptions=True)
    assert all(isinstance(one, BaseException) for one in answers)


@pytest.mark.gen_test
async def test_account_that_was_remembered_and_has_changed_is_read_again(
    make_service: Make, database: Any
) -> None:
    """By the deeds of another process, also when the remembered account asked for nothing."""
    here, there = await make_service(), await make_service()
    made = await here.create(draft(dedupe_key="k"))
    await there.mark_one("alice", made.id)
    assert (await here.act("alice", Verb.UNREAD, [made.id])).changed == 1
    await there.act("alice", Verb.READ, [made.id])
    assert (await here.act("alice", Verb.READ, [made.id])).counts["unread"] == 0
    assert (await here.find("alice")).unread == 0
    await check_accounts(database)


@pytest.mark.gen_test
async def test_account_that_was_remembered_long_ago_is_read_again(
    make_service: Make, database: Any
) -> None:
    """More has changed since than an account remembers; of some users of a batch, or of all."""
    here, there = await make_service(), await make_service()
    for user_id in ("alice", "bob"):
        await here.create(draft(user_id))
    for _ in range(20):
        await there.create(draft())
    await here.create(draft())
    for _ in range(20):
        await there.create(draft())
    await asyncio.gather(here.create(draft()), here.create(draft("bob")))
    assert (await unread(here), await unread(here, "bob")) == (43, 2)
    await check_accounts(database)
