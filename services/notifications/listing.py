"""The query of a list of notifications."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

import attrs

from services.notifications.account import Document
from services.notifications.models import NotificationStatus, Severity

LIMIT = 20


class ListState(StrEnum):
    """The part of a user's notifications that a list shows."""

    INBOX = "inbox"
    ARCHIVED = "archived"
    SNOOZED = "snoozed"
    PINNED = "pinned"
    ALL = "all"


@attrs.frozen(kw_only=True)
class Query:
    """`before` is a place that an earlier page gave, or an id; `page` counts from 1.

    `words` must all stand in the title, in any order and case. `since` is included, `until` is not.

    It is wide because each filter of a list is a field.
    """

    state: ListState = ListState.INBOX
    status: NotificationStatus | None = None
    types: Sequence[str] = ()
    severities: Sequence[Severity] = ()
    source: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    words: Sequence[str] = ()
    limit: int = LIMIT
    before: str | None = None
    page: int | None = None
    page_size: int = LIMIT
    total: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it asks for all of a state, or of a status in it."""
        given = (self.types, self.severities, self.source, self.since, self.until)
        return self.state != ListState.PINNED and not any(given) and not self.words

    @property
    def is_counted(self) -> bool:
        """Whether the counts of an account say how many it finds."""
        return self.is_plain and (self.status is None or self.state == ListState.INBOX)

    @property
    def is_top(self) -> bool:
        """Whether it asks for what a user sees first of that."""
        return self.is_counted and self.before is None and self.page is None and not self.total

    def matches(self, document: Document) -> bool:
        """Say whether one of the asked state is wanted."""
        return (
            (self.state != ListState.PINNED or bool(document.get("pinned")))
            and self._has_status(document)
            and (not self.types or document.get("type") in self.types)
            and (not self.severities or document.get("severity") in self.severities)
            and (self.source is None or document.get("source") == self.source)
            and self._is_in_time(document)
            and self._has_words(document)
        )

    def _has_status(self, document: Document) -> bool:
        unread = document.get("read_at") is None
        return self.status is None or unread == (self.status == NotificationStatus.UNREAD)

    def _is_in_time(self, document: Document) -> bool:
        made_at = document.get("created_at")
        if not isinstance(made_at, datetime):
            return self.since is None and self.until is None
        after = self.since is None or made_at >= self.since
        return after and (self.until is None or made_at < self.until)

    def _has_words(self, document: Document) -> bool:
        title = str(document.get("title", "")).casefold()
        return all(word.casefold() in title for word in self.words)
