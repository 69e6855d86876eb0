"""When a schedule fires: by a cron expression in a time zone, or every N seconds.

Times are seconds since the epoch. Cron follows Debian's: a job at fixed times runs right behind an
hour that the clock skips, and once in an hour that it repeats; a job whose minute or hour begins
with a star runs whenever the clock shows one of its times.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from tornado_rt.bounds import OutOfBounds, check_name
from tornado_rt.work.texts import Text, msgid, phrase

LEAST_SECONDS = 1.0
MOST_SECONDS = 366 * 86400.0
MOST_JITTER = 86400.0
CRON_LENGTH = 255
ZONE_LENGTH = 64
FIELDS = ("minute", "hour", "day-of-month", "month", "day-of-week")
MONTH = FIELDS.index("month")
# The greatest number of each field.
MOST = (59, 23, 31, 12, 7)
# CronSim says this also of a day that the months do not have.
BAD_DAY = "Bad day-of-month"
# It says these of an expression, within a sentence.
CRON_FAULTS = {
    "Bad minute": msgid("bad minute"),
    "Bad hour": msgid("bad hour"),
    BAD_DAY: msgid("bad day-of-month"),
    "Bad month": msgid("bad month"),
    "Bad day-of-week": msgid("bad day-of-week"),
}
MINUTE = 60
# No zone goes forward and back again within it.
DAY = 86400
# Names of the database's files that mean another zone, or another clock, on each machine.
LOCAL_ZONES = ("localtime", "posixrules", "Factory")
LOCAL_FOLDERS = ("right/", "posix/")


class ScheduleFault(ValueError):
    """Something is no time to fire at; the message says why, in words for a person."""


class Times(ABC):
    """The times of a schedule, each behind the one before."""

    @abstractmethod
    def next_after(self, moment: float) -> float | None:
        """Return the first time behind a moment; None: there is none in 50 years."""

    @abstractmethod
    def last_until(self, moment: float, since: float) -> float | None:
        """Return the last time up to a moment, and behind `since`; None: there is none."""

    def latest(self, since: float, until: float, most: int) -> list[float]:
        """Return the last times behind `since` up to `until`, `most` at most, in their order."""
        found: list[float] = []
        while len(found) < most and (one := self.last_until(until, since)) is not None:
            found.append(one)
            until = math.nextafter(one, -math.inf)
        return found[::-1]

    def count(self, since: float, until: float, most: int) -> int:
        """Return how many times there are behind `since` up to `until`, `most` at most."""
        number, time = 0, self.next_after(since)
        while number < most and time is not None and time <= until:
            number, time = number + 1, self.next_after(time)
        return number


class Interval(Times):
    """Every N seconds since `start`, which is not one of the times."""

    def __init__(self, every: float, start: float) -> None:
        """Raise ScheduleFault."""
        if not LEAST_SECONDS <= every <= MOST_SECONDS:
            raise ScheduleFault(
                phrase(
                    "every must be from {least} to {most} s",
                    least=f"{LEAST_SECONDS:g}",
                    most=f"{MOST_SECONDS:.0f}",
                )
            )
        self._every = every
        self._start = start

    def next_after(self, moment: float) -> float:
        return self._time(self._number_after(moment))

    def last_until(self, moment: float, since: float) -> float | None:
        number = self._number_after(moment) - 1
        time = self._time(number)
        return time if number > 0 and time > since else None

    def _number_after(self, moment: float) -> int:
        number = max(math.floor((moment - self._start) / self._every), 1)
        # The quotient may be rounded, in either direction.
        while number > 1 and self._time(number - 1) > moment:
            number -= 1
        while self._time(number) <= moment:
            number += 1
        return number

    def _time(self, number: int) -> float:
        return self._start + number * self._every


class Cron(Times):
    """The times of a cron expression of five fields, by the clock of a time zone.

    CronSim walks the times that a clock without a zone would show; what these are in a zone is
    found here, so that it holds for every zone: those that skip midnight, or half an hour.
    """

    def __init__(self, expression: str, timezone: str = "UTC") -> None:
        """Raise ScheduleFault."""
        self._zone = zone_of(timezone)
        self._expression = _checked(expression)
        minute, hour, *_ = expression.split()
        self._by_clock = minute.startswith("*") or hour.startswith("*")

    def next_after(self, moment: float) -> float | None:
        # All times are whole seconds.
        first = math.floor(moment) + 1
        return self._next_by_clock(first) if self._by_clock else self._next_fixed(first)

    def last_until(self, moment: float, since: float) -> float | None:
        if self._comes_first_at(since) > moment:
            return None
        # There is one behind `low`, and none behind `high`.
        low, high, step = since, moment, MINUTE
        while moment - step > low:
            if self._comes_first_at(moment - step) <= moment:
                low = moment - step
            step *= 2
        # Two times are a minute apart at least.
        while high - low >= MINUTE:
            middle = (low + high) / 2
            if self._comes_first_at(middle) <= moment:
                low = middle
            else:
                high = middle
        return self.next_after(low)

    def _comes_first_at(self, moment: float) -> float:
        time = self.next_after(moment)
        return math.inf if time is None else time

    def _next_fixed(self, first: int) -> int | None:
        """Return the first time from `first` on; each time on the clock counts once."""
        for wall in self._walls_after(_wall(first - 1, self._zone)):
            time = _first_moment(wall, self._zone)
            if time >= first:
                return time
        return None

    def _next_by_clock(self, first: int) -> int | None:
        """Return the first time from `first` on, whenever the clock shows one."""
        while True:
            offset = _offset(first, self._zone)
            shown = _wall(first, self._zone) - timedelta(seconds=1)
            wall = next(self._walls_after(shown), None)
            if wall is None:
                return None
            time = first - 1 + round((wall - shown).total_seconds())
            change = _first_change(first, time, offset, self._zone)
            if change is None:
                return time
            # From there on the clock shows something else.
            first = change

    def _walls_after(self, wall: datetime) -> Iterator[datetime]:
        return CronSim(self._expression, wall)


def times_of(cron: str, every: float, timezone: str, start: float) -> Times:
    """Return the times of a schedule that has either `cron` or `every`. Raise ScheduleFault."""
    if bool(cron) == bool(every):
        raise ScheduleFault(phrase("a schedule has either cron or every"))
    return Cron(cron, timezone) if cron else Interval(every, start)


def zone_of(name: str) -> ZoneInfo:
    """Return a time zone of the IANA database. Raise ScheduleFault."""
    try:
        check_name("timezone", name, ZONE_LENGTH)
        return ZoneInfo(name)
    except OutOfBounds as error:
        raise ScheduleFault(str(error)) from None
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ScheduleFault(phrase("timezone: there is no time zone {name}", name=name)) from None


def check_zone(name: str) -> None:
    """Raise ScheduleFault for what is no time zone, or not the same one on every machine."""
    zone_of(name)
    if name in LOCAL_ZONES or name.startswith(LOCAL_FOLDERS):
        raise ScheduleFault(
            phrase("timezone: {name} is not the same zone on every machine", name=name)
        )


def check_steps(expression: str) -> None:
    """Raise ScheduleFault for a step that none of its field's numbers is as far as.

    It would be as none: `*/60` of minutes is every hour. `expression` is one that Cron takes.
    """
    for field, most, text in zip(FIELDS, MOST, expression.split(), strict=True):
        for term in text.split(","):
            step = term.partition("/")[2]
            if step and int(step) > most:
                raise ScheduleFault(
                    phrase(
                        "cron {expression} has a step of {step} in its {field}, "
                        "which goes to {most} only",
                        expression=repr(expression),
                        step=step,
                        field=field,
                        most=most,
                    )
                )


def jitter_of(name: str, time: float, most: float) -> float:
    """Return by how many seconds a task is put off: from 0 to `most`, always the same for one."""
    digest = hashlib.sha256(f"{name}\n{time!r}".encode()).digest()
    return most * int.from_bytes(digest[:8]) / 2**64


def _checked(expression: str) -> str:
    try:
        check_name("cron", expression, CRON_LENGTH)
    except OutOfBounds as error:
        raise ScheduleFault(str(error)) from None
    fields = expression.split()
    if len(fields) != len(FIELDS):
        raise ScheduleFault(phrase("cron must have five fields: {fields}", fields=list(FIELDS)))
    if fault := _fault_of(expression):
        any_month = " ".join("*" if n == MONTH else one for n, one in enumerate(fields))
        if fault == BAD_DAY and not _fault_of(any_month):
            raise ScheduleFault(
                phrase("cron {expression} never comes", expression=repr(expression))
            )
        raise ScheduleFault(
            phrase(
                "cron {expression} has a {fault}",
                expression=repr(expression),
                fault=Text(CRON_FAULTS.get(fault, fault)),
            )
        )
    return expression


def _fault_of(expression: str) -> str:
    try:
        CronSim(expression, datetime(2000, 1, 1))
    except CronSimError as error:
        return str(error)
    return ""


def _wall(moment: int, zone: tzinfo) -> datetime:
    """Return what the clock of a zone shows."""
    return datetime.fromtimestamp(moment, zone).replace(tzinfo=None)


def _first_moment(wall: datetime, zone: tzinfo) -> int:
    """Return when a clock first shows a time, or has gone past it."""
    while True:
        moment = int(wall.replace(tzinfo=zone).timestamp())
        if _wall(moment, zone) == wall:
            return moment
        wall += timedelta(minutes=1)


def _offset(moment: int, zone: tzinfo) -> timedelta | None:
    return datetime.fromtimestamp(moment, zone).utcoffset()


def _first_change(since: int, until: int, offset: timedelta | None, zone: tzinfo) -> int | None:
    """Return the first moment up to `until` at which the clock is not `offset` from UTC."""
    for start in range(since, until, DAY):
        low, high = start, min(start + DAY, until)
        if _offset(high, zone) != offset:
            while high - low > 1:
                middle = (low + high) // 2
                if _offset(middle, zone) == offset:
                    low = middle
                else:
                    high = middle
            return high
    return None
