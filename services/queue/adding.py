"""Adding tasks and batches: each request once, within the bounds of its user."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import orjson
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from services.queue.access import QueueAccess
from services.queue.jobs import pack_job
from services.queue.models import Batch, Idempotency, NewTask, StartEstimate, Task
from services.queue.replies import new_task, read_batch, read_estimate, read_task
from services.queue.terms import task_terms
from tornado_rt.tracing import sending

# A script puts at least this many tasks into the line in a second, also where memory is short.
TASKS_PER_SECOND = 200
# When Redis says that a script is running, it is asked again after this long [s].
BUSY_SECONDS = 0.1
# Others are served after each of this many tasks of a batch.
PACKED_AT_ONCE = 200
# The script replies with this many fields for a new task, and with all fields for an existing one.
NEW_FIELDS = 3
# Prefix of a unique key: see `free_unique` of the scripts.
SCOPES = {"waiting": "w", "running": "r"}
# For each byte one of 32 characters: five of its bits.
ID_CHARACTERS = b"abcdefghijklmnopqrstuvwxyz234567" * 8
# Expected length of a task until some of its kind have ended [s].
EXPECTED_SECONDS = 60.0
# When a task is made and its number: the script fills them in.
FILLED_IN = ("", "")
NO_TRACE: Mapping[str, str] = {}


class Adding(QueueAccess):
    """The verbs of submitters."""

    async def enqueue_task(
        self,
        user_id: str,
        new: NewTask,
        *,
        delay: float = 0.0,
        run_at: float = 0.0,
        task_id: str | None = None,
        once: Idempotency | None = None,
    ) -> Task:
        """Add one task to the line, or aside for `delay` seconds or until the time `run_at`.

        A repeated `task_id`, an equal request under the same key of `once`, and a unique key that
        another task has, return the task that there is. Raise QueueFull; KeyReused for another
        request under the same key; Conflict for a unique key that rejects.
        """
        task_id, plans = task_id or new_id(), self.sent_plans.missing([new])
        unique, fields = _timed_fields(user_id, new, delay, run_at)
        if once is not None:
            fields |= _once_fields(user_id, once, "once")
        with sending(new.kind, message_id=task_id) as trace:
            made = task_fields(user_id, new, task_id, unique=unique, trace=trace)
            reply = self._unless_refused(
                await self.scripts.run_grouped(
                    "enqueue",
                    {
                        "waiting": self.max_waiting_per_user,
                        "seconds": self.idempotency_seconds,
                        "keys": self.idempotency_keys_per_user,
                        "kept": self.kept_per_user,
                    },
                    {**made, **fields},
                    plans,
                )
            )
        self.sent_plans.note(plans)
        if len(reply) > NEW_FIELDS:
            return read_task(reply)
        return new_task(task_id, user_id, new, reply)

    async def enqueue_child(
        self,
        parent: Task,
        token: str,
        name: str,
        new: NewTask,
        *,
        delay: float = 0.0,
        run_at: float = 0.0,
    ) -> str | None:
        """Add a task for a running attempt at `parent`, to its user; return its id.

        The id is kept as what a step of this name resulted in. When there is one already, that is
        returned. None: the token is stale, and nothing was added. Raise QueueFull, Conflict.
        """
        task_id, plans = new_id(), self.sent_plans.missing([new])
        unique, fields = _timed_fields(parent.user_id, new, delay, run_at)
        with sending(new.kind, message_id=task_id) as trace:
            made = task_fields(parent.user_id, new, task_id, unique=unique, trace=trace)
            child = {**made, **fields, "parent": [parent.task_id, token, name.encode()]}
            [reply] = await self.scripts.run(
                "enqueue",
                waiting=self.max_waiting_per_user,
                seconds=self.idempotency_seconds,
                keys=self.idempotency_keys_per_user,
                kept=self.kept_per_user,
                tasks=[child],
                plans=plans,
            )
        if reply == b"stale":
            return None
        _, kept = self._unless_refused(reply)
        self.sent_plans.note(plans)
        return str(orjson.loads(kept))

    async def create_batch(
        self,
        user_id: str,
        tasks: Sequence[NewTask],
        *,
        notify_each: bool = False,
        batch_id: str | None = None,
        once: Idempotency | None = None,
    ) -> Batch:
        """Add some tasks of one kind, all or none.

        The batch's end makes one notification, and with `notify_each` the end of each task too.
        Raise QueueFull; KeyReused as `enqueue_task` does.
        """
        batch_id, kind, plans = batch_id or new_id(), tasks[0].kind, self.sent_plans.missing(tasks)
        with sending(kind, batch_id=batch_id, count=len(tasks)) as trace:
            reply = await self._run_patiently(
                "create_batch",
                len(tasks),
                id=batch_id,
                user=user_id,
                kind=kind,
                head=_head(_locale_of(tasks[0]) | {"batch_id": batch_id, "kind": kind}),
                waiting=self.max_waiting_per_user,
                **_once_fields(user_id, once, "key"),
                seconds=self.idempotency_seconds,
                keys=self.idempotency_keys_per_user,
                tasks=await _batch_fields(
                    user_id, tasks, batch_id, notify=notify_each, trace=trace
                ),
                plans=plans,
            )
            batch = read_batch(self._unless_refused(reply))
        self.sent_plans.note(plans)
        return batch

    async def estimate_task(
        self,
        user_id: str,
        new: NewTask,
        *,
        delay: float = 0.0,
        run_at: float = 0.0,
        once: Idempotency | None = None,
    ) -> StartEstimate:
        """Say when a task would start and end. Raise as `enqueue_task` does; it adds nothing."""
        unique, fields = _timed_fields(user_id, new, delay, run_at)
        task = task_fields(user_id, new, "", unique=unique) | fields
        return await self._estimate(user_id, [new], [task], once, is_batch=False)

    async def estimate_batch(
        self, user_id: str, tasks: Sequence[NewTask], *, once: Idempotency | None = None
    ) -> StartEstimate:
        """Say when a batch would start and end. Raise as `create_batch` does; it adds nothing."""
        items = [task_fields(user_id, new, "") for new in tasks]
        return await self._estimate(user_id, tasks, items, once, is_batch=True)

    async def _estimate(
        self,
        user_id: str,
        news: Sequence[NewTask],
        tasks: Sequence[Mapping[str, Any]],
        once: Idempotency | None,
        *,
        is_batch: bool,
    ) -> StartEstimate:
        reply = await self.scripts.run(
            "estimate",
            user=user_id,
            **_once_fields(user_id, once, "once"),
            waiting=self.max_waiting_per_user,
            tasks=tasks,
            knows=all(new.expected_seconds is not None for new in news),
            is_batch=is_batch,
        )
        return read_estimate(self._unless_refused(reply))

    async def _run_patiently(self, name: str, tasks: int, /, **arguments: Any) -> Any:
        """Run a script that takes long for many tasks, longer than an answer may.

        Sent again, it says what it has done: it is asked again as long as it may be at work.
        """
        until = time.monotonic() + tasks / TASKS_PER_SECOND
        while True:
            try:
                return await self.scripts.run(name, **arguments)
            except RedisTimeout:
                if time.monotonic() > until:
                    raise
            except ResponseError as error:
                if not str(error).startswith("BUSY ") or time.monotonic() > until:
                    raise
                await asyncio.sleep(BUSY_SECONDS)


def new_id() -> str:
    """Return 80 random bits as 16 letters and digits, which no command takes for an option."""
    return secrets.token_bytes(16).translate(ID_CHARACTERS).decode()


async def _batch_fields(
    user_id: str, tasks: Sequence[NewTask], batch_id: str, **told: Any
) -> list[dict[str, Any]]:
    """Return the tasks of a batch as the scripts take them; others are served meanwhile."""
    items = []
    for number, new in enumerate(tasks, 1):
        items.append(task_fields(user_id, new, f"{batch_id}-{number}", batch_id, **told))
        if number % PACKED_AT_ONCE == 0:
            await asyncio.sleep(0)
    return items


def _locale_of(new: NewTask) -> dict[str, Any]:
    """Return the language of a task, if it has one: first of all, where readers look for it."""
    return {"locale": new.job.locale} if new.job.locale else {}


def _head(fields: Mapping[str, Any]) -> bytes:
    return orjson.dumps(fields)[1:-1]


def task_fields(
    user_id: str,
    new: NewTask,
    task_id: str,
    batch_id: str = "",
    *,
    unique: str = "",
    notify: bool | None = None,
    trace: Mapping[str, str] = NO_TRACE,
) -> dict[str, Any]:
    """Return a new task as the scripts take it (lib/add.lua); `notify` wins over its own.

    `trace`: the headers that name the span that sends it.
    """
    told = {"task_id": task_id, "kind": new.kind, "label": new.job.label}
    head: dict[str, Any] = {**_locale_of(new), **new.shown, **told}
    if batch_id:
        head["batch_id"] = batch_id
    if new.job.parent_id:
        head["parent_id"] = new.job.parent_id
    if notify is None:
        # "c": a callback alone.
        tells = "1" if new.notify else "c" if new.job.callback_url else "0"
    else:
        tells = "1" if notify else "0"
    # In the order of MADE (lib/task.lua).
    made = [
        user_id,
        batch_id,
        *FILLED_IN,
        new.kind,
        str(new.priority.level),
        new.key,
        str(new.max_attempts),
        str(EXPECTED_SECONDS if new.expected_seconds is None else new.expected_seconds),
        tells,
        unique,
        new.plan.digest if new.plan else "",
        _head(head),
        new.first,
        pack_job(attrs.evolve(new.job, trace=trace) if trace else new.job),
    ]
    return {"id": task_id, "made": made, "terms": task_terms(new.job)}


def _unique_key(user_id: str, new: NewTask) -> tuple[str, dict[str, Any]]:
    """Return the unique key as the scripts keep it, "" for none, and what else they take."""
    unique = new.unique
    if unique is None:
        return "", {}
    named = f"{new.kind}\0{user_id}\0{unique.key}".encode()
    scope, seconds = "s", 0.0
    if isinstance(unique.scope, str):
        scope = SCOPES[unique.scope]
    else:
        seconds = float(unique.scope)
    digest = hashlib.sha256(named).hexdigest()
    return scope + digest, {"conflict": unique.on_conflict.value, "unique_seconds": seconds}


def _timed_fields(
    user_id: str, new: NewTask, delay: float, run_at: float
) -> tuple[str, dict[str, Any]]:
    """Return the unique key of a task, and what else the scripts take of one alone."""
    unique, fields = _unique_key(user_id, new)
    return unique, fields | ({"delay": delay, "run_at": run_at} if delay or run_at else {})


def _once_fields(user_id: str, once: Idempotency | None, name: str) -> dict[str, str]:
    if once is None:
        return {name: "", "digest": ""}
    scoped = hashlib.sha256(f"{user_id}\0{once.key}".encode()).hexdigest()
    return {name: scoped, "digest": hashlib.sha256(once.request).hexdigest()}
