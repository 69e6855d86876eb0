"""Everybody is served, whatever a hand, a backup or another version has left in the collections."""

import contextlib
from typing import Any

import bson
import orjson
import pytest
from bson import ObjectId
from bson.datetime_ms import DatetimeMS

from services.notifications import (
    ListState,
    Notification,
    NotificationService,
    NotStorable,
    Query,
    Verb,
)
from tests.inboxes import Make, check_accounts, draft, titles, unread
from tests.test_notifications import nested
from tornado_rt.protocol import Cursor, ResyncReason

pytestmark = pytest.mark.long


@pytest.mark.gen_test
async def test_stored_document_of_any_shape_leaves_the_list_readable(
    service: NotificationService, database: Any
) -> None:
    """An older version took metadata of any depth; a later one may leave a field out."""
    deep = await service.create(draft(title="deep"))
    await service.create(draft(title="good"))
    bare = await service.create(draft(title="bare"))
    changes = {"$set": {"metadata": nested(150), "later": 1}}
    await database.inbox.update_one({"_id": ObjectId(deep.id)}, changes)
    kept = {"user_id", "state", "seq", "version", "made", "title", "_id"}
    stored = await database.inbox.find_one({"_id": ObjectId(bare.id)})
    gone = dict.fromkeys(stored.keys() - kept, "")
    await database.inbox.update_one({"_id": ObjectId(bare.id)}, {"$unset": gone})
    page = await service.find("alice")
    found = {item.title: item for item in page.items}
    assert set(found) == {"deep", "good", "bare"}
    assert found["deep"].metadata == {}
    orjson.dumps(page.to_dict())
    assert len((await service.replay("alice", Cursor("any", 0))).messages) == 3
    await service.mark_all_read("alice")
    await service.delete("alice", deep.id)
    await service.delete("alice", bare.id)
    assert await titles(service) == ["good"]
    await check_accounts(database)


STRANGE: list[dict[str, Any]] = [
    {},
    {"user_id": 7, "state": "unread", "seq": 1, "version": 1},
    {"user_id": "m"},
    {"user_id": "m", "title": 7, "metadata": [1], "state": None, "seq": 3.0},
    {"user_id": "m", "metadata": {"a": nested(150)}, "state": "unread", "seq": "x"},
    {"user_id": "m", "_id": 7, "created_at": "yesterday", "read_at": 3, "state": ["unread"]},
    {"user_id": "m", "_id": "7", "metadata": {"a": b"bytes"}, "link": [], "state": {"a": 1}},
    {"user_id": "m", "state": "unread", "seq": float("nan"), "version": "x"},
    {"user_id": "m", "state": "unread", "seq": 1, "version": 1, "title": bson.Code("x")},
    {"user_id": "m", "state": "read", "seq": 2.0, "version": 2.0, "actions": 7, "answered": [1]},
    {"user_id": "m", "state": "archived", "seq": 1, "version": 1, "due_at": "soon", "was": 7},
]


@pytest.mark.gen_test
@pytest.mark.parametrize("document", STRANGE)
async def test_strange_document_holds_up_no_job_and_nobody(
    make_service: Make, database: Any, document: dict[str, Any]
) -> None:
    """Its user's lists, the clock and the trimmer go on with any rest of it."""
    service = await make_service(quota=2)
    stored = await database.inbox.insert_one(dict(document))
    for state in ListState:
        for item in (await service.find("m", Query(state=state, total=True))).to_dict()["items"]:
            assert isinstance(item["metadata"], dict)
            assert {type(item[name]) for name in ("title", "type", "severity", "status")} == {str}
    await service.replay("m")
    await service.replay("m", Cursor("any", 0))
    for verb in Verb:
        await service.act("m", verb, [str(stored.inserted_id)])
        # Also by a process that finds in the store alone what was done.
        await (await make_service()).find("m")
    for _ in range(3):
        await service.create(draft("m"))
        await service.create(draft("bob"))
    await service.trim_pending()
    await service.do_due()
    for one in (service, await make_service()):
        for user_id in ("m", "bob"):
            found = await one.find(user_id, Query(state=ListState.ALL, total=True))
            assert len(found.items) == 2
    assert (await service.replay("bob", Cursor("any", 0))).resync is None


@pytest.mark.gen_test
async def test_head_of_a_user_that_was_restored_as_other_types_can_be_read(
    service: NotificationService, database: Any
) -> None:
    await service.create(draft())
    changes = {"$set": {"version": 1.0, "seq": 1.0, "trimmed_seq": "none"}}
    await database.notification_users.update_one({"_id": "alice"}, changes)
    heads = await service.read_heads(["alice", "nobody"])
    assert (heads["alice"].offset, heads["nobody"].offset) == (1, 0)
    assert (await service.replay("alice")).cursor.offset == 1
    await check_accounts(database)


LOST = [None, "x", {}, True, float("nan"), -5, 2**63 - 1, "lost"]
NAMES = ["stamp", "version", "seq", "trimmed_seq", "floor", "unread", "inbox", "epoch", "op"]


@pytest.mark.gen_test
@pytest.mark.parametrize("counter", LOST)
@pytest.mark.parametrize("name", NAMES)
async def test_account_that_was_damaged_goes_on_behind_what_is_kept(
    make_service: Make, database: Any, name: str, counter: Any
) -> None:
    """A user whose account was restored by hand still gets news, in their order."""
    service, after_a_restart = await make_service(), await make_service()
    for title in ("first", "second"):
        await service.create(draft(title=title))
    if counter == "lost":
        await database.notification_users.delete_one({"_id": "alice"})
    else:
        changes = {"$set": {name: counter}}
        await database.notification_users.update_one({"_id": "alice"}, changes)
    numbers = []
    for one, title in ((service, "third"), (after_a_restart, "fourth")):
        numbers.append((await one.create(draft(title=title))).seq)
    assert numbers == [3, 4]
    assert await titles(service) == ["fourth", "third", "second", "first"]
    assert await unread(after_a_restart) == 4
    await check_accounts(database)


@pytest.mark.gen_test
async def test_cursor_of_an_account_that_was_lost_gets_a_resync(
    service: NotificationService, database: Any
) -> None:
    """Fields that are lost cannot be told any more."""
    for _ in range(3):
        await service.create(draft())
    cursor = (await service.replay("alice")).cursor
    await database.notification_users.delete_many({})
    service._committer.forget()
    await service.create(draft())
    assert (await service.replay("alice", cursor)).resync == ResyncReason.EPOCH
    assert (await service.replay("alice")).cursor.offset > cursor.offset


@pytest.mark.gen_test
async def test_value_that_python_has_no_object_for_can_be_read(database: Any) -> None:
    """A real MongoDB keeps any time and any bytes as a text."""
    stored = bson.encode({"title": "abcd", "created_at": DatetimeMS(2**60)})
    read = bson.decode(stored.replace(b"abcd", b"a\xff\xfed"), database.codec_options)
    told = Notification.of({"_id": ObjectId(), **read})
    assert told.title == "a\ufffd\ufffdd"
    assert told.created_at.year >= 2026


@pytest.mark.gen_test
async def test_document_that_is_full_holds_up_no_other(
    service: NotificationService, database: Any
) -> None:
    """It takes no mark; the user's other notifications do, and the counts are those of all."""
    full, good = await service.create(draft(title="full")), await service.create(draft())
    await fill(database, full.id)
    for verb in (Verb.READ, Verb.DELETE):
        with contextlib.suppress(NotStorable):
            await service.act("alice", verb, [full.id])
    assert (await service.mark_one("alice", good.id)).status == "read"
    await service.create(draft("bob"))
    new = await service.create(draft())
    await service.delete("alice", new.id)
    assert await unread(service) == await database.inbox.count_documents(
        {"user_id": "alice", "state": "unread"}
    )
    await check_accounts(database)


async def fill(database: Any, id_: str) -> None:
    """Let a document be as large as any may be."""
    key = {"_id": ObjectId(id_)}
    empty = len(bson.encode({**await database.inbox.find_one(key), "content": ""}))
    full = {"content": "x" * (16 * 1024 * 1024 - empty)}
    await database.inbox.update_one(key, {"$set": full})
