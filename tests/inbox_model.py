"""One user's notifications as a plain Python model, written from the words and not from the code.

It knows nothing of stores or processes: deeds are applied one after another, in the order of the
versions that they made. Times are texts of ISO 8601 to the millisecond, which sort by themselves.
"""

import copy
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import attrs

from tornado_rt.protocol import iso_time

UNREAD, READ, ARCHIVED, SNOOZED, GONE = "unread", "read", "archived", "snoozed", "gone"
INBOX = (UNREAD, READ)
# Those that a list may show.
STATES = (*INBOX, ARCHIVED, SNOOZED)
# Fields that a verb may change, and an undo takes back.
TAKEN_BACK = ("state", "seen_at", "read_at", "archived_at", "snoozed_until", "pinned", "key")
# Numbers of deeds that one start of a process may use.
STARTS = 10**12
# A removed notification is known for this long, for an undo and so that its event makes no other
# [s].
GONE_SECONDS = 20.0
# The fields of a notification on the wire that are compared.
SHOWN = (
    *("id", "seq", "title", "status", "created_at", "seen_at", "read_at", "archived_at"),
    *("snoozed_until", "expires_at", "pinned", "dedupe_key"),
)
View = tuple[Any, ...]


def view_of(item: dict[str, Any]) -> View:
    """Return what is compared of a notification as the wire has it."""
    return tuple(item[name] for name in SHOWN)


@attrs.define
class Item:
    """A notification. `goes_at` is when its life ends, `seq` orders the list."""

    id: str
    seq: int
    version: int
    title: str
    created_at: str
    goes_at: str
    expires_at: str | None = None
    dedupe_key: str | None = None
    # By which it is renewed; one that was read has none any more.
    key: str | None = None
    # The event that it was made for, and the last one that it tells of.
    made_for: str | None = None
    event_id: str | None = None
    state: str = UNREAD
    seen_at: str | None = None
    read_at: str | None = None
    archived_at: str | None = None
    snoozed_until: str | None = None
    pinned: bool = False
    was: dict[str, Any] | None = None
    gone_at: str = ""

    @property
    def due_at(self) -> str:
        """When something happens to it by itself."""
        if self.state == SNOOZED and self.snoozed_until is not None:
            return min(self.snoozed_until, self.goes_at)
        return self.goes_at

    @property
    def status(self) -> str:
        """The view of old clients."""
        return UNREAD if self.read_at is None else READ

    def view(self) -> View:
        """Return what is compared of it."""
        return tuple(getattr(self, name) for name in SHOWN)


@attrs.frozen(kw_only=True)
class Deed:
    """A deed of somebody, and the versions before and after it. `number` names it.

    `ids` are those that it was for.
    """

    number: int
    kind: str
    before: int
    after: int
    now: str
    ids: Sequence[str] = ()
    until: str | None = None
    # For a create: the stored document, and the id of the answer.
    fields: dict[str, Any] = attrs.field(factory=dict)
    id: str = ""
    # For an undo the version that it takes back, for a trim the quota.
    argument: int = 0
    # The number of changed ones in the answer.
    count: int | None = None
    # For a filter: the version that was known then, the filter, and a number that the deeds of all
    # its parts have.
    asked: tuple[int, str, str | None, str, int] | None = None

    @property
    def ask(self) -> tuple[int, int]:
        """The common part of the deeds that one filter asked for at once."""
        return self.number // STARTS, 0 if self.asked is None else self.asked[4]

    @property
    def batch(self) -> tuple[int, str]:
        """The common part of the deeds that one process did in one go."""
        return self.number // STARTS, self.now


@attrs.frozen
class Told:
    """The message of one version to devices. `is_new`: one comes to the top of the list as new."""

    version: int
    is_new: bool
    items: frozenset[View]
    deleted: frozenset[str]


class Wrong(AssertionError):
    """The store and the model disagree; `at` is about which version."""

    def __init__(self, why: str, at: int | None = None) -> None:
        super().__init__(why)
        self.at = at


@attrs.define
class Inbox:
    """All of one user; `version` counts the changes."""

    version: int = 0
    top: int = 0
    items: dict[str, Item] = attrs.field(factory=dict)
    # Removed notifications, while they are known.
    gone: dict[str, Item] = attrs.field(factory=dict)
    # Of events that renewed one: its id, and when; known as long as what was removed.
    renewals: dict[str | None, tuple[str, str]] = attrs.field(factory=dict)

    def copy(self) -> "Inbox":
        """Return one that changes by itself."""
        return copy.deepcopy(self)

    def counts(self) -> tuple[int, int]:
        """Return how many are unread and unseen."""
        inbox = [one for one in self.items.values() if one.state in INBOX]
        unread = sum(one.state == UNREAD for one in inbox)
        return unread, sum(one.seen_at is None for one in inbox)

    def listed(self, state: str = "all") -> list[View]:
        """Return a list, the newest first."""
        found = [one for one in self.items.values() if is_in(one, state)]
        return [one.view() for one in sorted(found, key=lambda one: -one.seq)]

    def matching(self, state: str, status: str | None, word: str) -> set[str]:
        """Return the ids of those that a filter finds; `word` stands in the title."""
        return {
            one.id
            for one in self.items.values()
            if is_in(one, state) and status in (None, one.status) and word in one.title
        }

    def apply(self, deed: Deed) -> list[Told]:
        """Do it; return what each version tells. Raise Wrong when it cannot have been so."""
        if deed.before != self.version:
            raise Wrong(f"{deed} was done at version {self.version}")
        told, count = DEEDS.get(deed.kind, Inbox._act)(self, deed)
        if self.version != deed.after:
            raise Wrong(f"{deed} makes version {self.version}")
        if deed.count not in (None, count):
            raise Wrong(f"{deed} changes {count}")
        return told

    def _create(self, deed: Deed) -> tuple[list[Told], None]:
        event, key = deed.fields["event_id"], deed.fields["key"]
        for item in [*self.items.values(), *self.gone.values()]:
            if event is not None and item.made_for == event and not self._is_forgotten(item, deed):
                return self._answered(deed, item.id, [])
        if event in self.renewals and not self._is_over(self.renewals[event][1], deed):
            return self._answered(deed, self.renewals[event][0], [])
        alike = [one for one in self.items.values() if key is not None and one.key == key]
        # One that is read is done with: the next is another.
        alike = [one for one in alike if one.state in (UNREAD, SNOOZED)]
        if not alike:
            self.top += 1
            item = Item(deed.id, self.top, 0, created_at=deed.now, **deed.fields, made_for=event)
            self.items[item.id] = item
            self.gone.pop(item.id, None)
            self.renewals.pop(event, None)
            return self._answered(deed, item.id, [self._tell([item], is_new=True)])
        item = max(alike, key=lambda one: one.seq)
        for name, value in deed.fields.items():
            if name != "event_id" or value is not None:
                setattr(item, name, value)
        item.created_at, item.was = deed.now, None
        if item.state == SNOOZED:
            # It stays away, and comes back as it is then.
            told = self._tell([item])
        else:
            item.seen_at = None
            told = self._to_top(item)
        if event is not None:
            # It is known by itself, and so has a place of its own, which no list shows.
            self.gone = {id_: one for id_, one in self.gone.items() if one.made_for != event}
            self.renewals[event] = (item.id, deed.now)
            self.top += 1
        return self._answered(deed, item.id, [told])

    def _answered(self, deed: Deed, id_: str, told: list[Told]) -> tuple[list[Told], None]:
        if id_ != deed.id:
            raise Wrong(f"{deed} should be about {id_}")
        return told, None

    def _act(self, deed: Deed) -> tuple[list[Told], int]:
        changed = []
        for item in self._those(deed.ids):
            was = {name: getattr(item, name) for name in TAKEN_BACK}
            if VERBS[deed.kind](item, deed):
                item.was = was
                changed.append(item)
        return ([self._tell(changed)] if changed else []), len(changed)

    def _is_forgotten(self, item: Item, deed: Deed) -> bool:
        return item.state == GONE and self._is_over(item.gone_at, deed)

    def _is_over(self, began: str, deed: Deed) -> bool:
        # The store forgets some time after that; until then it tells that it is known.
        return deed.after > deed.before and later(began, GONE_SECONDS) <= deed.now

    def _delete(self, deed: Deed) -> tuple[list[Told], int]:
        gone = self._those(deed.ids)
        for item in gone:
            item.was = {name: getattr(item, name) for name in TAKEN_BACK}
        return self._remove(gone, deed), len(gone)

    def _undo(self, deed: Deed) -> tuple[list[Told], int]:
        known = [*self.items.values(), *self.gone.values()]
        back = [one for one in known if one.version == deed.argument and one.was]
        for item in back:
            for name, value in (item.was or {}).items():
                setattr(item, name, value)
            item.was = None
            self.gone.pop(item.id, None)
            self.items[item.id] = item
        return ([self._tell(back)] if back else []), len(back)

    def _due(self, deed: Deed) -> tuple[list[Told], None]:
        due = [one for one in self._those(deed.ids) if one.due_at <= deed.now]
        gone = [one for one in due if one.goes_at <= deed.now]
        told = self._remove(gone, deed)
        for item in (one for one in due if one.goes_at > deed.now):
            item.state, item.snoozed_until = UNREAD, None
            item.seen_at = item.read_at = None
            told.append(self._to_top(item))
        return told, None

    def _trim(self, deed: Deed) -> tuple[list[Told], None]:
        """Nothing older is left than the oldest ones that were taken, but for pinned ones."""
        may_go = [one for one in self.items.values() if not one.pinned]
        excess = max(len(self.items) - deed.argument, 0)
        taken = sorted(may_go, key=lambda one: one.seq)[: min(excess, len(deed.ids))]
        if [one.id for one in taken] != list(deed.ids):
            raise Wrong(f"{deed} does not take the oldest ones")
        return self._remove(taken, deed), None

    def _those(self, ids: Sequence[str]) -> list[Item]:
        return [self.items[id_] for id_ in dict.fromkeys(ids) if id_ in self.items]

    def _remove(self, items: list[Item], deed: Deed) -> list[Told]:
        if not items:
            return []
        for item in items:
            del self.items[item.id]
            self.gone[item.id] = item
            item.state, item.gone_at, item.key = GONE, deed.now, None
        told = self._tell(items, deleted=[one.id for one in items])
        return [attrs.evolve(told, items=frozenset())]

    def forget(self, now: str) -> None:
        """Forget notifications whose removal nobody can know any more."""
        self.gone = {
            id_: one for id_, one in self.gone.items() if later(one.gone_at, 2 * GONE_SECONDS) > now
        }

    def _to_top(self, item: Item) -> Told:
        self.top += 1
        item.seq = self.top
        return self._tell([item], is_new=True)

    def _tell(
        self, items: list[Item], *, deleted: Sequence[str] = (), is_new: bool = False
    ) -> Told:
        self.version += 1
        for item in items:
            item.version = self.version
        views = frozenset(one.view() for one in items)
        return Told(self.version, is_new, views, frozenset(deleted))


def later(moment: str, seconds: float) -> str:
    """Return a time some seconds later."""
    return iso_time(datetime.fromisoformat(moment) + timedelta(seconds=seconds))


def is_in(item: Item, state: str) -> bool:
    """Say whether one stands in a list."""
    if state == "all":
        return True
    if state == "pinned":
        return item.pinned and item.state in INBOX
    return item.state in INBOX if state == "inbox" else item.state == state


def _seen(item: Item, deed: Deed) -> bool:
    if item.state not in INBOX or item.seen_at is not None:
        return False
    item.seen_at = deed.now
    return True


def _read(item: Item, deed: Deed) -> bool:
    if item.state != UNREAD:
        return False
    item.state, item.read_at, item.key = READ, deed.now, None
    item.seen_at = item.seen_at or deed.now
    return True


def _unread(item: Item, _: Deed) -> bool:
    if item.state != READ:
        return False
    item.state, item.read_at = UNREAD, None
    return True


def _archive(item: Item, deed: Deed) -> bool:
    if item.state == ARCHIVED:
        return False
    item.state, item.archived_at = ARCHIVED, deed.now
    item.snoozed_until = item.key = None
    return True


def _unarchive(item: Item, _: Deed) -> bool:
    if item.state != ARCHIVED:
        return False
    item.state, item.archived_at = item.status, None
    return True


def _snooze(item: Item, deed: Deed) -> bool:
    if item.state == ARCHIVED:
        return False
    item.state, item.snoozed_until = SNOOZED, deed.until
    return True


def _unsnooze(item: Item, _: Deed) -> bool:
    if item.state != SNOOZED:
        return False
    item.state, item.snoozed_until = item.status, None
    return True


def _pin(item: Item, _: Deed) -> bool:
    was, item.pinned = item.pinned, True
    return not was


def _unpin(item: Item, _: Deed) -> bool:
    was, item.pinned = item.pinned, False
    return was


VERBS: dict[str, Callable[[Item, Deed], bool]] = {
    "seen": _seen,
    "read": _read,
    "unread": _unread,
    "archive": _archive,
    "unarchive": _unarchive,
    "snooze": _snooze,
    "unsnooze": _unsnooze,
    "pin": _pin,
    "unpin": _unpin,
}
DEEDS: dict[str, Callable[[Inbox, Deed], tuple[list[Told], int | None]]] = {
    "create": Inbox._create,
    "delete": Inbox._delete,
    "undo": Inbox._undo,
    "due": Inbox._due,
    "trim": Inbox._trim,
}
