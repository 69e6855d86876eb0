"""Requests of a device, as JSON over HTTP and over a socket."""

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from services.notifications.fields import TYPE
from services.notifications.listing import LIMIT, ListState, Query
from services.notifications.models import SOURCE_LENGTH, NotificationStatus, Severity
from tornado_rt.bounds import OutOfBounds, name_of, number_of, read_moment
from tornado_rt.json_body import MOST_ITEMS
from tornado_rt.work.texts import phrase

MAX_MARKED = 1000
MOST_LIMIT = 100
MOST_PAGES = 1_000_000
CURSOR_LENGTH = 64
WORDS_LENGTH = 200
MOST_FILTERED = 20
# Longest time for which a notification may be put off.
MOST_SNOOZE_SECONDS = 366 * 86400.0
TOKEN_LENGTH = 2000
ID_LENGTH = 64


def _moment(_: Any, field: Any, value: str | None) -> None:
    if value is not None:
        read_moment(field.name, value)


def _types(_: Any, field: Any, value: list[str]) -> None:
    for one in value:
        if not TYPE.fullmatch(one):
            raise OutOfBounds(
                phrase("{name} must have 1 to 64 of a-z, 0-9, dot, _ and -", name=field.name)
            )


@attrs.frozen(kw_only=True)
class Filter:
    """A filter of notifications; `q` are words of the title."""

    state: ListState = ListState.INBOX
    status: NotificationStatus | None = None
    type: list[str] = attrs.field(
        factory=list, validator=_types, metadata={MOST_ITEMS: MOST_FILTERED}
    )
    severity: list[Severity] = attrs.field(factory=list, metadata={MOST_ITEMS: MOST_FILTERED})
    source: str | None = attrs.field(default=None, validator=name_of(SOURCE_LENGTH, 0))
    since: str | None = attrs.field(default=None, validator=_moment)
    until: str | None = attrs.field(default=None, validator=_moment)
    q: str | None = attrs.field(default=None, validator=name_of(WORDS_LENGTH, 0))

    def query(self, **more: Any) -> Query:
        """Return it for a list."""
        return Query(
            state=self.state,
            status=self.status,
            types=self.type,
            severities=self.severity,
            source=self.source,
            since=_time("since", self.since),
            until=_time("until", self.until),
            words=(self.q or "").split(),
            **more,
        )


@attrs.frozen(kw_only=True)
class ListRequest(Filter):
    """A page of what a filter finds."""

    limit: int = attrs.field(default=LIMIT, validator=number_of(1, MOST_LIMIT))
    before: str | None = attrs.field(default=None, validator=name_of(CURSOR_LENGTH, 0))
    page: int | None = None
    page_size: int = attrs.field(default=LIMIT, validator=number_of(1, MOST_LIMIT))
    total: bool = False

    def __attrs_post_init__(self) -> None:
        """Raise OutOfBounds for a page that there cannot be."""
        if self.page is not None and not 1 <= self.page <= MOST_PAGES:
            raise OutOfBounds(phrase("page must be from 1 to {most}", most=MOST_PAGES))

    def query(self, **more: Any) -> Query:
        """Return it for a list."""
        return super().query(
            limit=self.limit,
            before=self.before,
            page=self.page,
            page_size=self.page_size,
            total=self.total,
            **more,
        )


@attrs.frozen(kw_only=True)
class When:
    """Until when one is put off: a time, or `seconds` from now."""

    until: str | None = attrs.field(default=None, validator=_moment)
    seconds: float | None = attrs.field(default=None)

    def moment(self) -> datetime:
        """Return the time. Raise OutOfBounds for none, two, or one that is past or too far."""
        now = datetime.now(UTC)
        if self.until is None and self.seconds is None:
            raise OutOfBounds(phrase("until or seconds is required"))
        if self.until is not None and self.seconds is not None:
            raise OutOfBounds(phrase("name until or seconds, and not both"))
        seconds = self.seconds
        if seconds is None:
            seconds = read_moment("until", self.until or "") - now.timestamp()
        if not 0 < seconds <= MOST_SNOOZE_SECONDS:
            raise OutOfBounds(
                phrase(
                    "the time must be at most {most} s from now, and not past",
                    most=f"{MOST_SNOOZE_SECONDS:.0f}",
                )
            )
        return now + timedelta(seconds=seconds)


@attrs.frozen(kw_only=True)
class ActRequest(When):
    """The notifications that a verb changes: `ids`, `all` of the inbox, or the matches of a
    `filter`.
    """

    ids: list[str] = attrs.field(factory=list, metadata={MOST_ITEMS: MAX_MARKED})
    all: bool = False
    filter: Filter | None = None

    def __attrs_post_init__(self) -> None:
        """Raise OutOfBounds unless it names them in one way."""
        if sum((bool(self.ids), self.all, self.filter is not None)) != 1:
            raise OutOfBounds(phrase("name some ids, or all, or a filter"))


@attrs.frozen(kw_only=True)
class UndoRequest:
    """The `undo` that a verb has answered with."""

    undo: str = attrs.field(validator=name_of(TOKEN_LENGTH))


@attrs.frozen(kw_only=True)
class AnswerRequest:
    """The action of a notification that is answered."""

    id: str = attrs.field(validator=name_of(ID_LENGTH))
    action: str = attrs.field(validator=name_of(ID_LENGTH))


def _time(name: str, text: str | None) -> datetime | None:
    return None if text is None else datetime.fromtimestamp(read_moment(name, text), UTC)
