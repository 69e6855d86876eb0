"""The words of the notification service."""

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

import attrs
import bson
from bson import ObjectId
from bson.errors import BSONError

from tornado_rt.auth import USER_ID_LENGTH
from tornado_rt.bounds import OutOfBounds, check_json, check_name, name_of, text_of
from tornado_rt.protocol import Cursor, Message, ResyncReason, iso_time
from tornado_rt.work.values import cut

TITLE_LENGTH = 200
CONTENT_LENGTH = 5000
LINK_LENGTH = 2000
SOURCE_LENGTH = 100
KEY_LENGTH = 200
METADATA_BYTES = 8192
DAY_SECONDS = 86400.0


class NotStorable(Exception):
    """MongoDB refuses this notification, and would do so again; the message says why."""


class NotificationNotFound(Exception):
    """There is no such notification of this user."""

    def __init__(self, id_: str) -> None:
        super().__init__(f"there is no notification {id_}")


class NotificationType(StrEnum):
    """What it is about."""

    ANALYSIS = "analysis"
    ALERT = "alert"
    SYSTEM = "system"


class Severity(StrEnum):
    """How it is shown."""

    INFO = "info"
    SUCCESS = "success"
    WARNING = "warning"
    ERROR = "error"


class NotificationStatus(StrEnum):
    """Whether its user has seen it."""

    UNREAD = "unread"
    READ = "read"


def _check_link(_: Any, field: Any, value: str | None) -> None:
    if value is None:
        return
    check_name(field.name, value, LINK_LENGTH)
    # Browsers read a backslash as a slash, and pass over spaces at the ends (WHATWG URL 4.4).
    local = value.startswith("/") and value[1:2] not in ("/", "\\")
    absolute = _is_web_address(value)
    if not (local or absolute) or value != value.strip() or "\\" in value:
        raise OutOfBounds(f"{field.name} must be a path or an http(s) address")


def _is_web_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and " " not in parts.netloc


def _check_metadata(_: Any, field: Any, value: dict[str, Any]) -> None:
    check_json(field.name, value, METADATA_BYTES)
    # MongoDB means operators and references by them.
    if (reserved := next(filter(_is_reserved, _names_in(value)), None)) is not None:
        raise OutOfBounds(f"{field.name} has the name {cut(reserved, 50)!r}: none may begin with $")
    try:
        bson.encode(value)
    except (BSONError, OverflowError) as error:
        raise OutOfBounds(f"{field.name} cannot be stored: {error}") from None


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
class BroadcastDraft:
    """A notification to everybody, before it is sent."""

    type: NotificationType
    title: str = attrs.field(validator=name_of(TITLE_LENGTH))
    content: str | None = attrs.field(default=None, validator=text_of(CONTENT_LENGTH))
    link: str | None = attrs.field(default=None, validator=_check_link)
    source: str | None = attrs.field(default=None, validator=name_of(SOURCE_LENGTH, 0))
    severity: Severity = Severity.INFO
    metadata: dict[str, Any] = attrs.field(factory=dict, validator=_check_metadata)
    dedupe_key: str | None = attrs.field(default=None, validator=name_of(KEY_LENGTH, 0))


@attrs.frozen(kw_only=True)
class NotificationDraft(BroadcastDraft):
    """A notification before it is stored."""

    user_id: str = attrs.field(validator=name_of(USER_ID_LENGTH))


@attrs.frozen(kw_only=True)
class Notification:
    """A stored notification. `seq` orders those of one user; a renewed one takes a new number."""

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
    seq: int

    @classmethod
    def of(cls, document: dict[str, Any]) -> "Notification":
        """Read a document of the collection, whichever version has written it.

        A field that is not there has its default; one that cannot be sent is left out.
        """
        id_, metadata = document["_id"], _sendable(document.get("metadata"))
        made_at = id_.generation_time if isinstance(id_, ObjectId) else LONG_AGO
        texts: dict[str, Any] = {name: _text(document.get(name)) for name in TEXTS}
        texts |= {name: text for name, text in MISSING.items() if texts[name] is None}
        return cls(
            **texts,
            id=str(id_),
            created_at=time_in(document, "created_at") or made_at,
            read_at=time_in(document, "read_at"),
            metadata=metadata if isinstance(metadata, dict) else {},
            seq=number_in(document, "seq"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object on the wire."""
        fields = attrs.asdict(self, filter=attrs.filters.exclude(attrs.fields(type(self)).seq))
        read_at = None if self.read_at is None else iso_time(self.read_at)
        return fields | {"created_at": iso_time(self.created_at), "read_at": read_at}


TEXTS = (
    "user_id",
    "type",
    "title",
    "content",
    "link",
    "source",
    "severity",
    "status",
    "dedupe_key",
)
# For who reads a document without them; it counts as unread only when it says so.
MISSING = {
    "user_id": "",
    "type": NotificationType.SYSTEM.value,
    "title": "",
    "severity": Severity.INFO.value,
    "status": NotificationStatus.READ.value,
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


def seconds_in(document: dict[str, Any], name: str) -> timedelta:
    """Return a stored duration, of a day at most; none where none is."""
    value = document.get(name)
    if isinstance(value, int | float) and 0 <= value <= DAY_SECONDS:
        return timedelta(seconds=value)
    return timedelta(0)


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
    """Some notifications, newest first; `next` is the `before` of those after them, or None."""

    items: Sequence[Notification]
    next: str | None
    unread: int
    total: int | None = None
    page: int | None = None
    page_size: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object on the wire."""
        answer: dict[str, Any] = {
            "items": [item.to_dict() for item in self.items],
            "next": self.next,
            "unread": self.unread,
        }
        if self.page is not None:
            answer |= {"total": self.total, "page": self.page, "page_size": self.page_size}
        return answer


@attrs.frozen
class NotificationReplay:
    """The answer to a subscriber that comes now: all messages from its cursor on, or why not.

    `begin` is the cursor to resume from when none of them was seen, `cursor` the last number that
    was given out.
    """

    messages: Sequence[Message]
    resync: ResyncReason | None
    begin: Cursor
    cursor: Cursor
    unread: int
