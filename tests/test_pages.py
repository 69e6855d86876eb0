"""Pages that are kept: a list is what it would be without them, and costs less."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

from services.notifications import ListState, NotificationService, Query, Verb
from services.notifications import pages as pages_module
from services.notifications.account import Account, Counts, Document, Epoch
from services.notifications.listing import LIMIT
from services.notifications.models import NotificationStatus
from services.notifications.pages import Pages, is_near
from tests.inboxes import Make, check_accounts, draft, titles

pytestmark = pytest.mark.long

LISTS = [
    Query(state=state, status=status, limit=limit)
    for state in (ListState.INBOX, ListState.ARCHIVED, ListState.SNOOZED, ListState.ALL)
    for status in (None, NotificationStatus.UNREAD)
    for limit in (1, 4, 100)
]
VERBS = [Verb.SEEN, Verb.READ, Verb.UNREAD, Verb.ARCHIVE, Verb.UNARCHIVE, Verb.PIN, Verb.DELETE]
ROUNDS = 60


async def change(service: NotificationService, rng: random.Random) -> None:
    """Change the inbox of alice somehow."""
    known = [one.id for one in (await service.find("alice", Query(state=ListState.ALL))).items]
    some = rng.sample(known, min(len(known), rng.choice([1, 1, 2, 9])))
    what = rng.random()
    if what < 0.3 or not known:
        key = rng.choice([None, "k1", "k2"])
        await service.create(draft(title=str(rng.random()), dedupe_key=key))
    elif what < 0.4:
        later = datetime.now(UTC) + timedelta(hours=1)
        await service.act("alice", Verb.SNOOZE, some, later)
    elif what < 0.5:
        done = await service.act("alice", Verb.DELETE, some)
        if done.undo is not None:
            await service.undo("alice", done.undo)
    elif what < 0.53:
        await service.mark_all_read("alice")
    else:
        await service.act("alice", rng.choice(VERBS), some)


async def shown(service: NotificationService, query: Query) -> Any:
    """Return a page, and what stands behind it: a place can have several names."""
    page = await service.find("alice", query)
    rest = None
    if page.next is not None:
        rest = (await service.find("alice", attrs.evolve(query, before=page.next))).items
    return {**page.to_dict(), "next": rest}


@pytest.mark.gen_test
@pytest.mark.parametrize("seed", range(3))
async def test_list_is_what_it_would_be_without_kept_pages(make_service: Make, seed: int) -> None:
    """This process changes it, or another one."""
    service, other = await make_service(quota=12), await make_service(quota=12)
    rng = random.Random(seed)
    for number in range(20):
        await service.create(draft(title=str(number)))
    for _ in range(ROUNDS):
        await change(rng.choice([service, other]), rng)
        await service.trim_pending()
        for query in rng.sample(LISTS, 6):
            kept = await shown(service, query)
            other._inbox.pages.clear()
            assert kept == await shown(other, query), query


@pytest.mark.gen_test
async def test_page_stays_full_when_some_go_from_it(make_service: Make) -> None:
    service = await make_service()
    for number in range(10):
        await service.create(draft(title=str(number)))
    query = Query(limit=3)
    for top in (9, 8, 7):
        assert await titles(service, "alice", query) == [str(top), str(top - 1), str(top - 2)]
        [newest, *_] = (await service.find("alice", query)).items
        await service.delete("alice", newest.id)


@pytest.mark.gen_test
async def test_next_page_reads_the_account_once(make_service: Make) -> None:
    """It was seen with the page before; it is read to say that nothing has changed since."""
    writer, service = await make_service(), await make_service()
    for number in range(6):
        await writer.create(draft(title=str(number)))
    read, asked = service._inbox._read_account, []

    async def counted(user_id: str) -> Account:
        asked.append(user_id)
        return await read(user_id)

    service._inbox._read_account = counted
    first = await service.find("alice", Query(limit=2))
    asked.clear()
    second = await service.find("alice", Query(limit=2, before=first.next))
    assert ([one.title for one in second.items], asked) == (["3", "2"], ["alice"])
    # All but the newest goes to a state in which there was none.
    await writer.act("alice", Verb.ARCHIVE, [one.id for one in second.items])
    query = Query(state=ListState.ALL, limit=2, before=first.next)
    assert [one.title for one in (await service.find("alice", query)).items] == ["3", "2"]


@pytest.mark.gen_test
async def test_end_of_a_callback_is_seen_at_once(make_service: Make) -> None:
    service = await make_service()
    made = await service.create(draft(), event_id="e1")
    await service.find("alice")
    await service.note_callback("alice", "e1", "not sent")
    [listed] = (await service.find("alice")).items
    assert (listed.id, listed.metadata) == (made.id, {"callback": "not sent"})


@pytest.mark.gen_test
async def test_end_of_a_callback_that_comes_while_a_page_is_read_is_seen(
    make_service: Make,
) -> None:
    """That page is not kept: it may have been read before."""
    service = await make_service()
    await service.create(draft(), event_id="e1")
    find = service._inbox._find

    async def late(*given: Any) -> Any:
        service._inbox._find = find  # type: ignore[method-assign]
        found = await find(*given)
        await service.note_callback("alice", "e1", "not sent")
        return found

    service._inbox._find = late  # type: ignore[method-assign]
    await service.find("alice")
    [listed] = (await service.find("alice")).items
    assert listed.metadata == {"callback": "not sent"}


@pytest.mark.gen_test
async def test_list_that_changes_while_it_is_read_agrees_with_its_counts(
    make_service: Make, database: Any
) -> None:
    here, there = await make_service(), await make_service()
    for number in range(8):
        await here.create(draft(title=str(number)))

    async def change_much() -> None:
        for number in range(15):
            made = await there.create(draft(title=f"new {number}"))
            await there.act("alice", Verb.READ, [made.id])
            await there.delete("alice", made.id)

    writing = asyncio.create_task(change_much())
    versions = set()
    while not writing.done():
        page = await here.find("alice", Query(limit=100))
        assert page.unread == sum(one.status == "unread" for one in page.items)
        versions.add(page.version)
    await writing
    assert len(versions) > 1
    await check_accounts(database)


@attrs.frozen
class Some:
    """A page of this many documents."""

    documents: list[Document]
    account: Account
    read_at: float = attrs.field(factory=pages_module.time.monotonic)
    drops: int = 0


def some(count: int = LIMIT, **account: Any) -> Some:
    return Some([{}] * count, Account(user_id="alice", **account))


def test_pages_that_were_used_last_stay_within_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_module, "MOST_DOCUMENTS", 100)
    pages: Pages[Some] = Pages()
    for number in range(6):
        pages.keep(f"u{number}", Query(), some())
        pages.keep("u0", Query(), some())
    left = [number for number in range(6) if pages.find(f"u{number}", Query()) is not None]
    assert left == [0, 2, 3, 4, 5]
    pages.drop("u0")
    assert pages.find("u0", Query()) is None
    pages.keep("late", Query(), some())
    assert pages.find("late", Query()) is None
    pages.keep("large", Query(), attrs.evolve(some(101), drops=pages.drops))
    assert pages.find("large", Query()) is pages.find("u5", Query()) is None


def test_old_page_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pages: Pages[Some] = Pages()
    pages.keep("alice", Query(), some())
    assert pages.find("alice", Query()) is not None
    monkeypatch.setattr(pages_module, "SECONDS", -1.0)
    assert pages.find("alice", Query()) is None


@pytest.mark.parametrize(
    "query",
    [
        Query(before="s3"),
        Query(page=1),
        Query(total=True),
        Query(words=["x"]),
        Query(types=["alert"]),
        Query(state=ListState.PINNED),
    ],
)
def test_other_pages_are_not_kept(query: Query) -> None:
    pages: Pages[Some] = Pages()
    pages.keep("alice", query, some())
    assert pages.find("alice", query) is None


EPOCH = Epoch(1, "e")


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ({"version": 7}, True),
        ({"version": 7 + LIMIT}, True),
        ({"version": 8 + LIMIT}, False),
        ({"version": 6}, False),
        ({"version": 9, "counts": Counts(unread=LIMIT)}, True),
        ({"version": 9, "counts": Counts(unread=LIMIT + 1)}, False),
        ({"version": 9, "floor": 7}, True),
        ({"version": 9, "floor": 8}, False),
        ({"version": 9, "epoch": Epoch(2, "f")}, False),
    ],
)
def test_page_is_near_while_little_has_changed(now: dict[str, Any], *, expected: bool) -> None:
    account = Account(user_id="alice", **{"epoch": EPOCH, **now})
    assert is_near(some(version=7, epoch=EPOCH), account, LIMIT) is expected
