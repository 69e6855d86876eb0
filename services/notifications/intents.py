"""Intents: callers want changes of one user's notifications, each applied to a ledger.

An intent is applied again when another process was first: it changes the ledger alone.

It is long because each change of an inbox is a class here.
"""

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import attrs
from bson import ObjectId

from services.notifications.account import EVENT, FORGOTTEN, GONE, SNOOZED, Account, Document
from services.notifications.ledger import (
    GONE_FOR,
    Edit,
    Ledger,
    News,
    is_active,
    is_in_inbox,
    is_shown,
    undone,
)
from services.notifications.models import (
    AlreadyAnswered,
    Notification,
    NotificationNotFound,
    SentBefore,
    number_in,
)
from services.notifications.preferences import Mute
from services.notifications.verbs import EDITS, Moment, Verb, unsnoozed
from tornado_rt.work.texts import phrase


@attrs.frozen(kw_only=True)
class Needs:
    """The documents that are read before an intent is applied."""

    ids: Sequence[Any] = ()
    key: str | None = None
    version: int | None = None
    # Number of places in the list, from the quota on.
    places: int = 0


class Intent(Protocol):
    """A change that somebody wants."""

    @property
    def user_id(self) -> str:
        """Whose it is."""
        ...

    @property
    def needs(self) -> Needs:
        """Say what must be known."""
        ...

    def apply(self, ledger: Ledger) -> Any:
        """Change the ledger, or raise and leave it as it was."""
        ...


@attrs.frozen(kw_only=True)
class OfIds:
    """The base of intents that are about some documents."""

    user_id: str
    ids: Sequence[Any]

    @property
    def needs(self) -> Needs:
        """Say what must be known."""
        return Needs(ids=self.ids)


# A removed document cannot be put back when less than this is left until it is forgotten [s].
ALMOST = timedelta(minutes=1)
# Says why one is kept and not pushed, by its user's preferences and the time; None: it is pushed.
MuteOf = Callable[[Document, datetime], Mute | None]


@attrs.frozen(kw_only=True)
class Create:
    """Store one; renew the one with its key; count it into its digest. Returns the document.

    One whose event is known is told again: its first teller may have been cut off. Raise SentBefore
    when it is another one than that.
    """

    user_id: str
    fields: Document
    key: str | None = None
    event_id: str | None = None
    window: timedelta | None = None
    mute: MuteOf = lambda _, __: None

    @property
    def needs(self) -> Needs:
        """Say what must be known."""
        ids = [] if self.id is None else [self.id]
        return Needs(key=self.key, ids=ids)

    @property
    def id(self) -> ObjectId | None:
        """The `_id` by which an event is known; None for what is none."""
        return None if self.event_id is None else id_of_event(self.user_id, self.event_id)

    def apply(self, ledger: Ledger) -> Document:
        """Change the ledger."""
        if self.id is not None and (known := ledger.find([self.id])):
            return self._again(ledger, known[0])
        fields = {**self.fields, "created_at": ledger.now}
        mute = self.mute(ledger.account.preferences, ledger.now)
        if mute is not None:
            fields |= {"muted": True, "muted_for": mute.value}
        if self.event_id is not None:
            fields["event_id"] = self.event_id
        if self.key is None:
            return ledger.insert(fields, self.id)
        known = ledger.where(lambda one: one.get("key") == self.key)
        create = self._renewed if self.window is None else self._digested
        return create(ledger, fields, known)

    def _again(self, ledger: Ledger, known: Document) -> Document:
        if known.get("print") != self.fields.get("print"):
            raise SentBefore
        if known.get("state") == EVENT:
            return {**self.fields, "_id": known["of"], "user_id": self.user_id}
        if is_shown(known) and known["version"] == known.get("made"):
            ledger.again.append(News(version=known["version"], new=known))
        return known

    def _renewed(self, ledger: Ledger, fields: Document, known: list[Document]) -> Document:
        found = next(filter(is_active, known), None)
        if found is None:
            return ledger.insert({**fields, "key": self.key}, self.id)
        if found["state"] == SNOOZED:
            # Its user has put it off: it stays away, and comes back as it is then.
            due_at = min(filter(None, (found.get("snoozed_until"), fields.get("goes_at"))))
            later = {**fields, "due_at": due_at}
            [kept] = ledger.change([found], lambda _: Edit(later, _missing(found, later)))
            self._mark_event(ledger, kept)
            return kept
        renewed = ledger.renew(found, fields, ("seen_at", *_missing(found, fields)))
        self._mark_event(ledger, renewed)
        return renewed

    def _mark_event(self, ledger: Ledger, renewed: Document) -> None:
        if self.id is not None:
            ledger.mark_event(self.id, renewed, ledger.now + GONE_FOR)

    def _digested(self, ledger: Ledger, fields: Document, known: list[Document]) -> Document:
        """Count it into its digest, which has one line, and keep it as a part of that."""
        latest = {name: value for name, value in fields.items() if name != "event_id"}
        head = next((one for one in known if self._is_open(one, ledger.now)), None)
        if head is None:
            # A digest whose window is over stands for no later ones.
            ledger.change(known, lambda _: Edit({}, ("key",)))
            began = {"key": self.key, "group_began": ledger.now, "count": 1}
            head = ledger.insert({**latest, **began})
        else:
            gone = ("seen_at", "read_at", *_missing(head, latest))
            head = ledger.renew(head, {**latest, "count": head.get("count", 1) + 1}, gone)
        ledger.add_part(head, fields, self.id)
        return head

    def _is_open(self, head: Document, now: datetime) -> bool:
        began = head.get("group_began")
        if not is_in_inbox(head) or not isinstance(began, datetime):
            return False
        return self.window is not None and now - began < self.window


def id_of_event(user_id: str, event_id: str) -> ObjectId:
    """Return the `_id` of what a user is told of an event: so it is stored once."""
    return ObjectId(hashlib.sha256(f"{user_id}\n{event_id}".encode()).digest()[:12])


# A renewed one keeps these, though the new one does not name them.
KEPT = {"_id", "user_id", "state", "seq", "version", "made", "key", "pinned", "due_at"} | {
    *("snoozed_until", "group_began", "count", "read_at", "seen_at", "event_id")
}


def _missing(document: Document, fields: Document) -> tuple[str, ...]:
    return tuple(name for name in document if name not in fields and name not in KEPT)


@attrs.frozen
class Changed:
    """The number that a verb has changed, and the version by which it is taken back.

    `document` is the one that it was about, as it is then; None for several, or when it went.
    """

    count: int
    undo: int | None
    document: Document | None = None


@attrs.frozen(kw_only=True)
class ActIntent(OfIds):
    """Apply a verb to some; `must_be`: raise NotificationNotFound when one of them is not there.

    Returns a `Changed`.
    """

    verb: Verb
    until: datetime | None = None
    must_be: bool = False

    def apply(self, ledger: Ledger) -> Changed:
        """Change the ledger."""
        found = list(filter(is_shown, ledger.find(self.ids)))
        if self.must_be and len(found) < len(self.ids):
            known = {one["_id"] for one in found}
            raise NotificationNotFound(str(next(id_ for id_ in self.ids if id_ not in known)))
        if self.verb == Verb.DELETE:
            ledger.remove(found, undoable=True)
            return Changed(len(found), ledger.account.version if found else None)
        moment, edit = Moment(ledger.now, self.until), EDITS[self.verb]
        changed = ledger.change(
            found, lambda one: edit(one, moment), undoable=True, reads=self.verb == Verb.READ
        )
        only = next(iter(ledger.find(self.ids)), None) if self.must_be else None
        return Changed(len(changed), ledger.account.version if changed else None, only)


@attrs.frozen(kw_only=True)
class Undo:
    """Take back what one version did to those that did not change since. Returns a `Changed`."""

    user_id: str
    version: int

    @property
    def needs(self) -> Needs:
        """Say what must be known."""
        return Needs(version=self.version)

    def apply(self, ledger: Ledger) -> Changed:
        """Change the ledger."""
        changed = ledger.change(
            ledger.where(lambda one: self._is_undoable(one, ledger.now)), undone
        )
        return Changed(len(changed), None)

    def _is_undoable(self, document: Document, now: datetime) -> bool:
        if document.get("version") != self.version or "was" not in document:
            return False
        # One that is about to be forgotten is as good as forgotten.
        gone_at = document.get("due_at") if document.get("state") == GONE else None
        return gone_at is None or gone_at > now + ALMOST


@attrs.frozen(kw_only=True)
class Answer:
    """Answer one's action, once on all devices. Raise AlreadyAnswered. Returns the document."""

    user_id: str
    id: Any
    action: str

    @property
    def needs(self) -> Needs:
        """Say what must be known."""
        return Needs(ids=[self.id])

    def apply(self, ledger: Ledger) -> Document:
        """Change the ledger."""
        found = ledger.find([self.id])
        if not found or not is_shown(found[0]) or self.action not in _answers(found[0]):
            raise NotificationNotFound(
                phrase("{id} with the action {action}", id=self.id, action=self.action)
            )
        if found[0].get("answered"):
            raise AlreadyAnswered(str(found[0]["answered"].get("action")))
        answered = {"answered": {"action": self.action, "at": ledger.now}}
        read = EDITS[Verb.READ](found[0], Moment(ledger.now)) or Edit({})
        pin = ("pinned",) if _waits_for_task(found[0]) else ()
        edit = Edit({**read.fields, **answered}, (*read.gone, *pin))
        [document] = ledger.change(found, lambda _: edit, answers=True)
        return document


@attrs.frozen(kw_only=True)
class Withdraw(OfIds):
    """Archive what nobody has answered, and offer its actions no longer."""

    def apply(self, ledger: Ledger) -> None:
        """Change the ledger."""
        able = [one for one in ledger.find(self.ids) if is_shown(one) and not one.get("answered")]
        ledger.change(able, lambda one: self._withdrawn(one, ledger.now))

    def _withdrawn(self, document: Document, now: datetime) -> Edit | None:
        away = EDITS[Verb.ARCHIVE](document, Moment(now)) or Edit({})
        if not away.fields and "actions" not in document:
            return None
        return Edit(away.fields, ("actions", "pinned", *away.gone))


def _waits_for_task(document: Document) -> bool:
    """Say whether it is what a task has asked, which is pinned until there is an answer."""
    metadata = document.get("metadata")
    return isinstance(metadata, dict) and {"question", "note"} <= metadata.keys()


def _answers(document: Document) -> list[str]:
    actions = document.get("actions")
    found = actions if isinstance(actions, list) else []
    return [one["id"] for one in found if isinstance(one, dict) and "answer" in one and "id" in one]


@attrs.frozen(kw_only=True)
class Due(OfIds):
    """Do what is due: a snoozed one comes back as new, one that has expired goes."""

    def apply(self, ledger: Ledger) -> None:
        """Change the ledger."""
        due = [
            one
            for one in ledger.find(self.ids)
            if one.get("state") not in FORGOTTEN and _is_reached(one.get("due_at"), ledger.now)
        ]
        ledger.remove([one for one in due if _is_reached(one.get("goes_at"), ledger.now)])
        for document in due:
            if not _is_reached(document.get("goes_at"), ledger.now):
                edit = unsnoozed(document)
                ledger.renew(document, edit.fields, edit.gone)


def _is_reached(moment: Any, now: datetime) -> bool:
    return isinstance(moment, datetime) and moment <= now


@attrs.frozen(kw_only=True)
class Trim:
    """Remove the oldest ones while the user has more than the quota, but for pinned ones.

    It takes `most` at once, and looks at the next `places` in the list. Returns the ids of those
    that it has removed, the oldest first.
    """

    user_id: str
    quota: int
    most: int
    places: int

    @property
    def needs(self) -> Needs:
        """Say what must be known."""
        return Needs(places=self.places)

    def apply(self, ledger: Ledger) -> list[Any]:
        """Change the ledger."""
        excess = min(ledger.account.counts.kept - self.quota, self.most)
        high = ledger.place_after(self.places)
        able = ledger.where(lambda one: _is_trimmed_up_to(one, high))[::-1]
        taken = able[: max(excess, 0)]
        if taken:
            ledger.trim(taken, high if len(taken) == len(able) else number_in(taken[-1], "seq"))
        return [one["_id"] for one in taken]


def _is_trimmed_up_to(document: Document, place: int) -> bool:
    return is_shown(document) and not document.get("pinned") and number_in(document, "seq") <= place


@attrs.frozen(kw_only=True)
class Purge(OfIds):
    """Remove the parts of a digest."""

    def apply(self, ledger: Ledger) -> None:
        """Change the ledger."""
        ledger.remove([one for one in ledger.find(self.ids) if is_part(one)])


@attrs.frozen(kw_only=True)
class Prefer:
    """Keep a user's preferences."""

    user_id: str
    preferences: Document
    needs: Needs = Needs()

    def apply(self, ledger: Ledger) -> None:
        """Change the ledger."""
        if ledger.account.preferences != self.preferences:
            ledger.prefer(self.preferences)


@attrs.frozen(kw_only=True)
class Reach:
    """Turn one way to reach a user when nobody is there on or off."""

    user_id: str
    channel: str
    on: bool
    needs: Needs = Needs()

    def apply(self, ledger: Ledger) -> None:
        """Change the ledger."""
        others = [one for one in ledger.account.channels if one != self.channel]
        channels = sorted([*others, self.channel]) if self.on else others
        if channels != list(ledger.account.channels):
            ledger.be_reached(channels)


def is_part(document: Document) -> bool:
    """Say whether one stands under a digest."""
    return str(document.get("state")).startswith("part:")


@attrs.frozen
class Committed:
    """The result of an intent, and the account after its operation."""

    result: Any
    account: Account
    news: Sequence[News] = ()

    @property
    def notification(self) -> Notification:
        """The document that is the result, as a notification."""
        told = next((one for one in self.news if one.new is self.result), None)
        return Notification.of(self.result) if told is None else told.notification
