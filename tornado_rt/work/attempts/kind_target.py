"""Kinds of work as targets: their handlers run on the loop, in threads, or in processes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tornado_rt.work import Kind, Run
from tornado_rt.work.attempts.backoff import Backoff
from tornado_rt.work.attempts.child import LoadKind, run_kind
from tornado_rt.work.attempts.endings import Ending
from tornado_rt.work.attempts.lessons import Lesson, Outline, outline_of
from tornado_rt.work.attempts.link import Link
from tornado_rt.work.attempts.models import NOTHING_KEPT, Kept, Outcome
from tornado_rt.work.attempts.process import TaskProcesses
from tornado_rt.work.attempts.runs import make_run, read_params
from tornado_rt.work.attempts.talk import KindTalk
from tornado_rt.work.attempts.target import Rules
from tornado_rt.work.attempts.threads import LoopWaiter, run_in_thread
from tornado_rt.work.attempts.tracing import Carry, carry_nothing
from tornado_rt.work.forecast import Forecast
from tornado_rt.work.handlers import call


class KindTarget:
    """Runs the handler of a kind: on the loop or in a thread, or with `load` in processes.

    `load` imports a kind by its name there: an object that can be pickled. `timeout_seconds` is
    that of a kind without one of its own; 0 is none. `result_bytes` bounds a result as JSON, 0 for
    any size. `carry` takes the trace of an attempt into its process, which has `carry_modules` from
    its start.
    """

    def __init__(
        self,
        kind: Kind,
        *,
        timeout_seconds: float = 0.0,
        result_bytes: int = 0,
        retry_spread: float = Backoff().spread,
        load: LoadKind | None = None,
        carry: Carry = carry_nothing,
        carry_modules: Sequence[str] = (),
    ) -> None:
        if kind.function is None:
            raise ValueError(f"kind {kind.name!r} has no handler")
        self.kind = kind
        self.function: Callable[..., Any] = kind.function
        self.load = load
        self.carry = carry
        self.rules = Rules(
            timeout_seconds=kind.timeout or timeout_seconds,
            result_bytes=result_bytes,
            any_json=True,
            retry_errors=kind.retry_errors,
            backoff=Backoff(*kind.backoff, retry_spread),
        )
        # The outline of a kind whose tasks are all alike.
        self._outline: Outline | None = None
        self.processes: TaskProcesses | None = None
        if load is not None:
            modules = [type(load).__module__, self.function.__module__, *carry_modules]
            self.processes = TaskProcesses(modules, result_bytes)

    def prepare(self, link: Link) -> "PreparedKind":
        """Read the parameters. Raise BadParams."""
        return PreparedKind(self, link, read_params(self.kind, link.task))

    def outline(self, params: Any, kept: Mapping[str, Any]) -> Outline:
        """Return what is known of a task; `kept`: its parameters as JSON has them.

        Raise whatever the author's functions raise.
        """
        kind = self.kind
        if callable(kind.steps) or callable(kind.expected_seconds) or kind.telling:
            return outline_of(kind, params, kept)
        if self._outline is None:
            self._outline = outline_of(kind, params, kept)
        return self._outline


class PreparedKind:
    """A task of a kind with its parameters."""

    def __init__(self, target: KindTarget, link: Link, params: Any) -> None:
        self.rules = target.rules.of(link.task.job)
        self._target = target
        self._link = link
        self._params = params
        self._run: Run | None = None
        self._outline: Outline | None = None
        # In place of the run, when that is in another process.
        self._talk: KindTalk | None = None
        self._stopping = False

    async def run(self) -> Any:
        """Run the handler, with what earlier attempts have kept."""
        link, target = self._link, self._target
        kept = await link.read_kept() if link.claim.kept else NOTHING_KEPT
        self._outline = outline = target.outline(self._params, link.task.params)
        forecast = await link.read_forecast(outline)
        waiter = None if target.kind.is_async else LoopWaiter()
        wait = None if waiter is None else waiter.wait
        run = make_run(outline, link.task, link, wait, kept, self.rules, forecast)
        self._run = run
        link.begin(run, kept.state)
        if self._stopping:
            run.stop()
        if target.processes is not None:
            return await self._call_in_process(target.processes, run, kept, forecast)
        if waiter is None:
            return await call(target.function, self._params, run)
        try:
            return await self._call_in_thread(run)
        finally:
            # Threads may be left that nobody waits for.
            waiter.close()

    def stop(self) -> None:
        """Let `run.stopping` be true."""
        self._stopping = True
        if self._run is not None:
            self._run.stop()
        if self._talk is not None:
            self._talk.stop()

    def last_fragment(self, outcome: Outcome, error: str) -> bytes | None:
        """Return the last state; None before there is a run."""
        told = self._talk and self._talk.told
        run = told or self._run
        if run is None:
            return None
        if outcome == Outcome.COMPLETED:
            run.complete()
        else:
            # It is kept when the task ends by it.
            run.fail(error)
        return run.fragment()

    def lesson(self) -> Lesson | None:
        """Return what the completed task has taught, as far as that is wanted."""
        run = (self._talk and self._talk.told) or self._run
        if run is None or self._outline is None:
            return None
        return self._link.lesson(self._outline, run.lesson)

    async def _call_in_thread(self, run: Run) -> Any:
        target, params = self._target, self._params

        def leave_threads() -> None:
            self._link.close_threads()
            # One that waits for the stop sees that it is left.
            run.stop()

        return await run_in_thread(
            lambda: call(target.function, params, run),
            self.rules.judge,
            self._link.task.task_id,
            leave_threads,
        )

    async def _call_in_process(
        self, processes: TaskProcesses, run: Run, kept: Kept, forecast: Forecast | None
    ) -> Ending:
        target, task = self._target, self._link.task
        self._talk = talk = KindTalk(self._link, run.plan, kept, self.rules, run.forecast)
        if run.stopping:
            talk.stop()
        arguments = (target.load, self.rules, task, kept, forecast, target.carry())
        return await processes.run(run_kind, arguments, task.task_id, talk.follow)
