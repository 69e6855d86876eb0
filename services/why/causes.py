"""The one reason why a task is where it is."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from services.queue import KnownWorker, TaskState
from services.why.gathering import Facts
from services.why.hearing import HINDRANCES, hearing, post_trouble
from services.why.words import WORDS, Behind, Places, ToldCause
from tornado_rt.work.texts import Text

# A silent worker still counts for this long [s], as in the queue.
SILENT_SECONDS = 30.0
# A lease is extended three times while it lasts: then it is this share of it old at most.
EXTENDED_SHARE = 0.6
# The texts of attempts that were stopped (tornado_rt/work/attempts/endings.py).
TOO_LONG = re.compile(r"took longer than [0-9.e+-]+ s")
OUT_OF_BUDGET = re.compile(r"took longer than [0-9.e+-]+ s in all attempts")
# The name under which a server takes tasks for workers that are elsewhere.
ELSEWHERE = re.compile("remote:[0-9a-f]{16}")
GAVE_UP = {"error": "attempts_used", "retry": "retries_used", "lost": "lost_too_often"}
MOST_NAMED = 5


def cause_of(facts: Facts) -> ToldCause:
    """Return why the task is where it is, or why its user has not heard of its end."""
    return CAUSES[facts.queue.task.status](facts)


def variables_of(facts: Facts, **more: Any) -> dict[str, Any]:
    """Return the variables of most sentences, and some more."""
    known = facts.queue
    task = known.task
    return {
        "kind": task.kind,
        "user": task.user_id,
        "attempt": task.attempt,
        "max_attempts": task.max_attempts,
        "worker": worker_of(facts),
        **more,
    }


def _delayed(facts: Facts) -> ToldCause:
    task = facts.queue.task
    if task.attempt and task.attempts:
        error = task.attempts[-1]["error"] or task.attempts[-1]["outcome"]
        return ToldCause("backoff", variables_of(facts, error=error, run_at=task.run_at))
    return ToldCause("scheduled", {"run_at": task.run_at})


def _queued(facts: Facts) -> ToldCause:
    code = facts.queue.task.waiting_for
    if code in ("all_paused", "paused"):
        return ToldCause(code, variables_of(facts))
    serving = _serving(facts)
    if not serving:
        return ToldCause("no_worker", variables_of(facts))
    if code in facts.queue.limits:
        return _limited(facts, code)
    if code in facts.queue.rates:
        told = {"key": facts.queue.task.key, "rate": facts.queue.rates[code]}
        return ToldCause(code, variables_of(facts, **told, seconds=round(facts.queue.rate_wait, 1)))
    if all(one.draining for one in serving):
        ids = [one.worker_id for one in serving[:MOST_NAMED]]
        return ToldCause("workers_drain", variables_of(facts, workers=ids))
    if _are_full(facts, serving):
        return _full(facts, serving)
    return _in_line(facts) if code == "line" else ToldCause("starting", variables_of(facts))


def _serving(facts: Facts) -> list[KnownWorker]:
    """Return the workers that live and run the kind."""
    known = facts.queue
    return [
        one
        for one in known.workers
        if known.task.kind in one.kinds and one.seen + SILENT_SECONDS >= known.now
    ]


def _limited(facts: Facts, code: str) -> ToldCause:
    known, task = facts.queue, facts.queue.task
    counts: dict[str, Callable[[Any], bool]] = {
        "user_limit": lambda one: one.user_id == task.user_id,
        "kind_user_limit": lambda one: (one.user_id, one.kind) == (task.user_id, task.kind),
        "key_limit": lambda one: (one.kind, one.key) == (task.kind, task.key),
        "kind_limit": lambda one: one.kind == task.kind,
        "global_limit": lambda _: True,
    }
    running = known.counts[code]
    behind = _behind(facts, filter(counts[code], known.running), running)
    told = {"running": running, "limit": known.limits[code], "key": task.key, "behind": behind}
    return ToldCause(code, variables_of(facts, **told))


def _behind(facts: Facts, running: Iterable[Any], total: int) -> Behind:
    """Return the tasks that hold this one back; of other users the reader learns how many."""
    own = facts.queue.task.user_id
    known = [one.task_id for one in running if facts.sees_all or one.user_id == own]
    named = known[:MOST_NAMED]
    return Behind(named, max(total - len(named), 0))


def _places(facts: Facts, serving: list[KnownWorker]) -> list[tuple[str, int, int]]:
    """Return how many tasks each of the workers that take some runs and may run."""
    held = [one.worker_id for one in facts.queue.running]
    return [
        (one.worker_id, len(one.tasks) or held.count(one.worker_id), one.places)
        for one in serving
        if not one.draining
    ]


def _are_full(facts: Facts, serving: list[KnownWorker]) -> bool:
    # Of more running tasks than were read the places are not known.
    if len(facts.queue.running) < facts.queue.counts["global_limit"]:
        return False
    return all(places and running >= places for _, running, places in _places(facts, serving))


def _full(facts: Facts, serving: list[KnownWorker]) -> ToldCause:
    places = _places(facts, serving)
    ids = {worker for worker, _, _ in places}
    elsewhere = {task_id for one in serving for task_id in one.tasks}
    held = [one for one in facts.queue.running if one.worker_id in ids or one.task_id in elsewhere]
    behind = _behind(facts, held, len(held))
    told = {"workers": Places(places[:MOST_NAMED]), "behind": behind}
    return ToldCause("workers_full", variables_of(facts, **told))


def _in_line(facts: Facts) -> ToldCause:
    known = facts.queue
    if known.order == "fair" and known.users_before:
        return ToldCause("turns", variables_of(facts, users=known.users_before))
    if known.order == "fair" and known.own_before:
        behind = Behind(known.own_ids, max(known.own_before - len(known.own_ids), 0))
        return ToldCause("own_line", variables_of(facts, before=known.own_before, behind=behind))
    return ToldCause("line", variables_of(facts, before=max((known.task.position or 1) - 1, 0)))


def _processing(facts: Facts) -> ToldCause:
    known = facts.queue
    ends = known.lease_ends or known.now
    if ends < known.now:
        return ToldCause("lease_over", variables_of(facts, lease_ends=ends))
    if (trouble := _worker_trouble(facts, ends)) is not None:
        return trouble
    if known.asked:
        return ToldCause("asked", variables_of(facts, questions=list(known.asked)))
    step, progress = facts.shown.get("current_step_name"), known.task.progress
    code = "running_step" if step else "running"
    return ToldCause(code, variables_of(facts, step=step, progress=round(progress, 1)))


def _worker_trouble(facts: Facts, ends: float) -> ToldCause | None:
    """Return what is wrong with the worker of a task whose lease lasts; None for nothing."""
    known = facts.queue
    if is_elsewhere(known.worker_id):
        lost = next((one for one in reversed(known.journal) if one.code == "connection_lost"), None)
        is_back = _holder(facts) is not None or ends > known.now + facts.visibility / 2
        if lost is None or lost.at < (known.task.started_at or 0.0) or is_back:
            return None
        return ToldCause("worker_gone", variables_of(facts, worker=lost.what, lease_ends=ends))
    worker = next((one for one in known.workers if one.worker_id == known.worker_id), None)
    if worker is None:
        return ToldCause("worker_gone", variables_of(facts, lease_ends=ends))
    # The lease was extended this long ago, or longer.
    silent = known.now - (ends - worker.lease_seconds)
    if not worker.lease_seconds or silent <= EXTENDED_SHARE * worker.lease_seconds:
        return None
    told = {"seconds": round(silent, 1), "lease_ends": ends}
    return ToldCause("worker_silent", variables_of(facts, **told))


def is_elsewhere(worker_id: str) -> bool:
    """Say whether a server has taken a task for workers that are elsewhere."""
    return bool(ELSEWHERE.fullmatch(worker_id))


def _holder(facts: Facts) -> KnownWorker | None:
    """Return the worker elsewhere that has the task, as far as it has told of it."""
    return next((one for one in facts.queue.workers if facts.queue.task.task_id in one.tasks), None)


def worker_of(facts: Facts) -> str:
    """Return who has or had the last attempt, in words where nobody has told who."""
    if not is_elsewhere(facts.queue.worker_id):
        return facts.queue.worker_id
    holder = _holder(facts)
    return Text(WORDS["elsewhere"]) if holder is None else holder.worker_id


def _failed(facts: Facts) -> ToldCause:
    error = facts.queue.task.error or ""
    # An earlier reason to give it up says nothing of the run now.
    end = next(
        (one for one in reversed(facts.queue.journal) if one.code in ("gave_up", "rerun")), None
    )
    if OUT_OF_BUDGET.fullmatch(error):
        code = "budget"
    elif TOO_LONG.fullmatch(error):
        code = "timeout"
    elif end is not None and end.code == "gave_up":
        code = GAVE_UP.get(end.what, "attempts_used")
    else:
        code = "failed"
    return ToldCause(code, variables_of(facts, error=error))


def _cancelled(facts: Facts) -> ToldCause:
    end = next((one for one in reversed(facts.queue.journal) if one.code == "cancelled"), None)
    if end is None:
        return ToldCause("cancelled")
    how, who = end.pair
    if how.startswith("admin") and who == facts.queue.task.user_id:
        how = how.replace("admin", "user", 1)
    return ToldCause(f"cancelled_{how}", {"who": who})


def _completed(facts: Facts) -> ToldCause:
    heard = hearing(facts)
    if heard.code in HINDRANCES:
        return heard
    trouble = post_trouble(facts)
    if trouble is not None:
        return trouble
    end = end_of(facts)
    return end if end.code == "late" or heard.code in ("not_asked", "told_by_batch") else heard


def end_of(facts: Facts) -> ToldCause:
    """Return how an ended task ended, whether or not anybody has heard of it."""
    if facts.queue.task.status != TaskState.COMPLETED:
        return cause_of(facts)
    late = next((one for one in reversed(facts.queue.journal) if one.code == "late"), None)
    # One that was late in an attempt before this says nothing of it.
    if late is not None and late.at >= (facts.queue.task.ended_at or 0.0):
        return ToldCause("late", variables_of(facts, seconds=float(late.what)))
    return ToldCause("completed", variables_of(facts))


CAUSES: dict[TaskState, Callable[[Facts], ToldCause]] = {
    TaskState.DELAYED: _delayed,
    TaskState.QUEUED: _queued,
    TaskState.PROCESSING: _processing,
    TaskState.COMPLETED: _completed,
    TaskState.FAILED: _failed,
    TaskState.DEAD: _failed,
    TaskState.CANCELLED: _cancelled,
}
