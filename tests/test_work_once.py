"""A run keeps results and a state for its task; it sends notifications; it stops."""

import asyncio
import math
import os
import re
import threading
from datetime import date
from typing import Any

import pytest

from tests.recorded import Failure, Record, make_run
from tests.waiting import until
from tornado_rt.work import (
    MOST_STATE_BYTES,
    LeaseLost,
    Plan,
    Run,
    Step,
    SyncRun,
)


@pytest.mark.gen_test
async def test_result_is_made_once_for_all_attempts() -> None:
    run, record = make_run()
    calls: list[Any] = []

    async def probe(path: str, *, depth: int) -> dict[str, Any]:
        calls.append((path, depth))
        return {"size": (1, 2), "at": date(2026, 1, 2)}

    made = await run.once("probe", probe, "a.mkv", depth=2)
    assert made == {"size": [1, 2], "at": "2026-01-02"}
    assert await run.once("probe", probe, "b", depth=3) == made
    later, _ = make_run(kept=record.kept, attempt=2)
    assert await later.once("probe", probe, "c", depth=4) == made
    assert calls == [("a.mkv", 2)]


@pytest.mark.gen_test
async def test_result_of_a_plain_function_and_arguments_of_any_name_are_taken() -> None:
    run, _ = make_run()
    assert await run.once("a", dict, name=1, function=2) == {"name": 1, "function": 2}
    assert await run.once("b", lambda: None) is None
    assert await run.once("b", lambda: 5) is None


@pytest.mark.gen_test
async def test_result_is_kept_before_it_is_returned() -> None:
    may, asked = asyncio.Event(), asyncio.Event()

    class Slow(Record):
        async def keep(self, name: str, value: bytes) -> None:
            asked.set()
            await may.wait()
            await super().keep(name, value)

    record = Slow()
    task = asyncio.create_task(Run(record).once("a", int))
    await asked.wait()
    assert not task.done()
    may.set()
    assert await task == 0
    assert record.kept == {"a": b"0"}


@pytest.mark.gen_test
async def test_nothing_is_made_for_a_task_that_is_lost() -> None:
    class Lost(Record):
        def check(self) -> None:
            raise LeaseLost("t1")

    with pytest.raises(LeaseLost):
        await Run(Lost()).once("a", pytest.fail, "it was made")
    with pytest.raises(LeaseLost):
        SyncRun(Lost(), asyncio.run).once("a", pytest.fail, "it was made")


@pytest.mark.gen_test
async def test_second_call_of_a_name_waits_for_the_first() -> None:
    run, _ = make_run()
    may, calls = asyncio.Event(), []

    async def work(name: str) -> str:
        calls.append(name)
        await may.wait()
        return name

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run.once("same", work, name)) for name in "ab"]
        tasks.append(group.create_task(run.once("other", work, "c")))
        await until(lambda: len(calls), equal=2)
        may.set()
    assert [task.result() for task in tasks] == ["a", "a", "c"]
    assert calls == ["a", "c"]


@pytest.mark.gen_test
async def test_call_inside_itself_is_refused() -> None:
    """It would wait for ever; one of another name inside it does not."""
    run, record = make_run()
    tasks: list[asyncio.Task[Any]] = []

    async def inside(name: str) -> Any:
        return await run.once(name, int)

    async def later() -> Any:
        tasks.append(asyncio.create_task(inside("a")))
        return await run.once("b", inside, "c")

    for around in ("a", "b"):
        with pytest.raises(RuntimeError, match="once 'a' is called inside itself"):
            await run.once("a", lambda one: run.once(one, inside, "a"), around)
    assert record.kept == {}
    assert await run.once("a", lambda: 5) == 5
    assert await inside("a") == 5
    assert await run.once("d", later) == 0
    assert await tasks[0] == 5


def test_call_inside_itself_is_refused_in_a_plain_function() -> None:
    """Also where a coroutine is inside."""
    run = SyncRun(Record(), asyncio.run)

    async def later() -> Any:
        return run.once("a", int)

    for inside in (lambda: run.once("a", int), later):
        with pytest.raises(RuntimeError, match="once 'a' is called inside itself"):
            run.once("a", inside)
    assert run.once("a", int) == 0


@pytest.mark.gen_test
async def test_function_that_fails_is_called_again() -> None:
    run, record = make_run()

    def fail() -> None:
        raise Failure

    with pytest.raises(Failure):
        await run.once("a", fail)
    assert record.kept == {}
    assert await run.once("a", lambda: 5) == 5


@pytest.mark.gen_test
async def test_result_that_was_not_kept_is_made_again() -> None:
    class Lost(Record):
        async def keep(self, name: str, value: bytes) -> None:
            raise LeaseLost

    run = Run(Lost())
    for _ in range(2):
        with pytest.raises(LeaseLost):
            await run.once("a", int)


def circle() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


def deep() -> list[Any]:
    made: list[Any] = []
    for _ in range(100_000):
        made = [made]
    return made


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (object(), "is not JSON: JSON has no object"),
        ({"x": [{1, 2}]}, "is not JSON: JSON has no set, at .x[0]"),
        (math.nan, "holds a number that JSON does not have: nan"),
        ([math.inf], "holds a number that JSON does not have: inf, at [0]"),
        (b"x", "is not JSON: JSON has no bytes"),
        ("\ud800", "holds a lone surrogate, which is no text"),
        ({5: 3}, "is not JSON: the keys of an object must be text, not int, at .5"),
        (2**70, "holds an integer of more than 64 bits"),
        (circle(), "nests deeper than 32 levels"),
        (deep(), "nests deeper than 32 levels"),
    ],
)
@pytest.mark.gen_test
async def test_result_that_is_no_json_is_refused_in_words(value: object, fault: str) -> None:
    run, record = make_run()
    with pytest.raises(ValueError, match=rf"^the result of once 'a' {re.escape(fault)}$"):
        await run.once("a", lambda: value)
    assert record.kept == {}


@pytest.mark.gen_test
async def test_results_of_a_task_are_bounded_together() -> None:
    run, record = make_run(most_bytes=10)
    await run.once("a", lambda: "1234")
    with pytest.raises(
        ValueError, match="'b' has 6 bytes as JSON, and all of the task 12; at most 10"
    ):
        await run.once("b", lambda: "1234")
    assert await run.once("b", lambda: "12") == "12"
    assert record.kept == {"a": b'"1234"', "b": b'"12"'}
    unbounded, _ = make_run(most_bytes=0)
    assert len(await unbounded.once("a", lambda: "x" * 300_000)) == 300_000


@pytest.mark.gen_test
async def test_result_counts_while_it_is_kept_and_not_when_that_fails() -> None:
    may, asked = asyncio.Event(), asyncio.Event()

    class Failing(Record):
        async def keep(self, name: str, value: bytes) -> None:
            if name == "fails":
                asked.set()
                await may.wait()
                raise Failure
            await super().keep(name, value)

    record = Failing()
    run = Run(record, most_bytes=10)
    failing = asyncio.create_task(run.once("fails", lambda: "1234"))
    await asked.wait()
    with pytest.raises(ValueError, match="all of the task 12; at most 10"):
        await run.once("b", lambda: "1234")
    may.set()
    with pytest.raises(Failure):
        await failing
    assert await run.once("b", lambda: "1234") == "1234"
    assert record.kept == {"b": b'"1234"'}


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 201, "\x00", 5, None])
@pytest.mark.gen_test
async def test_name_of_a_result_is_one_line(name: Any) -> None:
    run, _ = make_run()
    with pytest.raises(ValueError, match="the name of a result is one line of 1 to 200"):
        await run.once(name, int)


def test_plain_handler_blocks_until_its_result_is_kept() -> None:
    record = Record()
    run = SyncRun(record, asyncio.run, kept={"old": b"[1]"})
    assert run.once("old", int) == [1]
    assert run.once("probe", lambda path: {"path": path}, "a") == {"path": "a"}
    assert run.once("awaited", asyncio.sleep, 0, "slept") == "slept"
    assert record.kept == {"probe": b'{"path":"a"}', "awaited": b'"slept"'}
    run.notify("Done", "All of it", "success")
    assert record.notes == [("Done", "All of it", "success")]


def test_second_thread_waits_for_the_result_of_the_first() -> None:
    run = SyncRun(Record(), asyncio.run)
    started, may, calls, results = threading.Event(), threading.Event(), [], []

    def work(name: str) -> str:
        calls.append(name)
        started.set()
        assert may.wait(10)
        return name

    def once(name: str) -> None:
        results.append(run.once("same", work, name))

    threads = [threading.Thread(target=once, args=(name,)) for name in "ab"]
    threads[0].start()
    assert started.wait(10)
    threads[1].start()
    may.set()
    for thread in threads:
        thread.join()
    assert results == ["a", "a"]
    assert calls == ["a"]


def test_plain_handler_waits_for_the_stop() -> None:
    run = SyncRun(Record(), asyncio.run)
    assert run.stopped(0) is False
    run.stop()
    assert run.stopped() is True
    assert run.stopping


@pytest.mark.gen_test
async def test_notification_is_cleaned_and_bounded() -> None:
    run, record = make_run()
    await run.notify("Film\nready\x00", "Line 1\nline 2" + "x" * 9999, "success")
    await run.notify("t" * 999)
    title, content, severity = record.notes[0]
    assert (title, severity) == ("Film ready\ufffd", "success")
    assert content is not None
    assert content.startswith("Line 1\nline 2")
    assert len(content) == 2000
    assert record.notes[1] == ("t" * 199 + "…", None, "info")


@pytest.mark.gen_test
async def test_notification_without_a_title_or_of_no_severity_is_refused() -> None:
    run, record = make_run()
    with pytest.raises(ValueError, match="a notification has a title"):
        await run.notify("")
    with pytest.raises(ValueError, match="severity is one of info"):
        await run.notify("a", severity="loud")
    assert record.notes == []


def test_state_is_kept_with_each_report() -> None:
    run, _ = make_run(state={"page": 1})
    assert run.encoded_state() == b'{"page":1}'
    run.state["page"] = 2
    assert run.encoded_state() == b'{"page":2}'
    run.state = {}
    assert run.encoded_state() == b"{}"


@pytest.mark.parametrize(
    "state",
    [
        {"a": object()},
        {"a": math.nan},
        {"a": "\ud800"},
        {"a": "x" * MOST_STATE_BYTES},
        {"a": deep()},
        {"a": {1, 2}},
        {"a": 2**70},
        {1: 2},
        [1],
        None,
    ],
)
def test_state_that_cannot_be_kept_is_told_at_the_report(state: Any) -> None:
    run, record = make_run(state={"page": 1})
    run.state = state
    with pytest.raises(ValueError, match=r"run\.state cannot be kept"):
        run.update(0.1)
    assert run.encoded_state() == b'{"page":1}'
    run.state = {"page": 2}
    run.update(0.2)
    assert run.encoded_state() == b'{"page":2}'
    assert record.percents == [10, 20]


def test_state_that_cannot_be_kept_is_told_at_each_report() -> None:
    """Also where nobody reads the state."""
    run = Run()
    run.state["a"] = math.nan
    assert run.encoded_state() == b"{}"
    for _ in range(2):
        with pytest.raises(ValueError, match=r"run\.state cannot be kept: it holds a number"):
            run.update(0.1)
    del run.state["a"]
    run.update(0.2)


def test_object_that_raises_in_a_state_is_told_at_the_report() -> None:
    class Spring(dict[str, Any]):
        def items(self) -> Any:
            raise KeyError("mine")

    run = Run()
    run.state["a"] = Spring()
    assert run.encoded_state() == b"{}"
    with pytest.raises(ValueError, match=r"^run\.state cannot be kept: 'mine'$"):
        run.update(0.1)


@pytest.mark.gen_test
async def test_handler_may_wait_until_the_worker_stops() -> None:
    run, _ = make_run()
    assert not run.stopping
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(run.stopped(), 0)
    waiting = [asyncio.create_task(run.stopped()) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.wait(waiting[:1])
    assert not run.stopping
    thread = threading.Thread(target=run.stop)
    thread.start()
    await waiting[1]
    thread.join()
    run.stop()
    await run.stopped()
    assert run.stopping


def test_forked_process_cannot_report() -> None:
    run, record = make_run()
    child = os.fork()
    if not child:
        os._exit(in_child(run))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    run.update(0.5)
    assert len(record.reports) == 1


def in_child(run: Run) -> int:
    try:
        run.update(0.5)
    except RuntimeError as error:
        return 0 if "forked" in str(error) else 1
    return 2


PLAN = Plan(
    [
        Step("probe", 1),
        Step("film", 8, "Write the film", ["first pass", "second pass"]),
        Step("upload"),
    ]
)


@pytest.mark.gen_test
async def test_once_of_a_step_is_that_step() -> None:
    """The bar moves though the handler names no step."""
    run, record = make_run(PLAN)
    seen = []

    async def look() -> None:
        seen.append((run.message, run.snapshot()["marks"]))
        run.update(0.5)
        seen.append(run.progress)

    await run.once("probe", look)
    assert seen == [("probe", "rppp"), 5.0]
    assert (run.progress, run.snapshot()["marks"]) == (10.0, "cppp")
    with run.step("film"):
        await run.once("first pass", int)
        assert (run.progress, run.snapshot()["marks"]) == (50.0, "ccpp")
    assert record.reports


@pytest.mark.gen_test
async def test_later_attempt_passes_what_is_kept_at_once() -> None:
    run, record = make_run(PLAN)
    await run.once("probe", lambda: 5)
    later, _ = make_run(PLAN, kept=record.kept, attempt=2)
    assert await later.once("probe", pytest.fail) == 5
    assert (later.progress, later.message) == (10.0, "probe")


@pytest.mark.gen_test
async def test_once_of_no_pending_step_moves_nothing() -> None:
    """It is in the step already, that is over, or the plan has none of its name."""
    run, _ = make_run(PLAN)
    with run.step("probe"):
        await run.once("probe", int)
        assert run.snapshot()["marks"] == "rppp"
    run.skip("upload")
    await run.once("upload", int)
    await run.once("of no step", int)
    assert (run.snapshot()["marks"], run.snapshot()["total_steps"]) == ("cpps", 4)


@pytest.mark.gen_test
async def test_step_of_a_once_that_fails_keeps_running() -> None:
    run, _ = make_run(PLAN)

    def fail() -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        await run.once("probe", fail)
    assert run.snapshot()["marks"] == "rppp"


def test_once_of_a_step_is_that_step_in_a_plain_function() -> None:
    run = SyncRun(Record(), asyncio.run, plan=PLAN)
    assert run.once("probe", lambda: run.message) == "probe"
    assert (run.progress, run.snapshot()["marks"]) == (10.0, "cppp")
