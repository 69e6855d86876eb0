"""Runs a handler without server or store, for the tests of its author.

def test_a_film_is_transcoded():
    task = run_task(transcode, {"path": "a.mkv"})
    assert task.result == {"path": "a.mp4"}
    assert task.reports[-1]["progress"] == 100
"""

import asyncio
import inspect
import json
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import attrs

from services.kinds import reader_of
from tornado_rt.work import Kind, Run, SyncRun
from tornado_rt.work.values import json_of

T = TypeVar("T")


@attrs.frozen
class TaskRun:
    """An attempt that has ended.

    `reports`: a snapshot for each report, none merged, and that of the ending. `kept`: the results
    of `once` by name. `state`: `run.state` as it was kept last. `error`: what the handler raised.
    """

    reports: list[dict[str, Any]]
    kept: dict[str, Any]
    notifications: list[dict[str, Any]]
    state: dict[str, Any]
    error: BaseException | None
    _result: Any

    @property
    def result(self) -> Any:
        """Return the handler's result, as JSON gives it back. Raise the handler's error."""
        if self.error is not None:
            raise self.error
        return self._result


def run_task(
    kind: Kind,
    params: Any,
    *,
    attempt: int = 1,
    kept: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    user_id: str = "tester",
    stopping: bool = False,
) -> TaskRun:
    """Run one attempt of a task to its end, in a loop of its own.

    `params`: a dict, or an object of the kind's class. `kept` and `state`: what earlier attempts
    left. `stopping`: the worker is about to stop. If a loop runs, this blocks it. Raise
    ValueError for parameters that the server would refuse.
    """
    run = run_task_async(
        kind,
        params,
        attempt=attempt,
        kept=kept,
        state=state,
        user_id=user_id,
        stopping=stopping,
    )
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run_in_loop(run)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(_run_in_loop, run).result()


async def run_task_async(
    kind: Kind,
    params: Any,
    *,
    attempt: int = 1,
    kept: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    user_id: str = "tester",
    stopping: bool = False,
) -> TaskRun:
    """Do as `run_task`, in the loop that runs."""
    if kind.function is None:
        raise ValueError(f"kind {kind.name!r} has no handler")
    given, as_json = _read(kind, params)
    record = _Record({name: json_of(value) for name, value in (kept or {}).items()})
    about: dict[str, Any] = {
        "task_id": "test",
        "kind": kind.name,
        "label": kind.label_of(given, as_json),
        "user_id": user_id,
        "attempt": attempt,
        "plan": kind.plan_of(given),
        "expected_seconds": kind.expected_of(given),
        "kept": record.kept,
        "state": state,
    }
    run = Run(record, **about) if kind.is_async else SyncRun(record, _waiter(), **about)
    if stopping:
        run.stop()
    error, result = None, None
    try:
        result = json.loads(_result_text(await _call(kind, kind.function, given, run)))
        run.complete()
    except KeyboardInterrupt:
        raise
    except BaseException as raised:
        if _is_being_cancelled():
            raise
        error = raised
        run.fail(raised)
    return record.ended(run, result, error)


class _Record:
    """The sink of a test: it keeps all reports in memory."""

    def __init__(self, kept: dict[str, bytes]) -> None:
        self.kept = kept
        self.reports: list[dict[str, Any]] = []
        self.notifications: list[dict[str, Any]] = []

    def report(self, run: Run) -> None:
        """Keep a snapshot."""
        # So that a state that cannot be kept is found at once.
        run.encoded_state()
        self.reports.append({**run.snapshot(), "status": run.status})

    def check(self) -> None:
        """Do nothing: a test waits for its handler."""

    async def keep(self, name: str, value: bytes) -> None:
        """Keep a once-result."""
        self.kept[name] = value

    async def notify(self, title: str, content: str | None, severity: str) -> None:
        """Keep a notification."""
        self.notifications.append({"title": title, "content": content, "severity": severity})

    def ended(self, run: Run, result: Any, error: BaseException | None) -> TaskRun:
        """Return all of it, with the ending one."""
        self.report(run)
        kept = {name: json.loads(value) for name, value in self.kept.items()}
        state = json.loads(run.encoded_state())
        return TaskRun(self.reports, kept, self.notifications, state, error, result)


async def _call(kind: Kind, function: Callable[..., Any], params: Any, run: Run) -> Any:
    def outcome() -> tuple[Any, BaseException | None]:
        try:
            return function(params, run), None
        except BaseException as error:
            # A StopIteration could not leave the thread.
            return None, error

    value, error = outcome() if kind.is_async else await asyncio.to_thread(outcome)
    if error is not None:
        raise error
    return await value if inspect.isawaitable(value) else value


def _waiter() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    loop = asyncio.get_running_loop()
    thread = threading.get_ident()

    def wait(coroutine: Coroutine[Any, Any, Any]) -> Any:
        if threading.get_ident() == thread:
            coroutine.close()
            raise RuntimeError("this blocks: a handler that awaits is an `async def`")
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result()

    return wait


def _run_in_loop(run: Coroutine[Any, Any, T]) -> T:
    # A factory leaves the thread's own event loop as it is.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(run)


def _result_text(result: Any) -> bytes:
    try:
        return json_of(result)
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"the result is no JSON: {error}") from None


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _read(kind: Kind, params: Any) -> tuple[Any, dict[str, Any]]:
    """Return parameters as an object and as JSON."""
    reader = reader_of(kind.params_class)
    if isinstance(params, kind.params_class):
        return params, reader.write(params, most_bytes=0)
    return reader.read(params)
