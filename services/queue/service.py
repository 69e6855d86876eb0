"""The queue's verbs. Every change of state is one Lua script; see `scripts/`."""

import base64
import contextlib
import hashlib
import math
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import attrs
import orjson
import structlog
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.exceptions import TimeoutError

from services.queue.jobs import pack_job
from services.queue.kinds import ALL_KINDS, KindBoard, QueueLimits, unpack_limits
from services.queue.models import (
    Ack,
    Batch,
    BatchNotFound,
    Claim,
    Claimed,
    Conflict,
    Kept,
    KeyReused,
    NewTask,
    NotEnded,
    Once,
    Outcome,
    Page,
    QueueFull,
    QueueStats,
    Replay,
    Task,
    TaskNotFound,
    TaskState,
    Unique,
    Upkeep,
    UserQueueStatus,
)
from services.queue.replies import (
    fields_of,
    new_task,
    read_batch,
    read_claim,
    read_replay,
    read_task,
)
from services.queue.scripts import Scripts
from settings import QueueOrder
from tornado_rt.protocol import Cursor
from tornado_rt.work import Plan

log = structlog.get_logger(__name__)

# One script holds up all others: more than this waits for the next one.
UPKEEP_COUNT = 200
CANCEL_COUNT = 200
PURGE_COUNT = 200
# How many tasks one request of a list looks at, and how many one script does.
LOOKED_AT = 2000
LOOKED_AT_ONCE = 200
# Of those whose text is looked at, which each come with all that is known of them.
READ_AT_ONCE = 50
FULL_RETRY_SECONDS = 5.0
POSITIONS_SECONDS = 1.0
# A plan that no task names is kept for this time [s]; a process sends the text of a plan again
# after half of it.
PLAN_IDLE_SECONDS = 3600.0
MOST_SENT_PLANS = 4096
# How many tasks a script surely puts into the line within the time that an answer may take.
ANSWERED_TASKS = 2000
# What the script tells of a task that it made; of one that there was, it tells all.
NEW_FIELDS = 3
# How a unique key begins: see `free_unique` of the scripts.
SCOPES = {"waiting": "w", "running": "r"}

Followed = Literal["task", "batch"]


class QueueService(KindBoard):
    """A queue over Redis.

    `user_limit`, `global_limit` and `order` hold where nothing else is known in Redis: see
    `register_kinds`. `max_waiting_per_user` bounds waiting tasks; 0 is no bound.
    `visibility_seconds` is how long a claim lasts, `retention_seconds` how long ended tasks are
    kept (0: forever), `kept_per_user` how many ended tasks, dead tasks and ended batches of each
    user (0: any number; the oldest go first). `max_events` of each task and batch are kept for
    replay; the newest `idempotency_keys_per_user` of each user are remembered (0: any number).
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
        retention_seconds: float = 604800.0,
        order: QueueOrder = QueueOrder.FIFO,
        max_events: int = 256,
        idempotency_seconds: float = 86400.0,
        idempotency_keys_per_user: int = 1000,
        kept_per_user: int = 1000,
    ) -> None:
        self.prefix = key_prefix(name)
        super().__init__(
            Scripts(redis, self.prefix, secrets.token_hex(4), max_events),
            QueueLimits(user_limit=user_limit, global_limit=global_limit, order=order),
        )
        self.max_waiting_per_user = max_waiting_per_user
        self.visibility_seconds = visibility_seconds
        self.retention_seconds = retention_seconds
        self.idempotency_seconds = idempotency_seconds
        self.idempotency_keys_per_user = idempotency_keys_per_user
        self.kept_per_user = kept_per_user
        self._redis = redis
        self._broken = 0
        # When the text of a plan was last sent.
        self._sent_plans: dict[str, float] = {}

    async def enqueue_task(
        self,
        user_id: str,
        new: NewTask,
        *,
        delay: float = 0.0,
        run_at: float = 0.0,
        task_id: str | None = None,
        once: Once | None = None,
    ) -> Task:
        """Add one task to the line, or aside for `delay` seconds or until the time `run_at`.

        A repeated `task_id`, an equal request under the same key of `once`, and a unique key that
        another task has, return the task that there is. Raise QueueFull; KeyReused for another
        request under the same key; Conflict for a unique key that rejects.
        """
        task_id, plans = task_id or new_id(), self._plans_of([new])
        reply = self._unless_refused(
            await self.scripts.run_grouped(
                "enqueue",
                {
                    "waiting": self.max_waiting_per_user,
                    "seconds": self.idempotency_seconds,
                    "keys": self.idempotency_keys_per_user,
                    "kept": self.kept_per_user,
                },
                {
                    **task_fields(user_id, new, task_id, ""),
                    **_unique_fields(user_id, new),
                    "delay": delay,
                    "run_at": run_at,
                    **_once_fields(user_id, once, "once"),
                },
                plans,
            )
        )
        self._note_sent(plans)
        if len(reply) > NEW_FIELDS:
            return read_task(reply)
        return new_task(task_id, user_id, new, reply)

    async def create_batch(
        self,
        user_id: str,
        tasks: Sequence[NewTask],
        *,
        notify_each: bool = False,
        batch_id: str | None = None,
        once: Once | None = None,
    ) -> Batch:
        """Add some tasks of one kind, all or none.

        The batch's end makes one notification, and with `notify_each` the end of each task too.
        Raise QueueFull; KeyReused as `enqueue_task` does.
        """
        batch_id, kind, plans = batch_id or new_id(), tasks[0].kind, self._plans_of(tasks)
        items = [
            task_fields(user_id, new, f"{batch_id}-{number}", batch_id)
            for number, new in enumerate(tasks, 1)
        ]
        for item in items:
            item["notify"] = "1" if notify_each else "0"
        reply = await self._run_patiently(
            "create_batch",
            len(tasks),
            id=batch_id,
            user=user_id,
            kind=kind,
            head=_head({"batch_id": batch_id, "kind": kind}),
            waiting=self.max_waiting_per_user,
            **_once_fields(user_id, once, "key"),
            seconds=self.idempotency_seconds,
            keys=self.idempotency_keys_per_user,
            tasks=items,
            plans=plans,
        )
        batch = read_batch(self._unless_refused(reply))
        self._note_sent(plans)
        return batch

    async def dequeue_task(self, worker_id: str, kinds: Sequence[str]) -> Claim | None:
        """Claim the next task of some kinds; None when there is none that may run."""
        claims = (await self.claim(worker_id, 1, kinds=kinds)).claims
        return claims[0] if claims else None

    async def claim(
        self,
        worker_id: str,
        count: int,
        acks: Sequence[Ack] = (),
        request: str | None = None,
        *,
        kinds: Sequence[str],
    ) -> Claimed:
        """End some tasks and claim at most `count` others of some kinds, in one round trip.

        Repeated under the same id of the `request` within a minute it returns the same tasks.
        """
        _, claimed = await self._claim(worker_id, count, acks, request, kinds)
        return claimed

    async def ack_task(
        self,
        task_id: str,
        success: bool = True,
        *,
        token: str,
        result: Any = None,
        error: str | None = None,
        fragment: bytes | None = None,
    ) -> bool:
        """End a claimed task. Return False when the token is stale: then nothing changed."""
        outcome = Outcome.COMPLETED if success else Outcome.FAILED
        return await self.end_attempt(Ack(task_id, token, outcome, result, error, fragment))

    async def end_attempt(self, ack: Ack) -> bool:
        """End an attempt, in any way. Return False when the token is stale."""
        owned, _ = await self._claim("", 0, [ack], None, ())
        return owned[0]

    async def extend_task(self, task_id: str, token: str) -> bool:
        """Keep a claim for another visibility time. Return False when the token is stale."""
        return bool(
            await self.scripts.run(
                "extend", id=task_id, token=token, visibility=self.visibility_seconds
            )
        )

    async def expire_claims(self, worker_ids: Sequence[str]) -> int:
        """End the leases of workers that are gone, for upkeep to hand back; return how many."""
        expired: int = await self.scripts.run("expire", workers=list(worker_ids))
        return expired

    async def release_task(self, task_id: str, token: str) -> bool:
        """Hand a claimed task back to the head of its line, its attempt not counted."""
        return bool(await self.scripts.run("release", id=task_id, token=token))

    async def report_progress(
        self,
        task_id: str,
        token: str,
        fragment: bytes,
        percent: float,
        *,
        state: bytes | None = None,
        plan: Plan | None = None,
    ) -> bool:
        """Keep and publish the progress of an attempt. Return False when the token is stale.

        `state` is what the handler wants kept for later attempts (JSON), `plan` one that the task
        takes on.
        """
        return bool(
            await self.scripts.run(
                "report",
                id=task_id,
                token=token,
                fragment=fragment,
                percent=str(percent),
                state=state,
                plan=None if plan is None else plan.digest,
                text=None if plan is None else plan.text,
            )
        )

    async def keep_result(self, task_id: str, token: str, name: str, value: bytes) -> bool:
        """Keep what a step resulted in (JSON). Return False when the token is stale."""
        return bool(
            await self.scripts.run(
                "keep_result", id=task_id, token=token, name=name.encode(), value=value
            )
        )

    async def read_kept(self, task_id: str) -> Kept:
        """Read what earlier attempts left."""
        async with self._reading() as pipe:
            pipe.hgetall(f"{self.prefix}kept:{task_id}")
            pipe.hget(f"{self.prefix}task:{task_id}", "state")
            results, state = await pipe.execute()
        return Kept({name.decode(): value for name, value in results.items()}, state or b"")

    async def add_note(
        self, task_id: str, token: str, fields: Mapping[str, Any], note_id: str | None = None
    ) -> bool:
        """Have a notification made for the user. Return False when the token is stale.

        Repeated at once under the same `note_id` it makes one.
        """
        note = note_id or secrets.token_hex(8)
        return bool(
            await self.scripts.run(
                "add_note", id=task_id, token=token, note=note, fields=orjson.dumps(fields)
            )
        )

    async def read_plans(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Return the texts of plans, of those that there are."""
        if not digests:
            return {}
        async with self._reading() as pipe:
            pipe.hmget(self.prefix + "plans", list(digests))
            (texts,) = await pipe.execute()
        return {digest: text for digest, text in zip(digests, texts, strict=True) if text}

    async def cancel_task(self, task_id: str, user_id: str | None = None) -> Task:
        """End a task as cancelled, unless it has ended. Raise TaskNotFound, also for another's."""
        reply = await self._cancel("task", task_id, user_id)
        if reply is None:
            raise TaskNotFound(task_id)
        return read_task(reply)

    async def cancel_batch(self, batch_id: str, user_id: str | None = None) -> Batch:
        """Cancel what has not ended of a batch. Raise BatchNotFound, also for another's."""
        more, batch = 1, ()
        while more:
            reply = await self._cancel("batch", batch_id, user_id)
            if reply is None:
                raise BatchNotFound(batch_id)
            more, batch = reply
        return read_batch(batch)

    async def get_task(self, task_id: str) -> Task | None:
        """Read a task."""
        reply = await self.scripts.run("get_task", id=task_id)
        return None if reply is None else read_task(reply)

    async def get_batch(self, batch_id: str) -> Batch | None:
        """Read a batch."""
        reply = await self.scripts.run("get_batch", id=batch_id)
        return None if reply is None else read_batch(reply)

    async def list_tasks(
        self,
        user_id: str,
        *,
        kind: str = "",
        statuses: Sequence[str] = (),
        tag: str = "",
        batch_id: str = "",
        since: float = 0.0,
        until: float = 0.0,
        words: str = "",
        before: str = "",
        limit: int = 50,
    ) -> Page:
        """Read a user's tasks that fit, or everybody's (the user ""), the newest first.

        `since` and `until` are when they were made; `words` stand in the label or in the id.
        `before` is the `next` of the page before. One page may have fewer than `limit` and go on
        all the same: it looks at 2,000 tasks at most.
        """
        found: list[Task] = []
        by_text, place = bool(tag or words), before
        step = READ_AT_ONCE if by_text else LOOKED_AT_ONCE
        for _ in range(0, LOOKED_AT, step):
            room = limit - len(found)
            most = step if by_text else room
            part, place = await self._list_part(
                user_id, kind, statuses, batch_id, since, until, place, most, step
            )
            fitting = [(seq, task) for seq, task in part if _fits(task, tag, words)]
            if len(fitting) > room:
                place, _ = fitting[room - 1]
            found += [task for _, task in fitting[:room]]
            if not place or len(found) >= limit:
                break
        return Page(found, place or None)

    async def get_user_queue_status(self, user_id: str) -> UserQueueStatus:
        """Count a user's tasks."""
        async with self._reading() as pipe:
            for name in ("waiting_of", "aside", "active"):
                pipe.hget(self.prefix + name, user_id)
            pipe.hget(self.prefix + "limits", ALL_KINDS)
            *counts, packed = await pipe.execute()
        waiting, aside, active = (int(found or 0) for found in counts)
        limits = attrs.asdict(self.limits) | unpack_limits(packed)
        return UserQueueStatus(waiting + aside, active, limits["user_limit"])

    async def stats(self) -> QueueStats:
        """Count the tasks in each state."""
        async with self._reading() as pipe:
            pipe.hvals(self.prefix + "queued")
            pipe.zcard(self.prefix + "processing")
            pipe.zcard(self.prefix + "delayed")
            pipe.hgetall(self.prefix + "counts")
            queued, processing, delayed, counts = await pipe.execute()
        ended = {
            state.value: int(counts.get(state.encode(), 0))
            for state in TaskState
            if state.value not in ("queued", "processing", "delayed")
        }
        waiting = sum(map(int, queued))
        return QueueStats(queued=waiting, processing=processing, delayed=delayed, **ended)

    async def cleanup_expired_tasks(self) -> int:
        """Do what is due, at most 200 of each; return how many leases had run out.

        Those tasks go back to the head of their line, or are dead after the last attempt. Delays
        that are over end, and ended tasks past their retention are deleted.
        """
        return (await self.keep_up()).expired

    async def keep_up(self) -> Upkeep:
        """Do what `cleanup_expired_tasks` does, and say when it is wanted again."""
        expired, _, _, due_in, broken = await self.scripts.run(
            "upkeep",
            retention=self.retention_seconds,
            most=UPKEEP_COUNT,
            kept=self.kept_per_user,
            idle=PLAN_IDLE_SECONDS,
        )
        if broken != self._broken:
            log.error("tasks_set_aside", tasks=broken, see="run.py queue check")
        self._broken = broken
        return Upkeep(expired, float(due_in) if due_in else None)

    async def publish_positions(self) -> int:
        """Tell the watchers of waiting tasks where they stand, at most once a second in all."""
        told: int = await self.scripts.run("publish_positions", pause=POSITIONS_SECONDS)
        return told

    async def list_dead(self, limit: int = 50, offset: int = 0) -> list[Task]:
        """Read the tasks that are dead, the last to die first."""
        replies = await self.scripts.run("list_dead", passed=offset, most=limit)
        return [read_task(reply) for reply in replies]

    async def rerun_task(self, task_id: str, user_id: str | None = None) -> Task:
        """Give a task that failed, died or was cancelled all its attempts again.

        Raise TaskNotFound, also for another's; NotEnded for one that waits, runs or has completed;
        Conflict when another has its unique key.
        """
        reply = await self.scripts.run("rerun", id=task_id, user=user_id or "")
        if reply is None:
            raise TaskNotFound(task_id)
        if isinstance(reply, bytes):
            raise NotEnded(task_id, reply.decode())
        if reply[0] == b"unique":
            raise Conflict(reply[1].decode())
        return read_task(reply)

    async def discard_task(self, task_id: str) -> None:
        """Delete a task that failed or is dead. Raise TaskNotFound when there is none such."""
        if not await self.scripts.run("discard", id=task_id):
            raise TaskNotFound(task_id)

    async def purge(
        self, status: TaskState, *, kind: str = "", user_id: str = "", limit: int = 0
    ) -> int:
        """Cancel waiting tasks, or delete ended ones; return how many. `limit` 0: all there are.

        Raise ValueError for tasks that run: those are cancelled one by one.
        """
        if status == TaskState.PROCESSING:
            raise ValueError("tasks that run are not purged: cancel them")
        purged, passed, more = 0, 0, 1
        while more and not 0 < limit <= purged:
            most = min(PURGE_COUNT, limit - purged) if limit else PURGE_COUNT
            done, stay, more = await self.scripts.run(
                "purge",
                status=status.value,
                kind=kind,
                user=user_id,
                ids=[],
                passed=passed,
                most=most,
                kept=self.kept_per_user,
            )
            purged += done
            passed += stay
        return purged

    async def read_events(
        self, followed: Followed, id_: str, after: Cursor | None = None
    ) -> Replay:
        """Read the state, and the messages after a cursor. Raise TaskNotFound, BatchNotFound."""
        epoch, offset = ("", 0) if after is None else (after.epoch, after.offset)
        reply = await self.scripts.run(
            "read_events", what=followed, id=id_, epoch=epoch, after=offset
        )
        if reply is None:
            raise TaskNotFound(id_) if followed == "task" else BatchNotFound(id_)
        return read_replay({f"{followed}_id": id_}, *reply)

    async def read_heads(self, followed: Followed, ids: Sequence[str]) -> dict[str, Cursor]:
        """Return where the logs of tasks or batches end, of those that there are."""
        epoch, *offsets = await self.scripts.run("read_heads", what=followed, ids=list(ids))
        return {
            id_: Cursor(epoch.decode(), int(offset))
            for id_, offset in zip(ids, offsets, strict=True)
            if offset
        }

    async def check_invariants(self) -> list[str]:
        """Compare everything with everything; return the violations. For tests and maintenance."""
        return [fault.decode() for fault in await self.scripts.run("check_invariants")]

    def _reading(self) -> Pipeline:
        # Not a transaction: Redis refuses even to read in one when it is full.
        return self._redis.pipeline(transaction=False)

    async def _run_patiently(self, name: str, tasks: int, /, **arguments: Any) -> Any:
        """Run a script that takes long for many tasks, longer than an answer may.

        Sent again, it says what it has done: it is asked once more for each `ANSWERED_TASKS`.
        """
        for _ in range(tasks // ANSWERED_TASKS):
            with contextlib.suppress(TimeoutError):
                return await self.scripts.run(name, **arguments)
        return await self.scripts.run(name, **arguments)

    async def _cancel(self, what: Followed, id_: str, user_id: str | None) -> Any:
        return await self.scripts.run(
            "cancel",
            what=what,
            id=id_,
            user=user_id or "",
            kept=self.kept_per_user,
            most=CANCEL_COUNT,
        )

    async def _list_part(
        self,
        user_id: str,
        kind: str,
        statuses: Sequence[str],
        batch_id: str,
        since: float,
        until: float,
        before: str,
        most: int,
        looked: int,
    ) -> tuple[list[tuple[str, Task]], str]:
        replies, last = await self.scripts.run(
            "list_tasks",
            user=user_id,
            kind=kind,
            statuses=list(statuses),
            batch=batch_id,
            since=since,
            till=until,
            before=int(before or 0),
            most=most,
            looked=looked,
        )
        place = str(last if isinstance(last, int) else last.decode())
        found = [(fields_of(reply)["seq"].decode(), read_task(reply)) for reply in replies]
        return found, place

    async def _claim(
        self,
        worker_id: str,
        count: int,
        acks: Sequence[Ack],
        request: str | None,
        kinds: Sequence[str],
    ) -> tuple[list[bool], Claimed]:
        request = request or new_request()
        while True:
            reply = await self.scripts.run_alone(
                "claim",
                request=request,
                worker=worker_id,
                most=count,
                kinds=list(dict.fromkeys(kinds)),
                visibility=self.visibility_seconds,
                kept=self.kept_per_user,
                acks=[_ack_fields(ack) for ack in acks],
            )
            if reply != b"unregistered":
                break
            # A Redis that is new, or was emptied.
            self._sent_plans.clear()
            await self.register_again()
        owned, claimed, again_in = reply
        claims = await self._readable(claimed)
        return [bool(one) for one in owned], Claimed(claims, float(again_in) if again_in else None)

    async def _readable(self, claimed: Sequence[Sequence[bytes]]) -> list[Claim]:
        """Return the claims, but for tasks that cannot be read: these fail, each for itself."""
        claims = []
        for reply in claimed:
            try:
                claims.append(read_claim(reply))
            except ValueError as error:
                task_id, token = (field.decode(errors="replace") for field in (reply[0], reply[-1]))
                log.error("task_unreadable", task_id=task_id, error=error)
                why = f"the task cannot be read: {error}"
                await self.end_attempt(Ack(task_id, token, Outcome.FAILED, error=why))
        return claims

    def _plans_of(self, tasks: Sequence[NewTask]) -> dict[str, bytes]:
        """Return the texts of plans that Redis may not have."""
        long_ago = time.monotonic() - PLAN_IDLE_SECONDS / 2
        plans = {new.plan.digest: new.plan.text for new in tasks if new.plan is not None}
        sent = self._sent_plans
        return {
            digest: text for digest, text in plans.items() if sent.get(digest, -math.inf) < long_ago
        }

    def _note_sent(self, plans: Mapping[str, bytes]) -> None:
        if len(self._sent_plans) > MOST_SENT_PLANS:
            self._sent_plans.clear()
        self._sent_plans.update(dict.fromkeys(plans, time.monotonic()))

    def _unless_refused(self, reply: Any) -> Any:
        if reply == b"full":
            raise QueueFull(self.max_waiting_per_user, FULL_RETRY_SECONDS)
        if reply == b"conflict":
            raise KeyReused
        if reply[0] == b"unique":
            raise Conflict(reply[1].decode())
        return reply


def key_prefix(name: str) -> str:
    """Return what every key of a queue begins with: its hash tag."""
    return f"{{{name}}}:"


def new_request() -> str:
    """Return an id for a request that may have to be repeated."""
    return secrets.token_hex(8)


def new_id() -> str:
    """Return 80 random bits as 16 letters and digits, which no command takes for an option."""
    return base64.b32encode(secrets.token_bytes(10)).decode().lower()


def _head(fields: Mapping[str, Any]) -> bytes:
    return orjson.dumps(fields)[1:-1]


def task_fields(user_id: str, new: NewTask, task_id: str, batch_id: str) -> dict[str, Any]:
    """Return a new task as the scripts take it (lib/add.lua)."""
    head = {"task_id": task_id, "kind": new.kind, "label": new.job.label, **new.shown}
    if batch_id:
        head["batch_id"] = batch_id
    return {
        "id": task_id,
        "user": user_id,
        "batch": batch_id,
        "kind": new.kind,
        "level": str(new.priority.level),
        "key": new.key,
        "max_attempts": str(new.max_attempts),
        "expected": str(new.expected_seconds),
        # "c": a callback alone.
        "notify": "1" if new.notify else "c" if new.job.callback_url else "0",
        "unique": "",
        "plan": new.plan.digest if new.plan else "",
        "head": _head(head),
        "first": new.first,
        "job": pack_job(new.job),
    }


def _unique_fields(user_id: str, new: NewTask) -> dict[str, Any]:
    unique: Unique | None = new.unique
    if unique is None:
        return {"conflict": "", "unique_seconds": 0.0}
    named = f"{new.kind}\0{user_id}\0{unique.key}".encode()
    scope, seconds = "s", 0.0
    if isinstance(unique.scope, str):
        scope = SCOPES[unique.scope]
    else:
        seconds = float(unique.scope)
    digest = hashlib.sha256(named).hexdigest()
    return {
        "unique": scope + digest,
        "conflict": unique.on_conflict.value,
        "unique_seconds": seconds,
    }


def _once_fields(user_id: str, once: Once | None, name: str) -> dict[str, str]:
    if once is None:
        return {name: "", "digest": ""}
    scoped = hashlib.sha256(f"{user_id}\0{once.key}".encode()).hexdigest()
    return {name: scoped, "digest": hashlib.sha256(once.request).hexdigest()}


def _ack_fields(ack: Ack) -> dict[str, Any]:
    return {
        "id": ack.task_id,
        "token": ack.token,
        "outcome": ack.outcome.value,
        "result": b"" if ack.result is None else orjson.dumps(ack.result),
        # Text of a handler may hold what UTF-8 cannot carry.
        "error": (ack.error or "").encode(errors="replace"),
        "fragment": ack.fragment or b"",
        "delay": ack.delay,
    }


def _fits(task: Task, tag: str, words: str) -> bool:
    if tag and tag not in task.job.tags:
        return False
    told = f"{task.label}\n{task.task_id}".casefold()
    return all(word in told for word in words.casefold().split())
