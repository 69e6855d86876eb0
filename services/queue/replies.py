"""Reading what the scripts reply. A record that cannot be read spoils no list that it is in."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import msgpack
import orjson

from services.queue.jobs import readable_job, unpack_job
from services.queue.models import (
    LEVELS,
    Band,
    Batch,
    BatchState,
    Claim,
    NewTask,
    Replay,
    StartEstimate,
    Task,
    TaskState,
    iso_of,
)
from tornado_rt.protocol import Cursor, Message, MessageType, ResyncReason

# A later version may keep more of an ended attempt.
ATTEMPT_FIELDS = 5


def read_claim(reply: Sequence[bytes]) -> Claim:
    """Read a claimed task. Raise ValueError when its job cannot be read."""
    task_id, user_id, kind, job, batch_id, attempt, created_at, *rest = reply
    started_at, kept, plan, since, token = rest
    started = float(started_at)
    task = Task(
        task_id=task_id.decode(),
        user_id=user_id.decode(),
        kind=kind.decode(),
        job=unpack_job(job),
        batch_id=batch_id.decode() or None,
        status=TaskState.PROCESSING,
        attempt=int(attempt),
        created_at=float(created_at),
        started_at=started,
    )
    waited = started - float(since or created_at)
    return Claim(task, token.decode(), waited, bool(kept), plan.decode())


def new_task(task_id: str, user_id: str, new: NewTask, reply: Sequence[Any]) -> Task:
    """Return a task that was just made."""
    status, created_at, position = reply
    return Task(
        task_id=task_id,
        user_id=user_id,
        kind=new.kind,
        job=new.job,
        batch_id=None,
        status=TaskState(status.decode()),
        priority=new.priority,
        key=new.key,
        max_attempts=new.max_attempts,
        attempt=0,
        position=int(position) if position else None,
        created_at=float(created_at),
    )


def read_task(reply: Sequence[bytes]) -> Task:
    """Read a task in all that is known of it."""
    fields = fields_of(reply)
    return Task(
        task_id=fields["task_id"].decode(),
        user_id=fields["user_id"].decode(),
        kind=fields["kind"].decode(),
        job=readable_job(fields["job"]),
        batch_id=fields["batch_id"].decode() or None,
        status=TaskState(fields["status"].decode()),
        priority=LEVELS[int(fields["level"])],
        key=fields["key"].decode(),
        max_attempts=int(fields["max_attempts"]),
        attempt=int(fields["attempt"]),
        position=int(fields["position"]) if "position" in fields else None,
        created_at=float(fields["created_at"]),
        started_at=_read_time(fields["started_at"]),
        ended_at=_read_time(fields["ended_at"]),
        run_at=_read_time(fields.get("run_at", b"")),
        result=_read_json(fields["result"]),
        error=fields["error"].decode(errors="replace") or None,
        progress=float(fields["percent"]),
        snapshot=_read_snapshot(fields),
        attempts=_read_attempts(fields["attempts"]),
        used_seconds=float(fields.get("used", 0.0)),
        waiting_for=fields.get("waiting_for", b"").decode(),
    )


def fields_of(reply: Sequence[bytes]) -> dict[str, bytes]:
    """Return the fields of a flat reply."""
    return {key.decode(): value for key, value in zip(reply[::2], reply[1::2], strict=True)}


def read_batch(reply: Sequence[Any]) -> Batch:
    """Read a batch."""
    batch_id, user_id, status, snapshot, task_ids = reply
    return Batch(
        batch_id.decode(),
        user_id.decode(),
        BatchState(status.decode()),
        [task_id.decode() for task_id in task_ids],
        snapshot,
    )


def read_band(reply: Sequence[bytes]) -> Band | None:
    """Read a duration that is not known; None: nothing is known of it."""
    return Band(*map(float, reply)) if reply else None


def read_estimate(reply: Sequence[Any]) -> StartEstimate:
    """Read when something would start and end."""
    at, there, code, position, *bands = reply
    starts, runs, ends = map(read_band, bands)
    return StartEstimate(
        at=float(at),
        there=there.decode(),
        waiting_for=code.decode(),
        position=int(position) if position else None,
        starts=starts,
        runs=runs,
        ends=ends,
    )


def read_replay(
    about: dict[str, Any],
    epoch: bytes,
    last: int,
    snapshot: bytes,
    finished: bytes,
    resync: bytes,
    envelopes: Sequence[bytes],
) -> Replay:
    """Read what a subscriber needs."""
    cursor = Cursor(epoch.decode(), last)
    # A client that has only the snapshot of an ended task has not seen its end.
    shown = Cursor(cursor.epoch, last - 1) if finished else cursor
    snapshot = _readable(snapshot, about)
    status = orjson.loads(snapshot).get("status") if finished else None
    reason = ResyncReason(resync.decode()) if resync else None
    try:
        messages = [Message.decode(envelope) for envelope in envelopes]
    except ValueError:
        # The snapshot replaces them.
        messages, reason = [], ResyncReason.TRIMMED
    end = _readable(finished, about | {"final_status": status}) if finished else b""
    return Replay(
        snapshot=Message(MessageType.PROGRESS, snapshot, str(shown)),
        messages=messages,
        resync=reason,
        finished=Message(MessageType.FINISHED, end, str(cursor)) if end else None,
        cursor=cursor,
    )


def _read_json(content: bytes) -> Any:
    try:
        return orjson.loads(content) if content else None
    except ValueError:
        return None


def _read_snapshot(fields: dict[str, bytes]) -> bytes:
    """Return the snapshot; of one that cannot be read, what the record itself tells."""
    if not fields.get("snapshot"):
        return b""
    told = {name: fields[name].decode() for name in ("task_id", "kind", "status")}
    return _readable(fields["snapshot"], {**told, "attempt": int(fields["attempt"])})


def _readable(content: bytes, instead: dict[str, Any]) -> bytes:
    """Return JSON as it is kept, or `instead` as JSON when it cannot be read."""
    try:
        orjson.loads(content)
    except ValueError:
        return orjson.dumps(instead)
    return content


def _read_time(content: bytes) -> float | None:
    try:
        return float(content) or None
    except ValueError:
        return None


def _read_attempts(packed: bytes) -> tuple[dict[str, Any], ...]:
    if not packed:
        return ()
    try:
        kept = msgpack.unpackb(packed, raw=True)
    except ValueError:
        return ()
    return tuple(_each_attempt(kept)) if isinstance(kept, list) else ()


def _each_attempt(kept: Sequence[Any]) -> Iterator[dict[str, Any]]:
    for one in kept:
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            yield _attempt(*one[:ATTEMPT_FIELDS])


def _attempt(
    number: bytes, started_at: bytes, ended_at: bytes, outcome: bytes, error: bytes
) -> dict[str, Any]:
    begun, ended = _read_time(started_at), _read_time(ended_at)
    return {
        "attempt": int(number),
        "started_at": iso_of(begun),
        "ended_at": iso_of(ended),
        "outcome": outcome.decode(),
        "error": error.decode(errors="replace") or None,
    }
