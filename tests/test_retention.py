"""Notifications that go by themselves, and those that come back."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from services.notifications import ListState, Notification, NotificationService, Query, Verb
from services.notifications.lifetime import SPREAD, SPREAD_SECONDS, Lifetime
from services.notifications.retention import LATEST_SECONDS, TRIM_STEP
from tests.inboxes import Make, Published, check_accounts, draft, titles, unread
from tests.waiting import stopwatch, until
from tornado_rt.protocol import ResyncReason


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


async def make_due(database: Any, ids: list[str], **fields: Any) -> None:
    """Let their time have come, as if it had been waited for."""
    past = soon(-0.5)
    changes = {"$set": {"due_at": past, **dict.fromkeys(fields.get("also", ()), past)}}
    await database.inbox.update_many({"_id": {"$in": list(map(ObjectId, ids))}}, changes)


async def create(service: NotificationService, count: int, user_id: str = "alice") -> list[str]:
    """Make some; return their ids."""
    ids: list[str] = []
    for start in range(0, count, 50):
        some = range(start, min(start + 50, count))
        made = await asyncio.gather(*(service.create(draft(user_id, title=str(n))) for n in some))
        ids += [one.id for one in made]
    return ids


@pytest.mark.gen_test
async def test_quota_keeps_the_newest(
    make_service: Make, published: Published, database: Any
) -> None:
    """Devices are told which went, and nobody else's go."""
    service = await make_service(quota=3)
    made = await create(service, 6)
    await service.create(draft("bob"))
    await service.trim_pending()
    assert await titles(service) == ["5", "4", "3"]
    deleted = [id_ for one in published.of_type("changed") for id_ in one["deleted"]]
    assert set(deleted) == set(made[:3])
    assert (await service.find("bob")).unread == 1
    await check_accounts(database)


@pytest.mark.gen_test
async def test_quota_keeps_pinned_ones_and_takes_archived_ones(
    make_service: Make, database: Any
) -> None:
    service = await make_service(quota=4)
    ids = await create(service, 4)
    await service.act("alice", Verb.PIN, [ids[0]])
    await service.act("alice", Verb.ARCHIVE, [ids[1]])
    await create(service, 2)
    await service.trim_pending()
    kept = await service.find("alice", Query(state=ListState.ALL))
    assert [one.id for one in kept.items][-2:] == [ids[3], ids[0]]
    assert len(kept.items) == 4
    # An unpinned one is the oldest of all.
    await service.act("alice", Verb.UNPIN, [ids[0]])
    await create(service, 1)
    await service.trim_pending()
    kept = await service.find("alice", Query(state=ListState.ALL))
    assert ids[0] not in [one.id for one in kept.items]
    assert ids[3] in [one.id for one in kept.items]
    await check_accounts(database)


@pytest.mark.gen_test
async def test_user_whose_all_are_pinned_keeps_them_over_the_quota(
    make_service: Make, database: Any
) -> None:
    """The trimmer looks for no end."""
    service = await make_service(quota=2)
    ids = await create(service, 4)
    await service.act("alice", Verb.PIN, ids)
    await service.trim_pending()
    assert len((await service.find("alice")).items) == 4
    await create(service, 1)
    await service.trim_pending()
    assert len((await service.find("alice")).items) == 4
    await check_accounts(database)


@pytest.mark.gen_test
async def test_one_with_many_too_many_is_trimmed_before_one_with_few(make_service: Make) -> None:
    """Many at once cost less; the few wait, and not for long."""
    service = await make_service(quota=2)
    await create(service, 3, "few")
    await create(service, 2 + TRIM_STEP, "many")
    job = asyncio.create_task(service.run_trimmer())
    async with stopwatch() as seconds:
        await until(lambda: unread(service, "many"), equal=2)
        assert await unread(service, "few") == 3
        await until(lambda: unread(service, "few"), equal=2)
        assert seconds() < LATEST_SECONDS + 4.0
    job.cancel()
    await asyncio.wait([job])


@pytest.mark.gen_test
async def test_quota_is_kept_while_others_are_made(make_service: Make, database: Any) -> None:
    """Notifications that came since hide nothing: the next trim begins where this one ended."""
    service = await make_service(quota=3)
    await create(service, 9)
    await asyncio.gather(service.trim_pending(), create(service, 9))
    await service.trim_pending()
    assert len(await titles(service)) == 3
    settled = (await service._accounts.settled(["alice"]))["alice"]
    assert settled.trimmed_seq == 15
    await check_accounts(database)


@pytest.mark.gen_test
async def test_quota_of_one_that_fails_holds_up_nobody_elses(make_service: Make) -> None:
    """It is tried again."""
    service = await make_service(quota=1)
    for user_id in ("a", "b", "c"):
        await create(service, 3, user_id)
    job = asyncio.create_task(service.run_trimmer())
    for user_id in ("a", "b", "c"):
        await until(lambda user_id=user_id: unread(service, user_id), equal=1)
    job.cancel()
    await asyncio.wait([job])


@pytest.mark.gen_test
async def test_snoozed_one_comes_back_as_new_on_time(
    service: NotificationService, published: Published, database: Any
) -> None:
    """At the top of the list, with a notification on every device; not before."""
    made = await service.create(draft(title="later"))
    await service.create(draft(title="other"))
    await service.mark_one("alice", made.id)
    clock = asyncio.create_task(service.run_clock())
    await service.act_on("alice", Verb.SNOOZE, made.id, soon(1.5))
    assert await titles(service) == ["other"]
    assert await titles(service, "alice", Query(state=ListState.SNOOZED)) == ["later"]
    pushed = len(published.of_type("notification"))
    async with stopwatch() as seconds:
        await until(lambda: len(published.of_type("notification")) > pushed)
        assert seconds() < 4.0
    told = published.of_type("notification")[-1]
    snoozed_until = (await service.get("alice", made.id)).snoozed_until
    assert (told["id"], told["status"], snoozed_until) == (made.id, "unread", None)
    assert (told["seen_at"], told["read_at"]) == (None, None)
    assert await titles(service) == ["later", "other"]
    assert published.of_type("unread_count")[-1]["unread"] == 2
    clock.cancel()
    await asyncio.wait([clock])
    await check_accounts(database)


@pytest.mark.gen_test
async def test_one_that_is_put_off_further_or_back_comes_then(
    service: NotificationService, database: Any
) -> None:
    first, second, third = await create(service, 3)
    for id_ in (first, second, third):
        await service.act_on("alice", Verb.SNOOZE, id_, soon(0.2))
    await service.act_on("alice", Verb.SNOOZE, first, soon(3600))
    await service.act_on("alice", Verb.ARCHIVE, second)
    await until(lambda: _is_back(service, third))
    assert await titles(service, "alice", Query(state=ListState.SNOOZED)) == ["0"]
    assert await titles(service, "alice", Query(state=ListState.ARCHIVED)) == ["1"]
    await service.act_on("alice", Verb.UNSNOOZE, first)
    assert await titles(service) == ["2", "0"]
    await check_accounts(database)


async def _is_back(service: NotificationService, id_: str) -> bool:
    await service.do_due()
    return id_ in [one.id for one in (await service.find("alice")).items]


@pytest.mark.gen_test
async def test_expired_one_goes_and_devices_are_told(
    make_service: Make, published: Published, database: Any
) -> None:
    service = await make_service()
    gone = await service.create(draft(expires_at=soon(0.3).isoformat()))
    kept = await service.create(draft(title="kept"))
    cursor = (await service.replay("alice")).cursor
    await service.act("alice", Verb.PIN, [gone.id])
    await make_due(database, [gone.id], also=["goes_at"])
    await until(lambda: _has_gone(service, gone.id))
    assert published.of_type("changed")[-1]["deleted"] == [gone.id]
    told = (await service.replay("alice", cursor)).messages
    assert [id_ for one in told for id_ in one.fields()["deleted"]] == [gone.id]
    assert [one.id for one in (await service.find("alice")).items] == [kept.id]
    await check_accounts(database)


async def _has_gone(service: NotificationService, id_: str) -> bool:
    await service.do_due()
    return id_ not in [one.id for one in (await service.find("alice")).items]


@pytest.mark.gen_test
async def test_what_was_due_while_no_process_ran_is_done_by_the_next(
    make_service: Make, database: Any
) -> None:
    """However long that was."""
    service = await make_service()
    snoozed, expired = await create(service, 2)
    await service.do_due()
    await service.act_on("alice", Verb.SNOOZE, snoozed, soon(3600))
    hours_ago = soon(-5 * 3600)
    for id_, fields in ((snoozed, ["due_at"]), (expired, ["due_at", "goes_at"])):
        changes = {"$set": dict.fromkeys(fields, hours_ago)}
        await database.inbox.update_one({"_id": ObjectId(id_)}, changes)
    after = await make_service()
    await after.do_due()
    assert [one.id for one in (await after.find("alice")).items] == [snoozed]
    await check_accounts(database)


@pytest.mark.gen_test
async def test_many_that_are_due_at_once_hold_up_nobody(make_service: Make, database: Any) -> None:
    """They go in parts, and others are served in between."""
    service = await make_service(quota=0)
    ids = await create(service, 400, "m")
    ids += [id_ for n in range(10) for id_ in await create(service, 10, f"user{n}")]
    await service.do_due()
    await make_due(database, ids, also=["goes_at"])
    work = asyncio.create_task(service.do_due())
    served, slowest = 0, 0.0
    while not work.done():
        async with stopwatch() as seconds:
            await service.create(draft("bob"))
            slowest = max(slowest, seconds())
        served += 1
    await work
    assert served >= 8
    assert slowest < 1.0
    assert await unread(service, "m") == 0
    assert await unread(service, "user9") == 0
    assert await unread(service, "bob") == served
    await check_accounts(database)


def test_those_that_are_made_at_once_go_at_different_times() -> None:
    """Within a hundredth of their lifetime; within seconds of the time that their sender said."""
    lifetime, now = Lifetime(timedelta(days=90)), datetime(2026, 1, 1, tzinfo=UTC)
    ids = [ObjectId() for _ in range(1000)]
    times = [lifetime.fields(now, None, id_)["goes_at"] for id_ in ids]
    assert len(set(times)) > 990
    earliest = now + timedelta(days=90)
    assert all(earliest <= one <= earliest + timedelta(days=90 * SPREAD) for one in times)
    said = now + timedelta(hours=1)
    times = [lifetime.fields(now, said, id_)["goes_at"] for id_ in ids]
    assert all(said <= one <= said + timedelta(seconds=SPREAD_SECONDS) for one in times)
    assert max(times) - min(times) > timedelta(seconds=SPREAD_SECONDS * 0.9)


@pytest.mark.gen_test
async def test_what_went_is_told_until_it_is_forgotten(make_service: Make, database: Any) -> None:
    """Then a cursor from before it gets a resync, and one from after it none."""
    service = await make_service()
    ids = await create(service, 3)
    before = (await service.replay("alice")).cursor
    done = await service.act("alice", Verb.DELETE, [ids[0]])
    after = (await service.replay("alice")).cursor
    await service.do_due()
    assert (await service.replay("alice", before)).resync is None
    await make_due(database, [ids[0]])
    await service.do_due()
    assert await database.inbox.count_documents({}) == 2
    assert (await service.replay("alice", before)).resync == ResyncReason.TRIMMED
    assert (await service.replay("alice", after)).resync is None
    assert done.undo is not None
    assert (await service.undo("alice", done.undo)).changed == 0
    await service.create(draft(title="new"))
    assert len((await service.replay("alice", after)).messages) == 1
    assert (await service.replay("alice", before)).resync == ResyncReason.TRIMMED
    await check_accounts(database)


@pytest.mark.gen_test
async def test_deletion_is_undone_also_when_its_time_came_meanwhile(
    service: NotificationService, database: Any
) -> None:
    """A snoozed one comes back at once, an expired one goes for good."""
    snoozed, expired = await create(service, 2)
    await service.act_on("alice", Verb.SNOOZE, snoozed, soon(0.2))
    short = {"$set": {"goes_at": soon(0.2), "due_at": soon(0.2)}}
    await database.inbox.update_one({"_id": ObjectId(expired)}, short)
    done = await service.act("alice", Verb.DELETE, [snoozed, expired])
    await until(lambda: datetime.now(UTC) > short["$set"]["goes_at"])
    await service.do_due()
    assert done.undo is not None
    assert (await service.undo("alice", done.undo)).changed == 2
    await until(lambda: _is_back(service, snoozed))
    assert [one.id for one in (await service.find("alice", Query(state=ListState.ALL))).items] == [
        snoozed
    ]
    await check_accounts(database)


@pytest.mark.gen_test
async def test_clock_goes_on_past_what_is_strange(make_service: Make, database: Any) -> None:
    """Due notifications may be without an owner or a state."""
    service = await make_service()
    strange: list[dict[str, Any]] = [
        {"state": "gone"},
        {"state": "gone", "user_id": 7, "version": "x"},
        {"state": "unread", "user_id": "nobody"},
        {"user_id": None},
        {},
    ]
    await database.inbox.insert_many([{**one, "due_at": soon(-1)} for one in strange])
    made = await service.create(draft())
    await service.act_on("alice", Verb.SNOOZE, made.id, soon(0.1))
    clock = asyncio.create_task(service.run_clock())
    await until(lambda: _titles_or_end(service, clock))
    assert not clock.done()
    clock.cancel()
    await asyncio.wait([clock])


async def _titles_or_end(service: NotificationService, clock: "asyncio.Task[None]") -> bool:
    items: list[Notification] = [*(await service.find("alice")).items]
    return bool(items) or clock.done()
