"""The benchmark of the time left on real durations: what it reads, measures and writes."""

import csv
import io
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks.eta_real import NAMES, measure, replay
from benchmarks.etas.flights import Flight, flights_of, zones_of
from benchmarks.etas.looking import Told, look
from benchmarks.etas.report import REAL, VIRTUAL, write_section
from services.estimates import Learner

AIRPORTS = [
    {"faa": "IAH", "tzone": "America/Chicago"},
    {"faa": "LAX", "tzone": "America/Los_Angeles"},
    {"faa": "XXX", "tzone": "\\N"},
]
ROWS = """\
year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,carrier,origin,dest,air_time,distance,hour
2013,1,1,517,515,2,830,819,UA,EWR,IAH,227,1400,5
2013,1,2,30,2355,35,310,237,UA,EWR,IAH,200,1400,23
2013,3,9,2300,2300,0,230,225,B6,JFK,LAX,345,2475,23
2013,7,1,1200,1200,0,1505,1500,B6,JFK,SJU,160,1598,12
2013,7,2,NA,1200,NA,NA,1500,B6,JFK,SJU,NA,1598,12
2013,7,3,1200,1200,0,1505,1500,B6,JFK,XXX,160,1598,12
2013,7,4,1200,1200,0,1205,1500,B6,JFK,LAX,345,2475,12
"""


def read() -> tuple[list[Flight], dict[str, int]]:
    return flights_of(csv.DictReader(io.StringIO(ROWS)), zones_of(AIRPORTS))


def test_flight_is_measured_across_time_zones_midnight_and_summer_time() -> None:
    flights, _ = read()
    assert [(one.route, one.ground / 60, one.air / 60) for one in flights] == [
        # 5:17 in New York to 8:30 in Houston, one hour behind.
        ("EWR-IAH", 26, 227),
        # Thirty minutes after midnight of the day behind: it was to leave five before.
        ("EWR-IAH", 20, 200),
        # At three of that night New York has summer time, and Los Angeles three hours later.
        ("JFK-LAX", 45, 345),
        # An island that the list of airports lacks; in summer it has the time of New York.
        ("JFK-SJU", 25, 160),
    ]
    first, late = flights[:2]
    assert first.begin == datetime(2013, 1, 1, 10, 17, tzinfo=UTC)
    assert (first.scheduled / 60, first.late / 60, first.hour, first.weekday) == (244, 2, 5, 1)
    assert late.begin == datetime(2013, 1, 3, 5, 30, tzinfo=UTC)


def test_rows_that_cannot_be_used_are_counted_by_their_reason() -> None:
    _, dropped = read()
    assert dropped == {
        "it did not fly, or a time is missing": 1,
        "the time zone of the destination is not known": 1,
        "its times contradict each other": 1,
    }


def test_flight_is_told_by_those_that_have_arrived_and_by_no_other() -> None:
    rows = list(csv.DictReader(io.StringIO(ROWS)))[:1]
    # The second leaves before the first has arrived, the third after.
    for day, hour in ((1, 9), (1, 12)):
        rows.append(rows[0] | {"day": str(day), "sched_dep_time": f"{hour}00", "arr_time": "1500"})
    flights, dropped = flights_of(rows, zones_of(AIRPORTS))
    assert not dropped
    assert [forecast.tasks for _, forecast in replay(flights, {0, 1, 2})] == [0, 0, 1]


def test_flight_is_looked_at_three_times_with_each_method() -> None:
    flight = read()[0][0]
    learner = Learner(list(zip(NAMES, (0.2, 0.8), strict=True)), flight.scheduled)
    for _ in range(8):
        learner.learn(list(zip(NAMES, flight.steps, strict=True)))
    seen = measure(flight, learner.forecast(), random.Random(1))
    assert [one.at / flight.whole for one in seen.looks] == pytest.approx([0.1, 0.5, 0.9], abs=0.02)
    assert all(one.error < 0.1 and one.width > 0 for one in seen.ours)
    assert seen.others["plan"][0].error == pytest.approx(
        abs(flight.scheduled - flight.whole) / flight.whole
    )


def test_client_subtracts_the_time_since_it_was_told() -> None:
    seen = look([Told(0, 100, 80, 130), Told(50, 60, 55, 70)], 60, 100)
    assert (seen.error, seen.holds, seen.width) == pytest.approx((0.1, False, 0.15))


def test_each_benchmark_writes_its_own_section(tmp_path: Path) -> None:
    report = tmp_path / "eta.md"
    write_section(REAL, "flights", report)
    write_section(VIRTUAL, "tasks", report)
    write_section(REAL, "more flights", report)
    assert report.read_text() == (
        "# The time left, measured\n\n## In virtual time\n\ntasks\n\n"
        "## On real durations\n\nmore flights\n"
    )
