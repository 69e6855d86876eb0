"""The progress of a task of a worker elsewhere, without a server."""

import itertools
from typing import Any

import orjson
import pytest

from services.remote.items import ReportedItem
from services.remote.plans import read_plan
from services.remote.progress import Progress, done_fragment
from tornado_rt.work import Plan, Run, Step

PLAN = Plan(
    [Step("decode"), Step("encode", 2, "Encoding", (Step("first"), Step("second"))), Step("upload")]
)


def item(**fields: Any) -> ReportedItem:
    return ReportedItem(task_id="t", token="1", **fields)


def shown(progress: Progress) -> dict[str, Any]:
    fragment, percent, _ = progress.tell()
    fields: dict[str, Any] = orjson.loads(b"{" + fragment + b"}")
    assert fields["progress"] == pytest.approx(percent, abs=0.1)
    return fields


@pytest.mark.parametrize(
    ("said", "marks", "percent", "message"),
    [
        ({"step": "encode", "fraction": 0.5}, "crpp", 25 + 12.5, "first"),
        ({"step": ["encode", "second"]}, "ccrp", 50, "second"),
        ({"step": "second", "message": "on it"}, "ccrp", 50, "on it"),
        ({"progress": 40}, "pppp", 40, "Waiting"),
        ({"done": 3, "total": 4, "unit": "films"}, "pppp", 75, "3 of 4 films"),
        ({"step": "upload", "progress": 99}, "cccr", 99, "upload"),
        ({"step": "later"}, "ccccr", 80, "later"),
        ({"plan": ["a", "b"], "step": "b"}, "cr", 50, "b"),
        ({"plan": None, "progress": 5}, "", 5, "Waiting"),
    ],
)
def test_report_says_where_the_work_is(
    said: dict[str, Any], marks: str, percent: float, message: str
) -> None:
    progress = Progress(PLAN, None)
    progress.take(item(**said))
    fields = shown(progress)
    assert (fields["marks"], fields["message"]) == (marks, message)
    assert fields["progress"] == pytest.approx(percent, abs=0.1)


def test_later_report_takes_nothing_back() -> None:
    progress = Progress(PLAN, None)
    progress.take(item(step="upload", fraction=0.5))
    before = shown(progress)["progress"]
    progress.take(item(step="decode", fraction=0.1, message="late"))
    assert shown(progress)["progress"] == before


def test_another_process_goes_on_from_the_snapshot() -> None:
    first = Progress(PLAN, 60.0)
    first.take(item(step="second", fraction=0.5))
    kept = shown(first)
    second = Progress(PLAN, 60.0, elapsed=10.0)
    second.resume(kept)
    second.take(item(message="here"))
    fields = shown(second)
    assert (fields["marks"], fields["message"]) == (kept["marks"], "here")
    assert fields["progress"] == pytest.approx(kept["progress"], abs=0.1)
    assert fields["elapsed_time"] >= 10


def test_worker_may_tell_it_whole_and_in_parts_in_turn() -> None:
    run = Run(plan=PLAN, clock=itertools.count(0.0).__next__)
    run.go_to(2)
    progress = Progress(PLAN, None)
    progress.take(item(snapshot=run.snapshot()))
    assert shown(progress)["marks"] == "ccrp"
    progress.take(item(step="upload"))
    assert shown(progress)["marks"] == "cccr"
    progress.take(item(snapshot=run.snapshot() | {"message": "whole again"}))
    fields = orjson.loads(b"{" + progress.end(None) + b"}")
    assert (fields["marks"], fields["progress"], fields["message"]) == ("cccc", 100, "Done")
    assert fields["current_step_name"] == "upload"


@pytest.mark.parametrize("plan", [PLAN, None])
def test_short_way_to_a_good_end_shows_what_the_long_one_does(plan: Plan | None) -> None:
    progress = Progress(plan, None)
    long = orjson.loads(b"{" + progress.end(None) + b"}")
    short = orjson.loads(b"{" + done_fragment(plan, 0.0) + b"}")
    del long["updated_at"], short["updated_at"]
    assert short == long


@pytest.mark.parametrize(
    "steps",
    [
        "decode",
        [{"title": "no name"}],
        [{"name": "a", "odd": 1}],
        [{"name": "a", "weight": -1}],
        ["a", "a"],
        [7],
        [{"name": "a", "steps": "b"}],
    ],
)
def test_what_is_no_plan_is_refused(steps: Any) -> None:
    with pytest.raises(ValueError, match=r"step|plan|name|unique|weight|twice"):
        read_plan(steps)
