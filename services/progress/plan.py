"""The plan of the analysis, under the name that it had."""

from services.analysis.plan import AnalysisStep, Analyst, TaskParams, estimate_seconds, make_steps

__all__ = ["AnalysisStep", "Analyst", "TaskParams", "estimate_seconds", "make_steps"]
