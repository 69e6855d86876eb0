"""The layout of notifications before version 5 of the data, moved while it is used."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId
from pymongo import ASCENDING, DESCENDING

from services.notifications import (
    NotificationNotFound,
    NotificationReplay,
    NotificationService,
    NotificationStatus,
    Query,
)
from services.notifications.accounts import Accounts
from tests.inboxes import Make, Published, check_accounts, draft, titles, unread
from tests.test_notifications import nested
from tests.waiting import stopwatch
from tornado_rt.protocol import Cursor, ResyncReason

EPOCH = "0a1b2c3d"
MADE_AT = datetime(2026, 11, 1, tzinfo=UTC)
Document = dict[str, Any]


def old(user_id: str, seq: int, **more: Any) -> Document:
    """Return a document as the version before stored it."""
    made_at = MADE_AT + timedelta(minutes=seq)
    document: Document = {
        "_id": ObjectId(),
        "user_id": user_id,
        "type": "alert",
        "title": f"{user_id} {seq}",
        "severity": "info",
        "metadata": {"n": seq},
        "status": "unread",
        "created_at": made_at,
        "seq": seq,
        "stored_at": made_at,
        "published_at": made_at,
        "blind_seconds": 5.0,
    }
    document |= more
    if document["status"] == "read":
        document["read_at"] = made_at + timedelta(seconds=30)
    return {name: value for name, value in document.items() if value is not None}


def told(replay: NotificationReplay) -> list[str]:
    """Return the titles of what is replayed, whichever way each is told."""
    found: list[str] = []
    for message in replay.messages:
        data = message.fields()
        found += [one["title"] for one in data.get("items", [data])]
    return found


async def store(database: Any, documents: list[Document], **trimmed: int) -> None:
    """Make the collections as the version before left them."""
    collection = database.notifications
    await collection.create_index(
        [("created_at", ASCENDING)], name="expiry", expireAfterSeconds=90 * 86400
    )
    await collection.create_index([("user_id", ASCENDING), ("seq", DESCENDING)], name="user_seq")
    await database.meta.insert_one({"_id": "notifications", "epoch": EPOCH})
    await collection.insert_many([dict(one) for one in documents])
    users = {one["user_id"] for one in documents if isinstance(one.get("user_id"), str)}
    for user_id in users:
        numbers = [one.get("seq") for one in documents if one.get("user_id") == user_id]
        last = max((int(n) for n in numbers if isinstance(n, int) and n is not True), default=0)
        user = {"_id": user_id, "seq": last}
        user |= {"trimmed_seq": trimmed[user_id]} if user_id in trimmed else {}
        await database.notification_users.insert_one(user)


def five(user_id: str = "alice") -> list[Document]:
    """Return five of a user; the second and fourth are read."""
    return [old(user_id, n, status="unread" if n % 2 else "read") for n in range(1, 6)]


async def is_moved(database: Any) -> bool:
    return "notifications" not in await database.list_collection_names()


@pytest.mark.gen_test
async def test_user_is_moved_when_somebody_asks(make_service: Make, database: Any) -> None:
    """Lists, counts and what each says are as they were."""
    documents = five()
    await store(database, documents + five("bob"))
    service = await make_service()
    assert await unread(service) == 3
    found = (await service.find("alice")).items
    assert [one.title for one in found] == [f"alice {n}" for n in (5, 4, 3, 2, 1)]
    for one, was in zip(found, reversed(documents), strict=True):
        assert (one.id, one.status, one.created_at) == (
            str(was["_id"]),
            was["status"],
            was["created_at"],
        )
        assert (one.read_at, one.metadata) == (was.get("read_at"), was["metadata"])
        assert (one.seen_at is None) == (was["status"] == "unread")
    read = Query(status=NotificationStatus.READ)
    assert await titles(service, "alice", read) == ["alice 4", "alice 2"]
    # A user whom nobody asks for has not been moved yet.
    assert await database.inbox.count_documents({"user_id": "bob"}) == 0
    await service.migrate()
    await check_accounts(database)


@pytest.mark.gen_test
@pytest.mark.parametrize("first", ["create", "mark", "delete", "replay", "nothing"])
async def test_whatever_comes_first_finds_all(
    make_service: Make, database: Any, first: str
) -> None:
    documents = five()
    await store(database, documents)
    service = await make_service()
    id_ = str(documents[0]["_id"])
    left = 5
    if first == "create":
        assert (await service.create(draft())).seq == 6
        left = 6
    elif first == "mark":
        assert (await service.mark_one("alice", id_)).status == "read"
    elif first == "delete":
        await service.delete("alice", id_)
        left = 4
    elif first == "replay":
        assert (await service.replay("alice")).cursor == Cursor(EPOCH, 5)
    assert len(await titles(service)) == left
    await service.migrate()
    assert len(await titles(service)) == left
    assert await is_moved(database)
    await check_accounts(database)


@pytest.mark.gen_test
async def test_cursors_by_old_numbers_stay_good(make_service: Make, database: Any) -> None:
    """A user who was away over the upgrade misses nothing, and gets nothing twice."""
    await store(database, five())
    service = await make_service()
    for offset in range(6):
        replay = await service.replay("alice", Cursor(EPOCH, offset))
        assert replay.resync is None
        assert told(replay) == [f"alice {n}" for n in range(offset + 1, 6)]
    assert (await service.replay("alice", Cursor(EPOCH, 6))).resync == ResyncReason.EPOCH
    assert (await service.replay("alice", Cursor("other", 2))).resync == ResyncReason.EPOCH
    await service.create(draft(title="new"))
    assert told(await service.replay("alice", Cursor(EPOCH, 5))) == ["new"]
    again = await make_service()
    assert len((await again.replay("alice", Cursor(EPOCH, 3))).messages) == 3


@pytest.mark.gen_test
async def test_what_the_quota_had_taken_is_told_as_trimmed(
    make_service: Make, database: Any
) -> None:
    await store(database, five()[2:], alice=2)
    service = await make_service()
    assert (await service.replay("alice", Cursor(EPOCH, 1))).resync == ResyncReason.TRIMMED
    assert (await service.replay("alice", Cursor(EPOCH, 2))).resync is None


@pytest.mark.gen_test
@pytest.mark.parametrize("mark", ["unsent", "unpublished"])
async def test_unsent_ones_are_replayed_to_everybody(
    make_service: Make, database: Any, mark: str
) -> None:
    """Their process may have died before it told of them: they come after any old cursor."""
    documents = five()
    documents[2][mark] = True
    documents[4][mark] = True
    await store(database, documents)
    service = await make_service()
    for offset in (2, 3, 5):
        replay = await service.replay("alice", Cursor(EPOCH, offset))
        found = told(replay)
        assert found[-2:] == ["alice 3", "alice 5"]
        assert len(found) == len(set(found))
    assert await titles(service) == [f"alice {n}" for n in (5, 4, 3, 2, 1)]
    await check_accounts(database)


@pytest.mark.gen_test
async def test_dedupe_keys_and_events_of_before_are_known(
    make_service: Make, database: Any
) -> None:
    """An unread one is renewed, a read one is not; an event is not told as another one."""
    documents = five()
    for document in documents:
        document["dedupe_key"] = "k" if document["status"] == "unread" else "r"
    documents[0]["dedupe_key"] = documents[2]["dedupe_key"] = "other"
    documents[1]["event_id"] = "e"
    await store(database, documents)
    service = await make_service()
    again = await service.create(draft(dedupe_key="k", title="renewed"))
    assert again.id == str(documents[4]["_id"])
    fresh = await service.create(draft(dedupe_key="r", title="fresh"))
    assert fresh.id not in {str(one["_id"]) for one in documents}
    same = await service.create(draft(title="told again"), event_id="e")
    assert (same.id, same.title) == (str(documents[1]["_id"]), "alice 2")
    await check_accounts(database)


STRANGE: list[Document] = [
    {"title": 7, "metadata": [1], "status": None, "seq": 3.0},
    {"metadata": {"a": nested(100)}, "seq": "x", "stored_at": "then"},
    {"_id": 7, "created_at": "yesterday", "read_at": 3, "seq": True},
    {"_id": "by hand", "status": "unread", "link": [], "seq": float("nan")},
    {"event_id": 7, "dedupe_key": 8, "status": "unread", "seq": -1},
    {"status": "unread", "seq": 2**63 - 1, "unsent": True},
    {"state": "gone", "version": "x", "key": 7, "was": [], "status": "unread", "made": {}},
    {"status": "unread", "seq": 2, "expires_at": "never", "pinned": 1, "count": "x"},
]


@pytest.mark.gen_test
@pytest.mark.parametrize("document", STRANGE)
async def test_strange_document_is_moved_with_the_others(
    make_service: Make, database: Any, document: Document
) -> None:
    """It is listed as before, can be read and deleted, and holds up nobody."""
    documents = [*five("m"), {"user_id": "m", **document}]
    await store(database, [*documents, *five("bob")])
    service = await make_service()
    await service.migrate()
    assert await is_moved(database)
    page = await service.find("m")
    assert len(page.items) == 6
    page.to_dict()
    assert len(await titles(service, "bob")) == 5
    await service.do_due()
    assert len((await service.find("m")).items) == 6
    # One whose id is no text and none of MongoDB's cannot be named; it is marked with all.
    await service.mark_all_read("m")
    assert await unread(service, "m") == 0
    await service.create(draft("m", title="new"))
    assert (await titles(service, "m"))[0] == "new"
    await service.replay("m", Cursor(EPOCH, 0))
    for item in page.items:
        with contextlib.suppress(NotificationNotFound):
            await service.delete("m", item.id)
    await check_accounts(database)


@pytest.mark.gen_test
async def test_documents_of_nobody_end_with_the_old_collection(
    make_service: Make, database: Any
) -> None:
    nobodys: list[Document] = [{}, {"user_id": 7}, {"user_id": None, "unsent": True}]
    await store(database, [*nobodys, *five()])
    service = await make_service()
    await service.migrate()
    assert await is_moved(database)
    assert await titles(service) == [f"alice {n}" for n in (5, 4, 3, 2, 1)]


@pytest.mark.gen_test
async def test_those_without_a_number_stand_last_the_first_made_first(
    make_service: Make, database: Any
) -> None:
    """Those of the first version had none."""
    numbered = five()
    bare = [{**old("alice", 0, title=f"bare {n}"), "_id": ObjectId()} for n in range(3)]
    for document in bare:
        del document["seq"]
    await store(database, [*bare, *numbered])
    service = await make_service()
    expected = [*(f"alice {n}" for n in (5, 4, 3, 2, 1)), "bare 0", "bare 1", "bare 2"]
    assert await titles(service) == expected
    pages = [await service.find("alice", Query(limit=3))]
    while (following := pages[-1].next) is not None:
        pages.append(await service.find("alice", Query(limit=3, before=following)))
    assert [one.title for page in pages for one in page.items] == expected


@pytest.mark.gen_test
async def test_users_are_moved_in_the_background_without_holding_up_others(
    make_service: Make, database: Any
) -> None:
    """Also while one who has very many is moved."""
    users = [f"user{n}" for n in range(30)]
    documents = [one for user_id in users for one in five(user_id)]
    documents += [old("m", n) for n in range(1, 1001)]
    await store(database, documents)
    service = await make_service(quota=0)
    work = asyncio.create_task(service.run_migration())
    reads, slowest = 0, 0.0
    while not work.done():
        async with stopwatch() as seconds:
            await service.create(draft("new user"))
            assert len(await titles(service, users[reads % 30])) == 5
            slowest = max(slowest, seconds())
        reads += 1
    await work
    assert slowest < 2.0
    assert await is_moved(database)
    assert await unread(service, "m") == 1000
    assert await database.inbox.count_documents({}) == 1000 + 150 + reads
    await check_accounts(database)


class CutOff(Exception):
    """The process ends here."""


@pytest.mark.gen_test
@pytest.mark.parametrize("place", ["copy_in", "second copy_in", "put", "forget"])
async def test_move_that_was_cut_off_is_done_again(
    make_service: Make, database: Any, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's changes in between are not lost, and deleted ones do not come back."""
    documents = [old("alice", n) for n in range(1, 121)]
    await store(database, documents)
    dead = NotificationService(database, Published())
    await dead.prepare()
    calls = 0

    def cut(method: Any, at: int) -> Any:
        async def call(*args: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > at:
                raise CutOff
            return await method(*args)

        return call

    with monkeypatch.context() as patch:
        if place == "forget":
            patch.setattr(dead._legacy, "forget", cut(dead._legacy.forget, 0))
        else:
            name = place.removeprefix("second ")
            method = getattr(Accounts, name).__get__(dead._accounts)
            patch.setattr(dead._accounts, name, cut(method, int(place != name)))
        with pytest.raises(CutOff):
            await dead.migrate()
    after = await make_service()
    assert await unread(after) == 120
    await after.mark_one("alice", str(documents[0]["_id"]))
    await after.delete("alice", str(documents[1]["_id"]))
    await after.create(draft(title="new"))
    await after.migrate()
    assert await is_moved(database)
    assert await unread(after) == 119
    later = await make_service()
    found = await later.find("alice", Query(limit=100, total=True))
    assert (found.total, found.items[0].title) == (120, "new")
    await check_accounts(database)


@pytest.mark.gen_test
async def test_several_processes_move_once(make_service: Make, database: Any) -> None:
    """Each user is there once, whichever process was first."""
    documents = [one for n in range(10) for one in five(f"user{n}")]
    await store(database, documents)
    services = [await make_service() for _ in range(3)]
    await asyncio.gather(
        *(one.migrate() for one in services),
        *(one.create(draft(f"user{n}")) for n in range(10) for one in services),
    )
    assert await is_moved(database)
    assert await database.inbox.count_documents({}) == 50 + 30
    for number in range(10):
        assert await unread(services[0], f"user{number}") == 3 + 3
    await check_accounts(database)


@pytest.mark.gen_test
async def test_store_sweeps_the_old_collection_no_more(make_service: Make, database: Any) -> None:
    """A sweep would stop all readers; what is too old goes by the clock."""
    ancient = old("alice", 1, created_at=datetime(2025, 1, 1, tzinfo=UTC))
    await store(database, [ancient, *five()[1:]])
    service = await make_service()
    assert "expiry" not in await database.notifications.index_information()
    await service.migrate()
    await service.do_due()
    assert await titles(service) == [f"alice {n}" for n in (5, 4, 3, 2)]
    await check_accounts(database)


@pytest.mark.gen_test
async def test_fresh_store_has_nothing_to_move(make_service: Make, database: Any) -> None:
    service = await make_service()
    await service.run_migration()
    assert await is_moved(database)
    await service.create(draft())
    assert await unread(service) == 1
