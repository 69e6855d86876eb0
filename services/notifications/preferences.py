"""Preferences of users: the topics of their notifications, and the ways of each.

A notification is always kept. These say whether it is pushed too, to the pages that are open and to
the devices that are not, and whether it may become an e-mail.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import attrs

from services.notifications.fields import TYPE
from services.notifications.locales import check_locale, is_locale
from services.notifications.models import Severity
from services.notifications.types import MOST_TYPES, PUSHED, TypeText, Ways
from services.schedules.times import check_zone, zone_of
from tornado_rt.bounds import OutOfBounds, number_of
from tornado_rt.json_body import JSON_NAME, MOST_ITEMS
from tornado_rt.work import clean_line
from tornado_rt.work.texts import phrase

# From the least to the greatest.
SEVERITIES = (Severity.INFO, Severity.SUCCESS, Severity.WARNING, Severity.ERROR)
SHOWN_NAME = 60
MOST_EMAIL_DELAY_SECONDS = 7 * 86400.0
CLOCK = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]")
DAY_MINUTES = 24 * 60
# More than all zones together.
KEPT_ZONES = 1024


def _check_clock(_: Any, field: Any, value: str) -> None:
    if not CLOCK.fullmatch(value):
        raise OutOfBounds(phrase("{name} must be a time of day such as 22:00", name=field.name))


def _check_zone(_: Any, field: Any, value: str) -> None:
    try:
        check_zone(value)
    except ValueError as error:
        raise OutOfBounds(str(error).replace("timezone", field.name, 1)) from None


def _optional_delay(_: Any, field: Any, value: float | None) -> None:
    if value is not None:
        number_of(0, MOST_EMAIL_DELAY_SECONDS)(None, field, value)


def _check_types(_: Any, field: Any, value: Mapping[str, Ways]) -> None:
    if len(value) > MOST_TYPES:
        raise OutOfBounds(
            phrase(
                "{name} must have at most {most} fields",
                name=field.name,
                most=MOST_TYPES,
            )
        )
    if strange := [name for name in value if not TYPE.fullmatch(name)]:
        name = clean_line(strange[0], SHOWN_NAME)
        raise OutOfBounds(
            phrase(
                "{name}: {type} is not 1 to 64 of a-z, 0-9, dot, _ and -",
                name=field.name,
                type=name,
            )
        )


@attrs.frozen(kw_only=True)
class QuietHours:
    """The hours of each day in which nothing is pushed, by the clock of a time zone.

    The clock on the wall decides: an hour that it shows twice is quiet twice, one that it skips is
    not there. `end` itself is not quiet; before `begin`, it is on the next day.
    """

    begin: str = attrs.field(validator=_check_clock, metadata={JSON_NAME: "from"})
    end: str = attrs.field(validator=_check_clock, metadata={JSON_NAME: "to"})
    timezone: str = attrs.field(validator=_check_zone)
    except_errors: bool = False

    def __attrs_post_init__(self) -> None:
        if self.begin == self.end:
            raise OutOfBounds(phrase("quiet_hours: from and to must differ"))

    @classmethod
    def of(cls, stored: object) -> "QuietHours | None":
        """Read stored ones; None for what cannot be followed."""
        fields = _table(stored)
        try:
            return cls(
                begin=fields["from"],
                end=fields["to"],
                timezone=fields["timezone"],
                except_errors=fields.get("except_errors") is True,
            )
        except (KeyError, ValueError, TypeError, AttributeError):
            return None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object on the wire."""
        return {
            "from": self.begin,
            "to": self.end,
            "timezone": self.timezone,
            "except_errors": self.except_errors,
        }

    def hold_at(self, moment: datetime) -> bool:
        """Say whether it is quiet at a moment; `moment` has a time zone."""
        now, begin, end = self._minute(moment), _minute_of(self.begin), _minute_of(self.end)
        return begin <= now < end if begin < end else now >= begin or now < end

    def until(self, moment: datetime) -> datetime | None:
        """Return when the quiet ends that holds at a moment; None: it does not hold."""
        end, moment = None, moment.astimezone(UTC)
        while self.hold_at(moment):
            end = moment = self._until_end_or_change(moment)
        return end

    def _until_end_or_change(self, moment: datetime) -> datetime:
        """Return when the clock comes to `end`, or sooner goes forward or back."""
        minutes = (_minute_of(self.end) - self._minute(moment)) % DAY_MINUTES
        start = moment.replace(second=0, microsecond=0)
        end = start + timedelta(minutes=minutes)
        return self._change(start, end) or end

    def _change(self, low: datetime, high: datetime) -> datetime | None:
        """Return the minute, behind `low` and up to `high`, in which the clock was changed."""
        before = self._offset(low)
        # No zone goes forward and back again within a day.
        if self._offset(high) == before:
            return None
        while high - low > timedelta(minutes=1):
            minutes = (high - low) // timedelta(minutes=2)
            middle = low + timedelta(minutes=minutes)
            if self._offset(middle) == before:
                low = middle
            else:
                high = middle
        return high

    def _offset(self, moment: datetime) -> timedelta | None:
        return moment.astimezone(_zone(self.timezone)).utcoffset()

    def _minute(self, moment: datetime) -> int:
        local = moment.astimezone(_zone(self.timezone))
        return local.hour * 60 + local.minute


@attrs.frozen(kw_only=True)
class EmailPreference:
    """Whether the user's address may be written to, and how long unread news wait for it [s].

    `delay_seconds` None is the server's.
    """

    address_on: bool = False
    delay_seconds: float | None = attrs.field(default=None, validator=_optional_delay)

    @classmethod
    def of(cls, stored: object) -> "EmailPreference":
        """Read a stored one; what cannot be read has its default."""
        fields = _table(stored)
        address_on = fields.get("address_on") is True
        try:
            # In a restored backup it may be a whole number.
            delay = fields.get("delay_seconds")
            return cls(address_on=address_on, delay_seconds=None if delay is None else float(delay))
        except (ValueError, TypeError, OverflowError):
            return cls(address_on=address_on)


@attrs.frozen(kw_only=True)
class Preferences:
    """The choices of a user; also the body of `PUT /api/notifications/preferences`.

    `types` names what the user decided on. All others go the ways of `default` or, while that is
    None, those of the list of types.
    """

    types: dict[str, Ways] = attrs.field(
        factory=dict, validator=_check_types, metadata={MOST_ITEMS: MOST_TYPES}
    )
    default: Ways | None = None
    least_severity: Severity = Severity.INFO
    quiet_hours: QuietHours | None = None
    locale: str | None = attrs.field(default=None, validator=check_locale)
    email: EmailPreference = attrs.field(factory=EmailPreference)

    @classmethod
    def of(cls, stored: object) -> "Preferences":
        """Read stored ones of any version or hand; a wrong value becomes its default."""
        fields = _table(stored)
        severity, locale, default = (
            fields.get(name) for name in ("least_severity", "locale", "default")
        )
        return cls(
            types=_types_of(fields.get("types")),
            default=Ways.of(default) if isinstance(default, dict) else None,
            least_severity=Severity(severity) if severity in SEVERITIES else Severity.INFO,
            quiet_hours=QuietHours.of(fields.get("quiet_hours")),
            locale=str(locale) if is_locale(locale) else None,
            email=EmailPreference.of(fields.get("email")),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object on the wire, which is stored too."""
        return {
            "types": {name: attrs.asdict(ways) for name, ways in self.types.items()},
            "default": None if self.default is None else attrs.asdict(self.default),
            "least_severity": self.least_severity.value,
            "quiet_hours": None if self.quiet_hours is None else self.quiet_hours.to_dict(),
            "locale": self.locale,
            "email": attrs.asdict(self.email),
        }

    def ways_of(self, type_: str, listed: Ways = PUSHED) -> Ways:
        """Return the ways of a type; `listed` has those of the list of types."""
        return self.types.get(type_) or self.default or listed


class PreferencesStore(Protocol):
    """The store of users' preferences."""

    async def preferences(self, user_id: str) -> Preferences:
        """Return a user's; the defaults for one who never chose."""

    async def set_preferences(self, user_id: str, preferences: Preferences) -> None:
        """Replace a user's."""

    async def types(self, user_id: str, asked: str | None = None) -> Sequence[TypeText]:
        """Return the list of types, with the texts in the user's language, else the asked one."""


class Mute(StrEnum):
    """Why a notification is kept and not pushed."""

    TYPE = "type"
    SEVERITY = "severity"
    QUIET_HOURS = "quiet_hours"


def mute_of(
    preferences: Preferences, type_: str, severity: str, now: datetime, listed: Ways = PUSHED
) -> Mute | None:
    """Return why a notification is kept and not pushed, None when it is pushed.

    `listed` has the ways of the list of types; `now` has a time zone.
    """
    if not preferences.ways_of(type_, listed).push:
        return Mute.TYPE
    if _is_below(severity, preferences):
        return Mute.SEVERITY
    quiet = preferences.quiet_hours
    if quiet is None or (quiet.except_errors and severity == Severity.ERROR):
        return None
    return Mute.QUIET_HOURS if quiet.hold_at(now) else None


def wants_email(preferences: Preferences, type_: str, severity: str, listed: Ways = PUSHED) -> bool:
    """Say whether a notification that stays unread becomes an e-mail; it makes no noise at night.

    `listed` has the ways of the list of types.
    """
    ways = preferences.ways_of(type_, listed)
    return preferences.email.address_on and ways.email and not _is_below(severity, preferences)


def quiet_until(preferences: Preferences, now: datetime) -> datetime | None:
    """Return when the quiet hours end that hold now, in UTC; None: none hold."""
    quiet = preferences.quiet_hours
    return None if quiet is None else quiet.until(now)


def _is_below(severity: str, preferences: Preferences) -> bool:
    # One that a later version has is shown.
    known = severity in SEVERITIES
    least = SEVERITIES.index(preferences.least_severity)
    return known and SEVERITIES.index(Severity(severity)) < least


def _types_of(stored: object) -> dict[str, Ways]:
    named = {
        str(name): Ways.of(ways)
        for name, ways in _table(stored).items()
        if isinstance(name, str) and TYPE.fullmatch(name) and isinstance(ways, dict)
    }
    return dict(list(named.items())[:MOST_TYPES])


def _table(stored: object) -> dict[str, Any]:
    return stored if isinstance(stored, dict) else {}


def _minute_of(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)


@functools.lru_cache(KEPT_ZONES)
def _zone(name: str) -> ZoneInfo:
    return zone_of(name)
