"""All that has happened to a task, in order of time."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from services.kinds import RESERVED
from services.queue import Noted, TaskState
from services.why.away import away
from services.why.causes import cause_of, end_of, is_elsewhere, variables_of
from services.why.gathering import Facts
from services.why.hearing import (
    following,
    post_state,
    post_variables,
    reason_of,
    seconds_of,
    sent_to,
)
from services.why.words import WORDS, ToldCause

# Of more steps the last ones are told.
MOST_STEPS = 50
OUTCOMES = {"error": "attempt_error", "retry": "attempt_retry", "lost": "attempt_lost"}
WAITS = {TaskState.QUEUED, TaskState.DELAYED}
# ToldCause by other entries of the chain.
TOLD_ELSEWHERE = {"cancelled", "gave_up"}


def chain_of(facts: Facts) -> list[ToldCause]:
    """Return what has happened, the first first; where it stands now comes last."""
    found = [
        *_begun(facts),
        *_attempts(facts),
        *_journal(facts),
        *_now(facts),
        *_told(facts),
        *_devices(facts),
        *_posts(facts),
        *away(facts),
    ]
    now = facts.queue.now
    return sorted(found, key=lambda one: now if one.at is None else one.at)


def _begun(facts: Facts) -> Iterator[ToldCause]:
    task = facts.queue.task
    job = task.job
    variables = variables_of(
        facts, batch_id=task.batch_id, schedule=job.schedule, parent_id=job.parent_id
    )
    if job.schedule:
        code = "submitted_schedule"
    elif job.parent_id:
        code = "submitted_task"
    elif task.kind.startswith(RESERVED):
        code = "submitted_server"
    else:
        code = "submitted_batch" if task.batch_id else "submitted"
    yield ToldCause(code, variables, task.created_at)
    if task.status == TaskState.DELAYED and not task.attempt:
        yield ToldCause("set_aside", {"run_at": task.run_at}, task.created_at)


def _attempts(facts: Facts) -> Iterator[ToldCause]:
    known, task = facts.queue, facts.queue.task
    for number, one in enumerate(task.attempts):
        worker = known.workers_of[number] if number < len(known.workers_of) else ""
        worker = WORDS["elsewhere"] if is_elsewhere(worker) or not worker else worker
        told = {"attempt": one["attempt"], "worker": worker, "outcome": one["outcome"]}
        if (began := _at(one["started_at"])) is not None:
            yield ToldCause("claimed", {"attempt": one["attempt"], "worker": worker}, began)
        code, error = OUTCOMES.get(one["outcome"], "attempt_ended"), one["error"]
        yield ToldCause(code, {**told, "error": error or one["outcome"]}, _at(one["ended_at"]))
    # One that waits again has its last attempt among those.
    if task.started_at is not None and task.status not in WAITS:
        yield ToldCause("claimed", variables_of(facts), task.started_at)
        yield from _steps(facts, task.started_at)


def _steps(facts: Facts, started_at: float) -> Iterator[ToldCause]:
    steps = facts.shown.get("steps")
    begun = [one for one in steps or () if one.get("started_after") is not None]
    for one in begun[-MOST_STEPS:]:
        variables = {"step": one.get("name"), "seconds": one.get("duration")}
        yield ToldCause("step", variables, started_at + one["started_after"])


def _journal(facts: Facts) -> Iterator[ToldCause]:
    for noted in facts.queue.journal:
        if noted.code not in TOLD_ELSEWHERE:
            yield _noted(noted)


def _noted(noted: Noted) -> ToldCause:
    how, who = noted.pair
    if noted.code == "rerun":
        return ToldCause(f"rerun_{how}", {"who": who}, noted.at)
    if noted.code == "late":
        return ToldCause("told_late", {"seconds": float(noted.what)}, noted.at)
    worker = WORDS["elsewhere"] if is_elsewhere(noted.what) else noted.what
    variables = {"worker": worker, "who": noted.what, "times": noted.times}
    return ToldCause(noted.code, variables, noted.at)


def _now(facts: Facts) -> Iterator[ToldCause]:
    task = facts.queue.task
    if facts.has_ended:
        variables = {"status": task.status.value, "cause": end_of(facts)}
        yield ToldCause("ended", variables, task.ended_at)
    else:
        code = "waits" if task.status in WAITS else "runs"
        yield ToldCause(code, {"cause": cause_of(facts)})


def _told(facts: Facts) -> Iterator[ToldCause]:
    if facts.told is None:
        return
    told, user = facts.told.notification, facts.queue.task.user_id
    at = seconds_of(told.created_at)
    yield ToldCause("notified", {"notification_id": told.id}, at)
    if facts.told.muted_for is None:
        for device in sent_to(facts, at):
            yield ToldCause("sent", {"transport": device.transport}, at)
    for code, moment in (("seen", told.seen_at), ("read", told.read_at)):
        if moment is not None:
            seconds = seconds_of(moment)
            yield ToldCause(code, {"user": user, f"{code}_at": seconds}, seconds)
    if told.archived_at is not None:
        yield ToldCause("archived", {"user": user}, seconds_of(told.archived_at))
    if facts.told.is_gone:
        yield ToldCause("deleted")


def _devices(facts: Facts) -> Iterator[ToldCause]:
    task = facts.queue.task
    for one in following(facts):
        if one.opened_at >= task.created_at:
            variables = {"user": task.user_id, "transport": one.transport}
            yield ToldCause("device_opened", variables, one.opened_at)
        if one.closed_at is not None and one.closed_at >= task.created_at:
            told = {"user": task.user_id, "close_code": one.code, "reason": reason_of(one)}
            yield ToldCause("device_closed", told, one.closed_at)


def _posts(facts: Facts) -> Iterator[ToldCause]:
    for post in facts.posts:
        for one in post.delivery.attempts:
            if one["error"]:
                variables: dict[str, Any] = {**post_variables(post), "error": one["error"]}
                yield ToldCause("post_attempt", variables, _at(one["ended_at"]))
        yield post_state(post)


def _at(moment: str | None) -> float | None:
    return None if moment is None else datetime.fromisoformat(moment).timestamp()
