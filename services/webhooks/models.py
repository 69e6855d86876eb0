"""The values that webhooks are made of."""

import fnmatch
import functools
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import attrs
import orjson

from services.webhooks.addresses import check_address, host_of
from tornado_rt.bounds import OutOfBounds, text_of
from tornado_rt.json_body import MOST_ITEMS
from tornado_rt.protocol import iso_time
from tornado_rt.work.texts import phrase

ALL = "*"
PATTERN = re.compile(r"[a-z0-9._*-]{1,64}")
MOST_PATTERNS = 50
DESCRIPTION_LENGTH = 500
MOST_ANSWERS = 20
ENABLED, DISABLED = "enabled", "disabled"
# The owner of the application's own: no user has an empty name.
APPLICATION = ""


class WebhookNotFound(Exception):
    """There is no such webhook of this user."""

    def __init__(self, id_: str) -> None:
        super().__init__(phrase("there is no webhook {id}", id=id_))


class TooManyWebhooks(Exception):
    """A user has as many webhooks as they may."""

    def __init__(self, most: int) -> None:
        super().__init__(phrase("there are {most} webhooks already: delete one first", most=most))


class WebhookDisabled(Exception):
    """A disabled webhook is sent nothing."""


def _check_url(_: Any, field: Any, value: str) -> None:
    check_address(field.name, value)


def _check_pattern(_: Any, field: Any, value: str | None) -> None:
    if value is not None and not PATTERN.fullmatch(value):
        raise OutOfBounds(
            phrase(
                "{name} must be 1 to 64 of a-z, 0-9, dot, dash, underscore and *", name=field.name
            )
        )


def _check_some(_: Any, field: Any, value: list[str]) -> None:
    if not value:
        raise OutOfBounds(phrase("{name} must name one or more", name=field.name))


@attrs.frozen(kw_only=True)
class WebhookFilter:
    """Patterns that facts of an event must match; one that the event does not have does not."""

    kind: str | None = attrs.field(default=None, validator=_check_pattern)
    type: str | None = attrs.field(default=None, validator=_check_pattern)
    severity: str | None = attrs.field(default=None, validator=_check_pattern)
    status: str | None = attrs.field(default=None, validator=_check_pattern)
    source: str | None = attrs.field(default=None, validator=_check_pattern)


@attrs.frozen(kw_only=True)
class WebhookRequest:
    """The body of `POST /api/webhooks`."""

    url: str = attrs.field(validator=_check_url)
    events: list[Annotated[str, _check_pattern]] = attrs.field(
        factory=lambda: [ALL], validator=_check_some, metadata={MOST_ITEMS: MOST_PATTERNS}
    )
    filter: WebhookFilter | None = None
    description: str = attrs.field(default="", validator=text_of(DESCRIPTION_LENGTH))
    application: bool = False

    def patterns(self) -> dict[str, str]:
        """Return the filter, without what it leaves open."""
        given = {} if self.filter is None else attrs.asdict(self.filter)
        return {name: pattern for name, pattern in given.items() if pattern is not None}


@attrs.frozen(kw_only=True)
class RedeliverRequest:
    """The body of `POST /api/webhooks/{id}/redeliver`."""

    event_id: str = attrs.field(validator=text_of(200, 1))


@attrs.frozen(kw_only=True)
class Webhook:
    """A stored webhook. `owner`: a user, or "" for the application; times are since the epoch [s].

    `changed_at`: when it was made, enabled or disabled. `success_at`: when something last arrived.

    It is wide because it is the document of a webhook.
    """

    id: str
    owner: str
    made_by: str
    url: str
    events: list[str]
    filter: dict[str, str]
    description: str
    secret: str = attrs.field(repr=False)
    state: str
    reason: str
    created_at: float
    changed_at: float
    success_at: float
    answers: list[dict[str, Any]] = attrs.field(factory=list)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Webhook":
        """Read a document; fields of a later version are passed over. Raise KeyError."""
        own = {one.name for one in attrs.fields(cls)} - {"id"}
        known = {name: value for name, value in document.items() if name in own}
        return cls(id=document["_id"], **known)

    @property
    def enabled(self) -> bool:
        """Whether it is sent anything."""
        return self.state == ENABLED

    @property
    def host(self) -> str:
        """The name of its receiver."""
        return host_of(self.url)

    def wants(self, event_type: str, facts: Mapping[str, str]) -> bool:
        """Say whether it is sent an event of this type with these facts."""
        return any(_matches(event_type, one) for one in self.events) and all(
            name in facts and _matches(facts[name], pattern)
            for name, pattern in self.filter.items()
        )

    def line_of(self, user_id: str) -> str:
        """Return in whose turn an event of a user is delivered to it.

        The application's deliveries take no place of the user's own ones.
        """
        return self.owner or f"application:{user_id}"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object on the wire: never the secret."""
        shown = ("id", "url", "events", "filter", "description", "state")
        return {name: getattr(self, name) for name in shown} | {
            "application": self.owner == APPLICATION,
            "reason": self.reason or None,
            "created_at": _iso(self.created_at),
            "changed_at": _iso(self.changed_at),
            "success_at": _iso(self.success_at) if self.success_at else None,
        }

    def told_answers(self) -> list[dict[str, Any]]:
        """Return what its receiver last answered, the newest first."""
        return [one | {"at": _iso(one["at"])} for one in reversed(self.answers)]


@attrs.frozen(kw_only=True)
class Post:
    """The parameters of a delivery: to a webhook, or, without its id, to the `url` of a callback.

    `body` is JSON, signed and sent as it is.
    """

    event_id: str
    type: str
    body: str
    webhook_id: str = ""
    url: str = ""


def event_body(event_type: str, user_id: str, data: Mapping[str, Any], at: float | None) -> str:
    """Return the JSON of an event, in the shape that Standard Webhooks recommends."""
    moment = iso_time() if at is None else _iso(at)
    told = {"type": event_type, "timestamp": moment, "user_id": user_id, "data": data}
    return orjson.dumps(told).decode()


@functools.lru_cache(10_000)
def _matches(text: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(text, pattern)


def _iso(seconds: float) -> str:
    return iso_time(datetime.fromtimestamp(seconds, UTC))
