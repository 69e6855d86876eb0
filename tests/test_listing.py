"""Lists of notifications: filters, places that stay, pages, totals, and few among many."""

import asyncio
from datetime import timedelta
from typing import Any

import attrs
import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from services.notifications import (
    ListState,
    NotificationNotFound,
    NotificationPage,
    NotificationService,
    NotificationStatus,
    Query,
    Severity,
    Verb,
)
from services.notifications import inbox as inbox_module
from tests.inboxes import Make, check_accounts, draft, titles

Titles = list[str]


async def create(
    service: NotificationService, count: int, user_id: str = "alice", **more: Any
) -> list[str]:
    """Make some, titled by their number; return their ids."""
    ids: list[str] = []
    for start in range(0, count, 50):
        some = range(start, min(start + 50, count))
        drafts = [draft(user_id, title=str(n), **more) for n in some]
        ids += [one.id for one in await asyncio.gather(*map(service.create, drafts))]
    return ids


async def walk(service: NotificationService, query: Query, most: int = 100) -> list[Titles]:
    """Return the titles of each page, from the first to the last."""
    pages: list[Titles] = []
    while True:
        page = await service.find("alice", query)
        pages.append([one.title for one in page.items])
        assert len(pages) < most
        if page.next is None:
            return pages
        query = attrs.evolve(query, before=page.next)


def numbers(first: int, last: int) -> Titles:
    """Return the titles from a number down to another one."""
    return [str(number) for number in range(first, last - 1, -1)]


@pytest.mark.gen_test
async def test_each_state_has_its_list_and_total(
    service: NotificationService, database: Any
) -> None:
    ids = await create(service, 10)
    await service.act("alice", Verb.READ, ids[:5])
    await service.act("alice", Verb.ARCHIVE, ids[4:6])
    await service.act("alice", Verb.PIN, ids[5:8])
    later = (await service.get("alice", ids[0])).created_at + timedelta(hours=1)
    await service.act("alice", Verb.SNOOZE, [ids[7], ids[0]], later)
    await service.delete("alice", ids[9])
    expected: dict[ListState, Titles] = {
        ListState.INBOX: ["8", "6", "3", "2", "1"],
        ListState.ARCHIVED: ["5", "4"],
        ListState.SNOOZED: ["7", "0"],
        ListState.PINNED: ["6"],
        ListState.ALL: numbers(8, 0),
    }
    for state, listed in expected.items():
        page = await service.find("alice", Query(state=state, total=True))
        assert ([one.title for one in page.items], page.total) == (listed, len(listed)), state
        assert page.next is None
        for status in NotificationStatus:
            query = Query(state=state, status=status, total=True)
            some = await service.find("alice", query)
            assert {one.status for one in some.items} <= {status.value}
            assert some.total == len(some.items), (state, status)
    assert (page.unread, page.unseen, page.version) == (2, 2, 15)
    await check_accounts(database)


@pytest.mark.gen_test
async def test_filters_are_met_together(service: NotificationService) -> None:
    kinds = [("alert", "info"), ("system", "error"), ("analysis", "error"), ("alert", "warning")]
    made = []
    for number in range(12):
        type_, severity = kinds[number % 4]
        fields = {"type": type_, "severity": Severity(severity), "title": f"No {number} Done"}
        source = {"source": "shop"} if number < 6 else {}
        made.append(await service.create(draft(**fields, **source)))

    async def found(**query: Any) -> list[int]:
        page = await service.find("alice", Query(total=True, **query))
        assert page.total == len(page.items)
        return [int(one.title.split()[1]) for one in page.items]

    assert await found(types=["alert"]) == [11, 8, 7, 4, 3, 0]
    assert await found(types=["alert", "system"], severities=[Severity.INFO]) == [8, 4, 0]
    assert await found(severities=[Severity.ERROR, Severity.WARNING], source="shop") == [5, 3, 2, 1]
    assert await found(source="nobody") == []
    assert await found(words=["DONE", "no 1"]) == [11, 10, 1]
    assert await found(words=["done", "7"], types=["alert"]) == [7]
    since, until = made[3].created_at, made[9].created_at
    in_time = [n for n in range(11, -1, -1) if since <= made[n].created_at < until]
    assert await found(since=since, until=until) == in_time
    assert await found(since=until, until=since) == []


@pytest.mark.gen_test
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 25, 100])
async def test_pages_of_any_size_bring_each_once(service: NotificationService, limit: int) -> None:
    await create(service, 25)
    pages = await walk(service, Query(limit=limit))
    assert [title for page in pages for title in page] == numbers(24, 0)
    assert {len(page) for page in pages[:-1]} <= {limit}
    assert pages[-1]


@pytest.mark.gen_test
async def test_place_stays_while_the_list_changes(
    service: NotificationService, database: Any
) -> None:
    """Notifications that come, go, are renewed or leave the inbox meanwhile repeat nothing."""
    await service.create(draft(title="low", dedupe_key="low"))
    ids = await create(service, 10)
    await service.create(draft(title="high", dedupe_key="high"))
    first = await service.find("alice", Query(limit=4))
    assert [one.title for one in first.items] == ["high", *numbers(9, 7)]
    await create(service, 3)
    for key in ("high", "low"):
        await service.create(draft(title=f"{key} again", dedupe_key=key))
    await service.delete("alice", ids[7])
    await service.act("alice", Verb.ARCHIVE, [ids[5]])
    await service.delete("alice", ids[3])
    rest = await walk(service, Query(limit=4, before=first.next))
    assert rest == [["6", "4", "2", "1"], ["0"]]
    by_id = await titles(service, "alice", Query(limit=4, before=ids[6]))
    assert by_id == ["4", "2", "1", "0"]
    await check_accounts(database)


@pytest.mark.gen_test
async def test_walk_goes_on_behind_an_id_that_is_gone_for_good(
    service: NotificationService, database: Any
) -> None:
    """Behind one that was deleted long ago: with what was made no later."""
    ids = await create(service, 6)
    await service.delete("alice", ids[3])
    await database.inbox.delete_one({"_id": ObjectId(ids[3])})
    found = await titles(service, "alice", Query(before=ids[3], limit=100))
    assert found[-3:] == ["2", "1", "0"]
    with pytest.raises(NotificationNotFound):
        await service.find("alice", Query(before="of nothing"))
    theirs = await service.create(draft("bob"))
    assert "x" not in await titles(service, "alice", Query(before=theirs.id, limit=100))


@pytest.mark.gen_test
@pytest.mark.parametrize("place", ["s0", "s1", "s999999999999", "s00"])
async def test_place_beyond_the_list_is_its_end(service: NotificationService, place: str) -> None:
    await create(service, 3)
    found = await service.find("alice", Query(before=place))
    expected = numbers(2, 0) if "9" in place else []
    assert ([one.title for one in found.items], found.next) == (expected, None)


@pytest.mark.gen_test
async def test_numbered_pages_have_totals(service: NotificationService) -> None:
    ids = await create(service, 23)
    await service.act("alice", Verb.READ, ids[::2])

    async def page(number: int, size: int = 5, **query: Any) -> NotificationPage:
        return await service.find("alice", Query(page=number, page_size=size, **query))

    found = [await page(number) for number in range(1, 7)]
    assert [[one.title for one in some.items] for some in found] == [
        *(numbers(22 - start, 18 - start) for start in (0, 5, 10, 15)),
        numbers(2, 0),
        [],
    ]
    assert {some.total for some in found} == {23}
    assert [(some.page, some.page_size) for some in found[:2]] == [(1, 5), (2, 5)]
    # The place behind a page leads to the next one.
    assert await titles(service, "alice", Query(before=found[1].next, limit=5)) == numbers(12, 8)
    unread = await page(2, 4, status=NotificationStatus.UNREAD)
    assert ([one.title for one in unread.items], unread.total) == (["13", "11", "9", "7"], 11)
    assert (await page(1_000_000, 100)).items == []


@pytest.mark.gen_test
async def test_list_where_most_are_archived_is_found(
    service: NotificationService, database: Any
) -> None:
    """However far below the others they stand, and in few reads."""
    ids = await create(service, 600)
    kept = [ids[place] for place in (0, 1, 250, 599)]
    for start in range(0, 600, 200):
        part = [one for one in ids[start : start + 200] if one not in kept]
        await service.act("alice", Verb.ARCHIVE, part)
    assert await titles(service) == ["599", "250", "1", "0"]
    assert await walk(service, Query(limit=2)) == [["599", "250"], ["1", "0"]]
    await service.act("alice", Verb.READ, [kept[0]])
    read = Query(status=NotificationStatus.READ, total=True)
    page = await service.find("alice", read)
    assert ([one.title for one in page.items], page.total) == (["0"], 1)
    archived = await service.find("alice", Query(state=ListState.ARCHIVED, total=True))
    assert (len(archived.items), archived.total) == (20, 596)
    await check_accounts(database)


@pytest.mark.gen_test
async def test_filter_that_finds_little_goes_on_where_it_stopped_to_look(
    service: NotificationService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request looks at a bounded number; all pages together have all."""
    monkeypatch.setattr(inbox_module, "MOST_LOOKED_AT", 30)
    monkeypatch.setattr(inbox_module.Walk.take, "__defaults__", (30,))
    await service.create(draft(title="first rare"))
    await create(service, 120)
    await service.create(draft(title="last rare"))
    pages = await walk(service, Query(words=["rare"], limit=5))
    assert [title for page in pages for title in page] == ["last rare", "first rare"]
    assert len(pages) > 2
    everything = await service.find("alice", Query(words=["rare"], limit=5, total=True))
    assert everything.total == 2


@pytest.mark.gen_test
async def test_list_and_counts_agree_while_others_change_them(
    make_service: Make, database: Any
) -> None:
    """A page is of one version, whatever is written meanwhile."""
    here, there = await make_service(), await make_service()
    await create(here, 20)

    async def change() -> None:
        for number in range(10):
            made = await there.create(draft(title="new"))
            if number % 2:
                await there.mark_one("alice", made.id)

    writing = asyncio.create_task(change())
    checked = 0
    while not writing.done():
        page = await here.find("alice", Query(limit=100, total=True))
        assert page.total == len(page.items)
        assert page.unread == sum(one.status == "unread" for one in page.items)
        checked += 1
    await writing
    assert checked > 1
    await check_accounts(database)


@pytest.mark.gen_test
async def test_user_without_any_has_an_empty_list(service: NotificationService) -> None:
    for state in ListState:
        page = await service.find("nobody", Query(state=state, total=True))
        assert ([*page.items], page.next, page.total, page.version) == ([], None, 0, 0)


@given(
    st.sampled_from([None, *NotificationStatus]),
    st.lists(st.sampled_from(["a", "b"]), max_size=2),
    st.one_of(st.none(), st.sampled_from(["", "s", "x"])),
    st.lists(st.sampled_from(["X", "y", "ß"]), max_size=2),
    st.dictionaries(
        st.sampled_from(["title", "type", "source", "read_at", "severity", "created_at"]),
        st.one_of(st.none(), st.integers(), st.sampled_from(["a", "x Y", "SS"]), st.just([1])),
    ),
)
def test_any_document_can_be_asked_whether_it_is_wanted(
    status: NotificationStatus | None,
    types: list[str],
    source: str | None,
    words: list[str],
    document: dict[str, Any],
) -> None:
    query = Query(status=status, types=types, source=source, words=words)
    wanted = query.matches(document)
    assert wanted in (True, False)
    if not (status or types or source is not None or words):
        assert wanted
