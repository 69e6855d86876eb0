"""The first snapshot of a task, before any attempt has begun."""

import functools
from collections.abc import Mapping
from typing import Any

from tornado_rt.work.clock import iso_now
from tornado_rt.work.forecast import Forecast
from tornado_rt.work.plan import Plan
from tornado_rt.work.run import Run
from tornado_rt.work.values import json_of


def first_fragment(
    plan: Plan | None, expected_seconds: float | None, forecast: Forecast | None = None
) -> bytes:
    """Return the fragment of a waiting task: nothing done, its plan, and how long it will take."""
    shown = {**_first_snapshot(plan, expected_seconds, forecast), "updated_at": iso_now()}
    return json_of(shown)[1:-1]


# Many tasks of a kind are submitted.
@functools.lru_cache(maxsize=256)
def _first_snapshot(
    plan: Plan | None, expected_seconds: float | None, forecast: Forecast | None
) -> Mapping[str, Any]:
    run = Run(plan=plan, expected_seconds=expected_seconds, forecast=forecast, clock=lambda: 0.0)
    shown = run.snapshot()
    # Each waiting task has it: the times of its steps wait for its start.
    shown.pop("usual", None)
    return shown
