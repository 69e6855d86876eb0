"""Subscriptions of browsers (W3C Push API), as they come and as they are kept."""

import hashlib
import ipaddress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import attrs

from services.base64url import decode
from services.push.encryption import AUTH_BYTES, read_point
from services.webhooks.addresses import check_address, is_public
from tornado_rt.bounds import OutOfBounds
from tornado_rt.json_body import JSON_NAME
from tornado_rt.protocol import iso_time
from tornado_rt.work.texts import phrase

KEY_LENGTH = 200
ID_LENGTH = 32
# The end of the year 9999 [ms].
LATEST = 253402300799000


class SubscriptionNotFound(Exception):
    """There is no such subscription of this user."""

    def __init__(self) -> None:
        super().__init__(phrase("there is no such subscription"))


class EndpointRefused(ValueError):
    """A subscription names an address that this server does not push to."""


def _check_endpoint(_: Any, field: Any, value: str) -> None:
    check_address(field.name, value)


def _check_key(_: Any, field: Any, value: str) -> None:
    try:
        if len(value) > KEY_LENGTH:
            raise ValueError
        read_point(decode(value))
    except ValueError:
        raise OutOfBounds(
            phrase("{name} must be a point of P-256 in base64url", name=field.name)
        ) from None


def _check_auth(_: Any, field: Any, value: str) -> None:
    try:
        if len(value) > KEY_LENGTH or len(decode(value)) != AUTH_BYTES:
            raise ValueError
    except ValueError:
        raise OutOfBounds(
            phrase(
                "{name} must be {count} bytes in base64url",
                name=field.name,
                count=AUTH_BYTES,
            )
        ) from None


def _check_time(_: Any, field: Any, value: float | None) -> None:
    if value is not None and not 0 <= value <= LATEST:
        raise OutOfBounds(phrase("{name} must be a time in milliseconds, or null", name=field.name))


@attrs.frozen
class SubscriptionKeys:
    """The keys that a browser's messages are encrypted with."""

    p256dh: str = attrs.field(validator=_check_key)
    auth: str = attrs.field(validator=_check_auth)


@attrs.frozen
class SubscriptionDraft:
    """A `PushSubscription` as its `toJSON` has it."""

    endpoint: str = attrs.field(validator=_check_endpoint)
    keys: SubscriptionKeys
    expiration_time: float | None = attrs.field(
        default=None, validator=_check_time, metadata={JSON_NAME: "expirationTime"}
    )

    def check_address(self, allow_private: bool) -> None:
        """Raise EndpointRefused unless it is https at a name or a public address.

        What a name stands for is looked at when it is pushed to, each time.
        """
        parts = urlsplit(self.endpoint)
        if not allow_private and parts.scheme != "https":
            raise EndpointRefused(phrase("endpoint must be an https address"))
        try:
            address = ipaddress.ip_address(parts.hostname or "")
        except ValueError:
            return
        if not allow_private and not is_public(address):
            raise EndpointRefused(phrase("endpoint must be at a public address"))


@attrs.frozen(kw_only=True)
class PushSubscription:
    """A kept subscription. `server_key`: the server's public key that it was made with."""

    id: str
    user_id: str
    endpoint: str
    p256dh: bytes = attrs.field(repr=False)
    auth: bytes = attrs.field(repr=False)
    server_key: str
    expires_at: datetime | None
    created_at: datetime

    @classmethod
    def make(cls, user_id: str, draft: SubscriptionDraft, server_key: str) -> "PushSubscription":
        """Return what is kept of a draft."""
        expiry = draft.expiration_time
        return cls(
            id=id_of(draft.endpoint),
            user_id=user_id,
            endpoint=draft.endpoint,
            p256dh=decode(draft.keys.p256dh),
            auth=decode(draft.keys.auth),
            server_key=server_key,
            expires_at=None if expiry is None else datetime.fromtimestamp(expiry / 1000, UTC),
            created_at=datetime.now(UTC),
        )

    @classmethod
    def of(cls, document: dict[str, Any]) -> "PushSubscription":
        """Read a document of the collection."""
        fields = {one.name: document[one.name] for one in attrs.fields(cls) if one.name != "id"}
        return cls(**fields, id=document["_id"])

    def document(self) -> dict[str, Any]:
        """Return the document of the collection."""
        fields = attrs.asdict(self)
        return {"_id": fields.pop("id"), **fields}

    @property
    def is_over(self) -> bool:
        """Whether its browser has let it expire."""
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object on the wire; its address and keys are enough to push."""
        return {
            "id": self.id,
            "service": urlsplit(self.endpoint).hostname,
            "created_at": iso_time(self.created_at),
            "expires_at": None if self.expires_at is None else iso_time(self.expires_at),
        }


def id_of(endpoint: str) -> str:
    """Return the id of the subscription at an endpoint, which is one browser's."""
    return hashlib.sha256(endpoint.encode()).hexdigest()[:ID_LENGTH]
