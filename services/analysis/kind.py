"""The analysis as a kind of work, and what its handlers of (task, progress) are given."""

import functools
from typing import Any

import attrs
import orjson

from services.analysis.plan import (
    NAME,
    TELLING,
    AnalysisParams,
    AnalysisStep,
    estimate_seconds,
    make_steps,
)
from services.analysis.tracker import RedisProgressTracker
from services.progress.stores import ProgressStore
from services.queue import Task, TaskState
from settings import Settings
from tornado_rt.bounds import OutOfBounds
from tornado_rt.json_body import structure
from tornado_rt.problems import Problem
from tornado_rt.work import Kind
from tornado_rt.work.texts import stored_phrase


@attrs.frozen(eq=False)
class AnalysisKind(Kind):
    """A kind whose handler is `MODULE:FUNCTION` of (task, progress), "" for none here."""

    handler_path: str = attrs.field(default="", kw_only=True)


@attrs.frozen
class AnalysisTask:
    """An analysis as its handler gets it; times are seconds since the epoch."""

    task_id: str
    user_id: str
    symbol: str
    params: dict[str, Any]
    batch_id: str | None
    status: TaskState
    attempt: int
    created_at: float
    started_at: float | None


def analysis_kind(handler_path: str | None, settings: Settings) -> AnalysisKind:
    """Return the kind; `handler_path` None for a process that only takes tasks in."""
    return AnalysisKind(
        NAME,
        AnalysisParams,
        title=stored_phrase("Analysis"),
        label="{symbol}",
        steps=_steps_of,
        shown=("symbol",),
        telling=TELLING,
        max_attempts=settings.queue.queue_max_attempts,
        retry_errors=False,
        expected_seconds=_expected_of,
        handler_path=handler_path or "",
    )


def legacy_arguments(
    task: Task, store: ProgressStore | None
) -> tuple[AnalysisTask, RedisProgressTracker]:
    """Return what a handler is given for a claimed task. Raise OutOfBounds for bad parameters."""
    # An earlier version kept the symbol beside the parameters; it is the label in both.
    params = _read_params(orjson.dumps({"symbol": task.label, **task.params}))
    given = AnalysisTask(
        task_id=task.task_id,
        user_id=task.user_id,
        symbol=params.symbol,
        params={
            "analysts": [str(one) for one in params.analysts],
            "research_depth": params.research_depth,
            "llm_provider": params.llm_provider,
        },
        batch_id=task.batch_id,
        status=task.status,
        attempt=task.attempt,
        created_at=task.created_at,
        started_at=task.started_at,
    )
    tracker = RedisProgressTracker(
        task.task_id,
        params.analysts,
        params.research_depth,
        params.llm_provider,
        attempt=task.attempt,
        store=store,
    )
    return given, tracker


# Most tasks ask for what others asked for.
@functools.lru_cache(maxsize=1024)
def _read_params(params: bytes) -> AnalysisParams:
    try:
        return structure(orjson.loads(params), AnalysisParams)
    except Problem as problem:
        raise OutOfBounds("; ".join(problem.errors or [problem.detail])) from None


def _steps_of(params: AnalysisParams) -> list[AnalysisStep]:
    return make_steps(params.analysts, params.research_depth)


def _expected_of(params: AnalysisParams) -> float:
    return estimate_seconds(params.analysts, params.research_depth, params.llm_provider)
