"""The ledger, beside documents that are counted one by one: whatever is wanted, in any order."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from services.notifications.account import GONE, Account, Counts, Document, Epoch, Operation
from services.notifications.intents import (
    ActIntent,
    Answer,
    Changed,
    Create,
    Due,
    Intent,
    Prefer,
    Purge,
    Reach,
    Trim,
    Undo,
    is_part,
)
from services.notifications.ledger import UNDONE, Ledger, News, is_shown
from services.notifications.models import AlreadyAnswered, NotificationNotFound, SentBefore
from services.notifications.verbs import Verb
from tests.inboxes import counted

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
ACTIONS = [{"id": "yes", "label": "Yes", "answer": {"ok": True}}]
LIFETIME = timedelta(days=90)
WINDOW = timedelta(hours=1)
REFUSED = (NotificationNotFound, AlreadyAnswered, SentBefore)


@attrs.define
class Shelf:
    """One user's account and documents as they are stored, changed by operations alone."""

    account: Account = attrs.field(factory=lambda: Account(user_id="alice"))
    stored: Document = attrs.field(factory=dict)
    documents: dict[Any, Document] = attrs.field(factory=dict)
    now: datetime = BEGAN
    epoch: Epoch = attrs.field(factory=lambda: Epoch(1, "e1"))

    def commit(self, *intents: Intent) -> tuple[list[Any], list[News]]:
        """Apply intents in one operation; return their results and the news. Check all of it."""
        ledger = Ledger(self.account, self.epoch, self.now)
        ledger.know(self.documents.values())
        results = [self._apply(ledger, one) for one in intents]
        operation = ledger.operation()
        self._check_news(ledger, operation)
        if operation is not None:
            packed = operation.pack()
            begun = {**self.account.unwritten, "stamp": operation.stamp, "op": packed}
            self.stored |= begun
            # Each step may be done again.
            for _ in range(2):
                self._do(Operation.unpack(packed))
            self.account = self._read()
            assert self.account.to_fields() == ledger.account.to_fields()
        assert self.account.counts == counted(list(self.documents.values()))
        assert self.account.counts == ledger.account.counts
        return results, ledger.news

    def _read(self) -> Account:
        account = Account.of("alice", self.stored)
        assert account.is_whole
        assert account.is_busy
        return account.settled()

    def _apply(self, ledger: Ledger, intent: Intent) -> Any:
        before = (ledger.account, list(ledger.news))
        try:
            return intent.apply(ledger)
        except REFUSED as error:
            # One that fails changes nothing.
            assert (ledger.account, ledger.news) == before
            return error

    def _check_news(self, ledger: Ledger, operation: Operation | None) -> None:
        told = [one.version for one in ledger.news]
        first, last = self.account.version + 1, ledger.account.version
        assert told == list(range(first, last + 1))
        assert (operation is None) == (not told)

    def _do(self, operation: Operation) -> None:
        for change in operation.changes:
            for id_ in change.ids:
                stored = self.documents[id_]
                if stored["version"] < change.version:
                    left = {n: v for n, v in stored.items() if n not in change.gone}
                    self.documents[id_] = {**left, **change.fields, "version": change.version}
        for document in operation.inserted:
            self.documents.setdefault(document["_id"], dict(document))

    def listed(self) -> list[Document]:
        """The notifications that its user may find, the newest first."""
        shown = filter(is_shown, self.documents.values())
        return sorted(shown, key=lambda one: -one["seq"])


def fields(now: datetime, lifetime: timedelta = LIFETIME) -> Document:
    goes_at = now + lifetime
    return {"title": "x", "goes_at": goes_at, "due_at": goes_at, "actions": ACTIONS}


def create(shelf: Shelf, **more: Any) -> Create:
    return Create(user_id="alice", fields=fields(shelf.now), **more)


def made(shelf: Shelf, count: int) -> list[Any]:
    """Make some; return their ids."""
    results, _ = shelf.commit(*(create(shelf) for _ in range(count)))
    return [one["_id"] for one in results]


def act(verb: Verb, ids: Sequence[Any], until: datetime | None = None) -> ActIntent:
    return ActIntent(user_id="alice", verb=verb, ids=ids, until=until)


def trim(quota: int, most: int = 9, places: int = 99) -> Trim:
    return Trim(user_id="alice", quota=quota, most=most, places=places)


Wish = Callable[[Shelf], Intent]
some = st.lists(st.integers(0, 9), min_size=1, max_size=4)


def chosen(shelf: Shelf, places: list[int]) -> list[Any]:
    """Return ids of documents by their places, and one that is of nothing."""
    known = sorted(shelf.documents, key=lambda id_: shelf.documents[id_]["seq"])
    return [known[place] if place < len(known) else "nothing" for place in places]


def wanted(verb: Verb, places: list[int], seconds: int) -> Wish:
    return lambda shelf: act(verb, chosen(shelf, places), shelf.now + timedelta(seconds=seconds))


wishes = st.one_of(
    st.builds(
        lambda key, event, window: (
            lambda shelf: create(shelf, key=key, event_id=event, window=window if key else None)
        ),
        st.sampled_from([None, "a", "b"]),
        st.sampled_from([None, None, "e1", "e2"]),
        st.sampled_from([None, WINDOW]),
    ),
    st.builds(wanted, st.sampled_from(Verb), some, st.integers(1, 7200)),
    st.builds(
        lambda back: lambda shelf: Undo(user_id="alice", version=shelf.account.version - back),
        st.integers(0, 3),
    ),
    st.builds(lambda at: lambda shelf: Due(user_id="alice", ids=chosen(shelf, at)), some),
    st.builds(
        lambda *numbers: lambda _: trim(*numbers),
        st.integers(0, 5),
        st.integers(1, 3),
        st.integers(1, 9),
    ),
    st.builds(
        lambda at: lambda shelf: Answer(user_id="alice", id=chosen(shelf, [at])[0], action="yes"),
        st.integers(0, 9),
    ),
    st.builds(lambda at: lambda shelf: Purge(user_id="alice", ids=chosen(shelf, at)), some),
    st.builds(lambda n: lambda _: Prefer(user_id="alice", preferences={"n": n}), st.integers(0, 2)),
    st.builds(lambda on: lambda _: Reach(user_id="alice", channel="push", on=on), st.booleans()),
)
batches = st.lists(st.tuples(st.lists(wishes, max_size=4), st.integers(0, 5000)), max_size=12)


@given(batches)
def test_counts_are_those_of_the_documents_whatever_is_done(
    batches: list[tuple[list[Wish], int]],
) -> None:
    """Versions are contiguous, each is told by one message, and each step may be done again."""
    shelf = Shelf()
    for batch, seconds in batches:
        shelf.commit(*(wish(shelf) for wish in batch))
        shelf.now += timedelta(seconds=seconds)
        places = [one["seq"] for one in shelf.documents.values()]
        assert len(places) == len(set(places))
        assert max(places, default=0) == shelf.account.seq
        for document in shelf.documents.values():
            assert document["version"] <= shelf.account.version
            assert document.get("made", 0) <= document["version"]


@given(batches, st.sampled_from(Verb), st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_undo_restores_what_a_verb_changed(
    batches: list[tuple[list[Wish], int]], verb: Verb, places: list[int]
) -> None:
    """Each field that a verb touches is as before, and so are the counts and the list."""
    shelf = Shelf()
    for batch, _ in batches:
        shelf.commit(*(wish(shelf) for wish in batch))
    before, counts = {**shelf.documents}, shelf.account.counts
    listed = [one["_id"] for one in shelf.listed()]
    [done], _ = shelf.commit(wanted(verb, places, 60)(shelf))
    assert isinstance(done, Changed)
    if done.undo is None:
        assert shelf.documents == before
        return
    [undone], _ = shelf.commit(Undo(user_id="alice", version=done.undo))
    assert undone.count == done.count
    assert shelf.account.counts == counts
    assert [one["_id"] for one in shelf.listed()] == listed
    for id_, document in shelf.documents.items():
        for name in UNDONE:
            assert document.get(name) == before[id_].get(name), (verb, name)


def test_undo_passes_over_what_has_changed_since() -> None:
    shelf = Shelf()
    one, other = made(shelf, 2)
    [archived], _ = shelf.commit(act(Verb.ARCHIVE, [one, other]))
    shelf.commit(act(Verb.PIN, [one]))
    [undone], _ = shelf.commit(Undo(user_id="alice", version=archived.undo))
    assert undone.count == 1
    assert shelf.account.counts == Counts(unread=1, unseen=1, inbox=1, archived=1)
    [again], _ = shelf.commit(Undo(user_id="alice", version=archived.undo))
    assert again.count == 0


def test_undone_deletion_restores_what_was_read_in_the_same_operation() -> None:
    shelf = Shelf()
    [one] = made(shelf, 1)
    (_, deleted), _ = shelf.commit(act(Verb.READ, [one]), act(Verb.DELETE, [one]))
    assert shelf.listed() == []
    shelf.commit(Undo(user_id="alice", version=deleted.undo))
    assert [one["state"] for one in shelf.listed()] == ["read"]


def test_snoozed_one_whose_deletion_is_undone_late_is_due_at_once() -> None:
    """Nobody looks for what was due long ago."""
    shelf = Shelf()
    [one] = made(shelf, 1)
    shelf.commit(act(Verb.SNOOZE, [one], shelf.now + timedelta(seconds=10)))
    [deleted], _ = shelf.commit(act(Verb.DELETE, [one]))
    shelf.now += timedelta(minutes=5)
    shelf.commit(Undo(user_id="alice", version=deleted.undo))
    assert shelf.documents[one]["due_at"] == shelf.now
    shelf.commit(Due(user_id="alice", ids=[one]))
    assert shelf.documents[one]["state"] == "unread"


def test_renewed_one_that_is_snoozed_stays_away_and_comes_back_on_time() -> None:
    shelf = Shelf()
    [first], _ = shelf.commit(create(shelf, key="k"))
    until = shelf.now + timedelta(minutes=5)
    shelf.commit(act(Verb.SNOOZE, [first["_id"]], until))
    [again], news = shelf.commit(create(shelf, key="k"))
    assert (again["_id"], again["state"], again["due_at"]) == (first["_id"], "snoozed", until)
    assert [one.new for one in news] == [None]
    shelf.now = until
    _, news = shelf.commit(Due(user_id="alice", ids=[first["_id"]]))
    assert [one.new["_id"] for one in news if one.new] == [first["_id"]]


def test_due_one_is_renewed_or_goes_by_its_time() -> None:
    shelf = Shelf()
    one, other = made(shelf, 2)
    shelf.commit(act(Verb.SNOOZE, [one, other], shelf.now + LIFETIME - timedelta(seconds=1)))
    shelf.commit(Due(user_id="alice", ids=[one, other]))
    assert shelf.account.counts.snoozed == 2
    shelf.now += LIFETIME - timedelta(seconds=1)
    shelf.commit(Due(user_id="alice", ids=[one]))
    assert shelf.account.counts == Counts(unread=1, unseen=1, inbox=1, snoozed=1)
    shelf.now += timedelta(seconds=1)
    _, [news] = shelf.commit(Due(user_id="alice", ids=[one, other]))
    assert set(news.removed) == {one, other}
    assert shelf.account.counts == Counts()


def test_digest_counts_once_and_keeps_its_parts() -> None:
    shelf = Shelf()
    for number in range(1, 4):
        [head], [news] = shelf.commit(create(shelf, key="g", window=WINDOW))
        assert (head.get("count"), news.new) == (number, head)
        shelf.now += timedelta(minutes=1)
    parts = [one for one in shelf.documents.values() if is_part(one)]
    assert len(parts) == 3
    assert shelf.account.counts == Counts(unread=1, unseen=1, inbox=1)
    shelf.now += WINDOW
    [later], _ = shelf.commit(create(shelf, key="g", window=WINDOW))
    assert (later["count"], shelf.account.counts.inbox) == (1, 2)


def test_quota_takes_the_oldest_and_no_pinned_one() -> None:
    shelf = Shelf()
    ids = made(shelf, 5)
    shelf.commit(act(Verb.PIN, [ids[0]]))
    shelf.commit(trim(3))
    assert [one["_id"] for one in shelf.listed()] == [ids[4], ids[3], ids[0]]
    shelf.commit(trim(3))
    assert len(shelf.listed()) == 3
    assert {shelf.documents[id_]["state"] for id_ in ids[1:3]} == {GONE}


def test_quota_passes_over_no_place_that_it_has_not_looked_at() -> None:
    shelf = Shelf()
    ids = made(shelf, 9)
    assert shelf.commit(trim(5, most=2))[0] == [ids[:2]]
    assert shelf.account.trimmed_seq == 2
    assert shelf.commit(trim(5, most=9, places=1))[0] == [ids[2:3]]
    shelf.commit(act(Verb.PIN, [ids[3]]))
    # Behind it all is pinned: nothing is left up to there.
    assert shelf.commit(trim(5, places=1))[0] == [[]]
    assert shelf.commit(trim(5, places=3))[0] == [[ids[4]]]
    assert shelf.account.trimmed_seq == 5
    shelf.commit(act(Verb.UNPIN, [ids[3]]))
    assert shelf.commit(trim(4))[0] == [[ids[3]]]


def test_repeated_event_is_told_again_and_changes_nothing() -> None:
    shelf = Shelf()
    [first], _ = shelf.commit(create(shelf, event_id="e"))
    before = shelf.account
    ledger = Ledger(shelf.account, shelf.epoch, shelf.now)
    ledger.know(shelf.documents.values())
    assert create(shelf, event_id="e").apply(ledger) == shelf.documents[first["_id"]]
    assert (ledger.operation(), ledger.account, ledger.news) == (None, before, [])
    assert [one.version for one in ledger.again] == [1]


def test_action_is_answered_once() -> None:
    shelf = Shelf()
    [one] = made(shelf, 1)
    (first, second), news = shelf.commit(
        *(Answer(user_id="alice", id=one, action="yes") for _ in range(2))
    )
    assert first["answered"]["action"] == "yes"
    assert isinstance(second, AlreadyAnswered)
    assert [one.answered is not None for one in news] == [True]
    assert shelf.account.counts == Counts(inbox=1)
    [none], _ = shelf.commit(Answer(user_id="alice", id=one, action="no"))
    assert isinstance(none, NotificationNotFound)


def test_what_is_anothers_is_not_known() -> None:
    ledger = Ledger(Account(user_id="alice"), Epoch(1, "e"), BEGAN)
    theirs = {"_id": ObjectId(), "user_id": "bob", "state": "unread", "version": 1, "seq": 1}
    ledger.know([theirs])
    assert ledger.find([theirs["_id"]]) == []
    with pytest.raises(NotificationNotFound):
        ActIntent(user_id="alice", verb=Verb.READ, ids=[theirs["_id"]], must_be=True).apply(ledger)
    assert ledger.operation() is None
