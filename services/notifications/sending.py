"""Requests that send: to one user, to a list, to all."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from services.notifications.creation import Wording
from services.notifications.fields import DraftFields, check_link
from services.notifications.models import (
    CONTENT_LENGTH,
    KEY_LENGTH,
    SOURCE_LENGTH,
    TITLE_LENGTH,
    BroadcastDraft,
    NotificationDraft,
    Severity,
    check_metadata,
)
from services.notifications.templates import VARIABLES_BYTES, check_variables
from tornado_rt.auth import USER_ID_LENGTH
from tornado_rt.bounds import OutOfBounds, check_name, name_of, text_of
from tornado_rt.json_body import MOST_BYTES, MOST_ITEMS
from tornado_rt.work.texts import phrase

MOST_RECIPIENTS = 1000
TEMPLATE_LENGTH = 100


def _check_user_ids(_: Any, field: Any, value: list[str] | None) -> None:
    for one in value or []:
        check_name(f"{field.name} has a name that", one, USER_ID_LENGTH)


@attrs.frozen(kw_only=True)
class BroadcastRequest(BroadcastDraft):
    """The body of `POST /api/broadcast`; `persist`: keep it, for all known users."""

    persist: bool = False

    def draft(self) -> BroadcastDraft:
        """Return what is told."""
        names = (one.name for one in attrs.fields(BroadcastDraft))
        return BroadcastDraft(**{name: getattr(self, name) for name in names})


@attrs.frozen(kw_only=True)
class SendRequest(DraftFields):
    """The body of `POST /api/notifications`.

    To one of `user_id`, `user_ids` or `all`, with a `title` or a `template` and its `variables`.
    """

    user_id: str | None = attrs.field(default=None, validator=name_of(USER_ID_LENGTH))
    user_ids: list[str] | None = attrs.field(
        default=None, validator=_check_user_ids, metadata={MOST_ITEMS: MOST_RECIPIENTS}
    )
    all: bool = False
    title: str | None = attrs.field(default=None, validator=name_of(TITLE_LENGTH))
    content: str | None = attrs.field(default=None, validator=text_of(CONTENT_LENGTH))
    link: str | None = attrs.field(default=None, validator=check_link)
    source: str | None = attrs.field(default=None, validator=name_of(SOURCE_LENGTH, 0))
    severity: Severity = Severity.INFO
    metadata: dict[str, Any] = attrs.field(factory=dict, validator=check_metadata)
    dedupe_key: str | None = attrs.field(default=None, validator=name_of(KEY_LENGTH, 0))
    template: str | None = attrs.field(default=None, validator=name_of(TEMPLATE_LENGTH))
    variables: dict[str, Any] = attrs.field(
        factory=dict, validator=check_variables, metadata={MOST_BYTES: VARIABLES_BYTES}
    )

    def __attrs_post_init__(self) -> None:
        named = (self.user_id is not None, self.user_ids is not None, self.all)
        if sum(named) == 0:
            raise OutOfBounds(phrase("user_id is required"))
        if self.user_ids == []:
            raise OutOfBounds(phrase("user_ids must have at least one item"))
        if sum(named) > 1:
            raise OutOfBounds(phrase("name user_id, user_ids or all, and only one of them"))
        if self.title is None and self.template is None:
            raise OutOfBounds(phrase("title is required"))
        if self.title is not None and self.template is not None:
            raise OutOfBounds(phrase("name title or template, and not both"))
        if self.dedupe_key is not None and self.group_key is not None:
            raise OutOfBounds(phrase("name dedupe_key or group_key, and not both"))

    @property
    def recipients(self) -> Sequence[str]:
        """The recipients, each once; none by name if it is for all."""
        named = self.user_ids or ([] if self.user_id is None else [self.user_id])
        return list(dict.fromkeys(named))

    @property
    def wording(self) -> Wording | None:
        """The template, if there is one."""
        if self.template is None:
            return None
        return Wording(template=self.template, variables=self.variables)

    def draft(self, user_id: str) -> NotificationDraft:
        """Return what one user is told; a template's texts are still to come."""
        own: Mapping[str, Any] = {
            one.name: getattr(self, one.name)
            for one in attrs.fields(NotificationDraft)
            if one.name not in ("user_id", "title")
        }
        # The name of a template is no longer than a title.
        return NotificationDraft(**own, user_id=user_id, title=self.title or str(self.template))
