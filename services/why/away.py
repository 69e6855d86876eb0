"""Pushes and mails about a notification for a user who may have been away."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from services.channels import EMAIL, PUSH
from services.queue import Task, TaskState
from services.why.gathering import ENDS, Facts
from services.why.words import ToldCause

# The names of their counts in a result, and the codes of both kinds of deliveries.
COUNTED = {"sent": "push_sent", "gone": "push_gone", "refused": "push_not_taken"}


def away(facts: Facts) -> Iterator[ToldCause]:
    """Yield what became of each push and mail of the task's notification, attempt by attempt."""
    for delivery in facts.away:
        yield from _failures(facts, delivery)
        yield from _ends(facts, delivery)


def _failures(facts: Facts, delivery: Task) -> Iterator[ToldCause]:
    code = "push_attempt" if delivery.kind == PUSH else "mail_attempt"
    failed = [one for one in delivery.attempts if one["error"]]
    # The last one is told by the end.
    for one in failed[:-1] if delivery.status in ENDS - {TaskState.COMPLETED} else failed:
        moment = one["ended_at"]
        at = None if moment is None else datetime.fromisoformat(moment).timestamp()
        yield ToldCause(code, _variables(facts, error=one["error"]), at)


def _ends(facts: Facts, delivery: Task) -> Iterator[ToldCause]:
    kind = "push" if delivery.kind == PUSH else "mail"
    if delivery.status not in ENDS:
        variables = _variables(facts, run_at=delivery.run_at or delivery.created_at)
        yield ToldCause(f"{kind}_waits", variables)
    elif delivery.status != TaskState.COMPLETED:
        yield ToldCause(
            f"{kind}_refused", _variables(facts, error=delivery.error), delivery.ended_at
        )
    elif delivery.kind == EMAIL:
        code = "mail_sent" if _counts(delivery).get("told") else "mail_not_needed"
        yield ToldCause(code, _variables(facts), delivery.ended_at)
    else:
        yield from _pushed(facts, delivery)


def _pushed(facts: Facts, delivery: Task) -> Iterator[ToldCause]:
    counts = _counts(delivery)
    told = [name for name in COUNTED if counts.get(name)]
    if not told:
        yield ToldCause("push_not_needed", _variables(facts), delivery.ended_at)
    for name in told:
        # An earlier version has kept no answer.
        answer = counts.get("answer") or name
        variables = _variables(facts, browsers=counts[name], error=answer)
        yield ToldCause(COUNTED[name], variables, delivery.ended_at)


def _counts(delivery: Task) -> dict[str, Any]:
    return delivery.result if isinstance(delivery.result, dict) else {}


def _variables(facts: Facts, **more: Any) -> dict[str, Any]:
    return {"user": facts.queue.task.user_id, **more}
