"""The plan, the tracker and its stores."""

import math
from pathlib import Path
from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.progress import (
    Analyst,
    FileProgressStore,
    RedisProgressTracker,
    StepUnknown,
    TaskParams,
    estimate_seconds,
    get_progress,
    make_steps,
    plan_fragment,
    show,
)

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
        ("x" * 10_000_000, "x" * 2000),
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
    await failed.update_progress({"step": 3})
    await failed.mark_failed("no data")
    snapshot = failed.to_dict()
    assert (snapshot["status"], snapshot["message"]) == ("failed", "no data")
    assert snapshot["steps"][3]["status"] == "failed"
    assert (snapshot["progress"], snapshot["remaining_time"]) == (6, 0)


@pytest.mark.gen_test
async def test_time_left_follows_the_pace() -> None:
    """At first the plan's; from a quarter on what the pace foretells, however wrong the plan."""
    tracker = make_tracker()
    assert tracker.remaining_seconds() == 150
    await tracker.update_progress({"step": "trader"})
    assert 0 < tracker.remaining_seconds() < 1


def test_plan_is_the_state_before_the_start() -> None:
    plan = orjson.loads(show(b'{"status":"queued",' + plan_fragment(TaskParams()) + b"}"))
    assert (plan["progress"], plan["message"], plan["remaining_time"]) == (0, "Waiting", 360)
    assert {step["status"] for step in plan["steps"]} == {"pending"}


@pytest.mark.gen_test
async def test_files_keep_the_newest_snapshot(tmp_path: Path) -> None:
    """Without Redis progress is kept in a file a task, and found by its id."""
    store = FileProgressStore(tmp_path / "progress")
    tracker = make_tracker(store=store)
    assert await store.load("t1") is None
    await tracker.update_progress({"step": "trader"})
    await tracker.mark_completed()
    loaded = await store.load("t1")
    assert loaded is not None
    assert (loaded["status"], loaded["progress"]) == ("completed", 100)


@pytest.mark.gen_test
async def test_without_a_store_files_are_kept_in_the_data_folder(data_dir: Path) -> None:
    await make_tracker().update_progress({"step": "trader"})
    assert (data_dir / "progress" / "t1.json").exists()
    found = await get_progress("t1")
    assert found is not None
    assert found["current_step_name"] == "The trader's decision"
    assert await get_progress("t2") is None


@pytest.mark.gen_test
@pytest.mark.parametrize("task_id", ["../x", "a/b", "", "x" * 65, "a\0"])
async def test_task_id_is_no_way_out_of_the_folder(tmp_path: Path, task_id: str) -> None:
    with pytest.raises(ValueError, match="not a task id"):
        await FileProgressStore(tmp_path).load(task_id)


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
    with pytest.raises(ValueError):  # noqa: PT011 - attrs words each its own way.
        attrs.evolve(TaskParams(), **changes)


@pytest.mark.parametrize("damage", [b"[]x", b'{"plan":1}', b'{"plan":"market:3"}'])
def test_what_is_no_snapshot_is_refused(damage: bytes) -> None:
    """It came over Redis, where anybody may publish: the reader must be able to go on."""
    with pytest.raises(ValueError, match=r"not a snapshot|unexpected"):
        show(damage)


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({"plan": "market,macro:3"}, 0),
        ({"plan": "market:9x"}, 0),
        ({"plan": "market"}, 0),
        ({"plan": 7}, 0),
        ({"current_step": 10**9}, 19),
        ({"current_step": -5}, 19),
    ],
)
def test_plan_of_a_later_version_is_shown_without_its_steps(
    changes: dict[str, Any], steps: int
) -> None:
    """A list has it beside others of its user; a place that is none counts as the next one."""
    kept = {"status": "processing", "message": "Working", "current_step": 3, "total_steps": 19}
    shown = orjson.loads(show(orjson.dumps({**kept, "plan": "market,news:3", **changes})))
    assert len(shown["steps"]) == steps
    assert (shown["message"], "plan" in shown) == ("Working", False)


@pytest.mark.parametrize(
    ("status", "states"),
    [
        ("queued", ["pending", "pending"]),
        ("processing", ["current", "pending"]),
        ("failed", ["failed", "pending"]),
        ("cancelled", ["pending", "pending"]),
        ("completed", ["completed", "completed"]),
    ],
)
def test_steps_are_shown_by_the_status_and_the_place(status: str, states: list[str]) -> None:
    kept = {
        "status": status,
        "message": "Working",
        "current_step": 17,
        "total_steps": 19,
        "plan": "market,news:3",
    }
    steps = orjson.loads(show(orjson.dumps(kept)))["steps"]
    assert [step["status"] for step in steps[17:]] == states
    assert {step["status"] for step in steps[:17]} == {"completed"}
