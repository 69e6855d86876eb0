"""From what somebody sends to what is stored: texts, lifetime, and whether it is pushed."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
from bson import ObjectId

from services.notifications.account import Account, Document
from services.notifications.intents import Create
from services.notifications.legacy import dedupe_key
from services.notifications.lifetime import Lifetime
from services.notifications.models import BroadcastDraft, NotificationDraft
from services.notifications.preferences import Mute, Preferences, mute_of
from services.notifications.templates import Templates
from services.notifications.types import NotificationTypes
from tornado_rt.bounds import read_moment

# Fields of a draft that are not stored, or not as they are.
NOT_STORED = ("user_id", "actions", "expires_at", "group_window", "pinned")


@attrs.frozen(kw_only=True)
class Wording:
    """Texts by a template's name and its variables, in the language of the user."""

    template: str
    variables: Mapping[str, Any]


@attrs.frozen(kw_only=True)
class Once:
    """An idempotency key: what was sent under it once is not sent again.

    `print` tells one request from another.
    """

    key: str
    print: str

    @classmethod
    def of(cls, sender: str, key: str, body: bytes) -> "Once":
        """Return that of a sender's key and request."""
        return cls(key=_digest(f"{sender}\n{key}".encode()), print=_digest(body)[:16])

    def event_id(self, user_id: str) -> str:
        """Return by what the notification of one user is known."""
        return f"once:{self.key}:{user_id}"


class Creation:
    """Makes intents of drafts."""

    def __init__(self, lifetime: Lifetime, templates: Templates, types: NotificationTypes) -> None:
        self._lifetime = lifetime
        self._types = types
        self.templates = templates

    def worded(
        self, draft: NotificationDraft, wording: Wording, account: Account
    ) -> NotificationDraft:
        """Return a draft with the texts of a template; what it says itself stays.

        Raise TemplateRefused.
        """
        locales = (Preferences.of(account.preferences).locale, draft.locale)
        texts = self.templates.render(wording.template, wording.variables, locales)
        return attrs.evolve(
            draft,
            title=texts.title,
            content=texts.content
            if draft.content is None
            else self.templates.say(draft.content, texts.locale),
            link=draft.link or texts.link,
            actions=draft.actions or texts.actions,
            locale=texts.locale,
        )

    def intent(
        self, draft: NotificationDraft, event_id: str | None = None, print_: str | None = None
    ) -> Create:
        """Return what stores a draft."""
        key, window = _key_of(draft)
        return Create(
            user_id=draft.user_id,
            fields=self.fields(draft) | ({} if print_ is None else {"print": print_}),
            key=key,
            window=window,
            event_id=event_id,
            mute=lambda preferences, now: self._mute_of(draft, preferences, now),
        )

    def fields(self, draft: BroadcastDraft) -> Document:
        """Return what of a draft is stored."""
        given = attrs.asdict(draft, value_serializer=_plain, recurse=False)
        fields = {
            name: value
            for name, value in given.items()
            if value is not None and name not in NOT_STORED
        }
        expires_at = None
        if draft.expires_at is not None:
            expires_at = datetime.fromtimestamp(read_moment("expires_at", draft.expires_at), UTC)
            fields["expires_at"] = expires_at
        if draft.actions:
            fields["actions"] = [one.to_dict() for one in draft.actions]
        if draft.pinned:
            fields["pinned"] = True
        return fields | self._lifetime.fields(datetime.now(UTC), expires_at, ObjectId())

    def _mute_of(self, draft: NotificationDraft, stored: Document, now: datetime) -> Mute | None:
        listed = self._types.ways_of(draft.type)
        if not stored:
            return None if listed.push else Mute.TYPE
        return mute_of(Preferences.of(stored), draft.type, draft.severity, now, listed)


def _key_of(draft: NotificationDraft) -> tuple[str | None, timedelta | None]:
    """Return by what an earlier one is found that this one renews or joins, and for how long."""
    if draft.group_key is not None:
        return f"g:{draft.group_key}", timedelta(seconds=draft.group_window)
    return (None if draft.dedupe_key is None else dedupe_key(draft.dedupe_key)), None


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _plain(_: type, __: Any, value: Any) -> Any:
    return str(value) if isinstance(value, str) else value
