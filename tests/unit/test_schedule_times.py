"""When schedules fire: by the clocks of zones, over their changes, and by intervals."""

import contextlib
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from services.schedules.times import (
    Cron,
    Interval,
    ScheduleFault,
    Times,
    check_steps,
    check_zone,
    jitter_of,
    times_of,
    zone_of,
)

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
# The days on which the clock is changed, and zones in which that is done otherwise: at midnight, by
# half an hour, by two hours.
CHANGES = {
    BERLIN: ["2026-03-29", "2026-10-25", "2027-03-28", "2027-10-31"],
    NEW_YORK: ["2026-03-08", "2026-11-01", "2027-03-14", "2027-11-07"],
    "Australia/Lord_Howe": ["2026-04-05", "2026-10-04"],
    "America/Santiago": ["2026-04-05", "2026-09-06"],
    "America/Havana": ["2026-03-08", "2026-11-01"],
    "Africa/Cairo": ["2026-04-24", "2026-10-30"],
    "Antarctica/Troll": ["2026-03-29", "2026-10-25"],
    "Asia/Kolkata": ["2026-03-29"],
}


def moment(text: str) -> float:
    """Return a time in UTC as seconds since the epoch."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def all_after(times: Times, since: float) -> Iterator[float]:
    """Yield the times behind a moment, each found from the one before alone."""
    found = times.next_after(since)
    while found is not None:
        yield found
        found = times.next_after(found)


def shown(times: Times, since: str, count: int) -> list[str]:
    """Return the first times behind a moment, in UTC."""
    found = islice(all_after(times, moment(since)), count)
    return [datetime.fromtimestamp(one, UTC).strftime("%Y-%m-%d %H:%M") for one in found]


def by_hand(expression: str, zone: str, first: float, last: float) -> list[float]:
    """Return the times of a cron that looks at the clock every minute, as Debian's does."""
    at_fixed_times = not any(one.startswith("*") for one in expression.split()[:2])
    tz, minute = ZoneInfo(zone), timedelta(minutes=1)

    def clock(at: float) -> datetime:
        return datetime.fromtimestamp(at, tz)

    end = clock(last).replace(tzinfo=None) + timedelta(days=2)
    meant = set()
    for wall in CronSim(expression, clock(first).replace(tzinfo=None) - timedelta(days=2)):
        if wall > end:
            break
        meant.add(wall)
    found, before = [], clock(first - 60).replace(tzinfo=None)
    for at in range(int(first), int(last), 60):
        wall = clock(at).replace(tzinfo=None)
        fires = wall in meant and not (at_fixed_times and clock(at).fold)
        while at_fixed_times and before + minute < wall:
            before += minute
            fires = fires or before in meant
        if fires:
            found.append(float(at))
        before = wall
    return found


@pytest.mark.parametrize(
    ("zone", "since", "told"),
    [
        (BERLIN, "2026-03-28 00:00", ["2026-03-28 01:30", "2026-03-29 01:00", "2026-03-30 00:30"]),
        (BERLIN, "2027-03-27 00:00", ["2027-03-27 01:30", "2027-03-28 01:00", "2027-03-29 00:30"]),
        (
            NEW_YORK,
            "2026-03-07 00:00",
            ["2026-03-07 07:30", "2026-03-08 07:00", "2026-03-09 06:30"],
        ),
        (
            NEW_YORK,
            "2027-03-13 00:00",
            ["2027-03-13 07:30", "2027-03-14 07:00", "2027-03-15 06:30"],
        ),
    ],
)
def test_job_in_the_hour_that_is_skipped_runs_right_after_it(
    zone: str, since: str, told: list[str]
) -> None:
    assert shown(Cron("30 2 * * *", zone), since, 3) == told


@pytest.mark.parametrize(
    ("zone", "since", "told"),
    [
        (BERLIN, "2026-10-24 12:00", ["2026-10-25 00:30", "2026-10-26 01:30"]),
        (BERLIN, "2027-10-30 12:00", ["2027-10-31 00:30", "2027-11-01 01:30"]),
        (NEW_YORK, "2026-10-31 12:00", ["2026-11-01 05:30", "2026-11-02 06:30"]),
        (NEW_YORK, "2027-11-06 12:00", ["2027-11-07 05:30", "2027-11-08 06:30"]),
    ],
)
def test_job_in_the_hour_that_is_repeated_runs_once(zone: str, since: str, told: list[str]) -> None:
    """At the first of the two; also when one asks between them."""
    expression = "30 2 * * *" if zone == BERLIN else "30 1 * * *"
    times = Cron(expression, zone)
    assert shown(times, since, 2) == told
    assert times.next_after(moment(told[0]) + 1) == moment(told[1])
    # Inside of the repeated hour, where the clock shows an earlier time than the job's.
    assert times.next_after(moment(told[0]) + 2700) == moment(told[1])


def test_job_of_any_hour_runs_in_both() -> None:
    half_hours = Cron("*/30 * * * *", BERLIN)
    assert shown(half_hours, "2026-10-24 23:59", 6) == [
        *("2026-10-25 00:00", "2026-10-25 00:30", "2026-10-25 01:00", "2026-10-25 01:30"),
        *("2026-10-25 02:00", "2026-10-25 02:30"),
    ]
    at_two = Cron("*/30 2 * * *", NEW_YORK)
    assert shown(at_two, "2026-03-08 00:00", 2) == ["2026-03-09 06:00", "2026-03-09 06:30"]
    at_one = Cron("*/30 1 * * *", NEW_YORK)
    assert shown(at_one, "2026-11-01 00:00", 5) == [
        *("2026-11-01 05:00", "2026-11-01 05:30", "2026-11-01 06:00", "2026-11-01 06:30"),
        "2026-11-02 06:00",
    ]


def test_several_jobs_in_the_hour_that_is_skipped_are_one() -> None:
    assert shown(Cron("0,20,40 2,3 * * *", BERLIN), "2026-03-29 00:00", 4) == [
        *("2026-03-29 01:00", "2026-03-29 01:20", "2026-03-29 01:40", "2026-03-30 00:00")
    ]


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK])
@pytest.mark.parametrize("year", [2026, 2027])
def test_every_minute_of_a_year_comes_once(zone: str, year: int) -> None:
    """Over both changes: none is left out, none comes twice."""
    for day in CHANGES[zone]:
        if not day.startswith(str(year)):
            continue
        since = moment(day) - 43200
        found = list(islice(all_after(Cron("* * * * *", zone), since), 2880))
        assert found == [since + 60 * number for number in range(1, 2881)]


def test_29_february_comes_every_fourth_year() -> None:
    times = Cron("0 12 29 2 *", BERLIN)
    told = ["2028-02-29 11:00", "2032-02-29 11:00", "2036-02-29 11:00"]
    assert shown(times, "2026-01-01 00:00", 3) == told
    assert shown(Cron("* * 29 2 *", NEW_YORK), "2026-01-01 00:00", 1) == ["2028-02-29 05:00"]
    # 2100 is no leap year.
    assert shown(times, "2096-03-01 00:00", 1) == ["2104-02-29 11:00"]


@pytest.mark.parametrize("zone", sorted(CHANGES))
def test_times_are_those_of_a_cron_that_looks_at_the_clock(zone: str) -> None:
    """Every minute, over each change, for expressions of all sorts."""
    chance = random.Random(zone)
    for day in CHANGES[zone]:
        first = moment(day) - 2 * 86400
        last = first + 4 * 86400
        for _ in range(12):
            expression = f"{_field(chance, 0, 59)} {_field(chance, 0, 4)} {_days(chance, day)}"
            wanted = by_hand(expression, zone, first, last)
            times = Cron(expression, zone)
            found = list(islice(all_after(times, first - 1), len(wanted) + 1))
            assert [one for one in found if one < last] == wanted, expression
            assert times.latest(first - 1, last - 1, 7) == wanted[-7:], expression


def _field(chance: random.Random, least: int, most: int) -> str:
    low, high = sorted((chance.randint(least, most), chance.randint(least, most)))
    return chance.choice(["*", f"*/{high or 1}", str(low), f"{low}-{high}", f"{low},{high}"])


def _days(chance: random.Random, day: str) -> str:
    _, month, number = map(int, day.split("-"))
    return chance.choice(["* * *", f"{number} {month} *", "* * SUN", f"{number} * SUN"])


FIELDS = [(0, 59), (0, 23), (1, 28), (1, 12), (0, 7)]


@st.composite
def expressions(draw: st.DrawFn) -> str:
    """Draw a cron expression that comes at some time."""
    fields = []
    for least, most in FIELDS:
        number = st.integers(least, most)
        span = st.tuples(number, number).map(sorted)
        fields.append(
            draw(
                st.just("*")
                | number.map(str)
                | st.integers(1, most).map("*/{}".format)
                | span.map(lambda two: f"{two[0]}-{two[1]}")
                | span.map(lambda two: f"{two[0]},{two[1]}")
            )
        )
    return " ".join(fields)


@settings(max_examples=150)
@given(
    expressions(),
    st.sampled_from([*CHANGES, "UTC", "Pacific/Chatham", "Africa/Casablanca"]),
    st.integers(1_760_000_000, 1_860_000_000),
)
def test_times_only_go_forward(expression: str, zone: str, since: int) -> None:
    """This holds for any expression, zone and moment; and the last time is where it was."""
    times = Cron(expression, zone)
    found = [float(since), *islice(all_after(times, since), 12)]
    assert all(before < after for before, after in pairwise(found))
    assert all(one % 60 == 0 for one in found[1:])
    if len(found) > 2:
        assert times.last_until(found[-1] - 1, since) == found[-2]
        assert times.latest(since, found[-1], 5) == found[1:][-5:]


@given(
    st.floats(1, 10**6),
    st.integers(1_600_000_000, 1_800_000_000),
    st.floats(0, 10**8),
    st.integers(1, 20),
)
def test_intervals_only_go_forward(every: float, start: int, later: float, most: int) -> None:
    """Each time follows from the start alone, and not from when the one before was found."""
    times, since = Interval(every, start), start + later
    found = list(islice(all_after(times, since), 30))
    assert found[0] > since
    assert found[0] - since <= every * (1 + 1e-6)
    assert all(before < after for before, after in pairwise(found))
    numbers = [round((one - start) / every) for one in found]
    assert numbers == list(range(numbers[0], numbers[0] + 30))
    assert times.latest(since, found[-1], most) == found[-most:]
    assert times.latest(found[3], found[9], most) == found[4:10][-most:]


def test_interval_starts_one_interval_behind_its_start() -> None:
    times = Interval(90, 1000)
    assert [times.next_after(at) for at in (0, 1000, 1089.9, 1090)] == [1090, 1090, 1090, 1180]
    assert times.last_until(1089, 0) is None
    assert times.latest(1090, 1300, 10) == [1180, 1270]


@pytest.mark.parametrize(
    ("cron", "told"),
    [
        ("0 0 30 2 *", "cron '0 0 30 2 *' never comes"),
        ("0 0 31 4,6 *", "cron '0 0 31 4,6 *' never comes"),
        ("61 * * * *", "cron '61 * * * *' has a bad minute"),
        ("* 24 * * *", "cron '* 24 * * *' has a bad hour"),
        ("* * 0 * *", "cron '* * 0 * *' has a bad day-of-month"),
        ("* * 32 * *", "cron '* * 32 * *' has a bad day-of-month"),
        ("* * * 13 *", "cron '* * * 13 *' has a bad month"),
        ("* * * * 8", "cron '* * * * 8' has a bad day-of-week"),
        ("*/0 * * * *", "cron '*/0 * * * *' has a bad minute"),
        ("5-1 * * * *", "cron '5-1 * * * *' has a bad minute"),
        ("* * * * * *", "cron must have five fields: minute, hour, day-of-month, month,"),
        ("@daily", "cron must have five fields"),
        ("* * * *", "cron must have five fields"),
        ("* * * * *\n", "cron must not hold control characters"),
        ("0," * 200 + "0 * * * *", "cron must have 1 to 255 characters"),
    ],
)
def test_what_is_no_time_is_refused_in_words(cron: str, told: str) -> None:
    with pytest.raises(ScheduleFault) as refused:
        Cron(cron, BERLIN)
    assert str(refused.value).startswith(told)


def test_day_that_only_some_months_have_comes_in_those() -> None:
    told = ["2026-03-31 00:00", "2026-05-31 00:00"]
    assert shown(Cron("0 0 31 * *"), "2026-02-01 00:00", 2) == told
    assert shown(Cron("0 0 L 2 *"), "2026-03-01 00:00", 2) == [
        "2027-02-28 00:00",
        "2028-02-29 00:00",
    ]


def test_what_comes_by_no_calendar_has_no_next_time() -> None:
    """The last Monday of a month is never its first day."""
    times = Cron("0 0 */31 2 1L")
    assert times.next_after(moment("2026-01-01")) is None
    assert times.last_until(moment("2026-01-01"), 0) is None
    assert times.latest(0, moment("2026-01-01"), 5) == []


@given(st.text(st.sampled_from("0123456789*/,-LW#MONJAN ")) | st.text())
def test_any_text_is_a_cron_or_is_refused(text: str) -> None:
    with contextlib.suppress(ScheduleFault):
        assert Cron(text, NEW_YORK).next_after(0) != 0


@pytest.mark.parametrize(
    "name",
    ["Mars", "", "../../etc/passwd", "/etc/passwd", "Europe", "A" * 65, "a\0b", "é", "\ud800"],
)
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(ScheduleFault, match="timezone"):
        zone_of(name)


@pytest.mark.parametrize(
    "name", ["localtime", "posixrules", "Factory", "right/Europe/Berlin", "posix/Europe/Berlin"]
)
def test_zone_that_differs_from_machine_to_machine_is_refused(name: str) -> None:
    """Also where this machine does not have it."""
    with pytest.raises(ScheduleFault, match=f"timezone: .*{name}"):
        check_zone(name)


def test_other_zones_of_the_database_are_taken() -> None:
    for name in (*CHANGES, "UTC", "Etc/GMT+5", "EST5EDT", "Pacific/Chatham"):
        check_zone(name)


@pytest.mark.parametrize(
    ("cron", "told"),
    [
        ("*/60 * * * *", "a step of 60 in its minute, which goes to 59 only"),
        ("0-30/60 * * * *", "a step of 60 in its minute"),
        ("5,10/90 * * * *", "a step of 90 in its minute"),
        ("0 */24 * * *", "a step of 24 in its hour, which goes to 23 only"),
        ("0 0 */32 * *", "a step of 32 in its day-of-month, which goes to 31 only"),
        ("0 0 1 */13 *", "a step of 13 in its month, which goes to 12 only"),
        ("0 0 * * */8", "a step of 8 in its day-of-week, which goes to 7 only"),
    ],
)
def test_step_beyond_its_field_is_refused_in_words(cron: str, told: str) -> None:
    Cron(cron)
    with pytest.raises(ScheduleFault, match=re.escape(f"cron {cron!r} has {told}")):
        check_steps(cron)


def test_step_within_its_field_is_taken() -> None:
    for cron in ("*/59 */23 */31 */12 */7", "0-59/30,5 * L 1-12/2 MON#2", "* * * * *"):
        check_steps(cron)


def test_schedule_has_either_cron_or_every() -> None:
    for cron, every in (("", 0.0), ("* * * * *", 60.0)):
        with pytest.raises(ScheduleFault, match="either cron or every"):
            times_of(cron, every, "UTC", 0.0)
    for every in (0.5, -1.0, 1e9, float("nan"), float("inf")):
        with pytest.raises(ScheduleFault, match="every must be from 1 to"):
            times_of("", every, "UTC", 0.0)


def test_jitter_is_the_same_for_one_time_and_spread_over_many() -> None:
    put_off = [jitter_of("a", 60.0 * number, 30.0) for number in range(1000)]
    assert put_off == [jitter_of("a", 60.0 * number, 30.0) for number in range(1000)]
    assert put_off != [jitter_of("b", 60.0 * number, 30.0) for number in range(1000)]
    assert 0 <= min(put_off) < 1
    assert 29 < max(put_off) <= 30
    assert 14 < sum(put_off) / 1000 < 16
    assert jitter_of("a", 60.0, 0.0) == 0
