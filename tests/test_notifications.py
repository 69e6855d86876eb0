"""Notifications in a real MongoDB: made, renewed, marked, deleted; whatever is stored already."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from bson import ObjectId

from services.notifications import (
    NotificationDraft,
    NotificationNotFound,
    NotificationService,
    NotificationStatus,
    NotificationType,
    Query,
    Verb,
)
from tests.inboxes import Make, Published, check_accounts, draft, titles, unread
from tests.waiting import until

FIELDS = {
    *("id", "user_id", "type", "title", "content", "link", "source", "severity", "status"),
    *("created_at", "read_at", "metadata", "dedupe_key", "seen_at", "archived_at"),
    *("snoozed_until", "expires_at", "pinned", "actions", "answered", "icon", "image", "locale"),
    *("group_key", "count", "muted", "seq"),
}


@pytest.mark.gen_test
async def test_stored_notification_is_pushed_with_the_counts(
    service: NotificationService, published: Published
) -> None:
    stored = await service.create(draft(metadata={"n": 1}, link="/x", content="c", source="s"))
    assert [(t, m.type) for t, m in published.messages] == [
        ("user:alice", "notification"),
        ("user:alice", "unread_count"),
    ]
    [pushed] = published.of_type("notification")
    assert pushed == stored.to_dict()
    assert set(pushed) == FIELDS
    assert published.of_type("unread_count") == [{"unread": 1, "unseen": 1, "version": 1}]


@pytest.mark.gen_test
async def test_repeated_dedupe_key_renews_the_unread_one(
    service: NotificationService, published: Published
) -> None:
    """It comes to the top; once read, a new one is made."""
    first = await service.create(draft(dedupe_key="k", title="one"))
    await service.create(draft(title="between"))
    again = await service.create(draft(dedupe_key="k", title="two"))
    assert (again.id, again.title) == (first.id, "two")
    assert await titles(service) == ["two", "between"]
    await service.mark_one("alice", first.id)
    assert (await service.create(draft(dedupe_key="k"))).id != first.id
    assert (await service.create(draft("bob", dedupe_key="k"))).user_id == "bob"


@pytest.mark.gen_test
async def test_renewed_one_is_what_its_last_draft_says(service: NotificationService) -> None:
    """Fields that only the earlier one had are gone."""
    earlier = draft(dedupe_key="k", content="c", link="/x", source="s", metadata={"n": 1})
    first = await service.create(earlier)
    await service.act_on("alice", Verb.PIN, first.id)
    again = await service.create(draft(dedupe_key="k", title="two"))
    assert again == await service.get("alice", first.id)
    assert (again.content, again.link, again.source, again.metadata) == (None, None, None, {})
    assert (again.pinned, again.seen_at, again.status) == (True, None, "unread")


@pytest.mark.gen_test
async def test_dedupe_holds_under_a_race(make_service: Make, database: Any) -> None:
    """Between two processes too."""
    here, there = await make_service(), await make_service()
    asked = [one.create(draft(dedupe_key="k")) for one in (here, there) for _ in range(8)]
    made = await asyncio.gather(*asked)
    assert len({n.id for n in made}) == 1
    assert await unread(here) == await unread(there) == 1
    await check_accounts(database)


@pytest.mark.gen_test
async def test_event_is_stored_once_and_pushed_again(
    make_service: Make, published: Published, database: Any
) -> None:
    """The pump may have been cut off between the two."""
    here, there = await make_service(), await make_service()
    asked = [one.create(draft(), event_id="e1") for one in (here, there) for _ in range(2)]
    made = await asyncio.gather(*asked)
    assert len({n.id for n in made}) == 1
    assert await unread(here) == 1
    assert len(published.of_type("notification")) == 4
    assert set(published.versions("alice")) == {1}
    await check_accounts(database)


@pytest.mark.gen_test
async def test_pages_are_filtered_and_do_not_shift(service: NotificationService) -> None:
    """New items meanwhile repeat no item; a deleted one does not end the walk."""
    made = [await service.create(draft(title=str(n))) for n in range(5)]
    first = await service.find("alice", Query(limit=2))
    assert first.next is not None
    await service.create(draft(title="meanwhile"))
    behind = Query(limit=2, before=first.next)
    assert await titles(service, "alice", behind) == ["2", "1"]
    await service.delete("alice", made[3].id)
    assert await titles(service, "alice", behind) == ["2", "1"]
    await service.mark_read("alice", [made[0].id, made[1].id, "nonsense"])
    assert await titles(service, "alice", Query(status=NotificationStatus.READ)) == ["1", "0"]
    assert await titles(service, "alice", Query(types=[NotificationType.SYSTEM])) == []


@pytest.mark.gen_test
async def test_marking_tells_the_other_tabs(
    service: NotificationService, published: Published
) -> None:
    first, second = await service.create(draft()), await service.create(draft())
    marked = await service.mark_one("alice", first.id)
    assert marked.status == "read"
    assert marked.read_at is not None
    await service.mark_one("alice", first.id)
    assert published.of_type("read") == [{"ids": [first.id]}]
    [told] = published.of_type("changed")
    assert (told["items"], told["deleted"]) == ([marked.to_dict()], [])
    assert await service.mark_all_read("alice") == 1
    assert published.of_type("changed")[-1]["items"][0]["id"] == second.id
    assert published.of_type("read")[-1] == {"all": True}
    assert published.of_type("unread_count")[-1] == {"unread": 0, "unseen": 0, "version": 4}
    assert published.versions("alice") == [1, 2, 3, 4]


@pytest.mark.gen_test
@pytest.mark.parametrize("work", ["mark all", "mark some", "trim"])
async def test_user_with_many_holds_up_nobody_elses_writes(
    make_service: Make, database: Any, work: str
) -> None:
    """The embedded store serves no other write while it changes many documents at once."""
    service = await make_service(quota=50)
    ids = [one.id for one in await create_many(service, "m", 500)]
    jobs: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "mark all": lambda: service.mark_all_read("m"),
        "mark some": lambda: service.mark_read("m", ids),
        "trim": service.trim_pending,
    }
    job = asyncio.create_task(jobs[work]())
    served = 0
    while not job.done():
        await service.create(draft("bob"))
        served += not job.done()
    assert await job == (None if work == "trim" else 500)
    # Ten writes change 500 documents; during each of them two others begin and end at most.
    assert served >= 8
    assert await unread(service, "m") == (50 if work == "trim" else 0)
    await check_accounts(database)


async def create_many(service: NotificationService, user_id: str, count: int) -> list[Any]:
    """Make some, as many at once as may wait."""
    made = []
    for _ in range(count // 100):
        made += await asyncio.gather(*(service.create(draft(user_id)) for _ in range(100)))
    return made


@pytest.mark.gen_test
async def test_nobody_reaches_anothers(service: NotificationService, database: Any) -> None:
    theirs = await service.create(draft("bob"))
    for id_ in (theirs.id, "nonsense", "6b04ce76ea1428790223c487"):
        for act in (service.mark_one, service.delete, service.get):
            with pytest.raises(NotificationNotFound):
                await act("alice", id_)
        with pytest.raises(NotificationNotFound):
            await service.answer("alice", id_, "yes")
    assert await service.mark_read("alice", [theirs.id]) == 0
    assert (await service.get("bob", theirs.id)).status == "unread"
    await check_accounts(database)


@pytest.mark.gen_test
async def test_names_in_metadata_are_kept_as_they_are(service: NotificationService) -> None:
    """Addresses, versions and files have dots; a renewed notification keeps them too."""
    for metadata in ({"example.com": 1, "a": [{"b.c": {"": "x$"}}]}, {".": {"..": []}}):
        await service.create(draft(metadata=metadata, dedupe_key="k"))
        [found] = (await service.find("alice")).items
        assert found.metadata == metadata


@pytest.mark.gen_test
@pytest.mark.parametrize("id_", ["", "x", "0" * 23, "\0" * 24, "ü" * 24, "f" * 25, "s", "sx"])
async def test_id_of_any_text_is_not_found(service: NotificationService, id_: str) -> None:
    for act in (service.mark_one, service.delete, service.get):
        with pytest.raises(NotificationNotFound):
            await act("alice", id_)
    with pytest.raises(NotificationNotFound):
        await service.find("alice", Query(before=id_))
    with pytest.raises(NotificationNotFound):
        await service.undo("alice", id_)
    assert await service.mark_read("alice", [id_] * 1000) == 0


@pytest.mark.gen_test
async def test_end_of_a_callback_stands_on_its_notification(service: NotificationService) -> None:
    await service.create(draft(metadata={"task_id": "t"}), event_id="e1")
    await service.note_callback("mallory", "e1", "not hers")
    await service.note_callback("alice", "e2", "of none")
    await service.note_callback("alice", "e1", "not sent")
    [told] = (await service.find("alice")).items
    assert told.metadata == {"task_id": "t", "callback": "not sent"}


@pytest.mark.gen_test
async def test_trimmer_works_off_the_request_path(make_service: Make) -> None:
    service = await make_service(quota=1)
    job = asyncio.create_task(service.run_trimmer())
    for _ in range(3):
        await service.create(draft())
    await until(lambda: unread(service), equal=1)
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)


@pytest.mark.gen_test
async def test_all_queries_have_an_index(service: NotificationService, database: Any) -> None:
    indexes = await database["inbox"].index_information()
    assert indexes["user_state_number"]["key"] == [("user_id", 1), ("state", 1), ("seq", -1)]
    assert indexes["user_version"]["key"] == [("user_id", 1), ("version", 1)]
    assert indexes["user_key"]["key"] == [("user_id", 1), ("key", 1)]
    assert indexes["due"]["key"] == [("due_at", 1)]
    assert not any("expireAfterSeconds" in one for one in indexes.values())


@pytest.mark.gen_test
async def test_document_whose_id_was_made_by_hand_is_renewed_read_and_deleted(
    service: NotificationService, database: Any
) -> None:
    """An id is any text."""
    made = await service.create(draft(dedupe_key="k"))
    document = await database.inbox.find_one({"_id": ObjectId(made.id)})
    await database.inbox.delete_one({"_id": ObjectId(made.id)})
    await database.inbox.insert_one({**document, "_id": "by hand"})
    assert (await service.create(draft(dedupe_key="k", title="new"))).id == "by hand"
    with pytest.raises(NotificationNotFound):
        await service.delete("mallory", "by hand")
    assert (await service.mark_one("alice", "by hand")).title == "new"
    await service.delete("alice", "by hand")
    assert await titles(service) == []
    await check_accounts(database)


def nested(depth: int) -> Any:
    """Return an object in an object, and so on."""
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
