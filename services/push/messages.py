"""Pushes: the parameters of a delivery, and the text that a browser gets."""

import bisect
import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs
import orjson

from services.base64url import encode
from services.push.client import Urgency
from services.push.encryption import TEXT_BYTES

# Longest topic (RFC 8030 section 5.4).
TOPIC_LENGTH = 32
# Ids that one push withdraws.
MOST_WITHDRAWN = 100
# More is never shown.
CONTENT_LENGTH = 1000
URGENCIES = {"warning": Urgency.HIGH, "error": Urgency.HIGH}
SHOWN = ("title", "content", "link", "icon", "severity", "type", "version")


@attrs.frozen(kw_only=True)
class PushParams:
    """The parameters of a delivery: a notification, or the ids of those to `withdraw`.

    `withdraw_all`: all up to `version`. `tag`: what a newer one replaces on a screen, "" for the
    notification's id. `version`: that of the inbox. `at`: when it was made [s since the epoch], 0
    if unknown.

    It is wide because each member of a push is a field.
    """

    user_id: str
    notification_id: str = ""
    title: str = ""
    content: str | None = None
    link: str | None = None
    icon: str | None = None
    severity: str = "info"
    type: str = ""
    tag: str = ""
    version: int = 0
    at: float = 0.0
    withdraw: list[str] = attrs.field(factory=list)
    withdraw_all: bool = False

    @property
    def withdraws(self) -> bool:
        """Whether it takes notifications away."""
        return bool(self.withdraw) or self.withdraw_all

    @property
    def urgency(self) -> Urgency:
        """The urgency."""
        return URGENCIES.get(self.severity, Urgency.NORMAL)

    @property
    def topic(self) -> str:
        """The name by which a newer push about the same replaces one that waits."""
        about = self.withdraw[0] if len(self.withdraw) == 1 else self.notification_id
        return topic_of(about) if about else ""


def push_params(notification: dict[str, Any], version: int = 0) -> dict[str, Any]:
    """Return the parameters that push a notification, as it stands on the wire."""
    content = notification.get("content")
    return {
        "user_id": notification["user_id"],
        "notification_id": notification["id"],
        "title": notification["title"],
        "content": content and content[:CONTENT_LENGTH],
        "link": notification.get("link"),
        "icon": notification.get("icon"),
        "severity": notification["severity"],
        "type": notification["type"],
        "version": version,
        "at": datetime.fromisoformat(notification["created_at"]).timestamp(),
    }


def withdraw_params(
    user_id: str, ids: Sequence[str] | None, version: int = 0
) -> list[dict[str, Any]]:
    """Return the parameters that take notifications off the screens, a list for many.

    `ids` None: all up to `version`.
    """
    if ids is None:
        return [{"user_id": user_id, "withdraw_all": True, "version": version}]
    starts = range(0, len(ids), MOST_WITHDRAWN)
    parts = [list(ids[start : start + MOST_WITHDRAWN]) for start in starts]
    return [{"user_id": user_id, "withdraw": part, "version": version} for part in parts]


def topic_of(notification_id: str) -> str:
    """Return the topic of a notification."""
    return encode(hashlib.sha256(notification_id.encode()).digest())[:TOPIC_LENGTH]


def text_of(params: PushParams) -> bytes:
    """Return the JSON that a browser gets; what is too long for a push is cut or left out."""
    if params.withdraw_all:
        return orjson.dumps({"withdraw": "all", "version": params.version})
    if params.withdraw:
        return orjson.dumps({"withdraw": params.withdraw, "version": params.version})
    id_ = params.notification_id
    fields = {"id": id_, "tag": params.tag or id_}
    fields |= {name: getattr(params, name) for name in SHOWN}
    return _within(fields)


def _within(fields: dict[str, Any]) -> bytes:
    text = orjson.dumps(fields)
    if len(text) <= TEXT_BYTES:
        return text
    for name in ("icon", "link"):
        if len(orjson.dumps(fields | {"content": None})) > TEXT_BYTES:
            fields = fields | {name: None}
    return orjson.dumps(fields | {"content": _cut(fields)})


def _cut(fields: dict[str, Any]) -> str | None:
    """Return as much of the content as fits."""
    content: str = fields["content"] or ""

    def size(length: int) -> int:
        return len(orjson.dumps(fields | {"content": content[:length] + "…"}))

    length = bisect.bisect_right(range(len(content)), TEXT_BYTES, key=size) - 1
    return content[:length] + "…" if length > 0 else None
