"""The queue's verbs. Every change of state is one Lua script; see `scripts/`."""

import base64
import hashlib
import secrets
from collections.abc import Sequence
from typing import Any, Literal

import orjson
import structlog
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from services.queue.models import (
    Ack,
    Batch,
    BatchNotFound,
    BatchState,
    Claim,
    KeyReused,
    Once,
    Outcome,
    QueueFull,
    QueueStats,
    Replay,
    Task,
    TaskNotFound,
    TaskState,
    Upkeep,
    UserQueueStatus,
)
from services.queue.scripts import Scripts
from settings import QueueOrder
from tornado_rt.protocol import Cursor, Message, MessageType, ResyncReason

log = structlog.get_logger(__name__)

# One script holds up all others: more than this waits for the next one.
UPKEEP_COUNT = 200
CANCEL_COUNT = 200
FULL_RETRY_SECONDS = 5.0
POSITIONS_SECONDS = 1.0
# What the script tells of a task that it made; of one that there was, it tells all.
NEW_FIELDS = 3

Kind = Literal["task", "batch"]


class QueueService:
    """A queue over Redis.

    `user_limit` and `global_limit` bound running tasks, `max_waiting_per_user` waiting ones; 0 is
    no bound. `visibility_seconds` is how long a claim lasts, `retention_seconds` how long ended
    tasks are kept (0: forever), `kept_per_user` how many ended tasks, dead tasks and ended batches
    of each user (0: any number; the oldest go first). `max_events` of each task and batch are kept
    for replay; the newest `idempotency_keys_per_user` of each user are remembered (0: any number).
    """

    def __init__(
        self,
        redis: Redis,
        *,
        name: str = "rtq",
        user_limit: int = 3,
        global_limit: int = 3,
        max_waiting_per_user: int = 1000,
        visibility_seconds: float = 300.0,
        max_attempts: int = 3,
        retention_seconds: float = 604800.0,
        order: QueueOrder = QueueOrder.FIFO,
        max_events: int = 256,
        idempotency_seconds: float = 86400.0,
        idempotency_keys_per_user: int = 1000,
        kept_per_user: int = 1000,
    ) -> None:
        self.user_limit = user_limit
        self.global_limit = global_limit
        self.max_waiting_per_user = max_waiting_per_user
        self.visibility_seconds = visibility_seconds
        self.max_attempts = max_attempts
        self.retention_seconds = retention_seconds
        self.order = order
        self.idempotency_seconds = idempotency_seconds
        self.idempotency_keys_per_user = idempotency_keys_per_user
        self.kept_per_user = kept_per_user
        self.prefix = key_prefix(name)
        self._redis = redis
        self._broken = 0
        self._scripts = Scripts(redis, self.prefix, secrets.token_hex(4), max_events)

    async def enqueue_task(
        self,
        user_id: str,
        symbol: str,
        params: dict[str, Any],
        *,
        plan: bytes,
        expected_seconds: float = 60.0,
        delay: float = 0.0,
        run_at: float = 0.0,
        callback_url: str | None = None,
        task_id: str | None = None,
        once: Once | None = None,
    ) -> Task:
        """Add one task to the line, or aside for `delay` seconds or until the time `run_at`.

        `plan` is the snapshot's first fragment: a JSON object without its braces.
        `expected_seconds` is how long it may take, for the first guess of when others start. A
        repeated `task_id`, and an equal request under the same key of `once`, return the task that
        there is. Raise QueueFull; KeyReused for another request under the same key.
        """
        task_id = task_id or _new_id()
        reply = self._unless_refused(
            await self._scripts.run_grouped(
                "enqueue",
                (
                    self.max_waiting_per_user,
                    self.idempotency_seconds,
                    self.idempotency_keys_per_user,
                ),
                task_id,
                user_id,
                symbol,
                orjson.dumps(params),
                _head(task_id=task_id, symbol=symbol),
                plan,
                callback_url or "",
                delay,
                run_at,
                expected_seconds,
                *_once_fields(user_id, once),
            )
        )
        if len(reply) > NEW_FIELDS:
            return _task(reply)
        status, created_at, position = reply
        return _new_task(task_id, user_id, symbol, params, status, created_at, position)

    async def create_batch(
        self,
        user_id: str,
        symbols: Sequence[str],
        params: dict[str, Any],
        *,
        plan: bytes,
        expected_seconds: float = 60.0,
        notify_each: bool = False,
        batch_id: str | None = None,
        once: Once | None = None,
    ) -> Batch:
        """Add one task for each symbol, all or none.

        Its end makes one notification, and with `notify_each` the end of each task too. Raise
        QueueFull; KeyReused as `enqueue_task` does.
        """
        batch_id = batch_id or _new_id()
        task_ids = [f"{batch_id}-{number}" for number in range(1, len(symbols) + 1)]
        tasks = [
            (task_id, symbol, _head(task_id=task_id, symbol=symbol, batch_id=batch_id))
            for task_id, symbol in zip(task_ids, symbols, strict=True)
        ]
        reply = await self._scripts.run(
            "create_batch",
            batch_id,
            user_id,
            _head(batch_id=batch_id),
            orjson.dumps(params),
            plan,
            expected_seconds,
            int(notify_each),
            self.max_waiting_per_user,
            *_once_fields(user_id, once),
            self.idempotency_seconds,
            self.idempotency_keys_per_user,
            *(field for task in tasks for field in task),
        )
        return _batch(self._unless_refused(reply))

    async def dequeue_task(self, worker_id: str) -> Claim | None:
        """Claim the next task; None when there is none that may run."""
        claims = await self.claim(worker_id, 1)
        return claims[0] if claims else None

    async def claim(
        self, worker_id: str, count: int, acks: Sequence[Ack] = (), request: str | None = None
    ) -> list[Claim]:
        """End some tasks and claim at most `count` others in one round trip.

        Repeated under the same id of the `request` within a minute it returns the same tasks.
        """
        _, claimed = await self._claim(worker_id, count, acks, request)
        return claimed

    async def ack_task(
        self,
        task_id: str,
        success: bool = True,
        *,
        token: str,
        result: dict[str, Any] | None = None,
        error: str | None = None,
        fragment: bytes | None = None,
    ) -> bool:
        """End a claimed task. Return False when the token is stale: then nothing changed."""
        outcome = Outcome.COMPLETED if success else Outcome.FAILED
        return await self._ack(Ack(task_id, token, outcome, result, error, fragment))

    async def retry_task(self, task_id: str, *, token: str, error: str, delay: float = 0.0) -> bool:
        """End the attempt and wait for another, or be dead after the last one."""
        return await self._ack(Ack(task_id, token, Outcome.RETRY, error=error, delay=delay))

    async def extend_task(self, task_id: str, token: str) -> bool:
        """Keep a claim for another visibility time. Return False when the token is stale."""
        return bool(await self._scripts.run("extend", task_id, token, self.visibility_seconds))

    async def expire_claims(self, worker_ids: Sequence[str]) -> int:
        """End the leases of workers that are gone, for upkeep to hand back; return how many."""
        expired: int = await self._scripts.run("expire", *worker_ids)
        return expired

    async def release_task(self, task_id: str, token: str) -> bool:
        """Hand a claimed task back to the head of its line, its attempt not counted."""
        return bool(await self._scripts.run("release", task_id, token))

    async def report_progress(
        self, task_id: str, token: str, fragment: bytes, percent: float
    ) -> bool:
        """Keep and publish the progress of an attempt. Return False when the token is stale."""
        return bool(await self._scripts.run("report", task_id, token, fragment, percent))

    async def cancel_task(self, task_id: str, user_id: str | None = None) -> Task:
        """End a task as cancelled, unless it has ended. Raise TaskNotFound, also for another's."""
        reply = await self._cancel("task", task_id, user_id)
        if reply is None:
            raise TaskNotFound(task_id)
        return _task(reply)

    async def cancel_batch(self, batch_id: str, user_id: str | None = None) -> Batch:
        """Cancel what has not ended of a batch. Raise BatchNotFound, also for another's."""
        more, batch = 1, ()
        while more:
            reply = await self._cancel("batch", batch_id, user_id)
            if reply is None:
                raise BatchNotFound(batch_id)
            more, batch = reply
        return _batch(batch)

    async def get_task(self, task_id: str) -> Task | None:
        """Read a task."""
        reply = await self._scripts.run("get_task", task_id)
        return None if reply is None else _task(reply)

    async def get_batch(self, batch_id: str) -> Batch | None:
        """Read a batch."""
        reply = await self._scripts.run("get_batch", batch_id)
        return None if reply is None else _batch(reply)

    async def list_tasks(self, user_id: str, limit: int = 50) -> list[Task]:
        """Read a user's tasks, the newest first."""
        return [_task(reply) for reply in await self._scripts.run("list_tasks", user_id, limit)]

    async def get_user_queue_status(self, user_id: str) -> UserQueueStatus:
        """Count a user's tasks."""
        async with self._reading() as pipe:
            pipe.zcard(f"{self.prefix}waiting:{user_id}")
            pipe.hget(self.prefix + "aside", user_id)
            pipe.hget(self.prefix + "active", user_id)
            waiting, aside, active = await pipe.execute()
        return UserQueueStatus(waiting + int(aside or 0), int(active or 0), self.user_limit)

    async def stats(self) -> QueueStats:
        """Count the tasks in each state."""
        async with self._reading() as pipe:
            for name in ("waiting", "processing", "delayed"):
                pipe.zcard(self.prefix + name)
            pipe.hgetall(self.prefix + "counts")
            queued, processing, delayed, counts = await pipe.execute()
        ended = {
            state.value: int(counts.get(state.encode(), 0))
            for state in TaskState
            if state.value not in ("queued", "processing", "delayed")
        }
        return QueueStats(queued=queued, processing=processing, delayed=delayed, **ended)

    async def cleanup_expired_tasks(self) -> int:
        """Do what is due, at most 200 of each; return how many leases had run out.

        Those tasks go back to the head of their line, or are dead after the last attempt. Delays
        that are over end, and ended tasks past their retention are deleted.
        """
        return (await self.keep_up()).expired

    async def keep_up(self) -> Upkeep:
        """Do what `cleanup_expired_tasks` does, and say when it is wanted again."""
        expired, _, _, due_in, broken = await self._scripts.run(
            "upkeep", self.max_attempts, self.retention_seconds, UPKEEP_COUNT, self.kept_per_user
        )
        if broken != self._broken:
            log.error("tasks_set_aside", tasks=broken, see="run.py queue check")
        self._broken = broken
        return Upkeep(expired, float(due_in) if due_in else None)

    async def publish_positions(self) -> int:
        """Tell the watchers of waiting tasks where they stand, at most once a second in all."""
        told: int = await self._scripts.run("publish_positions", POSITIONS_SECONDS)
        return told

    async def list_dead(self, limit: int = 50, offset: int = 0) -> list[Task]:
        """Read the tasks that are dead, the last to die first."""
        return [_task(reply) for reply in await self._scripts.run("list_dead", offset, limit)]

    async def revive_task(self, task_id: str) -> Task:
        """Give a dead task all its attempts again. Raise TaskNotFound when none such is dead."""
        reply = await self._scripts.run("revive", task_id)
        if reply is None:
            raise TaskNotFound(task_id)
        return _task(reply)

    async def discard_task(self, task_id: str) -> None:
        """Delete a dead task. Raise TaskNotFound when none such is dead."""
        if not await self._scripts.run("discard", task_id):
            raise TaskNotFound(task_id)

    async def read_events(self, kind: Kind, id_: str, after: Cursor | None = None) -> Replay:
        """Read the state, and the messages after a cursor. Raise TaskNotFound, BatchNotFound."""
        asked = ("", 0) if after is None else (after.epoch, after.offset)
        reply = await self._scripts.run("read_events", kind, id_, *asked)
        if reply is None:
            raise TaskNotFound(id_) if kind == "task" else BatchNotFound(id_)
        return _replay({f"{kind}_id": id_}, *reply)

    async def read_heads(self, kind: Kind, ids: Sequence[str]) -> dict[str, Cursor]:
        """Return where the logs of tasks or batches end, of those that there are."""
        epoch, *offsets = await self._scripts.run("read_heads", kind, *ids)
        return {
            id_: Cursor(epoch.decode(), int(offset))
            for id_, offset in zip(ids, offsets, strict=True)
            if offset
        }

    async def check_invariants(self) -> list[str]:
        """Compare everything with everything; return the violations. For tests and maintenance."""
        return [fault.decode() for fault in await self._scripts.run("check_invariants")]

    def _reading(self) -> Pipeline:
        # Not a transaction: Redis refuses even to read in one when it is full.
        return self._redis.pipeline(transaction=False)

    async def _cancel(self, kind: Kind, id_: str, user_id: str | None) -> Any:
        return await self._scripts.run(
            "cancel", kind, id_, user_id or "", self.kept_per_user, CANCEL_COUNT
        )

    async def _ack(self, ack: Ack) -> bool:
        owned, _ = await self._claim("", 0, [ack], None)
        return owned[0]

    async def _claim(
        self, worker_id: str, count: int, acks: Sequence[Ack], request: str | None
    ) -> tuple[list[bool], list[Claim]]:
        owned, claimed = await self._scripts.run_alone(
            "claim",
            request or new_request(),
            worker_id,
            count,
            self.user_limit,
            self.global_limit,
            self.visibility_seconds,
            self.order,
            self.max_attempts,
            self.kept_per_user,
            *(field for ack in acks for field in _ack_fields(ack)),
        )
        return [bool(one) for one in owned], await self._readable(claimed)

    async def _readable(self, claimed: Sequence[Sequence[bytes]]) -> list[Claim]:
        """Return the claims, but for tasks that cannot be read: these fail, each for itself."""
        claims = []
        for reply in claimed:
            try:
                claims.append(_claim_of(reply))
            except ValueError as error:
                task_id, token = (field.decode(errors="replace") for field in (reply[0], reply[-1]))
                log.error("task_unreadable", task_id=task_id, error=error)
                why = f"the task cannot be read: {error}"
                await self._ack(Ack(task_id, token, Outcome.FAILED, error=why))
        return claims

    def _unless_refused(self, reply: Any) -> Any:
        if reply == b"full":
            raise QueueFull(self.max_waiting_per_user, FULL_RETRY_SECONDS)
        if reply == b"conflict":
            raise KeyReused
        return reply


def key_prefix(name: str) -> str:
    """Return what every key of a queue begins with: its hash tag."""
    return f"{{{name}}}:"


def new_request() -> str:
    """Return an id for a request that may have to be repeated."""
    return secrets.token_hex(8)


def _new_id() -> str:
    """Return 80 random bits as 16 letters and digits, which no command takes for an option."""
    return base64.b32encode(secrets.token_bytes(10)).decode().lower()


def _head(**fields: str) -> bytes:
    return orjson.dumps(fields)[1:-1]


def _once_fields(user_id: str, once: Once | None) -> tuple[str, str]:
    if once is None:
        return "", ""
    scoped = hashlib.sha256(f"{user_id}\0{once.key}".encode()).hexdigest()
    return scoped, hashlib.sha256(once.request).hexdigest()


def _ack_fields(ack: Ack) -> tuple[bytes | str | float, ...]:
    result = b"" if ack.result is None else orjson.dumps(ack.result)
    return (
        ack.task_id,
        ack.token,
        ack.outcome,
        result,
        # Text of a handler may hold what UTF-8 cannot carry.
        (ack.error or "").encode(errors="replace"),
        ack.fragment or b"",
        ack.delay,
    )


def _fields(reply: Sequence[bytes]) -> dict[str, bytes]:
    return {key.decode(): value for key, value in zip(reply[::2], reply[1::2], strict=True)}


def _claim_of(reply: Sequence[bytes]) -> Claim:
    task_id, user_id, symbol, params, batch_id, attempt, created_at, started_at, token = reply
    task = Task(
        task_id=task_id.decode(),
        user_id=user_id.decode(),
        symbol=symbol.decode(),
        params=orjson.loads(params),
        batch_id=batch_id.decode() or None,
        status=TaskState.PROCESSING,
        attempt=int(attempt),
        created_at=float(created_at),
        started_at=float(started_at),
    )
    return Claim(task, token.decode())


def _new_task(
    task_id: str,
    user_id: str,
    symbol: str,
    params: dict[str, Any],
    status: bytes,
    created_at: bytes,
    position: bytes | int,
) -> Task:
    return Task(
        task_id=task_id,
        user_id=user_id,
        symbol=symbol,
        params=params,
        batch_id=None,
        status=TaskState(status.decode()),
        attempt=0,
        position=int(position) if position else None,
        created_at=float(created_at),
    )


def _task(reply: Sequence[bytes]) -> Task:
    fields = _fields(reply)
    return Task(
        task_id=fields["task_id"].decode(),
        user_id=fields["user_id"].decode(),
        symbol=fields["symbol"].decode(),
        params=_read_json(fields["params"]) or {},
        batch_id=fields["batch_id"].decode() or None,
        status=TaskState(fields["status"].decode()),
        attempt=int(fields["attempt"]),
        position=int(fields["position"]) if "position" in fields else None,
        created_at=float(fields["created_at"]),
        started_at=_read_time(fields["started_at"]),
        ended_at=_read_time(fields["ended_at"]),
        result=_read_json(fields["result"]),
        error=fields["error"].decode(errors="replace") or None,
        progress=float(fields["percent"]),
        snapshot=_read_snapshot(fields),
    )


def _read_json(content: bytes) -> dict[str, Any] | None:
    """Return what is kept of a task; None for nothing, and for what cannot be read.

    One such task must not spoil the list that it stands in.
    """
    try:
        value: dict[str, Any] | None = orjson.loads(content) if content else None
    except ValueError:
        return None
    return value


def _read_snapshot(fields: dict[str, bytes]) -> bytes:
    """Return the snapshot; of one that cannot be read, what the record itself tells."""
    if not fields.get("snapshot"):
        return b""
    told = {name: fields[name].decode() for name in ("task_id", "symbol", "status")}
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


def _batch(reply: Sequence[Any]) -> Batch:
    batch_id, user_id, status, snapshot, task_ids = reply
    return Batch(
        batch_id.decode(),
        user_id.decode(),
        BatchState(status.decode()),
        [task_id.decode() for task_id in task_ids],
        snapshot,
    )


def _replay(
    about: dict[str, Any],
    epoch: bytes,
    last: int,
    snapshot: bytes,
    finished: bytes,
    resync: bytes,
    envelopes: Sequence[bytes],
) -> Replay:
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
