"""Running a handler without server or store."""

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any

import attrs
import pytest

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
    assert (ending["status"], ending["message"], ending["marks"]) == ("completed", "Done", "cc")
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
    with pytest.raises(ValueError, match=r"the result is no JSON: .*set"):
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


def test_coroutine_behind_a_plain_function_cannot_block_its_loop() -> None:
    async def inner(params: Film, run: SyncRun) -> None:
        run.once("a", int)

    task = run_task(make_kind(lambda params, run: inner(params, run)), Film("a"))
    with pytest.raises(RuntimeError, match="`async def`"):
        _ = task.result


def test_decorated_handler_is_given_the_run_of_the_function_inside() -> None:
    @functools.wraps(transcode)
    def decorated(params: Film, run: Run) -> Any:
        return transcode(params, run)

    task: TaskRun = run_task(make_kind(decorated), Film("a"))
    assert task.kept == {"probe": {"size": [1, 2]}}
