"""The progress of a run: steps, counts, items, time."""

import asyncio
import json
import math
import threading
from collections.abc import AsyncIterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.recorded import FILM, Clock, Failure, Record, make_run, shown
from tests.unit.test_work import PLANS, Silent
from tornado_rt.work import (
    MAX_MESSAGE_LENGTH,
    MOST_LEAVES,
    LeaseLost,
    Plan,
    Run,
    Step,
    SyncRun,
    first_fragment,
)

# The calls of a handler, in any order.
DEEDS = st.one_of(
    st.tuples(st.just("update"), st.floats(0, 1)),
    st.tuples(st.just("count"), st.integers(0, 50), st.none() | st.integers(0, 40)),
    st.tuples(st.just("enter"), st.text("abcdefghz", min_size=1, max_size=2), st.floats(0.1, 9)),
    st.tuples(st.just("leave"), st.booleans()),
    st.tuples(st.just("skip"), st.integers(0, 30)),
    st.tuples(st.just("go_to"), st.integers(0, 30)),
    st.tuples(st.just("set_plan"), st.none() | PLANS),
)


class Handler:
    """Does what it is told, as a handler would."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.inside: list[Any] = []

    def do(self, deed: str, *args: Any) -> None:
        getattr(self, deed)(*args)

    def update(self, fraction: float) -> None:
        self.run.update(fraction)

    def count(self, done: int, total: int | None) -> None:
        self.run.update(done=done, total=total)

    def enter(self, name: str, weight: float) -> None:
        step = self.run.step(name, weight=weight)
        step.__enter__()
        self.inside.append(step)

    def leave(self, well: bool) -> None:
        if self.inside:
            error = Failure()
            try:
                self.inside.pop().__exit__(*((None,) * 3 if well else (Failure, error, None)))
            except Failure:
                assert not well

    def skip(self, index: int) -> None:
        if self.run.plan:
            leaves = self.run.plan.leaves
            name = leaves[index % len(leaves)].name
            try:
                self.run.skip(name)
            except ValueError:
                # It is inside a step that has been left, and nothing of its name is pending.
                assert len(leaves[index % len(leaves)].path) > 1

    def go_to(self, index: int) -> None:
        if self.run.plan:
            self.run.go_to(index % len(self.run.plan.leaves))

    def set_plan(self, plan: Plan | None) -> None:
        self.run.set_plan(plan.steps if plan else None)


@given(st.none() | PLANS, st.lists(DEEDS, max_size=30), st.sampled_from(["complete", "fail"]))
def test_percent_only_grows_whatever_a_handler_does(
    plan: Plan | None, deeds: list[tuple[Any, ...]], end: str
) -> None:
    """It is from 0 to 100; and marks have a letter for each leaf of the plan that is named."""
    run, record = make_run(plan)
    handler = Handler(run)
    for deed in deeds:
        before = run.progress
        handler.do(*deed)
        assert run.progress >= before
        seen = shown(run)
        leaves = run.plan.leaves if run.plan else ()
        assert seen["plan"] == (run.plan.digest if run.plan else None)
        assert len(seen["marks"]) == seen["total_steps"] == len(leaves)
        assert set(seen["marks"]) <= set("crsp")
        assert 0 <= seen["current_step"] < max(len(leaves), 1)
        assert sum(leaf.share for leaf in leaves) == pytest.approx(1 if leaves else 0)
    while handler.inside:
        handler.leave(well=True)
    assert record.percents == sorted(record.percents)
    assert all(0 <= one <= 100 for one in record.percents)
    getattr(run, end)("ended")
    assert end == "fail" or (run.progress == 100 and set(shown(run)["marks"]) <= set("cs"))


@given(PLANS)
def test_plan_that_is_done_step_by_step_ends_at_a_hundred(plan: Plan) -> None:
    run, record = make_run(plan)
    done = 0.0
    for leaf in plan.leaves:
        steps = [run.step(name) for name in leaf.path]
        for step in steps:
            step.__enter__()
        assert run.progress == pytest.approx(done * 100)
        # The steps around the leaf stay open: others of theirs are to come.
        steps[-1].__exit__(None, None, None)
        for step in reversed(steps[:-1]):
            with pytest.raises(Failure):
                raise_in(step)
        done += leaf.share
        assert run.progress == pytest.approx(done * 100)
    assert set(shown(run)["marks"]) == {"c"}
    assert record.percents[-1] == 100
    assert run.plan == plan


def raise_in(step: Any) -> None:
    error = Failure()
    step.__exit__(Failure, error, None)
    raise error


def test_percent_inside_a_step_moves_the_whole() -> None:
    run, record = make_run(FILM)
    with run.step("probe"):
        pass
    with run.step("transcode"):
        run.update(0.5, "half")
        assert run.progress == pytest.approx(50)
        assert shown(run)["marks"] == "crp"
    with run.step("upload"):
        run.update(0.5)
    assert record.percents == [0, 5, 5, 50, 95, 95, 97.5, 100]
    assert record.messages == [
        "probe",
        "probe",
        "Transcode",
        "half",
        "half",
        "upload",
        "upload",
        "upload",
    ]


def test_snapshot_names_the_plan_and_the_step() -> None:
    run, _ = make_run(FILM)
    assert shown(run)["message"] == "Waiting"
    with run.step("probe"):
        pass
    with run.step("transcode"):
        seen = shown(run)
    assert seen["plan"] == FILM.digest
    assert (seen["current_step"], seen["current_step_name"]) == (1, "Transcode")
    assert seen["total_steps"] == 3
    assert seen["updated_at"].endswith("Z")
    # Between two steps it is the next.
    assert shown(run)["current_step"] == 2
    run.complete()
    assert shown(run)["current_step"] == 2


def test_without_a_plan_there_is_a_percent_and_no_step() -> None:
    run, record = make_run()
    run.update(0.4, "42 of 105 frames")
    seen = record.reports[-1]
    assert (seen["progress"], seen["message"]) == (40, "42 of 105 frames")
    assert (seen["plan"], seen["marks"], seen["total_steps"]) == (None, "", 0)
    assert (seen["current_step"], seen["current_step_name"]) == (0, "")


def test_percent_outside_of_steps_is_that_of_the_whole() -> None:
    run, _ = make_run(FILM)
    run.update(0.3)
    assert run.progress == 30
    with run.step("probe"):
        run.update(0.5)
    assert run.progress == 30


def test_update_speaks_of_the_step_that_runs_in_another_thread_too() -> None:
    run, _ = make_run(FILM)
    with run.step("transcode"):
        thread = threading.Thread(target=run.update, args=(0.5,))
        thread.start()
        thread.join()
        assert run.progress == pytest.approx(45)
    run.fail("")
    assert shown(run)["marks"] == "pcp"


def test_count_makes_the_percent_and_the_message() -> None:
    run, record = make_run()
    run.update(done=42, total=105, unit="frames")
    seen = record.reports[-1]
    assert (seen["progress"], seen["message"]) == (40, "42 of 105 frames")
    assert (seen["done"], seen["total"], seen["unit"]) == (42, 105, "frames")
    run.update(message="still", done=43, total=105)
    assert record.messages[-1] == "still"
    assert "unit" not in record.reports[-1]
    run.update(0.9, done=44, total=105)
    assert record.percents[-1] == 90
    assert record.messages[-1] == "44 of 105"


@pytest.mark.parametrize(
    ("count", "percent", "message"),
    [
        ({"done": 5}, 0, "5"),
        ({"done": 5, "unit": "files"}, 0, "5 files"),
        ({"done": 0, "total": 0}, 0, "0 of 0"),
        ({"done": 50, "total": 40}, 100, "50 of 40"),
        ({"done": 1.5, "total": 3.0, "unit": "GB"}, 50, "1.50 of 3 GB"),
        ({"done": Decimal(1), "total": Fraction(2)}, 50, "1 of 2"),
        ({"done": 1, "total": 2, "unit": "帧\n"}, 50, "1 of 2 帧"),
    ],
)
def test_counts_of_any_sort_are_told(count: dict[str, Any], percent: float, message: str) -> None:
    run, record = make_run()
    run.update(**count)
    assert (record.percents[-1], record.messages[-1]) == (percent, message)


@pytest.mark.parametrize(
    ("done", "percent"),
    [(0, 0), (0.4321, 43.2), (0.9989, 99.9), (2999 / 3000, 99.9), (1 - 1e-12, 100), (1, 100)],
)
def test_only_all_of_the_work_is_a_hundred_percent(done: float, percent: float) -> None:
    run, record = make_run()
    run.update(done)
    assert record.percents == [percent]


def test_count_goes_with_its_step_and_stays_with_a_message() -> None:
    run, record = make_run(FILM)
    with run.step("probe"):
        run.update(done=1, total=2)
        run.update("a word")
        assert record.reports[-1]["done"] == 1
        run.update(0.7)
        assert "done" not in record.reports[-1]
        run.update(done=2, total=2)
    for name in ("upload", "probe"):
        with run.step(name):
            assert "done" not in record.reports[-1]


class Odd:
    def __float__(self) -> float:
        return 0.5


@pytest.mark.parametrize("fraction", [0, 1, 0.5, Decimal("0.5"), Fraction(1, 2), Odd(), 1 + 1e-12])
def test_fraction_is_any_number_from_0_to_1(fraction: Any) -> None:
    run, _ = make_run()
    run.update(fraction)
    assert run.progress == min(float(fraction), 1.0) * 100


@pytest.mark.parametrize(
    "args",
    [
        {"fraction": -0.1},
        {"fraction": 1.1},
        {"fraction": 42},
        {"fraction": math.nan},
        {"fraction": math.inf},
        {"fraction": True},
        {"fraction": b"1"},
        {"fraction": [1]},
        {"fraction": 10**400},
        {"fraction": Silent()},
        {"done": -1},
        {"done": math.nan},
        {"done": "5"},
        {"done": 2**54},
        {"done": 1, "total": -1},
        {"total": 5},
        {"fraction": "one", "message": "two"},
    ],
)
def test_numbers_that_are_none_are_refused_in_words(args: dict[str, Any]) -> None:
    run, record = make_run()
    with pytest.raises(ValueError, match=r"from 0 to 1|is no number|0 or more|told with|twice"):
        run.update(**args)
    assert record.reports == []


def test_message_may_stand_alone_and_be_anything() -> None:
    run, record = make_run()
    run.update(0.5)
    run.update("Szöveg, テキスト, \U0001f3ac")
    run.update(message=Silent())
    run.update(message=["a", 1])
    run.update("a\x00b\ud800")
    run.update("x" * 9999)
    assert record.messages[1:-1] == [
        "Szöveg, テキスト, \U0001f3ac",
        "<Silent: SystemExit in its text>",
        "['a', 1]",
        "a\ufffdb?",
    ]
    assert len(record.messages[-1]) == MAX_MESSAGE_LENGTH
    assert record.messages[-1].endswith("…")
    assert run.progress == 50


@pytest.mark.gen_test
async def test_report_may_be_awaited_or_not() -> None:
    run, record = make_run(FILM)
    assert await run.update(0.4) is None
    await run.go_to(1)
    await run.skip("upload")
    await run.set_plan(["a"])
    assert len(record.reports) == 4


def test_step_that_fails_keeps_running() -> None:
    run, record = make_run(FILM)
    with pytest.raises(Failure), run.step("probe"):
        raise Failure
    assert shown(run)["marks"] == "rpp"
    assert record.percents == [0]
    with run.step("transcode"):
        assert shown(run)["marks"] == "rrp"
        assert shown(run)["current_step"] == 1
    assert run.progress == pytest.approx(90)


def test_steps_that_were_passed_over_stay_pending() -> None:
    run, _ = make_run(FILM)
    with run.step("upload"):
        assert shown(run)["marks"] == "ppr"
        assert run.progress == 0
    assert run.progress == pytest.approx(5)
    with run.step("probe"):
        pass
    assert shown(run)["marks"] == "cpc"


def test_unknown_step_is_put_last_into_the_plan() -> None:
    run, record = make_run(FILM)
    with run.step("probe"):
        pass
    with run.step("thumbnails", "Make thumbnails", 100):
        assert run.plan == Plan([*FILM.steps, Step("thumbnails", 100, "Make thumbnails")])
        assert shown(run)["marks"] == "cppr"
        assert record.messages[-1] == "Make thumbnails"
        assert run.progress == 5
    assert run.progress == pytest.approx(52.5)
    assert FILM.digest != record.reports[-1]["plan"]


def test_steps_nest() -> None:
    inner = (Step("audio", 1), Step("video", 3))
    run, _ = make_run(Plan([Step("probe", 20), Step("encode", 80, steps=inner)]))
    with run.step("encode"):
        assert shown(run)["marks"] == "ppp"
        with run.step("video"):
            run.update(0.5)
            assert run.progress == pytest.approx(30)
            assert shown(run)["marks"] == "ppr"
        assert run.progress == pytest.approx(60)
        with run.step("subtitles", weight=4):
            assert shown(run)["marks"] == "ppcr"
        assert run.plan is not None
        assert [leaf.path for leaf in run.plan.leaves][-1] == ("encode", "subtitles")
    # A step that completes also completes its inner steps.
    assert shown(run)["marks"] == "pccc"
    assert run.progress == pytest.approx(80)


def test_unknown_step_inside_a_leaf_makes_it_a_group() -> None:
    run, _ = make_run(FILM)
    with run.step("transcode"):
        run.update(0.5)
        with run.step("first pass"):
            assert shown(run)["total_steps"] == 3
            assert run.progress == pytest.approx(45)
        with run.step("second pass"):
            pass
        assert run.progress == pytest.approx(60)
    assert run.progress == pytest.approx(90)
    assert run.plan is not None
    assert [leaf.group for leaf in run.plan.leaves] == [(), ("Transcode",), ("Transcode",), ()]


def test_same_name_in_two_groups_is_two_steps() -> None:
    run, _ = make_run()
    for part in ("part 1", "part 2"):
        with run.step(part), run.step("encode"):
            pass
    assert run.plan is not None
    paths = [leaf.path for leaf in run.plan.leaves]
    assert paths == [("part 1", "encode"), ("part 2", "encode")]
    assert shown(run)["marks"] == "cc"


def test_inner_step_that_was_done_is_another_outside_of_its_group() -> None:
    run, _ = make_run()
    with run.step("part"), run.step("check"):
        pass
    with run.step("check"):
        assert shown(run)["marks"] == "cr"


@pytest.mark.parametrize("plan", [None, Plan(["download", "upload"])])
def test_current_step_is_inside_the_step_that_runs(plan: Plan | None) -> None:
    """Between two of its steps, and where it fails behind the last of them."""
    run, _ = make_run(plan)
    step = run.step("download")
    step.__enter__()
    with run.step("part 1"):
        assert shown(run)["current_step_name"] == "part 1"
    assert shown(run)["current_step_name"] == "part 1"
    with pytest.raises(Failure):
        raise_in(step)
    run.fail("")
    seen = shown(run)
    assert (seen["current_step"], seen["current_step_name"]) == (0, "part 1")
    assert seen["marks"].startswith("c")


def test_current_step_of_a_planned_group_is_its_next_one() -> None:
    run, _ = make_run(Plan(["probe", Step("read", 4, steps=["a", "b"]), "sort"]))
    with run.step("read"):
        assert shown(run)["current_step_name"] == "a"
        with run.step("a"):
            assert shown(run)["current_step_name"] == "a"
        assert shown(run)["current_step_name"] == "b"
        with run.step("b"):
            pass
        assert shown(run)["current_step_name"] == "b"
    assert shown(run)["current_step_name"] == "probe"


def test_pending_inner_step_may_be_entered_without_its_group() -> None:
    run, _ = make_run(Plan([Step("a", steps=["b", "c"]), Step("d")]))
    with run.step("c"):
        assert shown(run)["marks"] == "prp"


def test_sibling_may_be_entered_from_inside_a_step() -> None:
    run, _ = make_run(FILM)
    with run.step("probe"), run.step("upload"):
        assert shown(run)["marks"] == "rpr"
    assert run.plan == FILM


def test_steps_found_on_the_way_never_fill_the_bar() -> None:
    run, record = make_run()
    for n in range(4):
        with run.step(f"chapter {n}"):
            pass
    assert record.percents == [0, 50, 50, pytest.approx(66.7), pytest.approx(66.7), 75, 75, 80]
    run.complete()
    assert run.progress == 100


def test_steps_beyond_a_thousand_change_the_message_only() -> None:
    run, _ = make_run(Plan([str(n) for n in range(MOST_LEAVES)]))
    with run.step("more"):
        assert run.message == "more"
        run.update(0.5)
    assert run.plan is not None
    assert len(run.plan.leaves) == MOST_LEAVES
    assert run.progress == 50


def test_steps_deeper_than_sixteen_change_the_message_only() -> None:
    run, _ = make_run()

    def descend(depth: int) -> None:
        with run.step(f"level {depth}"):
            if depth < 30:
                descend(depth + 1)

    descend(0)
    assert run.message == "level 30"
    assert run.plan is not None
    assert len(run.plan.leaves[0].path) == 16


def test_step_may_be_entered_again() -> None:
    run, _ = make_run(FILM)
    for _ in range(2):
        with run.step("transcode"):
            assert shown(run)["marks"] == "prp"
            run.update(0.1)
    assert shown(run)["marks"] == "pcp"
    assert run.progress == pytest.approx(90)


@pytest.mark.gen_test
async def test_step_object_is_for_one_block() -> None:
    run, _ = make_run(FILM)
    step = run.step("transcode")
    with step:
        with pytest.raises(RuntimeError, match="a step is for one block"):
            step.__enter__()
        with pytest.raises(RuntimeError, match="a step is for one block"):
            await step.__aenter__()
    assert shown(run)["marks"] == "pcp"


@pytest.mark.gen_test
async def test_steps_of_coroutines_side_by_side_are_told_apart() -> None:
    run, _ = make_run(Plan(["a", "b"]))
    both = asyncio.Barrier(2)

    async def work(name: str, fraction: float) -> None:
        async with run.step(name):
            await both.wait()
            run.update(fraction)
            await both.wait()
            assert run.progress == pytest.approx(30)
            async with run.step(f"{name}'s"):
                await both.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(work("a", 0.2))
        group.create_task(work("b", 0.4))
    assert run.plan is not None
    assert {leaf.path for leaf in run.plan.leaves} == {("a", "a's"), ("b", "b's")}
    assert run.progress == 100


def test_steps_of_two_runs_are_told_apart() -> None:
    run, _ = make_run(FILM)
    other, _ = make_run(FILM)
    with run.step("transcode"), other.step("first pass"):
        other.update(0.5)
    assert run.plan == FILM
    assert other.plan == Plan([*FILM.steps, "first pass"])


def test_step_that_is_told_less_stays_as_far_as_it_was() -> None:
    run, _ = make_run(FILM)
    run.go_to(1)
    run.update(0.8)
    run.update(0.2)
    with run.step("upload"):
        pass
    assert run.progress == pytest.approx(82)


@pytest.mark.gen_test
async def test_cancelled_step_keeps_running() -> None:
    run, _ = make_run(FILM)
    entered = asyncio.Event()

    async def work() -> None:
        async with run.step("probe"):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert shown(run)["marks"] == "rpp"


def test_skipped_steps_count_as_done() -> None:
    run, record = make_run(Plan([Step("a", steps=["b", "c"]), Step("d"), Step("e", 2)]))
    run.skip("a", "e")
    assert shown(run)["marks"] == "ssps"
    assert record.percents == [75]
    with run.step("e"):
        assert shown(run)["marks"] == "sspr"
    with run.step("d"):
        run.skip("d")
    assert shown(run)["marks"] == "sssc"
    assert run.progress == 100


def test_step_that_is_not_there_cannot_be_skipped() -> None:
    run, record = make_run(FILM)
    with pytest.raises(ValueError, match="the plan has no step 'dance'"):
        run.skip("dance")
    assert record.reports == []


def test_plan_that_is_set_keeps_what_is_done() -> None:
    run, record = make_run(FILM)
    with run.step("probe"):
        pass
    with run.step("transcode"):
        run.set_plan(["probe", "transcode", "check", "upload"])
        assert shown(run)["marks"] == "crpp"
        assert run.progress == 25
        run.update(0.5)
    assert record.percents[-2:] == [37.5, 50]
    run.set_plan(["else"])
    assert shown(run)["marks"] == "p"
    assert run.progress == 50
    run.set_plan(None)
    assert (run.plan, run.progress) == (None, 50)
    assert record.percents[-1] == 50
    with pytest.raises(ValueError, match="two steps"):
        run.set_plan(["a", "a"])


def test_what_was_done_counts_after_a_new_plan_though_nobody_read_it() -> None:
    run = Run(plan=Plan(["a", "b"]))
    with run.step("a"):
        pass
    run.set_plan(["c"])
    assert run.progress == 50


def test_plan_that_is_set_after_steps_were_found_is_whole() -> None:
    run, _ = make_run()
    with run.step("a"):
        pass
    run.set_plan(["a", "b"])
    with run.step("b"):
        pass
    assert run.progress == 100


def test_step_that_a_new_plan_dropped_ends_quietly() -> None:
    run, _ = make_run(FILM)
    with run.step("probe"):
        run.set_plan(["a", "b"])
        run.update(0.1)
        with run.step("c"):
            pass
    assert run.plan == Plan(["a", "b", "c"])
    assert shown(run)["marks"] == "ppc"


def test_going_to_a_step_completes_all_before_it() -> None:
    run, record = make_run(FILM)
    run.go_to(1)
    assert (run.progress, run.message) == (5, "Transcode")
    assert shown(run)["marks"] == "crp"
    run.go_to(1, "halfway")
    assert (run.progress, run.message) == (5, "halfway")
    run.go_to(0, "again")
    assert (run.progress, run.message) == (5, "again")
    assert shown(run)["marks"] == "crp"
    run.go_to(0)
    assert run.message == "probe"
    run.go_to(2)
    assert shown(run)["marks"] == "ccr"
    assert run.progress == pytest.approx(95)
    assert len(record.reports) == 5


def test_going_back_before_a_step_that_runs_or_is_done_changes_the_message_only() -> None:
    run, _ = make_run(FILM)
    with run.step("upload"):
        run.go_to(1, "back")
        assert (run.message, shown(run)["marks"]) == ("back", "ppr")
    run.go_to(2)
    assert shown(run)["marks"] == "ccc"


@pytest.mark.parametrize("index", [-1, 3, True, "probe", None])
def test_going_nowhere_is_refused(index: Any) -> None:
    run, _ = make_run(FILM)
    with pytest.raises(ValueError, match="the plan has no step"):
        run.go_to(index)


@pytest.mark.parametrize(
    ("items", "total"), [([1, 2, 3, 4], None), (iter([1, 2, 3, 4]), 4), (range(1, 5), None)]
)
def test_items_are_told_as_they_are_done_with(items: Any, total: int | None) -> None:
    run, record = make_run()
    for item in run.track(items, total=total, unit="films"):
        assert record.percents == [25 * n for n in range(1, item)]
    assert record.percents == [25, 50, 75, 100]
    assert record.messages[1] == "2 of 4 films"


def test_items_without_a_number_are_counted() -> None:
    run, record = make_run()
    for _ in run.track(iter("ab"), unit="letters"):
        pass
    assert record.messages == ["1 letters", "2 letters"]
    assert record.percents == [0, 0]


def test_items_of_a_step_move_the_step() -> None:
    run, record = make_run(FILM)
    with run.step("transcode"):
        for item in run.track("ab"):
            if item == "b":
                break
    assert record.percents == [0, 45, 90]


async def letters() -> AsyncIterator[str]:
    for letter in "abcd":
        yield letter


@pytest.mark.gen_test
async def test_async_for_goes_over_items_of_both_sorts() -> None:
    for items, total in ((letters(), 4), ("abcd", None)):
        run, record = make_run()
        assert [item async for item in run.track(items, total=total)] == list("abcd")
        assert record.percents == [25, 50, 75, 100]


@pytest.mark.gen_test
async def test_async_for_over_plain_items_lets_the_loop_run() -> None:
    run, record = make_run()
    task = asyncio.create_task(exhaust(run))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert 0 < len(record.reports) < 1000
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def exhaust(run: Run) -> None:
    async for _ in run.track(range(1000)):
        pass


def test_async_items_are_not_for_a_plain_loop() -> None:
    run, _ = make_run()
    with pytest.raises(TypeError, match="async for"):
        next(iter(run.track(letters())))


def test_remaining_time_is_what_is_expected_at_first_then_more_and_more_the_pace() -> None:
    clock = Clock()
    run, _ = make_run(expected_seconds=100, clock=clock)
    assert run.remaining_seconds() == pytest.approx(100)
    clock.now = 10
    run.update(0.05)
    # The pace alone says 190 s, the plan 95 s.
    first = run.remaining_seconds()
    assert first is not None
    assert 95 < first < 190
    run.update(0.5)
    # The pace says 10 s.
    second = run.remaining_seconds()
    assert second is not None
    assert 9 < second < 13
    seen = shown(run)
    assert (seen["elapsed_time"], seen["remaining_time"]) == (10, round(second, 1))
    assert seen["estimated_total_time"] == pytest.approx(10 + second, abs=0.06)
    assert seen["remaining_low"] <= seen["remaining_time"] <= seen["remaining_high"]


def test_remaining_time_is_unknown_until_there_is_a_pace() -> None:
    clock = Clock()
    run, _ = make_run(clock=clock)
    clock.now = 10
    times = ("remaining_time", "remaining_low", "remaining_high", "estimated_total_time")
    for part in (None, 5e-324):
        if part:
            run.update(part)
        assert run.remaining_seconds() is None
        assert {shown(run)[name] for name in times} == {None}
    run.update(0.1)
    assert run.remaining_seconds() == pytest.approx(90, rel=0.15)


STARTS = Plan([Step("big", 70), Step("rest", 30)])


@pytest.mark.gen_test
@pytest.mark.parametrize("how", ["kept", "kept in a thread", "skipped", "told", "gone to"])
@pytest.mark.parametrize("expected", [None, 100])
async def test_remaining_time_follows_the_work_of_this_attempt(
    how: str, expected: float | None
) -> None:
    """Steps of an earlier attempt, or of nobody, took it no time."""
    clock = Clock()
    about: dict[str, Any] = {"plan": STARTS, "clock": clock, "expected_seconds": expected}
    if how == "kept in a thread":
        run: Run = SyncRun(Record(), asyncio.run, kept={"big": b"1"}, **about)
        run.once("big", int)  # type: ignore[unused-coroutine]
    elif how == "kept":
        run = Run(kept={"big": b"1"}, **about)
        await run.once("big", int)
    elif how == "skipped":
        run = Run(**about)
        run.skip("big")
    else:
        run = Run(state={"page": 7}, **about)
        run.update(0.7) if how == "told" else run.go_to(1)
    clock.now = 1
    assert run.progress == pytest.approx(70)
    # Of the 30 s that are expected of the rest one has passed.
    assert run.remaining_seconds() == (expected and pytest.approx(29, abs=0.5))
    if how == "told":
        run.update(0.85)
    else:
        with run.step("rest"):
            run.update(0.5)
            left = run.remaining_seconds()
            assert left is not None
            assert 0.9 < left < (1.1 if expected is None else 3)
    clock.now = 2
    assert run.progress == pytest.approx(85 if how == "told" else 100)
    left = run.remaining_seconds()
    assert left is not None
    assert (1 < left < 5) if how == "told" else left < 0.1


def test_only_the_first_report_of_a_later_attempt_tells_what_was_done_before() -> None:
    clock = Clock()
    run, _ = make_run(clock=clock, state={"page": 1})
    run.update("begun")
    run.update(done=4, total=10)
    clock.now = 3
    run.update(done=7, total=10)
    assert run.remaining_seconds() == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("expected", [None, 100])
def test_remaining_time_is_unknown_while_steps_are_found_on_the_way(
    expected: float | None,
) -> None:
    """Nobody knows how many will come, but for the author who has told the whole time."""
    clock = Clock()
    run, _ = make_run(clock=clock, expected_seconds=expected)
    for clock.now in (1, 2):
        with run.step(f"file {clock.now}"):
            pass
        assert shown(run)["steps_open"]
        if expected is None:
            assert shown(run)["remaining_time"] is None
            assert shown(run)["estimated_total_time"] is None
        else:
            assert run.remaining_seconds() == pytest.approx(100 - clock.now, abs=0.5)
    run.set_plan(["file 1", "file 2", "file 3", "file 4"])
    assert run.remaining_seconds() is not None
    assert "steps_open" not in shown(run)


def test_remaining_time_is_unknown_inside_a_step_whose_steps_are_found() -> None:
    clock = Clock()
    run, _ = make_run(Plan(["a", "b"]), clock=clock)
    with run.step("a"), run.step("part 1"):
        clock.now = 1
        run.update(0.5)
        assert run.remaining_seconds() is None
    assert run.remaining_seconds() == pytest.approx(1, rel=0.1)


def test_end_stops_the_clock_and_all_reports() -> None:
    clock = Clock()
    run, record = make_run(FILM, clock=clock)
    run.go_to(1)
    clock.now = 5
    run.complete()
    clock.now = 50
    seen = shown(run)
    assert (run.status, seen["message"], seen["progress"]) == ("completed", "Done", 100)
    assert (seen["elapsed_time"], seen["remaining_time"]) == (5, 0)
    assert seen["marks"] == "ccc"
    for report in (lambda: run.update(0.5), lambda: run.go_to(2), lambda: run.skip("upload")):
        with pytest.raises(LeaseLost):
            report()
    assert len(record.reports) == 1


def test_failed_run_stays_where_it_is() -> None:
    run, _ = make_run(FILM)
    run.go_to(1)
    run.fail(Silent())
    assert (run.status, run.progress) == ("failed", 5)
    assert run.message == "<Silent: SystemExit in its text>"
    assert shown(run)["marks"] == "crp"


def test_completed_run_keeps_what_was_skipped() -> None:
    run, _ = make_run(FILM)
    run.skip("upload")
    run.complete()
    assert shown(run)["marks"] == "ccs"


def test_what_the_sink_raises_ends_the_handler() -> None:
    class Lost(Record):
        def report(self, run: Run) -> None:
            raise LeaseLost(run.task_id)

    run = Run(Lost(), task_id="t1")
    with pytest.raises(LeaseLost, match="t1"):
        run.update(0.5)
    with pytest.raises(LeaseLost), run.step("a"):
        pytest.fail("the step was begun")


def test_run_that_nobody_watches_is_told_all_the_same() -> None:
    run = Run(plan=FILM)
    with run.step("probe"):
        pass
    assert run.progress == 5


def test_first_fragment_is_that_of_a_task_that_waits() -> None:
    seen = json.loads(b"{" + first_fragment(FILM, 60.0) + b"}")
    assert (seen["progress"], seen["message"], seen["marks"]) == (0, "Waiting", "ppp")
    assert (seen["elapsed_time"], seen["remaining_time"]) == (0, 60)
    assert json.loads(b"{" + first_fragment(None, None) + b"}")["remaining_time"] is None


def test_threads_report_side_by_side() -> None:
    run, record = make_run(Plan([f"step {n}" for n in range(8)]))

    def work(name: str) -> None:
        with run.step(name):
            for _ in run.track(range(50)):
                pass

    threads = [threading.Thread(target=work, args=(f"step {n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert run.progress == 100
    assert len(record.reports) == 8 * 52


def test_steps_whose_weights_are_all_0_move_the_bar_alike() -> None:
    run, record = make_run(Plan([Step("a", 0), Step("b", 0)]))
    with run.step("a"):
        run.update(0.5)
    with run.step("added to it", weight=0):
        pass
    assert record.percents == [0, 25, 50, 50, 66.7]
