"""Runs a handler without server or store, for the tests of its author.

def test_a_film_is_transcoded():
    task = run_task(transcode, {"path": "a.mkv"})
    assert task.result == {"path": "a.mp4"}
    assert task.reports[-1]["progress"] == 100
"""

import asyncio
import inspect
import json
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import attrs

from services.kinds import reader_of
from services.progress import PlanView
from services.queue import Outcome
from settings import Settings
from tornado_rt.work import Kind, Plan, Question, Run, Submission, SyncRun
from tornado_rt.work.attempts.endings import end_with_result
from tornado_rt.work.attempts.threads import LoopWaiter, in_thread
from tornado_rt.work.handlers import call
from tornado_rt.work.kept import as_kept

TASK_ID = "test"

T = TypeVar("T")


@attrs.frozen
class TaskRun:
    """An attempt that has ended.

    `reports`: a snapshot for each report, none merged, and that of the ending. `kept`: the results
    of `once`, `ask` and `submit` by name. `questions`: what the user was asked. `submitted`:
    the tasks that were submitted, as `POST /api/tasks` takes them, each with its `task_id`.
    `state`: `run.state` as kept last. `error`: what the handler raised, or what a function of the
    kind did, TimeoutError after the timeout, ValueError for a result or a state that cannot be
    kept.
    """

    # The loop asks for the text of its task's result, and these may be many.
    reports: list[dict[str, Any]] = attrs.field(repr=False)
    kept: dict[str, Any]
    notifications: list[dict[str, Any]]
    questions: list[Question]
    submitted: list[dict[str, Any]]
    state: dict[str, Any]
    error: BaseException | None
    _result: Any

    @property
    def result(self) -> Any:
        """Return the handler's result, as JSON gives it back. Raise `error`."""
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
    answers: Mapping[str, str] | None = None,
    stopping: bool = False,
    timeout: float | None = None,
) -> TaskRun:
    """Run one attempt of a task to its end, in a loop of its own.

    `params`: a dict, or an object of the kind's class. `kept` and `state`: what earlier attempts
    left. `answers`: what the user chooses, by the names of `run.ask`; a question that has none ends
    by its timeout. `stopping`: the worker is about to stop. `timeout`: in seconds, 0 for none, None
    for the kind's. If a loop runs, this blocks it. Raise ValueError for parameters that the server
    would refuse, or that the worker would not read as they were stored.
    """
    run = run_task_async(
        kind,
        params,
        attempt=attempt,
        kept=kept,
        state=state,
        user_id=user_id,
        answers=answers,
        stopping=stopping,
        timeout=timeout,
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
    answers: Mapping[str, str] | None = None,
    stopping: bool = False,
    timeout: float | None = None,
) -> TaskRun:
    """Do as `run_task`, in the loop that runs."""
    if kind.function is None:
        raise ValueError(f"kind {kind.name!r} has no handler")
    given, stored = _read(kind, params)
    settings = Settings()
    label = _label_of(kind, given, stored)
    shown = {name: stored[name] for name in kind.shown if name in stored}
    head = {"task_id": TASK_ID, "kind": kind.name, "label": label, **shown, "attempt": attempt}
    record = _Record(head, kept or {}, answers or {})
    try:
        about: dict[str, Any] = {
            "task_id": TASK_ID,
            "kind": kind.name,
            "label": label,
            "user_id": user_id,
            "attempt": attempt,
            "plan": kind.plan_of(given),
            "expected_seconds": kind.expected_of(given),
            "kept": record.kept,
            "state": state,
            "most_bytes": settings.tasks.task_result_bytes,
        }
    except Exception as raised:
        # The server takes the task all the same, and its attempts fail.
        return record.ended_before_it_began(state or {}, raised)
    waiter = LoopWaiter()
    run = Run(record, **about) if kind.is_async else SyncRun(record, waiter.wait, **about)
    if stopping:
        run.stop()
    seconds = (kind.timeout or settings.tasks.task_timeout_seconds) if timeout is None else timeout
    error: BaseException | None = None
    result = None
    try:
        async with asyncio.timeout(seconds or None) as limit:
            result = _kept_result(
                await _call(kind, given, run, record), settings.tasks.task_result_bytes
            )
        run.complete()
    except KeyboardInterrupt:
        raise
    except BaseException as raised:
        if _is_being_cancelled():
            raise
        error = raised
    if limit.expired():
        error = TimeoutError(f"took longer than {seconds:g} s")
    if error is not None:
        run.fail(error)
    return record.ended(run, result, error)


class _Record:
    """The sink of a test: it keeps all reports in memory. A snapshot begins with `head`."""

    def __init__(
        self, head: dict[str, Any], kept: Mapping[str, Any], answers: Mapping[str, str]
    ) -> None:
        self.questions: list[Question] = []
        self.submitted: list[dict[str, Any]] = []
        self._answers = answers
        self.kept = {name: as_kept(f"kept {name!r}", value, 0) for name, value in kept.items()}
        self.reports: list[dict[str, Any]] = []
        self.notifications: list[dict[str, Any]] = []
        self._head = head
        self._closed = False
        self._plan: Plan | None = None
        self._view = PlanView(None)
        # Reports share their steps: a long plan with a report for each of its steps has many.
        self._steps: dict[tuple[int, str], dict[str, Any]] = {}

    def close(self) -> None:
        """Refuse reports from now on: nobody waits for the handler any more."""
        self._closed = True

    def report(self, run: Run) -> None:
        """Keep a snapshot."""
        self.check()
        self._add(run)

    def check(self) -> None:
        """Raise CancelledError once nobody waits for the handler."""
        if self._closed:
            raise asyncio.CancelledError

    async def keep(self, name: str, value: bytes) -> None:
        """Keep a once-result."""
        self.kept[name] = value

    async def notify(self, title: str, content: str | None, severity: str) -> None:
        """Keep a notification."""
        self.notifications.append({"title": title, "content": content, "severity": severity})

    async def ask(self, question: Question, timeout: float | None) -> bytes | None:
        """Answer as the test says."""
        self.questions.append(question)
        name = question.name
        if name not in self._answers:
            if timeout is None:
                raise LookupError(f"the test has no answer to {name!r}: give it in `answers`")
            return None
        answer = self._answers[name]
        if answer not in question.options:
            raise LookupError(f"{name!r} has no option {answer!r}")
        self.kept[name] = json.dumps(answer).encode()
        return self.kept[name]

    async def submit(self, submission: Submission) -> str:
        """Keep a task."""
        task_id = f"{TASK_ID}-{len(self.submitted) + 1}"
        self.submitted.append({"task_id": task_id, **json.loads(submission.task)})
        self.kept[submission.name] = json.dumps(task_id).encode()
        return task_id

    def ended(self, run: Run, result: Any, error: BaseException | None) -> TaskRun:
        """Return all of it, with the ending one."""
        self._add(run)
        return self._ended(json.loads(run.encoded_state()), result, error)

    def ended_before_it_began(self, state: Mapping[str, Any], error: BaseException) -> TaskRun:
        """Return what there is when no handler was called."""
        return self._ended(dict(state), None, error)

    def _ended(self, state: dict[str, Any], result: Any, error: BaseException | None) -> TaskRun:
        kept = {name: json.loads(value) for name, value in self.kept.items()}
        return TaskRun(
            list(self.reports),
            kept,
            self.notifications,
            self.questions,
            self.submitted,
            state,
            error,
            result,
        )

    def _add(self, run: Run) -> None:
        if run.plan is not self._plan:
            self._plan, self._view, self._steps = run.plan, PlanView(run.plan), {}
        fields = {**self._head, "status": run.status, **run.snapshot()}
        report = json.loads(self._view.show(fields))
        report["steps"] = [
            self._steps.setdefault((number, step["status"]), step)
            for number, step in enumerate(report["steps"])
        ]
        self.reports.append(report)


async def _call(kind: Kind, params: Any, run: Run, record: _Record) -> Any:
    def outcome() -> tuple[Any, BaseException | None]:
        try:
            return call(kind.function, params, run), None  # type: ignore[arg-type]
        except BaseException as error:
            # A StopIteration could not leave the thread.
            return None, error

    try:
        value, error = outcome() if kind.is_async else await in_thread(outcome, "handler")
        if error is not None:
            raise error
        return await value if inspect.isawaitable(value) else value
    except asyncio.CancelledError:
        # A thread goes on, until its next report.
        record.close()
        raise


def _run_in_loop(run: Coroutine[Any, Any, T]) -> T:
    # A factory leaves the thread's own event loop as it is.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(run)


def _kept_result(result: Any, most_bytes: int) -> Any:
    """Return a result as the worker keeps it. Raise ValueError in its words."""
    ending = end_with_result(result, most_bytes, any_json=True)
    if ending.outcome != Outcome.COMPLETED:
        raise ValueError(ending.error)
    return ending.result


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _read(kind: Kind, params: Any) -> tuple[Any, dict[str, Any]]:
    """Return parameters as a worker reads them, and as the server has stored them."""
    reader = reader_of(kind.params_class)
    if isinstance(params, kind.params_class):
        made, stored = params, reader.write(params)
    else:
        made, stored = reader.read(params)
    return reader.read_stored(stored, made), stored


def _label_of(kind: Kind, params: Any, stored: dict[str, Any]) -> str:
    try:
        return kind.label_of(params, stored)
    except Exception:
        # As the server does.
        return kind.title
