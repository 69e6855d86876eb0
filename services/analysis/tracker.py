"""Progress of one attempt, told step by step."""

import time
from collections.abc import Sequence
from typing import Any

import orjson

from services.analysis.plan import (
    Analyst,
    Step,
    TaskParams,
    estimate_seconds,
    make_plan,
    make_steps,
)
from services.progress.snapshot import PlanView
from services.progress.stores import FileProgressStore, ProgressStore
from tornado_rt.protocol import iso_time
from tornado_rt.work import MAX_MESSAGE_LENGTH, WAITING, Plan, clean_text
from tornado_rt.work.values import as_percent, cut

# From which share done on the time left follows the pace alone.
PACE_TRUSTED_FROM = 0.25
# How much of a step that is none is said.
MAX_STEP_LENGTH = 100


class StepUnknown(ValueError):
    """A step was named that the plan does not have."""


class RedisProgressTracker:
    """Follows the plan of one analysis.

    `store` keeps each state: None keeps files under the data folder. Progress never goes backwards.
    The time left is the plan's at first, and more and more the one that the pace so far foretells.
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
        self.status = "processing"
        self.message = WAITING
        self._plan = make_plan(analysts, research_depth)
        self._planned_seconds = estimate_seconds(analysts, research_depth, llm_provider)
        self._store = store or FileProgressStore()
        self._current = 0
        self._begun = False
        self._progress = 0.0
        self._started = time.monotonic()
        self._ended: float | None = None

    @property
    def plan(self) -> Plan:
        """The plan, which snapshots name by its digest."""
        return self._plan

    @property
    def progress(self) -> float:
        """How much is done, from 0 to 100."""
        return self._progress

    async def update_progress(self, progress_update: str | dict[str, Any]) -> None:
        """Tell where the work is: a message for the current step, or `{"step", "message"?}`.

        `step` is a step's name or its index from 0; all before it are done. A step that was left
        behind changes the message only. A message may be any object: its text is cleaned, and cut
        to 2,000 characters. Raise StepUnknown; LeaseLost from the store.
        """
        step, message = read_update(progress_update, self.steps)
        if isinstance(progress_update, dict):
            at = min(self._current, len(self.steps) - 1) if step is None else step
            self._go_to(at)
            message = self.steps[at].description if message is None else message
        self.message, self._begun = message or "", True
        await self._save()

    async def mark_completed(self, message: str = "Done") -> None:
        """End with everything done."""
        self.complete(message)
        await self._save()

    async def mark_failed(self, reason: str) -> None:
        """End where the work stands."""
        self.fail(reason)
        await self._save()

    def complete(self, message: str = "Done") -> None:
        """Do as `mark_completed`, and keep nothing."""
        self._current = len(self.steps)
        self._end("completed", message, 100.0)

    def fail(self, reason: str) -> None:
        """Do as `mark_failed`, and keep nothing."""
        self._end("failed", reason, self._progress)

    def elapsed_seconds(self) -> float:
        """Return how long the attempt took so far."""
        return (self._ended or time.monotonic()) - self._started

    def remaining_seconds(self) -> float:
        """Return how long the rest is expected to take; 0 once it has ended."""
        if self._ended is not None:
            return 0.0
        done = self._progress / 100
        planned = self._planned_seconds * (1 - done)
        if not done:
            return planned
        paced = self.elapsed_seconds() / done * (1 - done)
        trust = min(done / PACE_TRUSTED_FROM, 1.0)
        return trust * paced + (1 - trust) * planned

    def state(self) -> dict[str, Any]:
        """Return what is kept of the snapshot, but the task's id, status and attempt."""
        elapsed, remaining = self.elapsed_seconds(), self.remaining_seconds()
        at = min(self._current, len(self.steps) - 1)
        return {
            "progress": as_percent(self._progress / 100),
            "message": self.message,
            "current_step": at,
            "current_step_name": self.steps[at].description,
            "total_steps": len(self.steps),
            "plan": self._plan.digest,
            "marks": self._marks(),
            "elapsed_time": round(elapsed, 1),
            "remaining_time": round(remaining, 1),
            "estimated_total_time": round(elapsed + remaining, 1),
            "updated_at": iso_time(),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the snapshot (design section 8)."""
        head = {"task_id": self.task_id, "status": self.status, "attempt": self.attempt}
        shown: dict[str, Any] = orjson.loads(PlanView(self._plan).show(head | self.state()))
        return shown

    def fragment(self) -> bytes:
        """Return `state` as JSON without its braces, as the queue wants it."""
        return _encode(self.state())

    def _go_to(self, step: int) -> None:
        self._current = max(self._current, step)
        done = sum(leaf.share for leaf in self._plan.leaves[: self._current]) * 100
        self._progress = max(self._progress, min(done, 100.0))

    def _marks(self) -> str:
        here = "r" if self._begun else "p"
        return ("c" * self._current + here).ljust(len(self.steps), "p")[: len(self.steps)]

    def _end(self, status: str, message: str, progress: float) -> None:
        self.status, self._progress = status, progress
        self.message = clean_text(message, MAX_MESSAGE_LENGTH)
        self._ended = time.monotonic()

    async def _save(self) -> None:
        await self._store.save(self)


def read_update(update: object, steps: Sequence[Step]) -> tuple[int | None, str | None]:
    """Return the index of the step and the message that a report names, None where it does not.

    Keys that are not ours are passed over. Raise StepUnknown.
    """
    if not isinstance(update, dict):
        return None, clean_text(update, MAX_MESSAGE_LENGTH)
    step = _index_of(update["step"], steps) if "step" in update else None
    message = update.get("message")
    return step, None if message is None else clean_text(message, MAX_MESSAGE_LENGTH)


def plain_update(update: object, steps: Sequence[Step]) -> str | dict[str, Any]:
    """Return a report as `read_update` reads it, of plain objects: to look at it runs no code."""
    step, message = read_update(update, steps)
    if not isinstance(update, dict):
        return message or ""
    fields = {"step": step, "message": message}
    return {name: value for name, value in fields.items() if value is not None}


def _index_of(step: object, steps: Sequence[Step]) -> int:
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
    tracker = RedisProgressTracker("", params.analysts, params.research_depth, params.llm_provider)
    return _encode(tracker.state() | {"elapsed_time": 0.0})


def _encode(state: dict[str, Any]) -> bytes:
    """Return a JSON object without its braces, for the queue to put a head before it."""
    return orjson.dumps(state)[1:-1]
