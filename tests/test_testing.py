"""Running a handler without server or store."""

import asyncio
import functools
import re
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.waiting import has_thread, wait_until
from tornado_rt.testing import TaskRun, run_task, run_task_async
from tornado_rt.work import Kind, Retry, Run, Step, SyncRun, TaskError


@attrs.frozen
class Film:
    """The parameters of the tests' kinds."""

    path: str
    preset: str = "1080p"
    frames: int = 4


def make_kind(function: Callable[..., Any], **about: Any) -> Kind:
    kind = Kind("film", Film, **about)
    kind.handler(function)
    return kind


async def transcode(params: Film, run: Run) -> dict[str, Any]:
    probed = await run.once("probe", lambda: {"size": (1, 2)})
    async with run.step("encode"):
        async for frame in run.track(range(params.frames), unit="frames"):
            run.state["frame"] = frame
    await run.notify("Ready", params.path)
    return {"probed": probed, "label": run.label, "attempt": run.attempt, "user": run.user_id}


def transcode_plainly(params: Film, run: SyncRun) -> dict[str, Any]:
    probed = run.once("probe", lambda: {"size": (1, 2)})
    with run.step("encode"):
        for frame in run.track(range(params.frames), unit="frames"):
            run.state["frame"] = frame
    run.notify("Ready", params.path)
    return {"probed": probed, "label": run.label, "attempt": run.attempt, "user": run.user_id}


STEPS = [Step("encode", 80), Step("upload", 20)]


@pytest.mark.parametrize("function", [transcode, transcode_plainly])
def test_run_tells_all_that_the_handler_did(function: Callable[..., Any]) -> None:
    kind = make_kind(function, steps=STEPS, label="{path} as {preset}")
    task = run_task(kind, {"path": "a.mkv"})
    assert task.result == {
        "probed": {"size": [1, 2]},
        "label": "a.mkv as 1080p",
        "attempt": 1,
        "user": "tester",
    }
    assert task.error is None
    assert [one["progress"] for one in task.reports] == [0, 20, 40, 60, 80, 80, 100]
    assert [one["message"] for one in task.reports][2] == "2 of 4 frames"
    assert {one["status"] for one in task.reports[:-1]} == {"processing"}
    ending = task.reports[-1]
    assert (ending["status"], ending["message"]) == ("completed", "Done")
    assert task.kept == {"probe": {"size": [1, 2]}}
    assert task.state == {"frame": 3}
    assert task.notifications == [{"title": "Ready", "content": "a.mkv", "severity": "info"}]


@pytest.mark.parametrize("function", [transcode, transcode_plainly])
def test_later_attempt_has_what_earlier_ones_left(function: Callable[..., Any]) -> None:
    task = run_task(
        make_kind(function),
        Film("a", frames=0),
        attempt=2,
        kept={"probe": "kept"},
        state={"frame": 7},
        user_id="anna",
    )
    assert task.result == {"probed": "kept", "label": "film", "attempt": 2, "user": "anna"}
    assert task.kept == {"probe": "kept"}
    assert task.state == {"frame": 7}


@pytest.mark.parametrize("error", [TaskError("no film"), Retry("busy", delay=5), KeyError("x")])
@pytest.mark.parametrize("plain", [True, False])
def test_error_is_kept_and_raised_with_the_result(error: Exception, plain: bool) -> None:
    def fail(params: Film, run: Run) -> None:
        run.update(0.5)
        raise error

    async def fail_on_the_loop(params: Film, run: Run) -> None:
        fail(params, run)

    task = run_task(make_kind(fail if plain else fail_on_the_loop), Film("a"))
    assert task.error is error
    with pytest.raises(type(error)):
        _ = task.result
    assert (task.reports[-1]["status"], task.reports[-1]["progress"]) == ("failed", 50)
    assert task.reports[-1]["message"] == str(error)


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError])
def test_error_of_any_sort_ends_the_run_alone(error: type[BaseException]) -> None:
    def fail(params: Film, run: Run) -> None:
        raise error

    assert isinstance(run_task(make_kind(fail), Film("a")).error, error)


def test_stop_iteration_of_a_plain_function_is_an_error_as_of_a_coroutine() -> None:
    task = run_task(make_kind(lambda params, run: next(iter(()))), Film("a"))
    with pytest.raises(RuntimeError, match="StopIteration"):
        _ = task.result


def test_result_that_is_no_json_is_an_error() -> None:
    task = run_task(make_kind(lambda params, run: {1, 2}), Film("a"))
    with pytest.raises(ValueError, match=r"^the result is not JSON: JSON has no set$"):
        _ = task.result
    assert task.reports[-1]["status"] == "failed"


def test_result_is_what_json_gives_back() -> None:
    assert run_task(make_kind(lambda params, run: (1, 2)), Film("a")).result == [1, 2]
    assert run_task(make_kind(lambda params, run: None), Film("a")).result is None


@pytest.mark.parametrize("function", [transcode, transcode_plainly])
def test_state_that_cannot_be_kept_is_found(function: Callable[..., Any]) -> None:
    task = run_task(make_kind(function), Film("a"), state={"films": "x" * 65_536})
    with pytest.raises(ValueError, match=r"run\.state cannot be kept"):
        _ = task.result


@pytest.mark.parametrize(
    ("params", "fault"),
    [
        ({}, r"params\.path is required"),
        ({"path": 5}, r"params\.path must be a string"),
        ({"path": "a", "frames": "4"}, r"params\.frames must be an integer"),
        ({"path": "a", "frames": True}, r"params\.frames must be an integer"),
        ({"path": "a", "size": 4}, "params has unknown fields: size"),
        ({"path": 5, "size": 4}, "unknown fields: size.*must be a string"),
        ("a", "params must be a JSON object"),
        (None, "params must be a JSON object"),
    ],
)
def test_parameters_are_refused_as_the_server_does(params: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        run_task(make_kind(transcode), params)


def test_kind_without_a_handler_is_refused() -> None:
    with pytest.raises(ValueError, match="kind 'film' has no handler"):
        run_task(Kind("film", Film), Film("a"))


@pytest.mark.gen_test
async def test_run_may_be_awaited() -> None:
    task = await run_task_async(make_kind(transcode, steps=STEPS), {"path": "a"})
    assert task.result["probed"] == {"size": [1, 2]}
    assert (await run_task_async(make_kind(transcode_plainly), Film("a"))).error is None


@pytest.mark.gen_test
async def test_run_works_where_a_loop_runs_already() -> None:
    assert run_task(make_kind(transcode), Film("a")).error is None
    assert run_task(make_kind(transcode_plainly), Film("a")).error is None


def test_run_leaves_the_event_loop_of_the_thread_alone() -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        assert run_task(make_kind(transcode), Film("a")).error is None
        assert asyncio.get_event_loop_policy().get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@pytest.mark.gen_test
async def test_run_that_is_cancelled_ends() -> None:
    started = asyncio.Event()

    async def wait(params: Film, run: Run) -> None:
        started.set()
        await asyncio.Event().wait()

    running = asyncio.create_task(run_task_async(make_kind(wait), Film("a")))
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_handler_sees_that_the_worker_stops() -> None:
    async def look(params: Film, run: Run) -> bool:
        await run.stopped()
        return run.stopping

    def look_plainly(params: Film, run: SyncRun) -> bool:
        return run.stopped() and run.stopping

    for function in (look, look_plainly):
        assert run_task(make_kind(function), Film("a"), stopping=True).result is True
    assert run_task(make_kind(lambda params, run: run.stopping), Film("a")).result is False


def test_plain_function_runs_in_a_thread_and_may_return_a_coroutine() -> None:
    def start(params: Film, run: SyncRun) -> Any:
        return finish(threading.current_thread().name)

    async def finish(name: str) -> bool:
        return name != threading.current_thread().name

    assert run_task(make_kind(start), Film("a")).result is True


@pytest.mark.parametrize("wrap", [functools.wraps(transcode), lambda function: function])
def test_decorated_coroutine_awaits_its_run(wrap: Callable[..., Any]) -> None:
    """Whether the decorator uses `functools.wraps` or not."""
    decorated = wrap(lambda params, run: transcode(params, run))
    task: TaskRun = run_task(make_kind(decorated), Film("a"))
    assert task.result["probed"] == {"size": [1, 2]}
    assert task.notifications == [{"title": "Ready", "content": "a", "severity": "info"}]


STEPS_AT_THE_END = [
    {"name": "encode", "description": "encode", "weight": 0.8, "status": "completed"},
    {"name": "upload", "description": "upload", "weight": 0.2, "status": "completed"},
]


@pytest.mark.parametrize("function", [transcode, transcode_plainly])
def test_reports_are_the_snapshots_of_the_protocol(function: Callable[..., Any]) -> None:
    kind = make_kind(function, steps=STEPS, label="{path}", shown=("preset",))
    first, *_, last = run_task(kind, Film("a.mkv"), attempt=2).reports
    assert [one["status"] for one in first["steps"]] == ["current", "pending"]
    times = ("started_after", "duration")
    assert all(step.pop(name, 0.0) >= 0 for step in last["steps"] for name in times)
    assert last["steps"] == STEPS_AT_THE_END
    head = {"task_id": "test", "kind": "film", "label": "a.mkv", "preset": "1080p", "attempt": 2}
    assert last.items() >= head.items()
    assert not {"plan", "marks"} & last.keys()


def test_failed_step_is_shown_as_failed() -> None:
    def fail(params: Film, run: Run) -> None:
        with run.step("encode"):
            raise OSError

    *_, last = run_task(make_kind(fail, steps=STEPS), Film("a")).reports
    assert [one["status"] for one in last["steps"]] == ["failed", "pending"]


async def hang(params: Film, run: Run) -> None:
    await asyncio.Event().wait()


def hang_plainly(params: Film, run: SyncRun) -> None:
    while True:
        run.update(0.5)


@pytest.mark.parametrize("function", [hang, hang_plainly])
def test_timeout_of_the_kind_ends_the_attempt(function: Callable[..., Any]) -> None:
    task = run_task(make_kind(function, timeout=0.05), Film("a"))
    with pytest.raises(TimeoutError, match=r"^took longer than 0\.05 s$"):
        _ = task.result
    assert (task.reports[-1]["status"], task.reports[-1]["message"]) == (
        "failed",
        "took longer than 0.05 s",
    )


def test_timeout_may_be_another_or_none() -> None:
    async def rest(params: Film, run: Run) -> str:
        await asyncio.sleep(0.05)
        return "rested"

    kind = make_kind(rest, timeout=0.001)
    assert run_task(kind, Film("a"), timeout=0).result == "rested"
    assert run_task(kind, Film("a"), timeout=60).result == "rested"
    assert isinstance(run_task(make_kind(hang), Film("a"), timeout=0.01).error, TimeoutError)


def test_thread_that_is_out_of_time_ends_at_its_next_report() -> None:
    run_task(make_kind(hang_plainly, timeout=0.05), Film("a"))
    wait_until(lambda: not has_thread("handler"))


@attrs.frozen
class Length:
    """Its converter takes minutes, and takes its own seconds for minutes again."""

    m: int = attrs.field(converter=lambda minutes: minutes * 60)
    note: str = attrs.field(default=" a ", converter=str.strip)


@attrs.frozen
class Unset:
    to: str = None  # type: ignore[assignment]


@attrs.define(eq=False)
class Loose:
    tags: set[str]
    at: datetime
    path: Path = Path("a")


@pytest.mark.parametrize(
    ("params_class", "params", "fault"),
    [
        (Length, {"m": 2}, "params.m is stored as 120, and a worker reads that as 7200: "),
        (Length, Length(2), "params.m is stored as 120, and a worker reads that as 7200: "),
        (Unset, {}, "params.to must be a string, when a worker reads what is stored"),
        (Unset, Unset(), "params.to must be a string, when a worker reads what is stored"),
    ],
)
def test_parameters_that_change_when_they_are_stored_are_refused(
    params_class: type, params: Any, fault: str
) -> None:
    kind = Kind("changing", params_class)
    kind.handler(lambda params, run: None)
    with pytest.raises(ValueError, match=rf"^{re.escape(fault)}"):
        run_task(kind, params)


def test_parameters_whose_class_compares_nothing_are_read_again() -> None:
    kind = Kind("loose", Loose)
    kind.handler(lambda params, run: sorted(params.tags))
    params = {"tags": ["b", "a"], "at": "2026-01-02T03:04:05Z"}
    assert run_task(kind, params).result == ["a", "b"]
    assert run_task(kind, Loose({"c"}, datetime(2026, 1, 2))).result == ["c"]


def fail_for(params: Film) -> Any:
    raise LookupError(params.path)


@pytest.mark.parametrize("name", ["steps", "expected_seconds"])
def test_function_of_a_kind_that_raises_fails_the_attempt(name: str) -> None:
    """The server takes such a task."""
    kind = make_kind(transcode, **{name: fail_for})
    task = run_task(kind, Film("a"), kept={"probe": 1}, state={"n": 1})
    with pytest.raises(LookupError, match="a"):
        _ = task.result
    assert (task.reports, task.kept, task.state) == ([], {"probe": 1}, {"n": 1})


def test_label_that_raises_is_the_title() -> None:
    kind = make_kind(transcode, label=fail_for, title="A film")
    assert run_task(kind, Film("a")).result["label"] == "A film"
