"""Progress of one attempt, told step by step."""

from collections.abc import Sequence
from typing import Any

import orjson

from services.analysis.plan import AnalysisStep, Analyst, TaskParams, make_steps, outline_of
from services.progress.snapshot import PlanView
from services.progress.stores import FileProgressStore, ProgressStore
from tornado_rt.work import MAX_MESSAGE_LENGTH, Plan, Run, clean_text, first_fragment
from tornado_rt.work.forecast import Forecast
from tornado_rt.work.values import cut

# Most characters of an unknown step that are repeated.
MAX_STEP_LENGTH = 100


class StepUnknown(ValueError):
    """A step was named that the plan does not have."""


class RedisProgressTracker:
    """Follows the plan of one analysis.

    `store` keeps each state: None keeps files under the data folder. Progress never goes backwards.
    The time left is the plan's at first; from then on it follows what is known of analyses like
    this one, and how this one goes.
    """

    def __init__(
        self,
        task_id: str,
        analysts: list[Analyst],
        research_depth: int,
        llm_provider: str,
        *,
        attempt: int = 1,
        store: ProgressStore | None = None,
    ) -> None:
        self.task_id = task_id
        self.attempt = attempt
        self.steps = make_steps(analysts, research_depth)
        self.outline = outline_of(analysts, research_depth, llm_provider)
        self._store = store or FileProgressStore()
        self._run = self._new_run(None)
        self._begun = False

    @property
    def status(self) -> str:
        """`processing`, `completed` or `failed`."""
        return self._run.status

    @property
    def message(self) -> str:
        """The message of the last report."""
        return self._run.message

    @property
    def plan(self) -> Plan:
        """The plan, which snapshots name by its digest."""
        assert self._run.plan is not None
        return self._run.plan

    @property
    def progress(self) -> float:
        """The progress, from 0 to 100."""
        return self._run.progress

    def expect(self, forecast: Forecast | None) -> None:
        """Take what is known of analyses like this one; after the first report nothing changes."""
        if not self._begun:
            self._run = self._new_run(forecast)

    async def update_progress(self, progress_update: str | dict[str, Any]) -> None:
        """Tell where the work is: a message for the current step, or `{"step", "message"?}`.

        `step` is a step's name or its index from 0; all before it are done. A step that was left
        behind changes the message only. A message may be any object: its text is cleaned, and cut
        to 2,000 characters. Raise StepUnknown; LeaseLost from the store.
        """
        step, message = read_update(progress_update, self.steps)
        await self._begin()
        at = self._run.snapshot()["current_step"] if step is None else step
        if message is None and not isinstance(progress_update, dict):
            message = ""
        self._run.go_to(at, message)
        await self._store.save(self)

    async def mark_completed(self, message: str = "Done") -> None:
        """End with everything done."""
        await self._begin()
        self.complete(message)
        await self._store.save(self)
        if (times := self.lesson()) is not None:
            await self._store.learn(self.outline, self.task_id, times)

    async def mark_failed(self, reason: str) -> None:
        """End where the work stands."""
        self.fail(reason)
        await self._store.save(self)

    def complete(self, message: str = "Done") -> None:
        """Do as `mark_completed`, and keep nothing."""
        self._run.complete(message)

    def fail(self, reason: str) -> None:
        """Do as `mark_failed`, and keep nothing."""
        self._run.fail(reason)

    def elapsed_seconds(self) -> float:
        """Return how long the attempt took so far."""
        return self._run.elapsed_seconds()

    def remaining_seconds(self) -> float | None:
        """Return how long the rest is expected to take: 0 once it has ended."""
        return self._run.remaining_seconds()

    def look_in(self) -> float | None:
        """Return after how many seconds without a report the time left is news; None: never."""
        return self._run.look_in()

    def lesson(self) -> list[tuple[str, float]] | None:
        """Return the times [s] of its steps, once it is completed."""
        return self._run.lesson()

    def state(self) -> dict[str, Any]:
        """Return what is kept of the snapshot, but the task's id, status and attempt."""
        return self._run.snapshot()

    def to_dict(self) -> dict[str, Any]:
        """Return the snapshot (design section 8)."""
        head = {"task_id": self.task_id, "status": self.status, "attempt": self.attempt}
        shown: dict[str, Any] = orjson.loads(PlanView(self.plan).show(head | self.state()))
        return shown

    def fragment(self) -> bytes:
        """Return `state` as JSON without its braces, as the queue wants it."""
        return orjson.dumps(self.state())[1:-1]

    async def _begin(self) -> None:
        if not self._begun:
            self.expect(await self._store.forecast(self.outline))
            self._begun = True

    def _new_run(self, forecast: Forecast | None) -> Run:
        known = self.outline
        return Run(plan=known.plan, expected_seconds=known.expected, forecast=forecast)


def read_update(update: object, steps: Sequence[AnalysisStep]) -> tuple[int | None, str | None]:
    """Return the index of the step and the message that a report names, None where it does not.

    Keys that are not ours are passed over. Raise StepUnknown.
    """
    if not isinstance(update, dict):
        return None, clean_text(update, MAX_MESSAGE_LENGTH)
    step = _index_of(update["step"], steps) if "step" in update else None
    message = update.get("message")
    return step, None if message is None else clean_text(message, MAX_MESSAGE_LENGTH)


def plain_update(update: object, steps: Sequence[AnalysisStep]) -> str | dict[str, Any]:
    """Return a report as `read_update` reads it, of plain objects: to look at it runs no code."""
    step, message = read_update(update, steps)
    if not isinstance(update, dict):
        return message or ""
    fields = {"step": step, "message": message}
    return {name: value for name, value in fields.items() if value is not None}


def _index_of(step: object, steps: Sequence[AnalysisStep]) -> int:
    # True is an int to Python, and no step.
    if isinstance(step, int) and not isinstance(step, bool) and 0 <= step < len(steps):
        return int(step)
    for index, known in enumerate(steps):
        if isinstance(step, str) and known.name == step:
            return index
    raise StepUnknown(f"the plan has no step {_tell(step)}")


def _tell(step: object) -> str:
    if isinstance(step, str):
        step = repr(cut(str(step), MAX_STEP_LENGTH))
    elif not isinstance(step, int | float):
        step = type(step).__name__
    return clean_text(step, MAX_STEP_LENGTH)


def plan_fragment(params: TaskParams) -> bytes:
    """Return the first fragment of a task's snapshot: nothing done, the plan and its time."""
    outline = outline_of(params.analysts, params.research_depth, params.llm_provider)
    return first_fragment(outline.plan, outline.expected)
