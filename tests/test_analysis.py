"""The analysis: its plan, its tracker, its parameters, and the kind of work that it is."""

import math
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import services.progress.plan as earlier_place
from services import progress
from services.analysis import (
    AnalysisParams,
    Analyst,
    RedisProgressTracker,
    StepUnknown,
    TaskParams,
    analysis_kind,
    estimate_seconds,
    legacy_arguments,
    make_plan,
    make_steps,
    plan_fragment,
)
from services.queue import Task, TaskState
from services.queue.models import Job
from settings import Settings
from tornado_rt.bounds import OutOfBounds
from tornado_rt.work import Plan

ANALYSTS = st.lists(st.sampled_from(Analyst), min_size=1, max_size=4, unique=True)
DEPTHS = st.integers(1, 5)


def make_tracker(**more: object) -> RedisProgressTracker:
    return RedisProgressTracker("t1", [Analyst.MARKET], 1, "dashscope", **more)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of the test."""
    monkeypatch.setenv("RT_DATA_DIR", str(tmp_path))
    return tmp_path


@given(ANALYSTS, DEPTHS)
def test_weights_sum_to_one(analysts: list[Analyst], depth: int) -> None:
    steps = make_steps(analysts, depth)
    assert sum(step.weight for step in steps) == pytest.approx(1)
    assert len({step.name for step in steps}) == len(steps)


def test_weights_are_those_of_the_design() -> None:
    """Preparation 10 %, analysts 35, debate 25, trader 8, risk 15, final 7."""
    steps = make_steps([Analyst.MARKET, Analyst.NEWS], 3)
    weights = [step.weight for step in steps]
    assert weights[:5] == [0.03, 0.01, 0.02, 0.02, 0.02]
    assert weights[5:7] == [0.175, 0.175]
    assert weights[7:12] == [0.05] * 5
    assert weights[12] == 0.08
    assert weights[13:17] == [0.0375] * 4
    assert weights[17:] == [0.04, 0.03]


@pytest.mark.parametrize(("depth", "rounds"), [(1, 1), (2, 3), (3, 2), (4, 3), (5, 3)])
def test_depth_decides_the_rounds(depth: int, rounds: int) -> None:
    names = [step.name for step in make_steps([Analyst.MARKET], depth)]
    assert sum(name.startswith("debate_") for name in names) == rounds


@pytest.mark.parametrize(
    ("count", "depth", "provider", "seconds"),
    [
        (1, 1, "dashscope", 150),
        (2, 2, "dashscope", 270),
        (3, 3, "deepseek", 384),
        (4, 4, "google", 950.4),
        (1, 5, "another", 480),
    ],
)
def test_estimate_follows_depth_analysts_and_model(
    count: int, depth: int, provider: str, seconds: float
) -> None:
    analysts = list(Analyst)[:count]
    assert estimate_seconds(analysts, depth, provider) == pytest.approx(seconds)


def test_five_analysts_take_a_further_three_tenths() -> None:
    assert estimate_seconds([Analyst.MARKET] * 5, 1, "") == pytest.approx(150 * 2.7)


@given(ANALYSTS, DEPTHS)
def test_plan_is_named_by_what_stands_in_it(analysts: list[Analyst], depth: int) -> None:
    plan = make_plan(analysts, depth)
    assert Plan.read(plan.text).digest == plan.digest
    assert [leaf.title for leaf in plan.leaves] == [
        step.description for step in make_steps(analysts, depth)
    ]


def test_names_of_the_seed_are_where_they_were() -> None:
    assert progress.RedisProgressTracker is RedisProgressTracker
    assert earlier_place.make_steps is make_steps
    assert earlier_place.estimate_seconds is estimate_seconds
    assert earlier_place.Analyst is Analyst
    with pytest.raises(AttributeError, match="no attribute 'RedisProgress'"):
        _ = progress.RedisProgress


@pytest.mark.gen_test
async def test_progress_is_the_weight_of_what_is_done() -> None:
    tracker = make_tracker()
    await tracker.update_progress({"step": "analyst_market"})
    snapshot = tracker.to_dict()
    assert snapshot["progress"] == 10
    assert snapshot["current_step_name"] == "Market analyst"
    states = [step["status"] for step in snapshot["steps"]]
    assert states[:6] == ["completed"] * 5 + ["current"]
    assert set(states[6:]) == {"pending"}


@pytest.mark.gen_test
async def test_progress_never_goes_backwards() -> None:
    tracker = make_tracker()
    await tracker.update_progress({"step": "trader"})
    before = tracker.progress
    await tracker.update_progress({"step": "prepare", "message": "again"})
    assert tracker.progress == before
    assert tracker.to_dict()["message"] == "again"


@pytest.mark.gen_test
async def test_kept_state_names_the_plan_and_marks_its_steps() -> None:
    """So short is what goes through Redis."""
    tracker = make_tracker()
    plan = make_plan([Analyst.MARKET], 1)
    marks = []
    for step in (None, 0, 2, len(plan.leaves) - 1):
        if step is not None:
            await tracker.update_progress({"step": step})
        state = orjson.loads(b"{" + tracker.fragment() + b"}")
        assert (state["plan"], state["total_steps"]) == (plan.digest, len(plan.leaves))
        marks.append(state["marks"])
    tracker.complete()
    marks.append(orjson.loads(b"{" + tracker.fragment() + b"}")["marks"])
    rest = len(plan.leaves)
    assert marks == [
        "p" * rest,
        "r" + "p" * (rest - 1),
        "ccr" + "p" * (rest - 3),
        "c" * (rest - 1) + "r",
        "c" * rest,
    ]
    assert Plan.read(tracker.plan.text) == Plan.read(plan.text)


@pytest.mark.gen_test
async def test_unknown_step_is_refused() -> None:
    tracker = make_tracker()
    for step in ("dance", 99, -1, None):
        with pytest.raises(StepUnknown):
            await tracker.update_progress({"step": step})
    assert tracker.progress == 0


class Silent:
    def __str__(self) -> str:
        raise SystemExit


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "step", [True, 3.0, math.nan, -(10**9), 10**30, [], {}, b"trader", Silent()]
)
async def test_step_that_is_neither_name_nor_index_is_refused(step: object) -> None:
    tracker = make_tracker()
    with pytest.raises(StepUnknown, match=r"^the plan has no step .{1,120}$"):
        await tracker.update_progress({"step": step})
    assert tracker.progress == 0


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("message", "kept"),
    [
        ("a\ud800b", "a?b"),
        ("a\0b\x1b[31m", "a\ufffdb\ufffd[31m"),
        ("two\nlines", "two\nlines"),
        ("x" * 10_000_000, "x" * 1999 + "…"),
        (7, "7"),
        ([1], "[1]"),
        (Silent(), "<Silent: SystemExit in its text>"),
    ],
)
async def test_message_may_be_anything_and_can_be_kept(message: Any, kept: str) -> None:
    """In both forms of a report; keys that are not ours change nothing."""
    tracker = make_tracker()
    for update in (message, {"message": message, "colour": object(), 7: 8}):
        await tracker.update_progress(update)
        assert tracker.to_dict()["message"] == kept


@pytest.mark.gen_test
async def test_end_leaves_no_time() -> None:
    done, failed = make_tracker(), make_tracker()
    await done.mark_completed()
    assert (done.to_dict()["progress"], done.to_dict()["remaining_time"]) == (100, 0)
    assert {step["status"] for step in done.to_dict()["steps"]} == {"completed"}
    await failed.update_progress({"step": 3})
    await failed.mark_failed("no data")
    snapshot = failed.to_dict()
    assert (snapshot["status"], snapshot["message"]) == ("failed", "no data")
    assert snapshot["steps"][3]["status"] == "failed"
    assert (snapshot["progress"], snapshot["remaining_time"]) == (6, 0)


@pytest.mark.gen_test
async def test_time_left_follows_the_pace() -> None:
    """At first the plan's; then more and more what the pace foretells, however wrong the plan."""
    tracker = make_tracker()
    assert tracker.remaining_seconds() == pytest.approx(150, abs=0.5)
    await tracker.update_progress({"step": "trader"})
    left = tracker.remaining_seconds()
    assert left is not None
    assert 0 <= left < 1


def test_plan_is_the_state_before_the_start() -> None:
    state = orjson.loads(b"{" + plan_fragment(TaskParams()) + b"}")
    assert (state["progress"], state["message"], state["remaining_time"]) == (0, "Waiting", 360)
    assert set(state["marks"]) == {"p"}


@pytest.mark.parametrize(
    "changes",
    [
        {"analysts": []},
        {"analysts": [Analyst.NEWS] * 2},
        {"research_depth": 0},
        {"research_depth": 6},
        {"llm_provider": "x" * 65},
    ],
)
def test_bad_params_are_refused(changes: dict[str, object]) -> None:
    for params in (TaskParams(), AnalysisParams("AAPL")):
        with pytest.raises(OutOfBounds):
            attrs.evolve(params, **changes)


@pytest.mark.parametrize("symbol", ["", "x" * 65, "two\nlines"])
def test_symbol_is_one_line(symbol: str) -> None:
    with pytest.raises(OutOfBounds):
        AnalysisParams(symbol)


def test_kind_says_what_the_queue_and_people_see() -> None:
    kind = analysis_kind("examples.stock_analysis:analyse", Settings(queue_max_attempts=4))
    params = AnalysisParams("AAPL", [Analyst.NEWS], 2, "google")
    plan = kind.plan_of(params)
    assert plan is not None
    assert plan.digest == make_plan([Analyst.NEWS], 2).digest
    assert kind.label_of(params, {"symbol": "AAPL"}) == "AAPL"
    assert kind.expected_of(params) == estimate_seconds([Analyst.NEWS], 2, "google")
    assert (kind.name, kind.title, kind.shown) == ("analysis", "Analysis", ("symbol",))
    assert (kind.retry_errors, kind.max_attempts) == (False, 4)
    assert kind.handler_path == "examples.stock_analysis:analyse"
    assert analysis_kind(None, Settings()).handler_path == ""


def claimed(label: str, **params: Any) -> Task:
    return Task(
        task_id="t1",
        user_id="alice",
        kind="analysis",
        job=Job(label=label, params=params),
        batch_id="b1",
        status=TaskState.PROCESSING,
        attempt=2,
        created_at=5.0,
        started_at=7.0,
    )


PARAMS = {"analysts": ["news"], "research_depth": 1, "llm_provider": "google"}


@pytest.mark.parametrize("params", [{"symbol": "AAPL", **PARAMS}, PARAMS])
def test_handler_is_given_the_task_that_it_knows(params: dict[str, Any]) -> None:
    """Also one that a version queued which kept its symbol elsewhere."""
    task, tracker = legacy_arguments(claimed("AAPL", **params), None)
    assert attrs.asdict(task) == {
        "task_id": "t1",
        "user_id": "alice",
        "symbol": "AAPL",
        "params": PARAMS,
        "batch_id": "b1",
        "status": "processing",
        "attempt": 2,
        "created_at": 5.0,
        "started_at": 7.0,
    }
    assert (tracker.task_id, tracker.attempt) == ("t1", 2)
    assert tracker.plan == make_plan([Analyst.NEWS], 1)


def test_bad_params_of_a_claimed_task_are_told_in_words() -> None:
    with pytest.raises(OutOfBounds) as told:
        legacy_arguments(claimed("AAPL", research_depth="3", colour="red"), None)
    assert str(told.value) == "unknown fields: colour; research_depth must be an integer"
