"""A user's account: the counts, the numbers that were given out, and the operation under way.

Every change of a user's notifications is an operation, and the account is its log of one entry (a
write-ahead log). First the operation is written into the account, under the condition that the
account is as it was read; then the documents are changed. Its changes of the account itself are
written with the next operation, or a moment later when none comes. The account's `stamp` goes up
with each of these writes and is odd while the last operation is not written into the account, so
that a stamp is all that a condition has to name. A process that finds an operation which another
left half done does the rest: each of its steps may be done again.

It is long because an account is read from any hand's document, field by field.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import bson
from bson import ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from tornado_rt.protocol import Cursor

# A number that nobody reaches; one above it is a fault.
MOST = 2**53
# Most operations that a later one names.
EARLIER = 16
# Epochs of a user that are remembered; a cursor of an older one gets a resync.
EPOCHS = 8

# As the client reads documents.
CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True,
    unicode_decode_error_handler="replace",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)

Document = dict[str, Any]


@attrs.frozen
class Counts:
    """Numbers of a user's notifications in each state; `unread` and `unseen` are in the inbox."""

    unread: int = 0
    unseen: int = 0
    inbox: int = 0
    archived: int = 0
    snoozed: int = 0

    @property
    def kept(self) -> int:
        """The number that counts for the quota."""
        return self.inbox + self.archived + self.snoozed

    def to_dict(self) -> dict[str, int]:
        """Return them as they are stored."""
        return {name: getattr(self, name) for name in COUNTED}

    def of(self, states: Sequence[str]) -> int:
        """The number in one of some states that are shown."""
        each = {
            UNREAD: self.unread,
            READ: self.inbox - self.unread,
            ARCHIVED: self.archived,
            SNOOZED: self.snoozed,
        }
        return sum(each[one] for one in states)

    def moved(self, before: "Counts", after: "Counts") -> "Counts":
        """Return the counts after one notification has changed."""
        return Counts(
            self.unread - before.unread + after.unread,
            self.unseen - before.unseen + after.unseen,
            self.inbox - before.inbox + after.inbox,
            self.archived - before.archived + after.archived,
            self.snoozed - before.snoozed + after.snoozed,
        )


NONE = Counts()
UNREAD, READ, ARCHIVED, SNOOZED = "unread", "read", "archived", "snoozed"
# One that was removed stays for a while, for devices that were away and for an undo. A process that
# stood still, and is late, finds it in that state, and skips it.
GONE = "gone"
# Says that an event is known that renewed another notification; it stays as long.
EVENT = "event"
FORGOTTEN = (GONE, EVENT)
# These count for the quota.
KEPT_STATES = (UNREAD, READ, ARCHIVED, SNOOZED)


def counts_of(document: Mapping[str, Any] | None) -> Counts:
    """Return what one counts for; what is gone, a part and an event count for nothing."""
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
    """A change of a user's notifications in one go, and of the account with it."""

    id: ObjectId
    # The account's while the operation is the last one and not written into it.
    stamp: int
    # The fields of the account that change.
    after: Document
    inserted: Sequence[Document] = ()
    changes: Sequence[Change] = ()
    owed: Sequence[Document] = ()
    # The ids of the operations before it, the last one first.
    earlier: Sequence[ObjectId] = ()

    @property
    def ids(self) -> list[Any]:
        """The ids of its documents."""
        changed = [id_ for change in self.changes for id_ in change.ids]
        return [*(one["_id"] for one in self.inserted), *changed]

    def is_done(self, versions: Mapping[Any, Any]) -> bool:
        """Say whether its steps were done, by the versions of the documents that there are.

        A store that was killed may have lost a step before the last one.
        """
        return all(one["_id"] in versions for one in self.inserted) and all(
            (_number(versions.get(id_, change.version)) or 0) >= change.version
            for change in self.changes
            for id_ in change.ids
        )

    def pack(self) -> bytes:
        """Return it as it stands in the account: the store need not look into it."""
        packed: bytes = bson.encode(
            {
                "id": self.id,
                "stamp": self.stamp,
                "after": self.after,
                "inserted": list(self.inserted),
                "changes": [attrs.asdict(one, recurse=False) for one in self.changes],
                "owed": list(self.owed),
                "earlier": list(self.earlier),
            }
        )
        return packed

    @classmethod
    def unpack(cls, packed: bytes) -> "Operation":
        """Read it. Raise KeyError, TypeError or BSONError for what is none."""
        stored = bson.decode(packed, CODEC)
        return cls(
            id=stored["id"],
            stamp=stored["stamp"],
            after=stored["after"],
            inserted=stored["inserted"],
            changes=[Change(**one) for one in stored["changes"]],
            owed=stored["owed"],
            earlier=stored["earlier"],
        )


@attrs.frozen(kw_only=True)
class Account:
    """One user's document in `notification_users`.

    `version` is the number of the last change, `seq` the highest place in the list, `trimmed_seq`
    the highest one that the quota took, `floor` the version up to which devices that were away
    cannot be told any more what went. `is_whole` is False when numbers were lost.

    It is wide because it is the document of an account.
    """

    user_id: str
    stamp: int = 0
    version: int = 0
    seq: int = 0
    trimmed_seq: int = 0
    floor: int = 0
    counts: Counts = NONE
    epoch: Epoch | None = None
    epochs: Sequence[PastEpoch] = ()
    # The last one, if it is not written into the account yet.
    operation: Operation | None = None
    # The last one as it is stored.
    packed: bytes | None = None
    # The fields that it changes in the account and that are not written there yet.
    unwritten: Document = attrs.field(factory=dict)
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
        epoch, packed = _epoch(stored.get("epoch")), stored.get("op")
        # Nobody needs to look into one that is written into the account.
        is_open = (_number(stored.get("stamp", 0)) or 0) % 2 == 1
        operation = _unpacked(packed) if is_open or epoch is None else None
        # The first operation of a new account has the epoch.
        epoch_to_come = operation is not None and "epoch" in operation.after
        good = [one is not None for one in (*numbers.values(), *counted.values())]
        # Without a stamp no condition would hold.
        good += [epoch is not None or epoch_to_come, "stamp" in stored]
        known: Document = {name: number or 0 for name, number in numbers.items()}
        return cls(
            user_id=user_id,
            **known,
            counts=Counts(**{name: number or 0 for name, number in counted.items()}),
            epoch=epoch,
            epochs=_past(stored.get("epochs")),
            operation=operation,
            preferences=_mapping(stored.get("preferences")),
            channels=_texts(stored.get("channels")),
            is_stored=True,
            is_whole=all(good) and operation is not BROKEN and not (is_open and packed is None),
            packed=packed,
            stored_epoch=stored.get("epoch"),
        )

    @property
    def is_busy(self) -> bool:
        """Whether the last operation may still be under way."""
        return self.is_whole and self.stamp % 2 == 1 and not self.unwritten

    def settled(self) -> "Account":
        """Return it as it is after its last operation, of which all steps were done."""
        assert self.operation is not None
        after = self.operation.after
        known: Document = {} if self.epoch is None else self.to_fields()
        account = Account.of(self.user_id, {**known, **after, "stamp": 0})
        return attrs.evolve(
            account,
            stamp=self.stamp,
            floor=self.floor,
            operation=self.operation,
            unwritten=after,
            stored_epoch=self.stored_epoch,
        )

    def after(self, operation: Operation) -> "Account":
        """Return an account that a ledger has changed, when its operation was done."""
        return attrs.evolve(
            self,
            stamp=operation.stamp,
            operation=operation,
            unwritten=operation.after,
            is_stored=True,
            is_whole=True,
        )

    def holds(self, operation: Operation) -> bool | None:
        """Say whether an operation led here; None: too many came since to tell."""
        known = self._known
        if operation.id in known:
            return True
        # A count begins the history anew; a whole one has no room for those before.
        is_cut = len(known) > EARLIER and self.stamp - operation.stamp > 2 * EARLIER
        return None if is_cut else False

    @property
    def next_stamp(self) -> int:
        """The stamp while the next operation is under way."""
        return self.stamp + 2 if self.stamp % 2 else self.stamp + 1

    @property
    def history(self) -> Sequence[ObjectId]:
        """The ids of the last operations, for the next one."""
        return self._known[:EARLIER]

    @property
    def _known(self) -> Sequence[ObjectId]:
        last = self.operation or _unpacked(self.packed)
        return () if last is None or last is BROKEN else (last.id, *last.earlier)

    def to_fields(self) -> Document:
        """Return what is stored of it, but for the stamp and what has a write of its own."""
        assert self.epoch is not None
        return {
            **self._numbers(),
            "epoch": {"ordinal": self.epoch.ordinal, "id": self.epoch.id},
            "epochs": [attrs.asdict(one) for one in self.epochs],
            "preferences": self.preferences,
            "channels": list(self.channels),
        }

    def _numbers(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in MOVED} | self.counts.to_dict()

    def difference(self, before: "Account") -> Document:
        """Return the stored fields that differ from those of before."""
        if not before.is_stored or before.epoch is None:
            return self.to_fields()
        then = before._numbers()
        fields = {name: value for name, value in self._numbers().items() if value != then[name]}
        if others := [one for one in SELDOM if getattr(self, one) != getattr(before, one)]:
            now = self.to_fields()
            fields |= {name: now[name] for name in others}
        return fields

    def begun(self, epoch: Epoch) -> "Account":
        """Return the account as a process of an epoch goes on with it; epochs never go back."""
        if self.epoch is not None and self.epoch.ordinal >= epoch.ordinal:
            return self
        past = () if self.epoch is None else (PastEpoch(self.epoch.id, self.version),)
        return attrs.evolve(self, epoch=epoch, epochs=(*self.epochs, *past)[-EPOCHS:])

    def cursor(self, epoch: Epoch) -> Cursor:
        """Return the cursor of a device that knows all; `epoch`: for a user without an account."""
        return Cursor((self.epoch or epoch).id, self.version)

    def knows(self, cursor: Cursor) -> bool:
        """Say whether what a cursor names is a part of what led here."""
        if cursor.offset == 0:
            return True
        if self.epoch is not None and cursor.epoch == self.epoch.id:
            return cursor.offset <= self.version
        return any(cursor.epoch == past.id and cursor.offset <= past.last for past in self.epochs)


MOVED = ("version", "seq", "trimmed_seq")
# Few operations change these.
SELDOM = ("epoch", "epochs", "preferences", "channels")
# The floor is raised by itself.
NUMBERS = (*MOVED, "floor", "stamp")
COUNTED = tuple(one.name for one in attrs.fields(Counts))
# Stands for an operation that cannot be read.
BROKEN = Operation(id=ObjectId("0" * 24), stamp=0, after={})


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


def _unpacked(packed: Any) -> Operation | None:
    if packed is None:
        return None
    try:
        return Operation.unpack(packed)
    except (KeyError, TypeError, ValueError, BSONError):
        return BROKEN


def _mapping(stored: Any) -> Document:
    return stored if isinstance(stored, dict) else {}


def _texts(stored: Any) -> list[str]:
    return [one for one in stored if isinstance(one, str)] if isinstance(stored, list) else []
