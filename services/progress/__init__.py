"""The plan of an analysis, and how far it is."""

from services.progress.plan import Analyst, Step, TaskParams, estimate_seconds, make_steps
from services.progress.snapshot import decode_shown, show, show_message
from services.progress.stores import (
    FileProgressStore,
    LeaseLost,
    RedisProgressStore,
    get_progress,
)
from services.progress.tracker import (
    RedisProgressTracker,
    StepUnknown,
    plain_update,
    plan_fragment,
    read_update,
)

__all__ = [
    "Analyst",
    "FileProgressStore",
    "LeaseLost",
    "RedisProgressStore",
    "RedisProgressTracker",
    "Step",
    "StepUnknown",
    "TaskParams",
    "decode_shown",
    "estimate_seconds",
    "get_progress",
    "make_steps",
    "plain_update",
    "plan_fragment",
    "read_update",
    "show",
    "show_message",
]
