"""The words of the notification service."""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

import attrs
import bson
from bson import ObjectId
from bson.errors import BSONError
from pymongo.errors import PyMongoError

from services.notifications.fields import LINK_LENGTH as LINK_LENGTH
from services.notifications.fields import DraftFields, actions_of, check_link
from tornado_rt.auth import USER_ID_LENGTH
from tornado_rt.bounds import OutOfBounds, check_json, name_of, text_of
from tornado_rt.protocol import Cursor, Message, ResyncReason, iso_time
from tornado_rt.work.texts import phrase
from tornado_rt.work.values import cut

TITLE_LENGTH = 200
CONTENT_LENGTH = 5000
SOURCE_LENGTH = 100
KEY_LENGTH = 200
METADATA_BYTES = 8192


class NotStorable(Exception):
    """MongoDB refuses this notification, and would do so again; the message says why."""


class NotificationNotFound(Exception):
    """There is no such notification of this user."""

    def __init__(self, id_: str) -> None:
        super().__init__(phrase("there is no notification {id}", id=id_))


class StoreConflict(PyMongoError):
    """Others change the same user's notifications again and again; try later."""


class StoreRefused(NotStorable):
    """MongoDB has refused a change of one of the documents that it is about."""

    def __init__(self) -> None:
        super().__init__(phrase("the store refuses to change one of these notifications"))


class SentBefore(Exception):
    """An idempotency key came with another request than the first time."""

    def __init__(self) -> None:
        super().__init__(phrase("this idempotency key was used for another request"))


class AlreadyAnswered(Exception):
    """One of its actions was answered before, on another device perhaps."""

    def __init__(self, action: str) -> None:
        super().__init__(phrase("it was answered before, by the action {action}", action=action))


class NotificationType(StrEnum):
    """The subject of it."""

    ANALYSIS = "analysis"
    ALERT = "alert"
    SYSTEM = "system"


class Severity(StrEnum):
    """The form in which it is shown."""

    INFO = "info"
    SUCCESS = "success"
    WARNING = "warning"
    ERROR = "error"


class NotificationStatus(StrEnum):
    """Whether its user has seen it."""

    UNREAD = "unread"
    READ = "read"


def check_metadata(_: Any, field: Any, value: dict[str, Any]) -> None:
    """Check JSON that is stored beside a notification, as an attrs validator."""
    check_json(field.name, value, METADATA_BYTES)
    # MongoDB means operators and references by them.
    if (reserved := next(filter(_is_reserved, _names_in(value)), None)) is not None:
        raise OutOfBounds(
            phrase(
                "{name} has the name {reserved}: none may begin with $",
                name=field.name,
                reserved=repr(cut(reserved, 50)),
            )
        )
    try:
        bson.encode(value)
    except (BSONError, OverflowError) as error:
        raise OutOfBounds(
            phrase("{name} cannot be stored: {error}", name=field.name, error=error)
        ) from None


def _is_reserved(name: str) -> bool:
    return name.startswith("$")


def _names_in(value: Any) -> Iterator[str]:
    """Yield the names in JSON of a depth that was checked."""
    if isinstance(value, dict):
        yield from value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        yield from _names_in(part)


@attrs.frozen(kw_only=True)
class BroadcastDraft(DraftFields):
    """A notification to everybody, before it is sent."""

    title: str = attrs.field(validator=name_of(TITLE_LENGTH))
    content: str | None = attrs.field(default=None, validator=text_of(CONTENT_LENGTH))
    link: str | None = attrs.field(default=None, validator=check_link)
    source: str | None = attrs.field(default=None, validator=name_of(SOURCE_LENGTH, 0))
    severity: Severity = Severity.INFO
    metadata: dict[str, Any] = attrs.field(factory=dict, validator=check_metadata)
    dedupe_key: str | None = attrs.field(default=None, validator=name_of(KEY_LENGTH, 0))

    def __attrs_post_init__(self) -> None:
        if self.dedupe_key is not None and self.group_key is not None:
            raise OutOfBounds(phrase("name dedupe_key or group_key, and not both"))


@attrs.frozen(kw_only=True)
class NotificationDraft(BroadcastDraft):
    """A notification before it is stored."""

    user_id: str = attrs.field(validator=name_of(USER_ID_LENGTH))


@attrs.frozen(kw_only=True)
class Notification:
    """A stored notification. `seq` orders those of one user; a renewed one takes a new number.

    The one with the highest number stands at the top of the list.

    It is wide because it is the document of a notification.
    """

    id: str
    user_id: str
    type: str
    title: str
    content: str | None
    link: str | None
    source: str | None
    severity: str
    status: str
    created_at: datetime
    read_at: datetime | None
    metadata: dict[str, Any]
    dedupe_key: str | None
    seen_at: datetime | None = None
    archived_at: datetime | None = None
    snoozed_until: datetime | None = None
    expires_at: datetime | None = None
    pinned: bool = False
    actions: list[dict[str, Any]] = attrs.field(factory=list)
    answered: dict[str, Any] | None = None
    icon: str | None = None
    image: str | None = None
    locale: str | None = None
    group_key: str | None = None
    count: int = 1
    muted: bool = False
    seq: int = 0

    @classmethod
    def of(cls, document: dict[str, Any]) -> "Notification":
        """Read a document of the collection, of any version.

        A field that is not there has its default; one that cannot be sent is left out.
        """
        texts: dict[str, Any] = {name: _text(document.get(name)) for name in TEXTS}
        texts |= {name: text for name, text in MISSING.items() if texts[name] is None}
        times: dict[str, Any] = {name: time_in(document, name) for name in TIMES}
        unread = document.get("read_at") is None and document.get("state") is not None
        status = NotificationStatus.UNREAD if unread else NotificationStatus.READ
        # Most have none of these, and a list has many.
        actions, metadata = document.get("actions"), document.get("metadata")
        return cls(
            **texts,
            **times,
            id=str(document["_id"]),
            status=status.value,
            created_at=time_in(document, "created_at") or time_of(document["_id"]),
            metadata=_metadata(metadata) if metadata else {},
            pinned=document.get("pinned") is True,
            actions=[one.to_dict() for one in actions_of(actions)] if actions else [],
            answered=_answered(document.get("answered")),
            count=max(number_in(document, "count"), 1),
            muted=document.get("muted") is True,
            seq=number_in(document, "seq"),
        )

    @cached_property
    def told(self) -> dict[str, Any]:
        """The JSON object on the wire, which nobody changes."""
        return {
            name: _iso(value) if isinstance(value := getattr(self, name), datetime) else value
            for name in FIELDS
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object on the wire."""
        return self.told.copy()


def time_of(id_: Any) -> datetime:
    """Return when a document was made, by its id; long ago if that does not tell."""
    return id_.generation_time if isinstance(id_, ObjectId) else LONG_AGO


def _metadata(stored: Any) -> dict[str, Any]:
    sendable = _sendable(stored)
    return sendable if isinstance(sendable, dict) else {}


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else iso_time(moment)


FIELDS = tuple(one.name for one in attrs.fields(Notification))
TIMES = ("seen_at", "read_at", "archived_at", "snoozed_until", "expires_at")
TEXTS = (
    "user_id",
    "type",
    "title",
    "content",
    "link",
    "source",
    "severity",
    "dedupe_key",
    "icon",
    "image",
    "locale",
    "group_key",
)
# For who reads a document without them.
MISSING = {
    "user_id": "",
    "type": NotificationType.SYSTEM.value,
    "title": "",
    "severity": Severity.INFO.value,
}
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


def stored_id(id_: str) -> ObjectId | str:
    """Return the `_id` of a document by its id; only one that was made by hand has a text."""
    return ObjectId(id_) if ObjectId.is_valid(id_) else id_


def time_in(document: dict[str, Any], name: str) -> datetime | None:
    """Return a stored time; None where none is, or one that no calendar has."""
    value = document.get(name)
    return value if isinstance(value, datetime) else None


def number_in(document: dict[str, Any], name: str) -> int:
    """Return a stored whole number; 0 where none is."""
    value = document.get(name)
    # A restored backup may have made it a float.
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else 0


def _answered(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        return None
    return {"action": _text(value.get("action")), "at": _iso(time_in(value, "at"))}


def _text(value: Any) -> str | None:
    # BSON's code is a text, of a class that cannot be hashed.
    return str(value) if isinstance(value, str) else None


def _sendable(value: Any) -> Any:
    try:
        check_json("stored", value, 0)
    except OutOfBounds:
        return None
    return value


@attrs.frozen
class NotificationPage:
    """Some notifications, newest first; `next` is the `before` of those after them, or None.

    `version` is that of the counts.
    """

    items: Sequence[Notification]
    next: str | None
    unread: int
    unseen: int = 0
    version: int = 0
    total: int | None = None
    page: int | None = None
    page_size: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object on the wire."""
        answer: dict[str, Any] = {
            "items": [item.told for item in self.items],
            "next": self.next,
            "unread": self.unread,
            "unseen": self.unseen,
            "version": self.version,
        }
        if self.total is not None:
            answer["total"] = self.total
        if self.page is not None:
            answer |= {"page": self.page, "page_size": self.page_size}
        return answer


@attrs.frozen
class NotificationReplay:
    """The answer to a subscriber that comes now: all messages after its cursor, or why not.

    `begin` is the cursor to resume from when none of them was seen, `cursor` the one that they
    reach. `counts` are `{unread, unseen, version}` there.
    """

    messages: Sequence[Message]
    resync: ResyncReason | None
    begin: Cursor
    cursor: Cursor
    counts: dict[str, int]
