"""Notifications in a real MongoDB."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import bson
import orjson
import pytest
from bson import ObjectId
from bson.datetime_ms import DatetimeMS
from structlog.testing import capture_logs
from tornado.ioloop import IOLoop

from services.notifications import (
    Notification,
    NotificationDraft,
    NotificationNotFound,
    NotificationService,
    NotificationStatus,
    NotificationType,
)
from tests.waiting import until
from tornado_rt.protocol import Cursor, Message, ResyncReason


@attrs.define
class Published:
    """Keeps what was published, in its order."""

    messages: list[tuple[str, Message]] = attrs.field(factory=list)

    async def publish(self, topic: str, message: Message) -> bool:
        self.messages.append((topic, message))
        return True

    def blind_seconds(self) -> float:
        return 0.0

    def of_type(self, type_: str) -> list[dict[str, Any]]:
        return [m.fields() for _, m in self.messages if m.type == type_]


LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)

Make = Callable[..., Awaitable[NotificationService]]


@pytest.fixture
def published() -> Published:
    return Published()


@pytest.fixture
def make_service(database: Any, published: Published) -> Make:
    async def make(**changes: Any) -> NotificationService:
        service = NotificationService(database, published, **changes)
        await service.prepare()
        return service

    return make


@pytest.fixture
def service(io_loop: IOLoop, make_service: Make) -> NotificationService:
    made: NotificationService = io_loop.run_sync(make_service)
    return made


def draft(user_id: str = "alice", **more: Any) -> NotificationDraft:
    fields: dict[str, Any] = {"type": NotificationType.ALERT, "title": "x"}
    return NotificationDraft(user_id=user_id, **(fields | more))


@pytest.mark.gen_test
async def test_stored_notification_is_pushed_with_the_unread_count(
    service: NotificationService, published: Published
) -> None:
    stored = await service.create(draft(metadata={"n": 1}, link="/x", content="c", source="s"))
    assert [(t, m.type) for t, m in published.messages] == [
        ("user:alice", "notification"),
        ("user:alice", "unread_count"),
    ]
    [pushed] = published.of_type("notification")
    assert pushed == stored.to_dict()
    assert set(pushed) == {
        *("id", "user_id", "type", "title", "content", "link", "source", "severity", "status"),
        *("created_at", "read_at", "metadata", "dedupe_key"),
    }
    assert published.of_type("unread_count") == [{"unread": 1}]


@pytest.mark.gen_test
async def test_repeated_dedupe_key_renews_the_unread_one(
    service: NotificationService, published: Published
) -> None:
    """It comes to the top; once read, a new one is made."""
    first = await service.create(draft(dedupe_key="k", title="one"))
    await service.create(draft(title="between"))
    again = await service.create(draft(dedupe_key="k", title="two"))
    assert (again.id, again.title) == (first.id, "two")
    titles = [n.title for n in (await service.find("alice")).items]
    assert titles == ["two", "between"]
    await service.mark_one("alice", first.id)
    assert (await service.create(draft(dedupe_key="k"))).id != first.id
    assert (await service.create(draft("bob", dedupe_key="k"))).user_id == "bob"


@pytest.mark.gen_test
async def test_dedupe_holds_under_a_race(service: NotificationService) -> None:
    made = await asyncio.gather(*(service.create(draft(dedupe_key="k")) for _ in range(8)))
    assert len({n.id for n in made}) == 1
    assert await service.unread_count("alice") == 1


@pytest.mark.gen_test
async def test_event_is_stored_once_and_pushed_again(
    service: NotificationService, published: Published
) -> None:
    """The pump may have been cut off between the two."""
    made = await asyncio.gather(*(service.create(draft(), event_id="e1") for _ in range(4)))
    assert len({n.id for n in made}) == 1
    assert await service.unread_count("alice") == 1
    assert len(published.of_type("notification")) == 4


@pytest.mark.gen_test
async def test_quota_keeps_the_newest(make_service: Make) -> None:
    service = await make_service(quota=3)
    made = [await service.create(draft(title=str(n))) for n in range(6)]
    await service.create(draft("bob"))
    await service.trim_pending()
    kept = [n.id for n in (await service.find("alice")).items]
    assert kept == [n.id for n in reversed(made[3:])]
    assert (await service.find("bob")).unread == 1


@pytest.mark.gen_test
async def test_trimmer_works_off_the_request_path(make_service: Make) -> None:
    service = await make_service(quota=1)
    job = asyncio.create_task(service.run_trimmer())
    for _ in range(3):
        await service.create(draft())
    await until(lambda: service.unread_count("alice"), equal=1)
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)


@pytest.mark.gen_test
async def test_what_is_published_late_is_replayed_behind_a_later_number(
    make_service: Make,
) -> None:
    """Its process stood still between storing and publishing; who was cut off then missed it."""
    service = await make_service()
    late = await service.create(draft(title="late"))
    seen = await service.create(draft(title="seen"))
    cursor = (await service.replay("alice")).cursor
    unmarked = await service.replay("alice", cursor)
    await service.mark_pending()
    marked = await service.replay("alice", cursor)
    for replay in (unmarked, marked):
        assert [m.fields()["id"] for m in replay.messages] == [late.id, seen.id]
    after = await service.create(draft(title="after"))
    await service.delete("alice", seen.id)
    replay = await service.replay("alice", cursor)
    assert [m.fields()["id"] for m in replay.messages] == [late.id, after.id]


@pytest.mark.gen_test
async def test_what_a_process_left_unpublished_is_published(
    make_service: Make, published: Published, database: Any
) -> None:
    """It was killed between storing and publishing; nobody else does so at once."""
    service = await make_service()
    left = await service.create(draft(title="left"))
    published.messages.clear()
    assert await service.republish()
    assert published.of_type("notification") == []
    long_ago = datetime.now(UTC) - timedelta(minutes=1)
    await database["notifications"].update_many({}, {"$set": {"stored_at": long_ago}})
    assert await service.republish()
    assert [one["id"] for one in published.of_type("notification")] == [left.id]
    assert await database["notifications"].count_documents({"unsent": True}) == 0


@pytest.mark.gen_test
async def test_replay_is_whole_or_says_why_not(make_service: Make) -> None:
    service = await make_service(quota=4, replay_limit=3)
    begin = (await service.replay("alice")).cursor
    made = []
    for number in range(3):
        made.append(await service.create(draft(title=str(number))))
        await service.mark_pending()
    replay = await service.replay("alice", begin)
    assert [m.fields()["id"] for m in replay.messages] == [n.id for n in made]
    assert [m.id for m in replay.messages] == [str(Cursor(begin.epoch, n)) for n in (1, 2, 3)]
    assert (replay.resync, replay.unread) == (None, 3)
    last = await service.replay("alice", replay.cursor)
    assert [m.id for m in last.messages] == [str(replay.cursor)]
    made += [await service.create(draft()) for _ in range(3)]
    assert (await service.replay("alice", begin)).resync == ResyncReason.LIMIT
    await service.trim_pending()
    assert (await service.replay("alice", begin)).resync == ResyncReason.TRIMMED
    assert (await service.replay("alice", Cursor("other", 1))).resync == ResyncReason.EPOCH
    future = Cursor(begin.epoch, 999)
    assert (await service.replay("alice", future)).resync == ResyncReason.EPOCH


@pytest.mark.gen_test
async def test_replay_finds_what_was_overtaken(service: NotificationService, database: Any) -> None:
    """Numbered first by one process, stored after another's: a client that saw only the later."""
    epoch = (await service.replay("alice")).cursor.epoch
    await database["notification_users"].update_one(
        {"_id": "alice"}, {"$inc": {"seq": 1}}, upsert=True
    )
    second = await service.create(draft(title="second"))
    assert second.seq == 2
    slow = await service.create(draft(title="slow"))
    await database["notifications"].update_one({"title": "slow"}, {"$set": {"seq": 1}})
    replay = await service.replay("alice", Cursor(epoch, 2))
    assert [m.fields()["id"] for m in replay.messages] == [slow.id, second.id]


@pytest.mark.gen_test
async def test_number_of_what_is_not_stored_yet_is_not_passed_over(
    service: NotificationService, database: Any
) -> None:
    """Whoever comes meanwhile, and is cut off when it is published, reads it by either cursor."""
    await service.create(draft(title="first"))
    await database["notification_users"].update_one({"_id": "alice"}, {"$inc": {"seq": 1}})
    meanwhile = await service.replay("alice")
    assert (meanwhile.begin.offset, meanwhile.cursor.offset) == (1, 2)
    slow = await service.create(draft(title="slow"))
    await database["notifications"].update_one({"title": "slow"}, {"$set": {"seq": 2}})
    for cursor in (meanwhile.begin, meanwhile.cursor):
        replay = await service.replay("alice", cursor)
        assert slow.id in [m.fields()["id"] for m in replay.messages]


@pytest.mark.gen_test
async def test_pages_are_filtered_and_do_not_shift(service: NotificationService) -> None:
    """What comes meanwhile does not repeat an item; a deleted one does not end the walk."""
    made = [await service.create(draft(title=str(n))) for n in range(5)]
    first = await service.find("alice", limit=2)
    assert first.next is not None
    await service.create(draft(title="meanwhile"))
    second = await service.find("alice", limit=2, before=first.next)
    assert [n.title for n in second.items] == ["2", "1"]
    await service.delete("alice", made[3].id)
    await service.find("alice", limit=2, before=first.next)
    await service.mark_read("alice", [made[0].id, made[1].id, "nonsense"])
    read = await service.find("alice", status=NotificationStatus.READ)
    assert [n.title for n in read.items] == ["1", "0"]
    system = await service.find("alice", type=NotificationType.SYSTEM)
    assert system.items == []


@pytest.mark.gen_test
async def test_marking_tells_the_other_tabs(
    service: NotificationService, published: Published
) -> None:
    first, _ = await service.create(draft()), await service.create(draft())
    marked = await service.mark_one("alice", first.id)
    assert marked.status == "read"
    assert marked.read_at is not None
    await service.mark_one("alice", first.id)
    assert published.of_type("read") == [{"ids": [first.id]}]
    assert await service.mark_all_read("alice") == 1
    assert published.of_type("read")[-1] == {"all": True}
    assert published.of_type("unread_count")[-1] == {"unread": 0}


@pytest.mark.gen_test(timeout=60)
@pytest.mark.parametrize("work", ["mark all", "mark some", "trim"])
async def test_user_with_many_holds_up_nobody_elses_writes(
    make_service: Make, database: Any, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The embedded store serves no other write while it changes many documents at once."""
    # Fifty writes for 500 documents; during one of them all, two others begin and end at most.
    monkeypatch.setattr("services.notifications.service.TOGETHER", 10)
    service = await make_service(quota=50)
    good = {"user_id": "m", "type": "alert", "title": "x", "status": "unread"}
    stored = await database.notifications.insert_many([{**good, "seq": n + 1} for n in range(500)])
    await database.notification_users.insert_one({"_id": "m", "seq": 500})
    service._want_trim("m")
    jobs: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "mark all": lambda: service.mark_all_read("m"),
        "mark some": lambda: service.mark_read("m", list(map(str, stored.inserted_ids))),
        "trim": service.trim_pending,
    }
    job = asyncio.create_task(jobs[work]())
    served = 0
    while not job.done():
        await service.create(draft("bob"))
        served += not job.done()
    assert await job == (None if work == "trim" else 500)
    assert served >= 10
    unread = await service.unread_count("m")
    assert unread == (50 if work == "trim" else 0)


@pytest.mark.gen_test
async def test_nobody_reaches_anothers(service: NotificationService) -> None:
    theirs = await service.create(draft("bob"))
    for id_ in (theirs.id, "nonsense", "6b04ce76ea1428790223c487"):
        with pytest.raises(NotificationNotFound):
            await service.mark_one("alice", id_)
        with pytest.raises(NotificationNotFound):
            await service.delete("alice", id_)
    assert await service.mark_read("alice", [theirs.id]) == 0


@pytest.mark.gen_test
async def test_indexes_are_those_of_the_design(service: NotificationService, database: Any) -> None:
    indexes = await database["notifications"].index_information()
    assert indexes["user_created"]["key"] == [("user_id", 1), ("created_at", -1)]
    assert indexes["user_status"]["key"] == [("user_id", 1), ("status", 1)]
    assert indexes["expiry"]["expireAfterSeconds"] == 90 * 86400
    assert indexes["user_dedupe"]["unique"]
    assert indexes["event"]["unique"]


@pytest.mark.gen_test
async def test_stream_begins_before_what_is_not_published_yet(
    make_service: Make, database: Any
) -> None:
    """It is still to come, and none of those that come has the id of `connected`."""
    here, there = await make_service(), await make_service()
    await there.create(draft(title="first"))
    await database["notifications"].update_many({}, {"$unset": {"unsent": ""}})
    late = await there.create(draft(title="late"))
    assert (await there.replay("alice")).begin.offset == late.seq
    begin = (await here.replay("alice")).begin
    assert begin.offset == late.seq - 1
    replay = await here.replay("alice", begin)
    assert late.id in [message.fields()["id"] for message in replay.messages]


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "changes",
    [
        {"title": ""},
        {"title": "a\nb"},
        {"title": "a\0"},
        {"title": "\ud800"},
        {"title": "x" * 201},
        {"content": "a\0"},
        {"content": "x" * 5001},
        {"user_id": "a\nb"},
        {"user_id": "x" * 256},
        {"source": "a\x1b"},
        {"dedupe_key": "a\0b"},
        {"link": "javascript:alert(1)"},
        {"link": "//evil.example"},
        {"link": "/\\evil.example"},
        {"link": "https:evil"},
        {"link": "http://"},
        {"link": "/a\nb"},
        {"link": " /a"},
        {"link": "http://[::1"},
        {"metadata": nested(33)},
        {"metadata": nested(253)},
        {"metadata": {"a": "\ud800"}},
        {"metadata": {"a": 2**63}},
        {"metadata": {"a": float("nan")}},
        {"metadata": {"a\0b": 1}},
        {"metadata": {"a": [{"$ref": 1}]}},
        {"metadata": {"a": "x" * 8192}},
    ],
)
def test_what_could_not_be_read_again_is_refused(changes: dict[str, Any]) -> None:
    good = {"user_id": "a", "type": NotificationType.ALERT, "title": "t"}
    with pytest.raises(ValueError, match=next(iter(changes))):
        NotificationDraft(**good | changes)


def test_what_can_be_read_again_is_taken() -> None:
    NotificationDraft(
        user_id="张\u3000三" + "x" * 200,
        type=NotificationType.ALERT,
        title="👩\u200d🚀 done",
        content="two\n\tlines",
        link="/orders/7?a=b#c",
        source="shop",
        metadata=nested(32),
        dedupe_key="k\u3000",
    )


@pytest.mark.gen_test
async def test_names_in_metadata_are_kept_as_they_are(service: NotificationService) -> None:
    """Addresses, versions and files have dots; a renewed notification keeps them too."""
    for metadata in ({"example.com": 1, "a": [{"b.c": {"": "x$"}}]}, {".": {"..": []}}):
        await service.create(draft(metadata=metadata, dedupe_key="k"))
        [found] = (await service.find("alice")).items
        assert found.metadata == metadata


@pytest.mark.gen_test
async def test_stored_document_of_any_shape_leaves_the_list_readable(
    service: NotificationService, database: Any, published: Published
) -> None:
    """An older version took metadata of any depth; a later one may leave a field out."""
    deep = await service.create(draft(title="deep"))
    await service.create(draft(title="good"))
    await service.mark_pending()
    key = {"_id": ObjectId(deep.id)}
    await database.notifications.update_one(
        key, {"$set": {"metadata": nested(180), "later": 1, "unsent": True, "stored_at": LONG_AGO}}
    )
    bare = await database.notifications.insert_one(
        {"user_id": "alice", "title": "bare", "unsent": True, "stored_at": LONG_AGO, "seq": "x"}
    )
    page = await service.find("alice")
    found = {item.title: item for item in page.items}
    assert set(found) == {"deep", "good", "bare"}
    assert found["deep"].metadata == {}
    orjson.dumps(page.to_dict())
    assert (await service.replay("alice", Cursor(service._epoch, 0))).messages
    # The unpublished ones are published, once.
    assert await service.republish()
    told = {data["title"] for data in published.of_type("notification")}
    assert told == {"deep", "good", "bare"}
    assert await database.notifications.count_documents({"unsent": True}) == 0
    await service.mark_all_read("alice")
    await service.delete("alice", deep.id)
    await service.delete("alice", str(bare.inserted_id))
    assert [item.title for item in (await service.find("alice")).items] == ["good"]


STRANGE: list[dict[str, Any]] = [
    {},
    {"user_id": "m", "title": 7, "metadata": [1], "status": None, "seq": 3.0},
    {"user_id": "m", "metadata": {"a": nested(252)}, "seq": "x", "stored_at": "then"},
    {"user_id": "m", "_id": 7, "created_at": "yesterday", "read_at": 3, "seq": True},
    {"user_id": "m", "_id": "7", "metadata": {"a": b"bytes"}, "link": [], "seq": float("nan")},
]


@pytest.mark.gen_test
@pytest.mark.parametrize("document", STRANGE)
async def test_strange_document_holds_up_no_job_and_nobody(
    make_service: Make, database: Any, published: Published, document: dict[str, Any]
) -> None:
    """Whatever is left of it: its user's list, the republisher and the trimmer go on."""
    service = await make_service(quota=2)
    await database.notifications.insert_one({**document, "unpublished": True})
    other = await service.create(draft(title="other"))
    await service.mark_pending()
    await database.notifications.update_one(
        {"_id": ObjectId(other.id)}, {"$set": {"unsent": True, "stored_at": LONG_AGO}}
    )
    published.messages.clear()
    assert await service.republish()
    assert "other" in [told["title"] for told in published.of_type("notification")]
    for item in (await service.find("m")).to_dict()["items"]:
        assert isinstance(item["metadata"], dict)
        assert {type(item[name]) for name in ("title", "type", "severity", "status")} == {str}
    await service.replay("m")
    await service.replay("m", Cursor(service._epoch, 0))
    for _ in range(3):
        await service.create(draft("m"))
        await service.create(draft("bob"))
    await service.trim_pending()
    assert await database.notifications.count_documents({"user_id": "m"}) == 2
    assert await database.notifications.count_documents({"user_id": "bob"}) == 2
    # Of their numbers the only good one is 3.
    last = 6 if document.get("seq") == 3.0 else 3
    assert await service.read_heads(["m", "bob"]) == {
        "m": Cursor(service._epoch, last),
        "bob": Cursor(service._epoch, 3),
    }


@pytest.mark.gen_test
async def test_head_of_a_user_that_was_restored_as_other_types_can_be_read(
    service: NotificationService, database: Any
) -> None:
    await service.create(draft())
    await database.notification_users.update_one(
        {"_id": "alice"}, {"$set": {"seq": 1.0, "trimmed_seq": "none"}}
    )
    assert await service.read_heads(["alice"]) == {"alice": Cursor(service._epoch, 1)}
    assert (await service.replay("alice")).cursor == Cursor(service._epoch, 1)


@pytest.mark.gen_test
@pytest.mark.parametrize("counter", [None, "x", {}, True, float("nan"), -5, 2**63 - 1, "lost"])
async def test_counter_that_was_lost_or_is_no_number_goes_on_behind_what_is_kept(
    service: NotificationService, database: Any, counter: Any
) -> None:
    """A user whose counter was restored by hand still gets news, in their order."""
    for title in ("first", "second"):
        await service.create(draft(title=title))
    if counter == "lost":
        await database.notification_users.delete_one({"_id": "alice"})
    else:
        await database.notification_users.update_one({"_id": "alice"}, {"$set": {"seq": counter}})
    numbers = [(await service.create(draft(title=title))).seq for title in ("third", "fourth")]
    assert numbers == [3, 4]
    titles = [item.title for item in (await service.find("alice")).items]
    assert titles == ["fourth", "third", "second", "first"]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "blind", [None, "x", [], float("nan"), float("inf"), -1, 2**63 - 1, bson.Code("x"), 60.0]
)
async def test_resume_reads_a_blind_time_of_any_type(
    service: NotificationService, database: Any, blind: Any
) -> None:
    seen, late = await service.create(draft()), await service.create(draft(title="late"))
    changes = {"blind_seconds": blind, "stored_at": datetime(1, 1, 1, tzinfo=UTC)}
    await database.notifications.update_one({"_id": ObjectId(seen.id)}, {"$set": changes})
    replay = await service.replay("alice", Cursor(service._epoch, seen.seq))
    assert late.id in [message.fields()["id"] for message in replay.messages]


@pytest.mark.gen_test
async def test_document_whose_id_was_made_by_hand_is_renewed_read_and_deleted(
    service: NotificationService, database: Any
) -> None:
    by_hand = {"_id": "by hand", "user_id": "alice", "status": "unread", "dedupe_key": "k"}
    await database.notifications.insert_one(by_hand)
    assert (await service.create(draft(dedupe_key="k", title="new"))).id == "by hand"
    await service.mark_pending()
    assert "unsent" not in await database.notifications.find_one({"_id": "by hand"})
    with pytest.raises(NotificationNotFound):
        await service.delete("mallory", "by hand")
    assert (await service.mark_one("alice", "by hand")).title == "new"
    await service.delete("alice", "by hand")
    assert (await service.find("alice")).items == []


@pytest.mark.gen_test
async def test_pages_end_also_where_numbers_are_missing(
    service: NotificationService, database: Any
) -> None:
    """Each is listed once, though all were made in the same second."""
    made = [
        {"user_id": "alice", "title": str(n), "seq": n, "_id": ObjectId() if n else "by hand"}
        for n in range(3)
    ]
    made += [{"user_id": "alice", "title": f"none {n}", "_id": ObjectId()} for n in range(5)]
    await database.notifications.insert_many(made)
    pages = [await service.find("alice", limit=2)]
    while (following := pages[-1].next) is not None:
        assert len(pages) < 9
        pages.append(await service.find("alice", limit=2, before=following))
    titles = [item.title for page in pages for item in page.items]
    assert titles[:3] == ["2", "1", "0"]
    assert len(titles) == len(set(titles))
    first = await service.find("alice", limit=4)
    assert first.next is not None
    rest = (await service.find("alice", limit=9, before=first.next)).items
    assert [item.title for item in (*first.items, *rest)] == [
        *("2", "1", "0"),
        *(f"none {n}" for n in range(5)),
    ]


@pytest.mark.gen_test
async def test_value_that_python_has_no_object_for_can_be_read(database: Any) -> None:
    """A real MongoDB keeps any time and any bytes as a text."""
    stored = bson.encode({"title": "abcd", "created_at": DatetimeMS(2**60)})
    read = bson.decode(stored.replace(b"abcd", b"a\xff\xfed"), database.codec_options)
    told = Notification.of({"_id": ObjectId(), **read})
    assert told.title == "a\ufffd\ufffdd"
    assert told.created_at.year >= 2026


@pytest.mark.gen_test
async def test_mark_that_is_refused_for_one_is_made_for_the_others(
    service: NotificationService, database: Any
) -> None:
    """A document that is full takes no mark."""
    full, good = await service.create(draft()), await service.create(draft("bob"))
    await fill(database, full.id)
    with capture_logs() as logged:
        await service.mark_pending()
    assert [one["event"] for one in logged] == ["marks_refused", "mark_refused"]
    assert logged[1]["id"] == full.id
    found = await database.notifications.find_one({"_id": ObjectId(good.id)})
    assert "unsent" not in found
    # It is not asked for again and again.
    assert not service._published


async def fill(database: Any, id_: str) -> None:
    """Let a document be as large as any may be."""
    key = {"_id": ObjectId(id_)}
    await database.notifications.update_one(key, {"$unset": {"published_at": ""}})
    empty = len(bson.encode({**await database.notifications.find_one(key), "content": ""}))
    full = {"content": "x" * (16 * 1024 * 1024 - empty)}
    await database.notifications.update_one(key, {"$set": full})


@pytest.mark.gen_test
@pytest.mark.parametrize("id_", ["", "x", "0" * 23, "\0" * 24, "ü" * 24, "f" * 25])
async def test_id_of_any_text_is_not_found(service: NotificationService, id_: str) -> None:
    for act in (service.mark_one, service.delete):
        with pytest.raises(NotificationNotFound):
            await act("alice", id_)
    with pytest.raises(NotificationNotFound):
        await service.find("alice", before=id_)
    assert await service.mark_read("alice", [id_] * 1000) == 0


@pytest.mark.gen_test
async def test_end_of_a_callback_stands_on_its_notification(service: NotificationService) -> None:
    await service.create(draft(metadata={"task_id": "t"}), event_id="e1")
    await service.note_callback("mallory", "e1", "not hers")
    await service.note_callback("alice", "e2", "of none")
    await service.note_callback("alice", "e1", "not sent")
    [told] = (await service.find("alice")).items
    assert told.metadata == {"task_id": "t", "callback": "not sent"}
