"""The plan of the analysis, under the name that it had."""

from services.analysis.plan import Analyst, Step, TaskParams, estimate_seconds, make_steps

__all__ = ["Analyst", "Step", "TaskParams", "estimate_seconds", "make_steps"]
