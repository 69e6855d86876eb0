"""The fields of a draft beside its texts, and what may stand in them.

It imports no module of this package but `locales`, so that the drafts can use it.
"""

import re
import time
from typing import Any
from urllib.parse import urlsplit

import attrs

from services.notifications.locales import check_locale
from services.submissions import moment_within
from tornado_rt.bounds import OutOfBounds, check_name, name_of, number_of, read_moment
from tornado_rt.json_body import MOST_BYTES, MOST_ITEMS
from tornado_rt.work.texts import phrase
from tornado_rt.work.values import check_unique

TYPE = re.compile(r"[a-z0-9._-]{1,64}")
ACTION_ID = re.compile(r"[a-z0-9_-]{1,32}")
LINK_LENGTH = 2000
LABEL_LENGTH = 100
ANSWER_LENGTH = 200
ANSWER_BYTES = 4 * ANSWER_LENGTH + 2
GROUP_KEY_LENGTH = 200
MOST_ACTIONS = 5
DAY_SECONDS = 86400.0
# Ten years.
MOST_EXPIRY_SECONDS = 3653 * DAY_SECONDS
GROUP_SECONDS = 3600.0
MOST_GROUP_SECONDS = 30 * DAY_SECONDS
WEB = ("http", "https")
SECURE = ("https",)


def check_address(name: str, value: str, schemes: tuple[str, ...] = WEB) -> None:
    """Raise OutOfBounds unless `value` is a path on this server, or an address of a scheme."""
    check_name(name, value, LINK_LENGTH)
    # Browsers read a backslash as a slash, and pass over spaces at the ends (WHATWG URL 4.4).
    local = value.startswith("/") and value[1:2] not in ("/", "\\")
    if not (local or _is_absolute(value, schemes)) or value != value.strip() or "\\" in value:
        words = "https" if schemes == SECURE else "http(s)"
        raise OutOfBounds(
            phrase("{name} must be a path or an {scheme} address", name=name, scheme=words)
        )


def _is_absolute(value: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    has_host = bool(parts.hostname) and not any(one.isspace() for one in parts.netloc)
    return parts.scheme in schemes and has_host and port != 0


def check_type(_: Any, field: Any, value: str) -> None:
    """Check the type of a notification, as an attrs validator."""
    if not TYPE.fullmatch(value):
        raise OutOfBounds(
            phrase("{name} must have 1 to 64 of a-z, 0-9, dot, _ and -", name=field.name)
        )


def check_link(_: Any, field: Any, value: str | None) -> None:
    """Check where a click leads, as an attrs validator; None passes."""
    if value is not None:
        check_address(field.name, value)


def check_picture(_: Any, field: Any, value: str | None) -> None:
    """Check the address of a picture, as an attrs validator; None passes.

    A page loads it without being asked: by http anybody on the way would see and change it.
    """
    if value is not None:
        check_address(field.name, value, SECURE)


def check_expiry(_: Any, field: Any, value: str | None) -> None:
    """Check when a notification goes, as an attrs validator; None passes."""
    if value is None:
        return
    if read_moment(field.name, value) <= time.time():
        raise OutOfBounds(phrase("{name} must be in the future", name=field.name))
    moment_within(MOST_EXPIRY_SECONDS)(None, field, value)


def _check_action_id(_: Any, field: Any, value: str) -> None:
    if not ACTION_ID.fullmatch(value):
        raise OutOfBounds(phrase("{name} must have 1 to 32 of a-z, 0-9, _ and -", name=field.name))


def _check_answer(_: Any, field: Any, value: Any) -> None:
    if isinstance(value, str):
        check_name(field.name, value, ANSWER_LENGTH)
    elif value is not None and value is not True:
        raise OutOfBounds(phrase("{name} must be true or a string", name=field.name))


@attrs.frozen(kw_only=True)
class Action:
    """A choice of the user: a link to follow, or an answer that the application gets.

    `answer` is True where the id says it all.
    """

    id: str = attrs.field(validator=_check_action_id)
    label: str = attrs.field(validator=name_of(LABEL_LENGTH))
    link: str | None = attrs.field(default=None, validator=check_link)
    answer: Any = attrs.field(
        default=None, validator=_check_answer, metadata={MOST_BYTES: ANSWER_BYTES}
    )

    def __attrs_post_init__(self) -> None:
        if (self.link is None) == (self.answer is None):
            raise OutOfBounds(phrase("action {id} must have either link or answer", id=self.id))

    @classmethod
    def of(cls, stored: object) -> "Action | None":
        """Read a stored one of any version; None for a value that is no action."""
        fields = stored if isinstance(stored, dict) else {}
        known: dict[str, Any] = {one.name: fields.get(one.name) for one in attrs.fields(cls)}
        try:
            return cls(**known)
        except (ValueError, TypeError):
            return None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object on the wire, which is stored too."""
        return attrs.asdict(self, filter=lambda _, value: value is not None)


def actions_of(stored: object) -> list[Action]:
    """Read stored actions; what is none is left out."""
    found = [Action.of(one) for one in stored] if isinstance(stored, list) else []
    return [one for one in found if one is not None][:MOST_ACTIONS]


def check_actions(_: Any, field: Any, value: list[Action]) -> None:
    """Check all actions of a notification, as an attrs validator."""
    if len(value) > MOST_ACTIONS:
        raise OutOfBounds(
            phrase(
                "{name} must have at most {most} items",
                name=field.name,
                most=MOST_ACTIONS,
            )
        )
    try:
        check_unique(field.name, [one.id for one in value])
    except ValueError as error:
        raise OutOfBounds(str(error)) from None


@attrs.frozen(kw_only=True)
class DraftFields:
    """The fields that every draft has beside its texts; `group_window` is seconds.

    `expires_at` is in ISO 8601. A draft that waits may not outlive it: it is checked again whenever
    one is made.
    """

    type: str = attrs.field(validator=check_type)
    actions: list[Action] = attrs.field(
        factory=list, validator=check_actions, metadata={MOST_ITEMS: MOST_ACTIONS}
    )
    icon: str | None = attrs.field(default=None, validator=check_picture)
    image: str | None = attrs.field(default=None, validator=check_picture)
    locale: str | None = attrs.field(default=None, validator=check_locale)
    expires_at: str | None = attrs.field(default=None, validator=check_expiry)
    group_key: str | None = attrs.field(default=None, validator=name_of(GROUP_KEY_LENGTH))
    group_window: float = attrs.field(
        default=GROUP_SECONDS, validator=number_of(1, MOST_GROUP_SECONDS)
    )
    pinned: bool = False
