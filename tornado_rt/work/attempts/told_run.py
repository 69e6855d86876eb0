"""A run in another process, as far as it was told."""

import json
import math
import re
import time
from collections.abc import Mapping
from typing import Any

import orjson

from tornado_rt.work import (
    MAX_MESSAGE_LENGTH,
    MAX_STEP_LENGTH,
    MOST_STATE_BYTES,
    Plan,
    clean_line,
    clean_text,
)
from tornado_rt.work.attempts.channel import NOT_OURS, BadMessage
from tornado_rt.work.clock import iso_now
from tornado_rt.work.course import MAX_UNIT_LENGTH
from tornado_rt.work.forecast import Forecast
from tornado_rt.work.run import NO_STATE
from tornado_rt.work.timekeeper import NOTHING_LEFT, Sight, Timekeeper, times_shown

MARKS = re.compile(r"[prcs]*")
COUNTS = ("done", "total")


class ToldRun:
    """The last state of a run that its process sent; each part is checked as untrusted input."""

    def __init__(
        self,
        plan: Plan | None,
        state: bytes,
        forecast: Forecast | None = None,
        *,
        resumes: bool = False,
    ) -> None:
        self.plan = plan
        self._keeper = Timekeeper(forecast)
        # Whether its first progress may be what an earlier attempt did.
        self._resumes = resumes
        # When the attempt began, by the reports (monotonic), and when it ended, from there.
        self._began = time.monotonic()
        self._ended: float | None = None
        self._state = state or NO_STATE
        self.fields: dict[str, Any] = {}
        # At a good end.
        self._last: dict[str, Any] = {}
        self._progress = 0.0

    def take(self, fragment: str, percent: float, state: str | None, plan: str | None) -> None:
        """Take a report. Raise BadMessage."""
        try:
            if plan is not None:
                self.plan = Plan.read(plan)
            if state is not None:
                self._state = _read_state(state)
            self.show(orjson.loads("{" + fragment + "}"), percent)
        except (ValueError, TypeError, KeyError, RecursionError):
            raise BadMessage(NOT_OURS) from None

    def show(self, snapshot: Mapping[str, Any], percent: float) -> None:
        """Take a snapshot, as `Run.snapshot` makes it. Raise ValueError, TypeError, KeyError."""
        self.fields = fields = self._read_fields(snapshot)
        self._progress = min(max(_number(percent), 0.0), 100.0)
        elapsed = max(fields["elapsed_time"], 0.0)
        self._began = time.monotonic() - elapsed
        leaves = () if self.plan is None else self.plan.leaves
        sight = Sight(
            leaves,
            fields["marks"],
            fields["current_step"],
            fields.get("step_progress", 0.0) / 100,
            self._progress / 100,
            fields.get("steps_open", False),
        )
        self._keeper.see(sight, elapsed, free=self._resumes)
        self._resumes = self._resumes and not self._progress

    def take_last(self, fragment: str) -> None:
        """Take the state at a good end, for `complete`. Raise BadMessage."""
        try:
            last = self._read_fields(orjson.loads("{" + fragment + "}"))
            self._ended = last["elapsed_time"]
            self._last = last | times_shown(self._keeper, last["elapsed_time"], NOTHING_LEFT)
        except (ValueError, TypeError, KeyError, RecursionError):
            raise BadMessage(NOT_OURS) from None

    def complete(self) -> None:
        """End with everything done, as far as the process has told how that looks."""
        self.fields = self._last or self.fields

    def fail(self, reason: str) -> None:
        """End where the work stands."""
        self.fields |= {
            "message": clean_text(reason, MAX_MESSAGE_LENGTH),
            "updated_at": iso_now(),
        }
        self.end()

    def end(self) -> None:
        """Let no time be left."""
        self._ended = self.fields["elapsed_time"]
        self.fields |= times_shown(self._keeper, self._ended, NOTHING_LEFT)

    def look_in(self) -> float | None:
        """Return after how many seconds without a report the time left is news; None: never."""
        return None if self._ended is not None else self._keeper.look_in(self._elapsed())

    def lesson(self) -> list[tuple[str, float]] | None:
        """Return the times [s] of the segments of a completed run, None when it teaches nothing."""
        return self._keeper.lesson(self._elapsed())

    def fragment_and_plan(self) -> tuple[bytes, float, Plan | None]:
        """Return the fragment, how much is done (0 to 100), and the plan."""
        return self.fragment(), self._progress, self.plan

    def fragment(self) -> bytes:
        """Return the snapshot as JSON without its braces."""
        if self._ended is None and self.fields:
            elapsed = self._elapsed()
            self.fields |= times_shown(self._keeper, elapsed, self._keeper.tell(elapsed))
            self.fields["updated_at"] = iso_now()
        return orjson.dumps(self.fields)[1:-1]

    def encoded_state(self) -> bytes:
        """Return what the handler keeps, as JSON."""
        return self._state

    def _elapsed(self) -> float:
        return time.monotonic() - self._began if self._ended is None else self._ended

    def _read_fields(self, told: Mapping[str, Any]) -> dict[str, Any]:
        if told["plan"] is None:
            self.plan = None
        plan, marks = self.plan, told["marks"]
        leaves = 0 if plan is None else len(plan.leaves)
        if plan is not None and told["plan"] != plan.digest:
            raise ValueError
        if len(marks) != leaves or not MARKS.fullmatch(marks):
            raise ValueError
        fields: dict[str, Any] = {"plan": told["plan"], "marks": marks, "total_steps": leaves}
        fields["current_step"] = min(max(int(_number(told["current_step"])), 0), max(leaves - 1, 0))
        fields["progress"] = min(max(_number(told["progress"]), 0.0), 100.0)
        fields["elapsed_time"] = _number(told["elapsed_time"])
        fields |= {name: _number(told[name]) for name in COUNTS if name in told}
        if "step_progress" in told:
            fields["step_progress"] = min(max(_number(told["step_progress"]), 0.0), 100.0)
        if told.get("steps_open") is True:
            fields["steps_open"] = True
        if "unit" in told:
            fields["unit"] = clean_line(told["unit"], MAX_UNIT_LENGTH)
        fields["message"] = clean_text(told["message"], MAX_MESSAGE_LENGTH)
        fields["current_step_name"] = clean_line(told["current_step_name"], MAX_STEP_LENGTH)
        fields["updated_at"] = iso_now()
        return fields


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError
    return value


def _read_state(state: str) -> bytes:
    # The standard library wrote this, so it reads it too: large integers stay as they are.
    encoded = state.encode()
    if len(encoded) > MOST_STATE_BYTES or not isinstance(json.loads(state), dict):
        raise ValueError
    return encoded
