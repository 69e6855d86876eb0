"""The log of notifications: what a device that was away is told, whole or not at all."""

from typing import Any

import pytest

from services.notifications import NotificationService, Query, Verb
from tests.inboxes import Make, Published, draft
from tornado_rt.protocol import Cursor, ResyncReason


@pytest.mark.gen_test
async def test_replay_is_whole_or_says_why_not(make_service: Make) -> None:
    service = await make_service(replay_limit=3)
    begin = (await service.replay("alice")).cursor
    made = [await service.create(draft(title=str(number))) for number in range(3)]
    replay = await service.replay("alice", begin)
    assert [m.fields()["id"] for m in replay.messages] == [n.id for n in made]
    assert [m.id for m in replay.messages] == [str(Cursor(begin.epoch, n)) for n in (1, 2, 3)]
    assert (replay.resync, replay.counts) == (None, {"unread": 3, "unseen": 3, "version": 3})
    assert (await service.replay("alice", replay.cursor)).messages == []
    await service.create(draft())
    assert (await service.replay("alice", begin)).resync == ResyncReason.LIMIT
    assert (await service.replay("alice", Cursor("other", 1))).resync == ResyncReason.EPOCH
    future = Cursor(begin.epoch, 999)
    assert (await service.replay("alice", future)).resync == ResyncReason.EPOCH


@pytest.mark.gen_test
async def test_replay_begins_at_every_version(make_service: Make, published: Published) -> None:
    """A device that is cut off behind any message gets the others, and ends where all are."""
    service = await make_service()
    made = [await service.create(draft(title=str(n))) for n in range(3)]
    await service.mark_read("alice", [made[0].id])
    await service.delete("alice", made[1].id)
    await service.create(draft(title="last"))
    told = {m.cursor.offset: m for _, m in published.messages if m.cursor is not None}
    assert list(told) == [1, 2, 3, 4, 5, 6]
    epoch = (await service.replay("alice")).cursor.epoch
    for offset in range(7):
        replay = await service.replay("alice", Cursor(epoch, offset))
        assert replay.resync is None
        assert replay.cursor.offset == 6
        versions = [m.cursor.offset for m in replay.messages if m.cursor is not None]
        assert versions == sorted(set(versions))
        assert all(version > offset for version in versions)
        # A deleted one is told as deleted alone.
        shown = [m.fields().get("id") for m in replay.messages if m.type == "notification"]
        assert made[1].id not in shown
        deleted = [id_ for m in replay.messages for id_ in m.fields().get("deleted", [])]
        assert deleted == ([made[1].id] if offset < 5 else [])


@pytest.mark.gen_test
async def test_what_a_process_stored_and_did_not_publish_is_replayed(
    make_service: Make, database: Any
) -> None:
    """It was killed between the two: a device that comes back, or finds a gap, reads it."""
    here = await make_service()
    there = NotificationService(database, Published())
    await there.prepare()
    first = await here.create(draft(title="first"))
    cursor = (await here.replay("alice")).cursor
    silent = await there.create(draft(title="silent"))
    later = await here.create(draft(title="later"))
    replay = await here.replay("alice", cursor)
    assert [m.fields()["id"] for m in replay.messages] == [silent.id, later.id]
    assert first.id not in [m.fields()["id"] for m in replay.messages]
    assert (await here.read_heads(["alice"]))["alice"] == replay.cursor
    await there.close()


@pytest.mark.gen_test
async def test_undone_deletion_of_several_is_one_message(service: NotificationService) -> None:
    """As it was told live: no two messages have one id, and none is pushed as new."""
    ids = [(await service.create(draft())).id for _ in range(3)]
    cursor = (await service.replay("alice")).cursor
    done = await service.act("alice", Verb.DELETE, ids)
    assert done.undo is not None
    await service.undo("alice", done.undo)
    away = await service.replay("alice", cursor)
    told = [m for m in away.messages if m.cursor is not None and m.cursor.offset == 5]
    assert [m.type for m in told] == ["changed"]
    assert {one["id"] for one in told[0].fields()["items"]} == set(ids)


@pytest.mark.gen_test
async def test_deletion_of_one_that_was_renewed_is_told(service: NotificationService) -> None:
    """A device that was away knows it from before it was renewed."""
    first = await service.create(draft(dedupe_key="k"))
    cursor = (await service.replay("alice")).cursor
    await service.create(draft(dedupe_key="k", title="renewed"))
    await service.delete("alice", first.id)
    told = (await service.replay("alice", cursor)).messages
    assert [id_ for m in told for id_ in m.fields().get("deleted", [])] == [first.id]


@pytest.mark.gen_test
async def test_changes_in_one_go_are_one_message(service: NotificationService) -> None:
    ids = [(await service.create(draft())).id for _ in range(3)]
    cursor = (await service.replay("alice")).cursor
    await service.act("alice", Verb.ARCHIVE, ids)
    [told] = (await service.replay("alice", cursor)).messages
    assert told.type == "changed"
    assert {one["id"] for one in told.fields()["items"]} == set(ids)
    assert (await service.find("alice", Query())).items == []


@pytest.mark.gen_test
async def test_stream_of_who_has_nothing_begins_at_nothing(service: NotificationService) -> None:
    """And what comes first is no gap, whichever process has made it."""
    replay = await service.replay("nobody")
    assert (replay.cursor.offset, replay.messages) == (0, [])
    await service.create(draft("nobody"))
    assert len((await service.replay("nobody", replay.cursor)).messages) == 1
