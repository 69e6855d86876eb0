"""The time left of a task: the model, and how it is told."""

import itertools
import math
import random
import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import eta
from services.estimates import Learner
from tornado_rt.work import Plan, Step
from tornado_rt.work.forecast import Forecast, Usual, Way, name_of
from tornado_rt.work.timekeeper import TENTH_NAMES, WHOLE, Sight, Timekeeper

FILM = Plan([Step("probe", 10), Step("encode", 60), Step("upload", 30)])
NAMES = [name_of(leaf.path) for leaf in FILM.leaves]


def known(*seconds: float, variance: float = 0.01, tasks: int = 20) -> Forecast:
    """Return a forecast for the steps of the film."""
    segments = {
        name: Usual(math.log(one), variance) for name, one in zip(NAMES, seconds, strict=True)
    }
    return Forecast(segments, length=sum(seconds), pace_variance=0.01, tasks=tasks)


def sight(marks: str, fraction: float = 0.0, progress: float | None = None) -> Sight:
    """Return how far a film is."""
    done = sum(leaf.share for leaf, mark in zip(FILM.leaves, marks, strict=True) if mark == "c")
    here = marks.index("r") if "r" in marks else 0
    return Sight(FILM.leaves, marks, here, fraction, done if progress is None else progress)


def left(keeper: Timekeeper, at: float) -> float:
    estimate = keeper.tell(at)
    assert estimate is not None
    assert 0 <= estimate.low <= estimate.seconds <= estimate.high
    return estimate.seconds


def test_steps_have_their_usual_times_whatever_the_plan_says() -> None:
    keeper = Timekeeper(known(60, 10, 30))
    keeper.see(sight("rpp"), 0)
    assert left(keeper, 0) == pytest.approx(100, rel=0.03)
    keeper.see(sight("crp"), 60)
    assert left(keeper, 60) == pytest.approx(40, rel=0.05)
    keeper.see(sight("ccr"), 70)
    assert left(keeper, 70) == pytest.approx(30, rel=0.05)


def test_time_left_runs_down_by_the_clock_and_is_never_negative() -> None:
    keeper = Timekeeper(known(10, 60, 30))
    keeper.see(sight("rpp"), 0)
    told = [left(keeper, at / 10) for at in range(100)]
    for before, after in itertools.pairwise(told):
        assert after <= before
    assert told[0] - told[90] == pytest.approx(9, abs=1.5)
    assert keeper.revised is None


def test_time_left_rises_with_a_reason_alone() -> None:
    keeper = Timekeeper(known(10, 60, 30))
    keeper.see(sight("crp"), 10)
    before = left(keeper, 10)
    assert keeper.revised is None
    after = left(keeper, 150)
    assert after > before - 140
    assert keeper.revised == "step encode takes longer than usual"
    assert keeper.revised_at == 150
    assert keeper.slow_since == 150


def test_reason_names_the_steps_so_far_or_a_plan_that_changed() -> None:
    keeper = Timekeeper(known(10, 60, 30, variance=0.2))
    keeper.see(sight("rpp"), 0)
    left(keeper, 0)
    keeper.see(sight("crp"), 30)
    left(keeper, 30)
    assert keeper.revised == "the steps so far took longer than usual"
    longer = Plan([*FILM.steps, Step("check", 100)])
    keeper.see(Sight(longer.leaves, "crpp", 1, 0.0, 0.05), 31)
    left(keeper, 31)
    assert keeper.revised == "the plan has changed"


def test_task_is_slow_while_it_will_end_later_than_was_told_first() -> None:
    keeper = Timekeeper(known(10, 60, 30))
    keeper.see(sight("rpp"), 0)
    first = keeper.tell(0)
    assert first is not None
    keeper.see(sight("crp"), 60)
    assert 60 + left(keeper, 60) > first.high
    assert keeper.slow_since == 60
    left(keeper, 61)
    assert keeper.slow_since == 60
    # The rest goes faster than usual by far.
    keeper.see(sight("ccr"), 62)
    keeper.see(sight("ccr", 0.99), 62.5)
    left(keeper, 62.5)
    assert keeper.slow_since is None


@pytest.mark.parametrize("forecast", [None, Forecast({})])
def test_nothing_is_told_while_too_little_is_known(forecast: Forecast | None) -> None:
    keeper = Timekeeper(forecast)
    keeper.see(sight("rpp"), 0)
    assert keeper.tell(0) is None
    assert keeper.tell(50) is None
    assert keeper.look_in(50) is None
    keeper.see(sight("crp"), 60)
    # A tenth took 60 s.
    assert left(keeper, 60) == pytest.approx(540, rel=0.2)


def test_task_that_is_unlike_all_before_it_is_noticed_at_its_first_step() -> None:
    keeper = Timekeeper(known(10, 60, 30))
    keeper.see(sight("rpp"), 0)
    left(keeper, 0)
    keeper.see(sight("crp"), 40)
    assert left(keeper, 40) == pytest.approx(360, rel=0.15)


def test_progress_inside_a_step_counts() -> None:
    keeper = Timekeeper(known(10, 60, 30, variance=0.3))
    keeper.see(sight("crp"), 10)
    left(keeper, 10)
    keeper.see(sight("crp", 0.5), 20)
    # Half of the step took 10 s: the other half and the upload are left.
    assert 25 < left(keeper, 20) < 50


def test_silent_tasks_are_known_by_their_whole_time() -> None:
    keeper = Timekeeper()
    keeper.see(Sight((), "", 0, 0.0, 0.0), 0)
    keeper.finish()
    keeper.see(Sight((), "", 0, 1.0, 1.0), 40)
    lesson = keeper.lesson(40)
    assert lesson == [(WHOLE, 40)]
    learner = Learner([(name, 0.1) for name in TENTH_NAMES], None)
    for _ in range(20):
        learner.learn(lesson)
    silent = Timekeeper(learner.forecast())
    silent.see(Sight((), "", 0, 0.0, 0.0), 0)
    assert left(silent, 1) == pytest.approx(39, rel=0.05)
    assert left(silent, 30) == pytest.approx(10, rel=0.1)


def test_tenths_stand_for_steps_where_there_are_none() -> None:
    """They learn that the second half takes nine times as long as the first."""
    learner = Learner([(name, 0.1) for name in TENTH_NAMES], None)
    for _ in range(20):
        keeper = Timekeeper(learner.forecast())
        for tenth in range(1, 11):
            at = tenth if tenth <= 5 else 5 + (tenth - 5) * 9
            keeper.see(Sight((), "", 0, tenth / 10, tenth / 10), at)
        times = keeper.lesson(50)
        assert times is not None
        assert sum(seconds for _, seconds in times) == pytest.approx(50)
        learner.learn(times)
    keeper = Timekeeper(learner.forecast())
    keeper.see(Sight((), "", 0, 0.5, 0.5), 5)
    assert left(keeper, 5) == pytest.approx(45, rel=0.05)


def test_parallel_steps_are_not_counted_twice() -> None:
    keeper = Timekeeper()
    keeper.see(sight("rrp"), 0)
    keeper.see(sight("crp"), 8)
    keeper.see(sight("ccr"), 10)
    keeper.finish()
    keeper.see(sight("ccc"), 15)
    times = keeper.lesson(15)
    assert times is not None
    assert dict(times) == pytest.approx({"probe": 8, "encode": 2, "upload": 5})
    assert keeper.times() == [[0, 8], [0, 10], [10, 15]]


def test_part_of_an_earlier_attempt_teaches_nothing() -> None:
    keeper = Timekeeper()
    keeper.see(sight("cpp"), 0, free=True)
    keeper.see(sight("crp"), 1)
    keeper.finish()
    keeper.see(sight("ccc"), 9)
    assert keeper.lesson(9) is None


marks = st.lists(st.integers(0, 2), min_size=3, max_size=3)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e6),
            st.sampled_from(["ppp", "rpp", "crp", "rrp", "cpp", "ccr", "scr", "ccc", "sss"]),
            st.floats(0, 1),
            st.floats(0, 1),
        ),
        max_size=12,
    ),
    st.sampled_from([None, known(1e-9, 1e9, 5), known(10, 60, 30), Forecast({}, length=1e-300)]),
)
def test_whatever_is_seen_the_time_left_is_a_number_that_rises_with_a_reason(
    seen: list[tuple[float, str, float, float]], forecast: Forecast | None
) -> None:
    keeper = Timekeeper(forecast)
    at, finish = 0.0, None
    for more, letters, fraction, progress in seen:
        at += more
        keeper.see(sight(letters, fraction, progress), at)
        estimate = keeper.tell(at)
        wait = keeper.look_in(at)
        assert wait is None or 1 <= wait <= 60
        if estimate is not None:
            assert 0 <= estimate.low <= estimate.seconds <= estimate.high < math.inf
            if finish is not None and estimate.seconds > max(finish - at, 0) + 1e-6 * at + 1e-6:
                assert keeper.revised_at == at
            finish = at + estimate.seconds
    assert all(math.isfinite(seconds) for _, seconds in keeper.lesson(at) or ())


def test_step_that_lasts_very_long_lets_expect_no_eternity() -> None:
    names = [f"step {number}" for number in range(8)]
    for variance in (0.01, 0.03, 0.3):
        segments = {name: Usual(math.log(10.0), variance) for name in names}
        way = Way(Forecast(segments, 80.0, 0.01, tasks=20), [(name, 0.0) for name in names])
        for number in range(6):
            way.end(number, 10.0)
        for often in range(1, 400):
            assert math.exp(way.guess(6, 10.0 * often).middle) < 200.0 * often


def test_learner_follows_a_change_within_a_few_tasks() -> None:
    learner = Learner(list(zip(NAMES, (0.1, 0.6, 0.3), strict=True)), None)
    for seconds in [10.0] * 30 + [40.0] * 3:
        learner.learn([(name, seconds) for name in NAMES])
    length = learner.forecast().length
    assert length is not None
    assert length == pytest.approx(120, rel=0.2)


def test_learner_knows_which_of_two_steps_is_the_unsure_one() -> None:
    generator = random.Random(1)
    learner = Learner([("unsure", 0.2), ("sure", 0.8)], 100.0)
    for _ in range(60):
        unsure, sure = generator.gauss(0, 0.3), generator.gauss(0, 0.05)
        learner.learn([("unsure", 20 * math.exp(unsure)), ("sure", 80 * math.exp(sure))])
    segments = learner.forecast().segments
    assert segments["unsure"].variance == pytest.approx(0.09, abs=0.04)
    assert segments["sure"].variance < 0.006


def test_learner_knows_steps_that_only_some_tasks_have() -> None:
    learner = Learner(list(zip(NAMES, (0.1, 0.6, 0.3), strict=True)), None)
    for number in range(40):
        names = NAMES if number % 2 else NAMES[:2]
        learner.learn([(name, 10.0) for name in names])
    forecast = learner.forecast()
    assert forecast.segments["upload"].presence == pytest.approx(0.5, abs=0.15)
    way = Way(forecast, [(name, 0.0) for name in NAMES])
    assert math.exp(way.guess(0, 0.0).middle) == pytest.approx(25, rel=0.15)


@pytest.mark.parametrize("workload", eta.WORKLOADS)
def test_time_left_and_band_hold_in_each_workload(workload: str) -> None:
    """The short form of `make bench-eta`."""
    row = eta.measure(workload, seeds=3)
    assert row.silent == 0
    assert row.coverage == pytest.approx(0.8, abs=0.1)
    others = [row.other(name, 0.5) for name in eta.OTHERS]
    assert row.error(0.5) <= min(others) * 1.15
    assert row.error(0.5) < 0.15


def test_time_left_at_half_is_off_by_seven_percent_at_most() -> None:
    """The mean over the eight workloads that keep what they are."""
    steady = [name for name in eta.WORKLOADS if not name.endswith("at half")]
    assert len(steady) == 8
    errors: dict[str, Any] = {name: eta.measure(name, seeds=2).error(0.5) for name in steady}
    assert statistics.mean(errors.values()) < 0.07


def test_band_holds_in_four_of_five_inside_a_long_segment_too() -> None:
    """Two steps, the long one looked at throughout."""
    generator = random.Random(4)
    learner = Learner([("short", 0.2), ("long", 0.8)], 100)
    holds = []
    for number in range(400):
        short, long = (mean * generator.lognormvariate(0, 0.15) for mean in (20, 80))
        way = Way(learner.forecast(), [("short", 0.2), ("long", 0.8)])
        way.end(0, short)
        for share in (0.1, 0.3, 0.5, 0.7, 0.9) if number >= 100 else ():
            told = way.estimate(way.guess(1, share * long))
            assert told is not None
            holds.append(told.low <= (1 - share) * long <= told.high)
        learner.learn([("short", short), ("long", long)])
    assert 0.74 <= statistics.mean(holds) <= 0.88


def test_band_is_narrow_where_tasks_are_alike() -> None:
    generator = random.Random(1)
    learner = Learner(list(zip(NAMES, (0.1, 0.6, 0.3), strict=True)), 100.0)
    for _ in range(30):
        learner.learn([(name, 10 * math.exp(generator.gauss(0, 0.05))) for name in NAMES])
    keeper = Timekeeper(learner.forecast())
    keeper.see(sight("rpp"), 0)
    estimate = keeper.tell(0)
    assert estimate is not None
    assert estimate.high - estimate.low < 0.3 * estimate.seconds
