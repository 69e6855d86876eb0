"""The verbs of a user: each is an edit of one document."""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

import attrs

from services.notifications.account import ARCHIVED, READ, SNOOZED, UNREAD, Document
from services.notifications.ledger import Edit, is_in_inbox


class Verb(StrEnum):
    """A verb that a device asks for."""

    SEEN = "seen"
    READ = "read"
    UNREAD = "unread"
    ARCHIVE = "archive"
    UNARCHIVE = "unarchive"
    SNOOZE = "snooze"
    UNSNOOZE = "unsnooze"
    PIN = "pin"
    UNPIN = "unpin"
    DELETE = "delete"


@attrs.frozen
class Moment:
    """When a verb is applied, and until when a snoozed one is away."""

    now: datetime
    until: datetime | None = None


def _seen(document: Document, at: Moment) -> Edit | None:
    if document.get("seen_at") is not None or not is_in_inbox(document):
        return None
    return Edit({"seen_at": at.now})


def _read(document: Document, at: Moment) -> Edit | None:
    if document.get("state") != UNREAD:
        return None
    seen = {} if document.get("seen_at") is not None else {"seen_at": at.now}
    return Edit({"state": READ, "read_at": at.now, **seen}, _released(document))


def _unread(document: Document, _: Moment) -> Edit | None:
    if document.get("state") != READ:
        return None
    return Edit({"state": UNREAD}, ("read_at",))


def _archive(document: Document, at: Moment) -> Edit | None:
    if document.get("state") == ARCHIVED:
        return None
    fields = {"state": ARCHIVED, "archived_at": at.now, **due_after(document)}
    gone = ("snoozed_until", "key", *_undue(document))
    return Edit(fields, gone)


def _unarchive(document: Document, _: Moment) -> Edit | None:
    if document.get("state") != ARCHIVED:
        return None
    return Edit({"state": _state_in_inbox(document)}, ("archived_at",))


def _snooze(document: Document, at: Moment) -> Edit | None:
    if not (is_in_inbox(document) or document.get("state") == SNOOZED) or at.until is None:
        return None
    due = min(filter(None, (at.until, document.get("goes_at"))))
    return Edit({"state": SNOOZED, "snoozed_until": at.until, "due_at": due})


def _unsnooze(document: Document, _: Moment) -> Edit | None:
    if document.get("state") != SNOOZED:
        return None
    gone = ("snoozed_until", *_undue(document))
    return Edit({"state": _state_in_inbox(document), **due_after(document)}, gone)


def _pin(document: Document, _: Moment) -> Edit | None:
    return None if document.get("pinned") else Edit({"pinned": True})


def _unpin(document: Document, _: Moment) -> Edit | None:
    return Edit({}, ("pinned",)) if document.get("pinned") else None


def _state_in_inbox(document: Document) -> str:
    return UNREAD if document.get("read_at") is None else READ


def _released(document: Document) -> tuple[str, ...]:
    """Return the key of one that a repeated dedupe key renews no more; a digest keeps its key."""
    return () if document.get("group_key") else ("key",)


def due_after(document: Document) -> Document:
    """Return when the next thing happens to one that is not snoozed: it goes."""
    goes_at = document.get("goes_at")
    return {} if goes_at is None else {"due_at": goes_at}


def _undue(document: Document) -> tuple[str, ...]:
    return ("due_at",) if document.get("goes_at") is None else ()


EDITS: dict[Verb, Callable[[Document, Moment], Edit | None]] = {
    Verb.SEEN: _seen,
    Verb.READ: _read,
    Verb.UNREAD: _unread,
    Verb.ARCHIVE: _archive,
    Verb.UNARCHIVE: _unarchive,
    Verb.SNOOZE: _snooze,
    Verb.UNSNOOZE: _unsnooze,
    Verb.PIN: _pin,
    Verb.UNPIN: _unpin,
}


def unsnoozed(document: Document) -> Edit:
    """Return what becomes of a snoozed one whose time has come: it is new again."""
    gone = ("snoozed_until", "read_at", "seen_at", *_undue(document))
    return Edit(due_after(document), gone)
