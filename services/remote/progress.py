"""The progress of a task of a worker elsewhere: a local run that follows the worker's reports.

A worker may tell the whole snapshot in place of that, as `Run` makes it: then it is looked at as
another's, and shown as it is.
"""

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from services.remote.items import ABSENT, ReportedItem
from services.remote.plans import read_plan
from tornado_rt.protocol import iso_time
from tornado_rt.work import Plan, Run, Step
from tornado_rt.work.attempts.told_run import ToldRun
from tornado_rt.work.forecast import Forecast
from tornado_rt.work.plan import StepPath


class RemoteRun(Run):
    """A run that is told where the work is, each time whole: nothing depends on earlier reports."""

    def go_on(self, item: ReportedItem) -> None:
        """Do what a report says. Raise ValueError."""
        if item.step is not None:
            names = [item.step] if isinstance(item.step, str) else item.step
            self.go_to(self._leaf_of(tuple(names)))
        if item.progress is not None:
            with self._changed() as course, self._resumed(course):
                whole = course.places[()]
                whole.fraction = max(whole.fraction, item.progress / 100)
        self.update(item.fraction, item.message, done=item.done, total=item.total, unit=item.unit)

    def resume(self, marks: str, percent: float) -> None:
        """Take over what another process knew: a letter for each leaf, and how much is done."""
        with self._changed() as course, self._free(course):
            for leaf, mark in zip(course.leaves, marks, strict=False):
                if mark in "cs":
                    course.end(leaf.path, mark)
                elif mark == "r":
                    course.begin(leaf.path)
            course.places[()].fraction = min(max(percent / 100, 0.0), 1.0)

    def fragment(self) -> bytes:
        return orjson.dumps(self.snapshot())[1:-1]

    def _leaf_of(self, path: StepPath) -> int:
        """Return the first leaf of a step, which is added when the plan does not have it."""
        spans = {} if self.plan is None else self.plan.spans
        if path in spans:
            return spans[path].start
        # A name stands for the first step that has it, wherever that is.
        found = (span.start for known, span in spans.items() if known[-1:] == path[-1:] != ())
        place = next(found, None) if len(path) == 1 else None
        if place is not None:
            return place
        steps = () if self.plan is None else self.plan.steps
        self.set_plan((*steps, Step(path[-1])))
        return len(self._course.leaves) - 1


class ToldElsewhere(ToldRun):
    """A run elsewhere, as far as it was told; its end is shown here."""

    def complete(self) -> None:
        """Show everything as done."""
        marks = self.fields["marks"]
        self.fields |= {
            "progress": 100.0,
            "message": "Done",
            "marks": marks.replace("p", "c").replace("r", "c"),
            "current_step": max(len(marks) - 1, 0),
            "updated_at": iso_time(),
        }
        self.end()
        if self.plan is not None:
            self.fields["current_step_name"] = self.plan.leaves[-1].title


class Progress:
    """The progress of one attempt, in whichever form its worker tells it.

    `plan` and `expected` [s] are those that the task was made with, `elapsed` how long it has run,
    `forecast` what is known of tasks like it.
    """

    def __init__(
        self,
        plan: Plan | None,
        expected: float | None,
        elapsed: float = 0.0,
        forecast: Forecast | None = None,
    ) -> None:
        self._first_plan = plan
        self._forecast = forecast or Forecast({}, length=expected)
        self._run: RemoteRun | ToldElsewhere = self._new_run(plan, elapsed)

    @property
    def plan(self) -> Plan | None:
        """The plan as it is now."""
        return self._run.plan

    def resume(self, snapshot: Mapping[str, Any]) -> None:
        """Take over what another process knew, as far as it can be read."""
        marks, percent = snapshot.get("marks"), snapshot.get("progress")
        if isinstance(self._run, RemoteRun) and isinstance(marks, str):
            self._run.resume(marks, percent if isinstance(percent, int | float) else 0.0)

    def take(self, item: ReportedItem) -> None:
        """Do what a report says. Raise ValueError."""
        if item.snapshot is not None:
            self._take_whole(item)
            return
        if not isinstance(self._run, RemoteRun):
            # The worker tells it the other way from now on.
            told = self._run
            self._run = self._new_run(told.plan, told.fields["elapsed_time"])
            self.resume(told.fields)
        if item.plan is not ABSENT:
            plan = read_plan(item.plan)
            self._run.set_plan(None if plan is None else plan.steps)
        self._run.go_on(item)

    def tell(self) -> tuple[bytes, float, Plan | None]:
        """Return the fragment of the snapshot, how much is done (0 to 100), and the plan."""
        return self._run.fragment_and_plan()

    def fragment(self) -> bytes:
        """Return the snapshot as JSON without its braces."""
        return self._run.fragment()

    def end(self, reason: str | None) -> bytes:
        """Return the last fragment: of a completed task, or of one that failed for a reason."""
        if reason is None:
            self._run.complete()
        else:
            self._run.fail(reason)
        return self._run.fragment()

    def look_in(self) -> float | None:
        """Return after how many seconds without a report the time left is news; None: never."""
        return self._run.look_in()

    def lesson(self) -> list[tuple[str, float]] | None:
        """Return the times [s] of a completed task's segments; None: it teaches nothing."""
        return self._run.lesson()

    def _new_run(self, plan: Plan | None, elapsed: float) -> RemoteRun:
        return RemoteRun(plan=plan, forecast=self._forecast, clock=_clock_since(elapsed))

    def _take_whole(self, item: ReportedItem) -> None:
        assert item.snapshot is not None
        told = self._run
        if not isinstance(told, ToldElsewhere):
            # An earlier report may be a part of this one.
            told = ToldElsewhere(self.plan, b"", self._forecast, resumes=told.progress > 0)
        before = told.plan
        if item.plan is not ABSENT:
            told.plan = read_plan(item.plan)
        try:
            told.show(item.snapshot, item.snapshot["progress"])
        except (ValueError, TypeError, KeyError, AttributeError):
            told.plan = before
            raise ValueError("it is no snapshot of a run, or not of its plan") from None
        self._run = told


def done_fragment(plan: Plan | None, elapsed: float) -> bytes:
    """Return the last fragment of a task that was completed after these seconds."""
    took = round(elapsed, 1)
    times = {"elapsed_time": took, "estimated_total_time": took, "updated_at": iso_time()}
    return orjson.dumps(_done(plan) | times)[1:-1]


@functools.lru_cache(maxsize=256)
def _done(plan: Plan | None) -> dict[str, Any]:
    run = RemoteRun(plan=plan)
    run.complete()
    return run.snapshot()


def _clock_since(elapsed: float) -> Callable[[], float]:
    """Return a clock by which a run that is made now began some seconds ago."""
    first = [time.monotonic() - elapsed]
    return lambda: first.pop() if first else time.monotonic()
