"""A user's account: the counts, the numbers that were given out, and the operation under way.

Every change of a user's notifications is an operation, and the account is its log of one entry
(a write-ahead log): first the operation is written into the account, under the condition that the
account is as it was read; then the documents are changed; then the account takes the new counts and
forgets the operation. Whoever finds an operation that its process left unfinished finishes it: each
of its steps may be done again. So counts and documents never disagree for longer than that.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import attrs
from bson import ObjectId

from tornado_rt.protocol import Cursor

# A number that nobody reaches; one above it is a fault.
MOST = 2**53
# Epochs of a user that are remembered; a cursor of an older one gets a resync.
EPOCHS = 8

Document = dict[str, Any]


@attrs.frozen
class Counts:
    """How many of a user's notifications are in each state; `unread` and `unseen` in the inbox."""

    unread: int = 0
    unseen: int = 0
    inbox: int = 0
    archived: int = 0
    snoozed: int = 0

    @property
    def kept(self) -> int:
        """How many count for the quota."""
        return self.inbox + self.archived + self.snoozed

    def moved(self, before: "Counts", after: "Counts") -> "Counts":
        """Return the counts after one notification has changed."""
        return Counts(
            *(
                now - old + new
                for now, old, new in zip(
                    attrs.astuple(self), attrs.astuple(before), attrs.astuple(after), strict=True
                )
            )
        )


NONE = Counts()
UNREAD, READ, ARCHIVED, SNOOZED = "unread", "read", "archived", "snoozed"
# One that was removed stays for a while, for devices that were away and for an undo. What a process
# that stood still does late to one that is gone meets it, and passes over it.
GONE = "gone"


def counts_of(document: Mapping[str, Any] | None) -> Counts:
    """Return what one notification counts for; one that is gone, or a part, for nothing."""
    state = None if document is None else document.get("state")
    if state in (UNREAD, READ):
        unseen = int(document is not None and document.get("seen_at") is None)
        return Counts(unread=int(state == UNREAD), unseen=unseen, inbox=1)
    return Counts(archived=int(state == ARCHIVED), snoozed=int(state == SNOOZED))


@attrs.frozen
class Epoch:
    """Names a time in which no numbers were lost. A later one has a higher `ordinal`."""

    ordinal: int
    id: str


@attrs.frozen
class PastEpoch:
    """An earlier epoch of a user, and the last version in it."""

    id: str
    last: int


@attrs.frozen(kw_only=True)
class Change:
    """One step: documents that get these fields, unless they have a later version already."""

    ids: Sequence[Any]
    version: int
    fields: Document = attrs.field(factory=dict)
    gone: Sequence[str] = ()

    def update(self) -> Document:
        """Return it in MongoDB's words."""
        changed: Document = {"$set": {**self.fields, "version": self.version}}
        return changed | ({"$unset": dict.fromkeys(self.gone, "")} if self.gone else {})

    def wanted(self) -> Document:
        """Return which documents are still to be changed; `_id` first, by which they are found."""
        return {"_id": {"$in": list(self.ids)}, "version": {"$lt": self.version}}


@attrs.frozen(kw_only=True)
class Operation:
    """What is done to a user's notifications in one go, and how the account is after it."""

    id: ObjectId
    at: datetime
    after: Document
    inserted: Sequence[Document] = ()
    changes: Sequence[Change] = ()
    owed: Sequence[Document] = ()

    def to_document(self) -> Document:
        """Return it as it stands in the account."""
        return {
            "id": self.id,
            "at": self.at,
            "after": self.after,
            "inserted": list(self.inserted),
            "changes": [attrs.asdict(one, recurse=False) for one in self.changes],
            "owed": list(self.owed),
        }

    @classmethod
    def of(cls, stored: Document) -> "Operation":
        """Read it. Raise KeyError or TypeError for what is none."""
        return cls(
            id=stored["id"],
            at=stored["at"],
            after=stored["after"],
            inserted=stored["inserted"],
            changes=[Change(**one) for one in stored["changes"]],
            owed=stored["owed"],
        )


@attrs.frozen(kw_only=True)
class Account:
    """One user's document in `notification_users`.

    `version` is the number of the last change, `seq` the highest place in the list, `trimmed_seq`
    the highest one that the quota took, `floor` the version up to which devices that were away
    cannot be told any more what went. `is_whole` is False when numbers were lost.
    """

    user_id: str
    version: int = 0
    seq: int = 0
    trimmed_seq: int = 0
    floor: int = 0
    counts: Counts = NONE
    epoch: Epoch | None = None
    epochs: Sequence[PastEpoch] = ()
    operation: Operation | None = None
    preferences: Document = attrs.field(factory=dict)
    channels: Sequence[str] = ()
    is_stored: bool = False
    is_whole: bool = True
    # As it is stored, whatever that is.
    stored_epoch: Any = None

    @classmethod
    def of(cls, user_id: str, stored: Document | None) -> "Account":
        """Read it, whatever a hand or a backup has left of it."""
        if stored is None:
            return cls(user_id=user_id)
        numbers = {name: _number(stored.get(name, 0)) for name in NUMBERS}
        counted = {name: _number(stored.get(name, 0)) for name in COUNTED}
        operation, epoch = _operation(stored.get("op")), _epoch(stored.get("epoch"))
        good = [one is not None for one in (*numbers.values(), *counted.values(), epoch)]
        return cls(
            user_id=user_id,
            **{name: number or 0 for name, number in numbers.items()},
            counts=Counts(**{name: number or 0 for name, number in counted.items()}),
            epoch=epoch,
            epochs=_past(stored.get("epochs")),
            operation=operation,
            preferences=_mapping(stored.get("preferences")),
            channels=_texts(stored.get("channels")),
            is_stored=True,
            is_whole=all(good) and operation is not BROKEN,
            stored_epoch=stored.get("epoch"),
        )

    def to_fields(self) -> Document:
        """Return what an operation sets."""
        assert self.epoch is not None
        return {
            **{name: getattr(self, name) for name in MOVED},
            **attrs.asdict(self.counts),
            "epoch": attrs.asdict(self.epoch),
            "epochs": [attrs.asdict(one) for one in self.epochs],
        }

    def begun(self, epoch: Epoch) -> "Account":
        """Return the account as a process of an epoch goes on with it; epochs never go back."""
        if self.epoch is not None and self.epoch.ordinal >= epoch.ordinal:
            return self
        past = () if self.epoch is None else (PastEpoch(self.epoch.id, self.version),)
        return attrs.evolve(self, epoch=epoch, epochs=(*self.epochs, *past)[-EPOCHS:])

    def cursor(self, epoch: Epoch) -> Cursor:
        """Return where a device stands that knows all; `epoch`: for who has no account yet."""
        return Cursor((self.epoch or epoch).id, self.version)

    def knows(self, cursor: Cursor) -> bool:
        """Say whether what a cursor names is a part of what led here."""
        if cursor.offset == 0:
            return True
        if self.epoch is not None and cursor.epoch == self.epoch.id:
            return cursor.offset <= self.version
        return any(cursor.epoch == past.id and cursor.offset <= past.last for past in self.epochs)


MOVED = ("version", "seq", "trimmed_seq")
# The floor is raised by itself.
NUMBERS = (*MOVED, "floor")
COUNTED = tuple(one.name for one in attrs.fields(Counts))
# Stands for an operation that cannot be read.
BROKEN = Operation(id=ObjectId("0" * 24), at=datetime(1970, 1, 1, tzinfo=UTC), after={})


def _number(value: Any) -> int | None:
    """Return a stored whole number; None for what is none. A backup may have made it a float."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return int(value) if 0 <= value <= MOST else None


def _epoch(stored: Any) -> Epoch | None:
    try:
        ordinal, id_ = stored["ordinal"], stored["id"]
    except (KeyError, TypeError, IndexError):
        return None
    return (
        Epoch(int(ordinal), id_) if isinstance(id_, str) and _number(ordinal) is not None else None
    )


def _past(stored: Any) -> list[PastEpoch]:
    found = stored if isinstance(stored, list) else []
    past = [(one.get("id"), _number(one.get("last"))) for one in found if isinstance(one, dict)]
    return [PastEpoch(id_, last) for id_, last in past if isinstance(id_, str) and last is not None]


def _operation(stored: Any) -> Operation | None:
    if stored is None:
        return None
    try:
        return Operation.of(stored)
    except (KeyError, TypeError):
        return BROKEN


def _mapping(stored: Any) -> Document:
    return stored if isinstance(stored, dict) else {}


def _texts(stored: Any) -> list[str]:
    return [one for one in stored if isinstance(one, str)] if isinstance(stored, list) else []
