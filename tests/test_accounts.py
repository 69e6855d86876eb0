"""Operations that their process left unfinished: the next caller finishes them, once."""

import asyncio
import contextlib
import json
import signal
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import jwt
import pytest
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from services.notifications import NotificationService, Verb
from services.notifications.account import Account, Document, Epoch, Operation
from services.notifications.accounts import Accounts, Failed
from services.notifications.intents import ActIntent, Create, Intent, Undo
from services.notifications.ledger import Ledger
from tests.conftest import SECRET, start_server, stop_server
from tests.inboxes import Make, check_accounts, draft, titles, unread
from tests.waiting import until
from tornado_rt.mongo import open_database
from tornado_rt.stores import running_addresses

pytestmark = pytest.mark.long

OTHER = Epoch(9, "other")
NONE_FAILED = Failed(set(), set())


class Slow:
    """Another process, of which each step is done when the test says so."""

    def __init__(self, database: Any) -> None:
        self._inbox = database.inbox
        self._users = database.notification_users
        self.accounts = Accounts(database)
        self.before: dict[str, Account] = {}
        self.operations: dict[str, Operation] = {}
        self.seen = 0

    async def plan(self, *intents: Intent) -> Operation:
        """Read, and apply intents of one user to a ledger."""
        user_id = intents[0].user_id
        # Else the process that ends the last operation a moment later is first.
        await until(lambda: self._is_ended(user_id))
        self.before |= await self.accounts.settled([user_id])
        now = datetime.now(UTC).replace(microsecond=0)
        ledger = Ledger(self.before[user_id], OTHER, now)
        ledger.know(await self._inbox.find({"user_id": user_id}).to_list(None))
        for intent in intents:
            intent.apply(ledger)
        operation = ledger.operation()
        assert operation is not None
        self.operations[user_id] = operation
        return operation

    async def _is_ended(self, user_id: str) -> bool:
        stored = await self._users.find_one({"_id": user_id}) or {"stamp": 0}
        return bool(stored["stamp"] % 2 == 0)

    async def begin(self) -> None:
        self.seen = self.accounts.connection_count
        assert await self.accounts.begin(self.operations, self.before) == set(self.operations)

    async def do(self) -> None:
        assert await self.accounts.do(self.operations, self.seen) == NONE_FAILED

    async def do_half(self) -> None:
        """Do the first half of each sort of step, in the order in which `do` does them."""
        half = {id_: _half(one) for id_, one in self.operations.items()}
        await self.accounts.do(half, self.seen)

    async def end(self) -> None:
        await self.accounts.end(self.operations)


def _half(operation: Operation) -> Operation:
    def half(steps: Sequence[Any]) -> list[Any]:
        return [*steps[: max(len(steps) // 2, 1)]]

    changes, inserted = half(operation.changes), half(operation.inserted)
    return attrs.evolve(operation, changes=changes, inserted=inserted)


async def nothing(slow: Slow) -> None: ...


async def last_step_alone(slow: Slow) -> None:
    """Do as a store that was killed between the steps and has lost the first ones."""
    last = {id_: attrs.evolve(one, changes=()) for id_, one in slow.operations.items()}
    await slow.accounts.do(last, slow.seen)


async def all_done(slow: Slow) -> None:
    await slow.do()


async def half_done(slow: Slow) -> None:
    await slow.do_half()


async def done_twice(slow: Slow) -> None:
    await slow.do()
    await slow.do()


Reached = Callable[[Slow], Awaitable[None]]
PLACES: list[Reached] = [nothing, half_done, last_step_alone, all_done, done_twice]


def new(title: str, **more: Any) -> Create:
    fields: Document = {"type": "alert", "title": title, "severity": "info"}
    return Create(user_id="alice", fields=fields, **more)


async def all_sorts(slow: Slow, ids: list[Any]) -> None:
    """Plan an operation with steps of all sorts on three that are there."""
    await slow.plan(
        new("new 1"),
        new("new 2", key="d:k"),
        ActIntent(user_id="alice", verb=Verb.READ, ids=ids[:1]),
        ActIntent(user_id="alice", verb=Verb.ARCHIVE, ids=ids[1:2]),
        ActIntent(user_id="alice", verb=Verb.DELETE, ids=ids[2:]),
        new("renewed", key="d:k"),
    )


async def three(service: NotificationService, database: Any) -> list[Any]:
    """Make three; return their ids as they are stored."""
    for number in range(3):
        await service.create(draft(title=f"old {number}"))
    found = await database.inbox.find({"user_id": "alice"}).to_list(None)
    return [one["_id"] for one in sorted(found, key=lambda one: one["seq"])]


@pytest.mark.gen_test
@pytest.mark.parametrize("reached", PLACES)
@pytest.mark.parametrize("by", ["a reader", "a writer"])
async def test_operation_of_a_process_that_died_is_finished(
    make_service: Make, database: Any, reached: Reached, by: str
) -> None:
    """Wherever it was cut off: nothing is lost, nothing is there twice, the counts are exact."""
    service = await make_service()
    ids, slow = await three(service, database), Slow(database)
    await all_sorts(slow, ids)
    await slow.begin()
    await reached(slow)
    if by == "a writer":
        await service.create(draft(title="behind"))
    found = await titles(service)
    assert found == [*(["behind"] if by == "a writer" else []), "renewed", "new 1", "old 0"]
    assert await unread(service) == len(found) - 1
    kept = {str(one["_id"]): one async for one in database.inbox.find({"user_id": "alice"})}
    assert {kept[str(id_)]["state"] for id_ in ids[1:]} == {"archived", "gone"}
    await check_accounts(database)


@pytest.mark.gen_test
@pytest.mark.parametrize("reached", PLACES)
async def test_operation_is_finished_also_when_its_process_comes_back(
    make_service: Make, database: Any, reached: Reached
) -> None:
    """It stood still, and does and ends it after somebody else has, and has gone on."""
    service = await make_service()
    ids, slow = await three(service, database), Slow(database)
    await all_sorts(slow, ids)
    await slow.begin()
    await reached(slow)
    await service.mark_all_read("alice")
    done = await service.act("alice", Verb.DELETE, [str(ids[0])])
    before = await database.inbox.find({}, sort=[("_id", 1)]).to_list(None)
    await slow.do()
    await slow.end()
    assert await database.inbox.find({}, sort=[("_id", 1)]).to_list(None) == before
    await check_accounts(database)
    assert done.undo is not None
    await service.undo("alice", done.undo)
    assert await titles(service) == ["renewed", "new 1", "old 0"]
    await check_accounts(database)


@pytest.mark.gen_test
async def test_late_insert_of_one_that_was_removed_meanwhile_leaves_no_ghost(
    make_service: Make, database: Any
) -> None:
    """Removed by its user, by the quota, or long ago."""
    service = await make_service(quota=2)
    slow = Slow(database)
    operation = await slow.plan(new("removed"), new("trimmed"))
    await slow.begin()
    [one] = [one for one in operation.inserted if one["title"] == "removed"]
    await service.delete("alice", str(one["_id"]))
    for number in range(2):
        await service.create(draft(title=f"later {number}"))
    await service.trim_pending()
    await slow.do()
    await slow.end()
    assert await titles(service) == ["later 1", "later 0"]
    await check_accounts(database)


@pytest.mark.gen_test
async def test_of_two_that_begin_at_once_one_is_first(database: Any, make_service: Make) -> None:
    """The other changes nothing."""
    await make_service()
    first, second = Slow(database), Slow(database)
    await first.plan(new("first"))
    await second.plan(new("second"))
    await first.begin()
    assert await second.accounts.begin(second.operations, second.before) == set()
    await first.do()
    await first.end()
    assert await second.accounts.begin(second.operations, second.before) == set()
    assert await database.inbox.count_documents({}) == 1
    await check_accounts(database)


@pytest.mark.gen_test
async def test_many_users_are_begun_together_and_each_has_one_winner(
    database: Any, make_service: Make
) -> None:
    """Of new users and of known ones; who lost is told by name."""
    service = await make_service()
    for user_id in ("b", "d"):
        await service.create(draft(user_id))
    ours, theirs = Slow(database), Slow(database)
    for slow, user_ids in ((ours, "abcd"), (theirs, "ab")):
        for user_id in user_ids:
            fields = {"type": "alert", "title": "x"}
            await slow.plan(Create(user_id=user_id, fields=fields))
    await theirs.begin()
    assert await ours.accounts.begin(ours.operations, ours.before) == {"c", "d"}


@pytest.mark.gen_test
async def test_undo_that_was_cut_off_is_finished(make_service: Make, database: Any) -> None:
    service = await make_service()
    ids = await three(service, database)
    done = await service.act("alice", Verb.DELETE, list(map(str, ids)))
    assert done.undo is not None
    slow = Slow(database)
    await slow.plan(Undo(user_id="alice", version=int(done.undo)))
    await slow.begin()
    assert await titles(service) == ["old 2", "old 1", "old 0"]
    await check_accounts(database)


@pytest.mark.gen_test
async def test_unfinished_operation_of_one_holds_up_the_others_for_a_moment(
    make_service: Make, database: Any
) -> None:
    """However many processes died: all of them are finished at once."""
    service, slow = await make_service(), Slow(database)
    for number in range(50):
        fields = {"type": "alert", "title": "x"}
        await slow.plan(Create(user_id=f"user{number}", fields=fields))
    await slow.begin()
    asked = [service.create(draft(f"user{n}")) for n in range(50)]
    await asyncio.gather(*asked, service.create(draft("bob")))
    assert await unread(service, "bob") == 1
    assert {await unread(service, f"user{n}") for n in range(50)} == {2}
    await check_accounts(database)


@pytest.mark.gen_test
async def test_server_that_is_killed_amid_creates_keeps_every_acknowledged_one(
    tmp_path: Path,
) -> None:
    """Each is there once after its restart, and the counts are exact."""
    acknowledged: set[str] = set()
    asked: set[str] = set()
    for round_ in range(3):
        server = await asyncio.to_thread(
            start_server, tmp_path / "data", RT_JWT_SECRET=SECRET, RT_WORKER_CONCURRENCY="0"
        )
        try:
            told = len(acknowledged)
            jobs = [
                asyncio.create_task(_flood(server.url, f"{round_}-{n}", asked, acknowledged))
                for n in range(8)
            ]
            await until(lambda told=told: len(acknowledged) >= told + 40)
        finally:
            server.process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(server.process.wait)
        await asyncio.gather(*jobs)
    server = await asyncio.to_thread(
        start_server, tmp_path / "data", RT_JWT_SECRET=SECRET, RT_WORKER_CONCURRENCY="0"
    )
    try:
        url = running_addresses(server.data_dir).mongodb_url
        async with open_database(url, "tornado_rt") as database:
            users = await database.notification_users.find({}, {"_id": 1}).to_list(None)
            for user in users:
                # The next reader finishes the operation that was left.
                await _ask(server.url, user["_id"], "GET", "/api/notifications/unread_count")
            kept = [one["title"] async for one in database.inbox.find({})]
            assert len(kept) == len(set(kept))
            assert acknowledged <= set(kept) <= asked
            await check_accounts(database)
    finally:
        await asyncio.to_thread(stop_server, server)


async def _flood(url: str, name: str, asked: set[str], acknowledged: set[str]) -> None:
    """Create until nobody answers; half of the users are shared."""
    number = 0
    with contextlib.suppress(OSError, HTTPClientError):
        while True:
            title, number = f"{name}-{number}", number + 1
            user_id = name if number % 2 else "shared"
            body = {"user_id": user_id, "type": "alert", "title": title}
            asked.add(title)
            await _ask(url, user_id, "POST", "/api/notifications", body)
            acknowledged.add(title)


async def _ask(url: str, user_id: str, method: str, path: str, body: Any = None) -> Any:
    token = jwt.encode({"sub": user_id, "exp": 4_000_000_000}, SECRET, algorithm="HS256")
    request = HTTPRequest(
        url + path,
        method=method,
        body=None if body is None else json.dumps(body),
        headers={"Authorization": f"Bearer {token}"},
        request_timeout=20,
    )
    return json.loads((await AsyncHTTPClient().fetch(request)).body)
