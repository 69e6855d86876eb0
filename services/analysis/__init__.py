"""The analysis of a stock: its plan, its progress, and the kind of work that it is."""

from services.analysis.kind import AnalysisKind, AnalysisTask, analysis_kind, legacy_arguments
from services.analysis.plan import (
    AnalysisParams,
    AnalysisStep,
    Analyst,
    TaskParams,
    estimate_seconds,
    make_plan,
    make_steps,
)
from services.analysis.tracker import (
    RedisProgressTracker,
    StepUnknown,
    plain_update,
    plan_fragment,
    read_update,
)

__all__ = [
    "AnalysisKind",
    "AnalysisParams",
    "AnalysisStep",
    "AnalysisTask",
    "Analyst",
    "RedisProgressTracker",
    "StepUnknown",
    "TaskParams",
    "analysis_kind",
    "estimate_seconds",
    "legacy_arguments",
    "make_plan",
    "make_steps",
    "plain_update",
    "plan_fragment",
    "read_update",
]
