"""Tasks as workers elsewhere are sent them."""

import functools
import json
from collections.abc import Mapping
from typing import Any

import orjson

from services.queue import Claim, Kept, iso_of
from tornado_rt.work import Plan


def show_task(
    claim: Claim,
    plan: Plan | None,
    facts: Mapping[str, Any],
    kept: Kept | None = None,
    used_seconds: float = 0.0,
) -> bytes:
    """Return a claimed task as JSON; `facts` is the description of its kind, {} when unknown.

    `kept`: what earlier attempts left, None: nothing. `used_seconds`: how long they took.
    """
    task, job = claim.task, claim.task.job
    left = max(job.budget_seconds - used_seconds, 0.0) if job.budget_seconds else None
    return orjson.dumps(
        {
            "task_id": task.task_id,
            "token": claim.token,
            "kind": task.kind,
            "label": job.label,
            "user_id": task.user_id,
            "batch_id": task.batch_id,
            "attempt": task.attempt,
            "params": job.params,
            "tags": job.tags,
            **job.trace,
            "timeout": job.timeout or facts.get("timeout", 0.0),
            "budget_seconds": job.budget_seconds or None,
            "budget_left": left,
            "plan": None if plan is None else orjson.Fragment(plan.text),
            "expected_seconds": facts.get("expected_seconds"),
            "kept": {} if kept is None else _results(kept),
            "state": _json(kept.state) if kept and kept.state else {},
            "created_at": iso_of(task.created_at),
            "started_at": _start(task.started_at),
        }
    )


# Many start in the same moment.
_start = functools.lru_cache(maxsize=1)(iso_of)


def _results(kept: Kept) -> dict[str, Any]:
    return {name: _json(value) for name, value in kept.results.items()}


def _json(text: bytes) -> orjson.Fragment | None:
    """Return JSON as it is kept; null for what cannot be read."""
    try:
        # As it was written: integers of any size stay as they are.
        json.loads(text)
    except (ValueError, RecursionError):
        return None
    return orjson.Fragment(text)
