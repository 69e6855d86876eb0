"""Kinds, tasks and attempts as JSON, between a worker and the server. There is no I/O here."""

import time
from collections.abc import Mapping
from typing import Any

import attrs
import orjson

from tornado_rt_client.errors import ProtocolError
from tornado_rt_client.worker.parts import (
    Ack,
    Claim,
    Job,
    Kept,
    Kind,
    Outcome,
    Plan,
    Task,
    TaskState,
    json_of,
    schema_of,
    trace_of,
)

RELEASED = "released"


@attrs.frozen
class Given:
    """A task that the server has sent, and what earlier attempts left of it."""

    claim: Claim
    kept: Kept

    @property
    def key(self) -> tuple[str, str]:
        """The task's id and the token of this attempt."""
        return self.claim.task.task_id, self.claim.token


def declaration_of(kind: Kind) -> dict[str, Any]:
    """Return what the server is told of a kind: who submits is checked by it.

    A label, a plan or an expected time that takes the kind's own code is left out.
    """
    plan = None if callable(kind.steps) else kind.plan_of(None)
    return {
        "kind": kind.name,
        "title": kind.title,
        "version": kind.version,
        "params_schema": schema_of(kind.params_class),
        "label": kind.label if isinstance(kind.label, str) else "",
        "plan": None if plan is None else orjson.loads(plan.text),
        "shown": list(kind.shown),
        # A server of an earlier version knows no such member.
        **({"telling": list(kind.telling)} if kind.telling else {}),
        "max_attempts": kind.max_attempts,
        "timeout": kind.timeout,
        "expected_seconds": (None if callable(kind.expected_seconds) else kind.expected_of(None)),
        "limits": {
            "limit": kind.limit,
            "user_limit": kind.user_limit,
            "key_limit": kind.key_limit,
            "rate": kind.rate or "",
            "key_rate": kind.key_rate or "",
        },
    }


def read_task(item: Any) -> Given:
    """Read a task. Raise ProtocolError for what is none."""
    try:
        return _read_task(item)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"the server sent what is no task: {error!r}") from None


def _read_task(item: Mapping[str, Any]) -> Given:
    left = item.get("budget_left")
    budget = 0.0 if left is None else float(item.get("budget_seconds") or left)
    job = Job(
        label=item["label"],
        params=item["params"],
        tags=tuple(item.get("tags", ())),
        timeout=float(item.get("timeout") or 0.0),
        budget_seconds=budget,
        trace=trace_of(item),
    )
    task = Task(
        task_id=item["task_id"],
        user_id=item["user_id"],
        kind=item["kind"],
        job=job,
        batch_id=item.get("batch_id"),
        status=TaskState.PROCESSING,
        attempt=int(item["attempt"]),
        created_at=time.time(),
        used_seconds=0.0 if left is None else budget - float(left),
    )
    results = {name: json_of(value) for name, value in (item.get("kept") or {}).items()}
    state = item.get("state")
    plan = item.get("plan")
    kept = Kept(results, json_of(state) if state else b"")
    claim = Claim(
        task,
        str(item["token"]),
        kept=bool(results or state),
        plan=Plan.read(json_of(plan)).digest if plan else "",
    )
    return Given(claim, kept)


def member(name: str, value: Any) -> bytes:
    """Return a member of an item, as JSON."""
    return b'"%b":%b' % (name.encode(), orjson.dumps(value))


def item(task_id: str, token: str, *members: bytes) -> bytes:
    """Return an item about an attempt, as JSON."""
    return b"{%b}" % b",".join((member("task_id", task_id), member("token", token), *members))


def snapshot(fragment: bytes) -> bytes:
    """Return a snapshot, from its JSON without the braces."""
    return b'"snapshot":{%b}' % fragment


def ack_item(ack: Ack) -> bytes:
    """Return the end of an attempt; how the task looks then the server knows itself."""
    members = [member("outcome", ack.outcome)]
    if ack.result is not None:
        members.append(member("result", ack.result))
    if ack.error:
        members.append(member("error", ack.error))
    if ack.outcome in (Outcome.ERROR, Outcome.RETRY):
        members.append(member("delay", ack.delay))
    if ack.report is not None:
        members.append(snapshot(ack.report))
    return item(ack.task_id, ack.token, *members)


def released_item(task_id: str, token: str) -> bytes:
    """Return the end of an attempt that another goes on with."""
    return item(task_id, token, member("outcome", RELEASED))
