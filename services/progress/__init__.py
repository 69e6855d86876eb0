"""Snapshots of tasks: their form, and the stores that keep them.

What is the analysis's own is looked up when it is asked for: its tracker needs the stores here.
"""

import importlib
from typing import TYPE_CHECKING, Any

from services.progress.plans import PlanBook
from services.progress.snapshot import PlanView
from services.progress.stores import (
    FileProgressStore,
    ProgressStore,
    RedisProgressStore,
    get_progress,
)
from tornado_rt.work import LeaseLost

if TYPE_CHECKING:
    from services.analysis import (
        AnalysisStep,
        Analyst,
        RedisProgressTracker,
        StepUnknown,
        TaskParams,
        estimate_seconds,
        make_steps,
        plain_update,
        plan_fragment,
        read_update,
    )

__all__ = [
    "AnalysisStep",
    "Analyst",
    "FileProgressStore",
    "LeaseLost",
    "PlanBook",
    "PlanView",
    "ProgressStore",
    "RedisProgressStore",
    "RedisProgressTracker",
    "StepUnknown",
    "TaskParams",
    "estimate_seconds",
    "get_progress",
    "make_steps",
    "plain_update",
    "plan_fragment",
    "read_update",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("..analysis", __name__), name)
