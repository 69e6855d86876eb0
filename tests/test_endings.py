"""The end of an attempt, whatever a handler returns or raises: alone, and in a worker."""

import asyncio
import dataclasses
import enum
import inspect
import math
import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from services.analysis import AnalysisTask
from services.kinds import load_kinds
from services.queue import Outcome, QueueService, TaskState
from services.worker import Retry, Target, TaskError, legacy_target, load_targets
from settings import Settings
from tests.timing import cpu_seconds
from tests.waiting import until
from tests.working import ended, enqueue, outcomes_beside_another, working
from tornado_rt.work import LeaseLost
from tornado_rt.work.attempts.endings import MOST_RETRY_SECONDS, end_with_error, end_with_result
from tornado_rt.work.attempts.guarded_task import GuardedTask, guard_tasks

LIMIT = 1000
# An end may take this long on a machine whose cores are busy; a lease would last five minutes [s].
SOON_SECONDS = 60.0

# Handlers and kinds for the loop, threads and processes; the symbol says how a task ends.
MODULE = """
import asyncio, threading
from datetime import timedelta
import attrs
from tornado_rt.work import Kind, Retry, TaskError

class Custom(BaseException): ...
class Refined(TaskError): ...

class Text(Exception):
    def __init__(self, text):
        self.text, self.lock = text, threading.Lock()
    def __str__(self):
        if isinstance(self.text, BaseException):
            raise self.text
        return self.text

def own_run():
    async def main():
        asyncio.current_task().cancel()
        await asyncio.sleep(1)
    coroutine = main()
    threaded = []
    def run():
        try:
            asyncio.run(coroutine)
        except BaseException as error:
            threaded.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    raise threaded[0]

def group(*errors):
    return BaseExceptionGroup("several", errors)

ERRORS = {
    "cancelled": asyncio.CancelledError,
    "interrupt": KeyboardInterrupt,
    "exit": lambda: SystemExit(3),
    "generator": GeneratorExit,
    "stop": StopIteration,
    "astop": StopAsyncIteration,
    "custom": lambda: Custom("odd"),
    "refined": lambda: Refined("for the user"),
    "raising": lambda: Text(ValueError("x")),
    "exiting": lambda: Text(SystemExit(1)),
    "number": lambda: Text(7),
    "long": lambda: Text("x" * 100_000_000),
    "lone": lambda: Text("a\\ud800b"),
    "syntax": lambda: SyntaxError("bad", ("f", "no number", None, object())),
    "group-interrupt": lambda: group(ValueError("x"), KeyboardInterrupt()),
    "group-cancelled": lambda: group(asyncio.CancelledError(), ValueError("x")),
    "group-error": lambda: ExceptionGroup("several", [TaskError("first"), TaskError("second")]),
    "group-mixed": lambda: ExceptionGroup("several", [TaskError("first"), Retry("again")]),
    "group-retry": lambda: ExceptionGroup("several", [Retry("again", delay=9)]),
    "retry": lambda: Retry("again", delay=timedelta(hours=1)),
}

def end(task):
    if task.symbol == "GOOD":
        return {}
    if task.symbol == "own-run":
        own_run()
    raise ERRORS[task.symbol]()

def plain(task, progress):
    return end(task)

async def coroutine(task, progress):
    if task.symbol == "own-cancel":
        asyncio.current_task().cancel()
        await asyncio.sleep(1)
    return end(task)

@attrs.frozen
class Params:
    symbol: str

kind_of_plain = Kind("plain", Params, retry_errors=False)
kind_of_plain.handler(lambda params, run: plain(params, run))
kind_of_coroutine = Kind("coroutine", Params, retry_errors=False)

@kind_of_coroutine.handler
async def run_coroutine(params, run):
    return await coroutine(params, run)
"""
REASONS = {
    "cancelled": "the handler was cancelled",
    "own-run": "the handler was cancelled",
    "interrupt": "KeyboardInterrupt",
    "exit": "SystemExit: 3",
    "generator": "GeneratorExit",
    "custom": "Custom: odd",
    "refined": "for the user",
    "raising": "Text: <Text: ValueError in its text>",
    "exiting": "Text: <Text: SystemExit in its text>",
    "number": "Text: <Text: TypeError in its text>",
    "long": "Text: " + "x" * 1993 + "…",
    "lone": "Text: a?b",
    "group-interrupt": "BaseExceptionGroup: several (2 sub-exceptions): ValueError: x",
    "group-cancelled": (
        "BaseExceptionGroup: several (2 sub-exceptions): the handler was cancelled"
    ),
    "group-error": "first",
    "group-mixed": "ExceptionGroup: several (2 sub-exceptions): first",
}
# Python words these differently from place to place.
STARTS = {
    "stop": ("RuntimeError: ", "StopIteration"),
    "astop": ("RuntimeError: ", "StopAsyncIteration"),
    "syntax": ("SyntaxError: ",),
}
RETRIED = ("group-retry", "retry")


@pytest.fixture
def queue(redis: Redis) -> QueueService:
    return QueueService(redis, user_limit=0, global_limit=0)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Target]]:
    """A factory of targets from `MODULE`: of a function, or of the kind that calls it."""
    name = "endings_" + re.sub(r"\W", "_", tmp_path.name)
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(function: str, *, as_kind: bool, **more: Any) -> dict[str, Target]:
        settings = Settings(kinds=[name], **more)
        if as_kind:
            return load_targets(load_kinds([name]), settings)
        return {function: legacy_target(f"{name}:{function}", settings)}

    return load


@pytest.mark.gen_test
@pytest.mark.parametrize("as_kind", [False, True], ids=["handler", "kind"])
@pytest.mark.parametrize(
    ("function", "processes"),
    [("coroutine", False), ("plain", False), ("coroutine", True), ("plain", True)],
)
async def test_every_ending_has_its_reason_and_frees_its_slot(
    redis: Redis,
    queue: QueueService,
    load: Callable[..., dict[str, Target]],
    function: str,
    processes: bool,
    as_kind: bool,
) -> None:
    """Soon; with one slot, so that none may keep it."""
    symbols = [*REASONS, *STARTS, *RETRIED]
    if function == "coroutine":
        symbols.append("own-cancel")
    if processes:
        # Each costs the start of a process.
        kept = {"cancelled", "interrupt", "exit", "generator", "custom", "lone", "group-interrupt"}
        symbols = [one for one in symbols if one in kept or one in ("own-cancel", "stop")]
    targets = load(function, as_kind=as_kind, worker_processes=processes)
    async with working(redis, queue, targets, concurrency=1):
        ids = {one: await enqueue(queue, one, kind=function) for one in symbols}
        good = await enqueue(queue, "GOOD", "bob", kind=function)
        assert (await ended(queue, good)).status == TaskState.COMPLETED
        found = {one: await queue.get_task(ids[one]) for one in symbols}
    for symbol, task in found.items():
        assert task is not None
        if symbol in RETRIED:
            assert (task.status, task.attempt) == (TaskState.DELAYED, 1)
            continue
        assert task.status == TaskState.FAILED, symbol
        assert task.error is not None
        assert task.started_at is not None
        assert task.ended_at is not None
        assert task.ended_at - task.started_at < SOON_SECONDS, symbol
        if symbol in STARTS:
            assert task.error.startswith(STARTS[symbol]), symbol
        else:
            assert task.error == REASONS.get(symbol, "the handler was cancelled")
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
async def test_exit_in_a_task_of_the_handler_ends_no_more_than_the_attempt(
    redis: Redis, queue: QueueService, error: BaseException
) -> None:
    """On a loop as the server's: asyncio itself would end it."""
    loop = asyncio.get_running_loop()
    guard_tasks(loop)

    async def leave() -> None:
        raise error

    async def handle(task: AnalysisTask, progress: Any) -> None:
        if task.symbol == "EARLY":
            asyncio.create_task(leave()).cancel()
        if task.symbol == "GROUP":
            async with asyncio.TaskGroup() as group:
                group.create_task(leave())
        if task.symbol == "GATHER":
            await asyncio.gather(leave())

    async with working(redis, queue, handle, concurrency=1):
        found = await outcomes_beside_another(queue, "GATHER", "GROUP", "EARLY")
    reason = f"RuntimeError: a task of the handler ended with {type(error).__name__}"
    assert found["GATHER"].error == reason
    assert str(found["GROUP"].error).endswith(reason)
    assert found["EARLY"].status == TaskState.COMPLETED


def no_tasks(loop: Any, coroutine: Any, **named: Any) -> Any:
    coroutine.close()
    raise RuntimeError("no tasks")


@pytest.mark.gen_test
@pytest.mark.parametrize("factory", [None, no_tasks])
async def test_handler_cannot_change_what_makes_the_tasks_of_the_loop(
    redis: Redis, queue: QueueService, factory: Any
) -> None:
    """A server that makes no tasks serves nobody, and one whose tasks are plain ends by any."""
    loop = asyncio.get_running_loop()
    guard_tasks(loop)

    async def handle(task: AnalysisTask, progress: Any) -> None:
        if task.symbol == "FACTORY":
            loop.set_task_factory(factory)
        assert isinstance(loop.create_task(asyncio.sleep(0)), GuardedTask)

    async with working(redis, queue, handle, concurrency=1):
        [found] = (await outcomes_beside_another(queue, "FACTORY")).values()
    assert (found.status, found.error) == (TaskState.COMPLETED, None)


@pytest.mark.gen_test
async def test_handlers_threads_are_not_those_of_the_server(
    redis: Redis, queue: QueueService
) -> None:
    """Nor of another handler: one may keep all that it has, or replace or end them."""
    loop, go_on = asyncio.get_running_loop(), threading.Event()
    guard_tasks(loop)
    loop.set_default_executor(ThreadPoolExecutor(1))

    async def handle(task: AnalysisTask, progress: Any) -> None:
        if task.symbol == "KEEP":
            await asyncio.gather(*(asyncio.to_thread(go_on.wait, 20) for _ in range(40)))
        if task.symbol == "REPLACE":
            with ThreadPoolExecutor() as pool:
                loop.set_default_executor(pool)
                assert await asyncio.to_thread(int, "1") == 1
        if task.symbol == "END":
            await loop.shutdown_default_executor()
        if task.symbol == "GOOD":
            assert await asyncio.to_thread(int, "2") == 2

    async with working(redis, queue, handle, concurrency=2):
        keeping = await enqueue(queue, "KEEP")
        found = await outcomes_beside_another(queue, "REPLACE", "END")
        async with asyncio.timeout(10):
            assert await asyncio.to_thread(int, "3") == 3
        go_on.set()
        kept = await ended(queue, keeping)
    assert {one.status for one in (kept, *found.values())} == {TaskState.COMPLETED}


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        (None, None),
        (0, 0),
        (2.5, 2.5),
        (Decimal("1.5"), 1.5),
        (timedelta(minutes=2), 120),
        (timedelta.max, MOST_RETRY_SECONDS),
        (-5, 0),
        (timedelta(-1), 0),
        (-math.inf, 0),
        (math.inf, MOST_RETRY_SECONDS),
        (10**12, MOST_RETRY_SECONDS),
        (10**400, MOST_RETRY_SECONDS),
        (-(10**400), 0),
    ],
)
def test_delay_of_a_retry_is_from_none_to_30_days(delay: Any, seconds: float | None) -> None:
    ending = end_with_error(Retry("busy", delay=delay))
    assert (ending.outcome, ending.error, ending.delay) == (Outcome.RETRY, "busy", seconds)


class Spiteful:
    def __float__(self) -> float:
        raise RuntimeError("no")


@pytest.mark.parametrize("delay", [math.nan, "5", b"5", True, [], 1j, object(), Spiteful()])
def test_delay_that_is_no_time_is_the_kinds_own_and_its_reason_says_so(delay: Any) -> None:
    ending = end_with_error(Retry("busy", delay=delay))
    assert (ending.outcome, ending.delay) == (Outcome.RETRY, None)
    assert ending.error.startswith("bad delay of a Retry: ")
    assert ending.error.endswith("; it said: busy")


def test_retry_that_never_called_our_constructor_has_the_queues_delay() -> None:
    class Own(Retry):
        def __init__(self) -> None:
            Exception.__init__(self, "mine")

    ending = end_with_error(Own())
    assert (ending.outcome, ending.error, ending.delay) == (Outcome.RETRY, "mine", None)


@pytest.mark.gen_test
async def test_bad_delays_stop_nobody(redis: Redis, queue: QueueService) -> None:
    """Twice each: the claim that brings the end in must go through."""
    delays = {"nan": math.nan, "text": "5", "long": 10**12, "past": -1, "hour": timedelta(hours=1)}

    async def again(task: AnalysisTask, progress: Any) -> None:
        if task.symbol in delays:
            await progress.update_progress("half a character: \ud83d")
            raise Retry("busy", delay=delays[task.symbol])  # type: ignore[arg-type]

    async with working(redis, queue, again, concurrency=1):
        ids = [await enqueue(queue, one, max_attempts=2) for one in [*delays, *delays]]
        assert (
            await ended(queue, await enqueue(queue, "GOOD", "bob"))
        ).status == TaskState.COMPLETED
        tasks = [await queue.get_task(one) for one in ids]
    states = {task.label: task.status for task in tasks if task is not None}
    for label in ("nan", "text", "long", "hour"):
        assert states[label] == TaskState.DELAYED
    assert await queue.check_invariants() == []


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"x": value}
    return value


def endless_list() -> dict[str, Any]:
    endless: list[Any] = []
    endless += [endless, endless]
    return {"x": endless}


@dataclasses.dataclass
class Node:
    before: Any = None
    behind: Any = None


def endless_nodes() -> dict[str, Any]:
    node = Node()
    node.before = node.behind = node
    return {"x": node}


class Colour(enum.Enum):
    RED = "red"


class Own(dict[str, Any]):
    pass


@pytest.mark.parametrize("most", [0, LIMIT])
@pytest.mark.parametrize(
    ("result", "kept"),
    [
        (None, {}),
        ({}, {}),
        (nested(32), nested(32)),
        (Own(x=1), {"x": 1}),
        ({"x": (1, 2)}, {"x": [1, 2]}),
        ({"x": 2**63 - 1}, {"x": 2**63 - 1}),
        ({"x": Node(1, Colour.RED)}, {"x": {"before": 1, "behind": "red"}}),
        ({"\u2603": "\U0001f680\0"}, {"\u2603": "\U0001f680\0"}),
    ],
)
def test_good_result_is_kept(result: Any, kept: dict[str, Any], most: int) -> None:
    ending = end_with_result(result, most)
    assert (ending.outcome, ending.result) == (Outcome.COMPLETED, kept)


@pytest.mark.parametrize("most", [0, LIMIT])
@pytest.mark.parametrize(
    "result",
    [
        "text",
        [],
        nested(33),
        nested(250),
        nested(5000),
        endless_list(),
        endless_nodes(),
        {"x": math.nan},
        {"x": math.inf},
        {"x": 2**64},
        {1: 2},
        {"x": {1}},
        {"x": object()},
        {"x": "\ud800"},
        {"\udfff": 1},
        {"x": Node(nested(32))},
        {"x": b"bytes"},
    ],
)
def test_result_that_cannot_be_kept_fails_with_its_reason(result: Any, most: int) -> None:
    with cpu_seconds() as taken:
        ending = end_with_result(result, most)
        assert taken() < 1
    assert ending.outcome == Outcome.FAILED
    assert ending.error.startswith("the result ")


def test_result_has_at_most_its_bytes_and_0_is_any_number() -> None:
    exact = {"x": "a" * (LIMIT - len('{"x":""}'))}
    assert end_with_result(exact, LIMIT).outcome == Outcome.COMPLETED
    large = {"x": exact["x"] + "a"}
    told = f"the result has {LIMIT + 1} bytes as JSON; at most {LIMIT} are allowed"
    assert end_with_result(large, LIMIT).error == told
    many = {"x": [0] * 1_100_000}
    assert end_with_result(many, 0).outcome == Outcome.COMPLETED
    assert end_with_result(many, 3_000_000).outcome == Outcome.COMPLETED
    assert str(LIMIT) in end_with_result(many, LIMIT).error


@pytest.mark.parametrize("result", [None, "text", [1, [None]], 1.5, True, {"x": 1}])
def test_result_of_a_kind_is_any_json(result: Any) -> None:
    ending = end_with_result(result, LIMIT, any_json=True)
    assert (ending.outcome, ending.result) == (Outcome.COMPLETED, result)


@pytest.mark.parametrize("result", [nested(33), math.nan, {1: 2}, b"x", "x" * LIMIT])
def test_result_of_a_kind_has_the_same_bounds(result: Any) -> None:
    assert end_with_result(result, LIMIT, any_json=True).outcome == Outcome.FAILED


@pytest.mark.parametrize(
    ("error", "outcome", "cancelled"),
    [
        (ValueError("x"), Outcome.ERROR, False),
        (SystemExit(1), Outcome.ERROR, False),
        (asyncio.CancelledError(), Outcome.ERROR, True),
        (BaseExceptionGroup("x", [asyncio.CancelledError(), ValueError()]), Outcome.ERROR, False),
        (TaskError("x"), Outcome.FAILED, False),
        (ExceptionGroup("x", [TaskError("x"), ValueError()]), Outcome.ERROR, False),
        (LeaseLost("t1"), Outcome.ERROR, False),
        (ExceptionGroup("x", [ValueError(), LeaseLost("t1")]), Outcome.ERROR, False),
    ],
)
def test_error_may_be_tried_again_unless_it_is_a_task_error(
    error: BaseException, outcome: Outcome, cancelled: bool
) -> None:
    ending = end_with_error(error)
    assert (ending.outcome, ending.cancelled) == (outcome, cancelled)


def test_result_that_raises_when_it_is_looked_at_fails_with_its_reason() -> None:
    class Spring(dict[str, Any]):
        def items(self) -> Any:
            raise SystemExit(1)

    ending = end_with_result({"x": Spring(y=1)}, 0)
    assert (ending.outcome, ending.error) == (
        Outcome.FAILED,
        "the result cannot be read: SystemExit: 1",
    )


def test_result_is_copied() -> None:
    result = {"x": [1]}
    ending = end_with_result(result, 0)
    result["x"].append(2)
    assert ending.result == {"x": [1]}


@pytest.mark.gen_test
async def test_thread_that_never_ends_holds_no_slot_and_is_told(
    redis: Redis, queue: QueueService
) -> None:
    """Its later reports and its result change nothing."""
    go_on, refused = threading.Event(), threading.Event()

    def hang(task: AnalysisTask, progress: Any) -> dict[str, Any]:
        if task.symbol != "HANG":
            return {}
        go_on.wait(20)
        try:
            progress.update_progress("too late")
        except asyncio.CancelledError:
            refused.set()
        return {"late": True}

    with capture_logs() as logged:
        async with working(redis, queue, hang, concurrency=1, rules={"timeout_seconds": 1.5}):
            hanging = await enqueue(queue, "HANG")
            good = await ended(queue, await enqueue(queue, "GOOD", user="bob"))
            assert good.status == TaskState.COMPLETED
            await until(lambda: any(one["event"] == "handler_abandoned" for one in logged))
            go_on.set()
            await until(refused.is_set)
            task = await ended(queue, hanging)
    assert (task.status, task.error) == (TaskState.FAILED, "took longer than 1.5 s")
    assert b"too late" not in task.snapshot


@pytest.mark.gen_test
@pytest.mark.parametrize("way", ["swallow", "shield", "finally"])
async def test_coroutine_that_outlives_its_cancellation_holds_no_slot(
    redis: Redis, queue: QueueService, way: str
) -> None:
    started, go_on, late = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def stay(task: AnalysisTask, progress: Any) -> dict[str, Any]:
        if task.symbol != "STAY":
            return {}
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if way == "shield":
                await asyncio.shield(go_on.wait())
        finally:
            await go_on.wait()
            try:
                await progress.update_progress("too late")
            except LeaseLost:
                late.set()
        return {"late": True}

    async with working(redis, queue, stay, concurrency=1):
        staying = await enqueue(queue, "STAY")
        await started.wait()
        await queue.cancel_task(staying)
        good = await ended(queue, await enqueue(queue, "GOOD", user="bob"))
        assert good.status == TaskState.COMPLETED
        go_on.set()
        await until(late.is_set)
        task = await ended(queue, staying)
    assert (task.status, task.result) == (TaskState.CANCELLED, None)
    assert await queue.check_invariants() == []


@pytest.mark.gen_test
async def test_tracker_that_is_spoilt_ends_its_task_only(redis: Redis, queue: QueueService) -> None:
    """A handler has the object itself."""

    async def spoil(task: AnalysisTask, progress: Any) -> dict[str, Any]:
        if task.symbol == "steps":
            progress.steps.clear()
        if task.symbol == "error":
            progress.steps = None
            raise TaskError("no")
        if task.symbol == "message":
            progress.message = "\ud800"
        if task.symbol == "exit":
            progress.complete = sys.exit
        return {}

    async with working(redis, queue, spoil, concurrency=1):
        found = await outcomes_beside_another(queue, "steps", "error", "message", "exit")
    # Nobody but the tracker sets its message.
    states = ["completed", "failed", "failed", "completed"]
    assert [task.status for task in found.values()] == states


class Nameless(type):
    """Exits for its classes' names."""

    @property
    def __name__(cls) -> str:
        raise SystemExit(9)


class Hidden(Exception, metaclass=Nameless):
    pass


class Map(dict[str, Any]):
    """Raises `error` when it is looked at."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(message="x")
        self.error = error

    def get(self, *_: Any) -> Any:
        raise self.error

    def items(self) -> Any:
        raise self.error


@pytest.mark.gen_test
@pytest.mark.parametrize("threaded", [False, True])
async def test_object_that_raises_when_it_is_looked_at_fails_its_task_only(
    redis: Redis, queue: QueueService, threaded: bool
) -> None:
    """As a report, which is told on the loop, and as a result."""
    errors = {"RUNTIME": RuntimeError("mine"), "EXIT": SystemExit(3), "HIDDEN": Hidden()}

    def report(task: AnalysisTask, progress: Any) -> Any:
        what, _, error = task.symbol.partition("-")
        if what == "REPORT":
            return progress.update_progress(Map(errors[error]))
        return {"x": Map(errors[error])} if what == "RESULT" else {}

    async def on_loop(task: AnalysisTask, progress: Any) -> Any:
        reported = report(task, progress)
        return await reported if inspect.isawaitable(reported) else reported

    handler = report if threaded else on_loop
    symbols = [f"{what}-{error}" for what in ("REPORT", "RESULT") for error in errors]
    async with working(redis, queue, handler, concurrency=1):
        found = await outcomes_beside_another(queue, *symbols)
    assert {symbol: task.error for symbol, task in found.items()} == {
        "REPORT-RUNTIME": "RuntimeError: mine",
        "REPORT-EXIT": "SystemExit: 3",
        "REPORT-HIDDEN": "the handler failed with an error that cannot be read",
        "RESULT-RUNTIME": "the result cannot be read: RuntimeError: mine",
        "RESULT-EXIT": "the result cannot be read: SystemExit: 3",
        # Its name raises when the reason is told.
        "RESULT-HIDDEN": "SystemExit: 9",
    }
