"""One user's account and notifications as an operation will leave them."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import attrs
from bson import ObjectId

from services.notifications.account import (
    EVENT,
    GONE,
    NONE,
    READ,
    SNOOZED,
    UNREAD,
    Account,
    Change,
    Document,
    Epoch,
    Operation,
    counts_of,
)
from services.notifications.models import Notification, number_in, time_in

# Fields whose values before a change are kept beside it, for an undo.
UNDONE = (
    *("state", "seen_at", "read_at", "archived_at", "snoozed_until", "pinned", "due_at", "goes_at"),
    "key",
)
# A removed document stays for this long.
GONE_FOR = timedelta(days=1)
# A change never takes these away.
FIXED = {"_id", "user_id"}


@attrs.frozen(kw_only=True)
class News:
    """The news of one version: one that is new, changed ones, or the ids of removed ones."""

    version: int
    new: Document | None = None
    changed: Sequence[Document] = ()
    removed: Sequence[Any] = ()
    read: bool = False
    preferences: Document | None = None
    answered: Document | None = None

    @cached_property
    def notification(self) -> Notification:
        """The one that is new, which is read once for all who are told of it."""
        assert self.new is not None
        return Notification.of(self.new)

    @property
    def told(self) -> Document:
        """The one that is new, as it is on the wire."""
        return self.notification.told


@attrs.frozen
class Edit:
    """An edit of one document: fields that are set, and fields that go."""

    fields: Document
    gone: Sequence[str] = ()


class Ledger:
    """Applies intents to one user, and adds up what they change.

    Invariant: `account.counts` are those of the documents as they will be.
    """

    def __init__(self, account: Account, epoch: Epoch, now: datetime) -> None:
        self.account = account.begun(epoch)
        self.now = now
        self.news: list[News] = []
        # Told before by somebody who may have been cut off.
        self.again: list[News] = []
        self.owed: list[Document] = []
        self._before = account
        self._stored: dict[Any, Document] = {}
        self._documents: dict[Any, Document] = {}
        # In their order.
        self._inserted: dict[Any, None] = {}

    def know(self, documents: Iterable[Document]) -> None:
        """Take in documents that were read for an intent; without a version none can be changed."""
        for document in documents:
            if document.get("user_id") == self.account.user_id and _has_version(document):
                self._stored.setdefault(document["_id"], document)
                self._documents.setdefault(document["_id"], document)

    def find(self, ids: Iterable[Any]) -> list[Document]:
        """Return those of the ids that there are."""
        return [self._documents[id_] for id_ in dict.fromkeys(ids) if id_ in self._documents]

    def where(self, matches: Callable[[Document], bool]) -> list[Document]:
        """Return those of the known ones that match, the newest first."""
        found = filter(matches, self._documents.values())
        return sorted(found, key=lambda one: -number_in(one, "seq"))

    def insert(self, fields: Document, id_: ObjectId | None = None) -> Document:
        """Add a new one at the top of the list."""
        version, seq = self._next_on_top()
        document = {
            "_id": id_ or ObjectId(),
            "user_id": self.account.user_id,
            "state": UNREAD,
            **fields,
            "seq": seq,
            "version": version,
            "made": version,
        }
        self._inserted[document["_id"]] = None
        self._put(None, document)
        self.news.append(News(version=version, new=document))
        return document

    def add_part(self, head: Document, fields: Document, id_: ObjectId | None) -> None:
        """Keep one that a digest stands for. It has no news of its own."""
        part = {
            "_id": id_ or ObjectId(),
            "user_id": self.account.user_id,
            **fields,
            "state": part_of(head["_id"]),
            "seq": self._next_seq(),
            "version": self.account.version,
        }
        self._inserted[part["_id"]] = None
        self._put(None, part)

    def mark_event(self, id_: ObjectId, document: Document, goes_at: datetime) -> None:
        """Keep for a while that an event was told by one that has an id of its own."""
        marker = {
            "_id": id_,
            "user_id": self.account.user_id,
            "state": EVENT,
            "of": document["_id"],
            "print": document.get("print"),
            "seq": self._next_seq(),
            "version": self.account.version,
            "due_at": goes_at,
        }
        self._inserted[id_] = None
        self._put(None, marker)

    def renew(self, document: Document, fields: Document, gone: Sequence[str] = ()) -> Document:
        """Bring one to the top of the list as new."""
        version, seq = self._next_on_top()
        moved = {"state": UNREAD, **fields, "seq": seq, "made": version}
        renewed = self._edited(document, Edit(moved, gone), version)
        self.news.append(News(version=version, new=renewed))
        return renewed

    def change(
        self,
        documents: Iterable[Document],
        edit: Callable[[Document], Edit | None],
        *,
        undoable: bool = False,
        reads: bool = False,
        answers: bool = False,
    ) -> list[Document]:
        """Change some in one version; return those that changed."""
        edits = [(one, found) for one in documents if (found := edit(one)) is not None]
        if not edits:
            return []
        version = self._next_version()
        changed = [
            self._edited(one, _with_undo(one, edit) if undoable else edit, version)
            for one, edit in edits
        ]
        answered = changed[0] if answers else None
        self.news.append(News(version=version, changed=changed, read=reads, answered=answered))
        return changed

    def remove(self, documents: Sequence[Document], *, undoable: bool = False) -> None:
        """Remove some in one version."""
        if not documents:
            return
        version = self._next_version()
        for document in documents:
            edit = Edit({"state": GONE, "due_at": self.now + GONE_FOR}, ("key", "goes_at"))
            self._edited(document, _with_undo(document, edit) if undoable else edit, version)
        self.news.append(News(version=version, removed=[one["_id"] for one in documents]))

    def place_after(self, places: int) -> int:
        """Return the last of this many places in the list behind those that the quota has taken."""
        return min(self._before.trimmed_seq + places, self._before.seq)

    def trim(self, documents: Sequence[Document], place: int) -> None:
        """Remove what is over the quota; up to a place it leaves nothing that it may take."""
        self.remove(documents)
        trimmed = max(self.account.trimmed_seq, place)
        self.account = attrs.evolve(self.account, trimmed_seq=trimmed)

    def prefer(self, preferences: Document) -> None:
        """Take other preferences, and tell all devices."""
        self.account = attrs.evolve(self.account, preferences=preferences)
        self.news.append(News(version=self._next_version(), preferences=preferences))

    def be_reached(self, channels: Sequence[str]) -> None:
        """Take other ways to reach the user when nobody is there."""
        self.account = attrs.evolve(self.account, channels=channels)
        self.news.append(News(version=self._next_version()))

    def operation(self) -> Operation | None:
        """Return all of it as one operation; None when nothing changes."""
        if self.account.version == self._before.version:
            return None
        inserted = [self._documents[id_] for id_ in self._inserted]
        return Operation(
            id=ObjectId(),
            stamp=self._before.next_stamp,
            earlier=self._before.history,
            after=self.account.difference(self._before),
            inserted=inserted,
            changes=self._changes(),
            owed=self.owed,
        )

    def _next_on_top(self) -> tuple[int, int]:
        """Return the next version, and the place above all others in the list."""
        version, seq = self.account.version + 1, self.account.seq + 1
        self.account = attrs.evolve(self.account, version=version, seq=seq)
        return version, seq

    def _next_version(self) -> int:
        self.account = attrs.evolve(self.account, version=self.account.version + 1)
        return self.account.version

    def _next_seq(self) -> int:
        self.account = attrs.evolve(self.account, seq=self.account.seq + 1)
        return self.account.seq

    def _put(self, before: Document | None, after: Document) -> None:
        if (due_at := time_in(after, "due_at")) is not None and due_at < self.now:
            # Nobody looks for what was due long ago.
            after["due_at"] = self.now
        self._documents[after["_id"]] = after
        old = NONE if before is None else counts_of(before)
        counts, trimmed = self.account.counts.moved(old, counts_of(after)), self.account.trimmed_seq
        seq = number_in(after, "seq")
        if seq <= trimmed and counts_of(after).kept and not after.get("pinned"):
            # The quota has passed over it, and may take it now.
            trimmed = seq - 1
        self.account = attrs.evolve(self.account, counts=counts, trimmed_seq=max(trimmed, 0))

    def _edited(self, document: Document, edit: Edit, version: int) -> Document:
        gone = {*edit.gone} - FIXED
        after = {name: value for name, value in document.items() if name not in gone}
        after |= {**edit.fields, "version": version}
        self._put(document, after)
        return after

    def _changes(self) -> list[Change]:
        """Return what changes in stored ones; those that change alike are one change."""
        alike: dict[tuple[int, str], Change] = {}
        for id_, document in self._documents.items():
            before = self._stored.get(id_)
            if id_ in self._inserted or before is None or before is document:
                continue
            change = _difference(before, document)
            key = (change.version, repr((change.fields, change.gone)))
            known = alike.get(key)
            alike[key] = change if known is None else attrs.evolve(known, ids=[*known.ids, id_])
        return list(alike.values())


def _difference(before: Document, after: Document) -> Change:
    fields = {
        name: value
        for name, value in after.items()
        if name not in before or before[name] is not value
    }
    # The account is not the newest; then the operation is refused.
    fields.pop("version", None)
    gone = sorted(before.keys() - after.keys())
    return Change(ids=[after["_id"]], version=after["version"], fields=fields, gone=gone)


def _with_undo(document: Document, edit: Edit) -> Edit:
    was = {name: document[name] for name in UNDONE if name in document}
    return Edit({**edit.fields, "was": was}, edit.gone)


def _has_version(document: Document) -> bool:
    version = document.get("version")
    return isinstance(version, int | float) and not isinstance(version, bool)


def part_of(head_id: Any) -> str:
    """Return the state of the parts of a digest."""
    return f"part:{head_id}"


def undone(document: Document) -> Edit:
    """Return what becomes of one whose last change is taken back."""
    was = document["was"]
    return Edit(dict(was), ("was", *(name for name in UNDONE if name not in was)))


def is_shown(document: Document) -> bool:
    """Say whether a user may find one: it is not gone, and no part of a digest."""
    return counts_of(document).kept > 0


def is_in_inbox(document: Document) -> bool:
    """Say whether one stands in the list that a user sees first."""
    return document.get("state") in (UNREAD, READ)


def is_active(document: Document) -> bool:
    """Say whether a repeated dedupe key renews this one."""
    return document.get("state") in (UNREAD, SNOOZED)
