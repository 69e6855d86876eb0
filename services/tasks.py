"""Tasks of any kind: one verb a request, between the kinds and the queue.

It is long because it has a verb for each request about tasks and batches.
"""

import asyncio
import time
from collections.abc import Container, Iterator, Sequence
from typing import Any

import attrs
import orjson

from services.analysis.bodies import bounded_seed_batch, bounded_seed_task
from services.estimates import Estimates
from services.finding import TaskFilter, find_page
from services.foreseen import describe_estimate
from services.kinds import RESERVED, KindRegistry, KindUnknown, KnownKind, ParamsFault
from services.output import lines_of
from services.progress import PlanBook
from services.queue import (
    Batch,
    BatchNotFound,
    By,
    Idempotency,
    Job,
    KindState,
    NewTask,
    QueueService,
    Search,
    Task,
    TaskNotFound,
    TaskPage,
    TaskState,
    iso_of,
)
from services.submissions import (
    KIND_LENGTH,
    BatchRequest,
    TaskBounds,
    TaskRequest,
    bounded_batch,
    bounded_task,
)
from services.waiting import waiting_for
from tornado_rt.bounds import OutOfBounds, check_json, check_name
from tornado_rt.json_body import Faults, read_body
from tornado_rt.work import first_fragment
from tornado_rt.work.params.faults import PLACE
from tornado_rt.work.texts import phrase

# Number of tasks of a batch that are read before others are served.
AT_ONCE = 50
# A body of the first version has one of these.
SEED_FIELDS = {"symbol", "symbols"}
# Greatest age of the knowledge about the workers of kinds [s].
STATES_SECONDS = 1.0


# The first fragments of tasks, by the digest of the plan and the expected seconds: equal ones are
# made once a request.
Firsts = dict[tuple[str, float | None], bytes]
# Most sorts of tasks in a batch whose length is asked for; the kind tells that of the others.
MOST_SORTS = 16


class TaskService:
    """Submits tasks, finds and shows them, cancels them and runs them again.

    `owner` in its verbs is the user whose tasks may be touched, None for everybody's: what belongs
    to another is not there.
    """

    def __init__(
        self,
        queue: QueueService,
        kinds: KindRegistry,
        plans: PlanBook,
        bounds: TaskBounds,
        estimates: Estimates,
    ) -> None:
        self._task, self._seed_task = bounded_task(bounds), bounded_seed_task(bounds)
        self._batch, self._seed_batch = bounded_batch(bounds), bounded_seed_batch(bounds)
        self._queue = queue
        self._kinds = kinds
        self._plans = plans
        self._bounds = bounds
        self._estimates = estimates
        self._states: dict[str, KindState] = {}
        self._states_until = 0.0

    async def submit(self, user_id: str, body: Any, once: Idempotency | None) -> Task:
        """Submit the task that a JSON body asks for.

        Raise Problem 422 and ParamsFault for what is wrong with the body, KindUnknown; QueueFull,
        KeyReused, Conflict.
        """
        request = await self._read_task(body)
        new = await self.make(request)
        return await self._queue.enqueue_task(
            user_id, new, delay=request.delay, run_at=request.starts_at(), once=once
        )

    async def estimate(self, user_id: str, body: Any, once: Idempotency | None) -> dict[str, Any]:
        """Say when the task that a JSON body asks for would start and end, as it is on the wire.

        Raise as `submit` does; nothing is submitted.
        """
        request = await self._read_task(body)
        new, run_at = await self.make(request), request.starts_at()
        found = await self._queue.estimate_task(
            user_id, new, delay=request.delay, run_at=run_at, once=once
        )
        due = max(run_at, found.at + request.delay if request.delay else 0.0)
        shown = describe_estimate(found, new, due)
        return shown | ({"task_id": found.there} if found.there else {})

    async def submit_own(
        self, user_id: str, kind_name: str, params: dict[str, Any], once: Idempotency | None
    ) -> Task:
        """Submit a task of a kind that only the server makes tasks of. Raise as `submit`."""
        kind = await self._kinds.find(kind_name, self._queue)
        read = kind.read_params(params, most_bytes=0)
        new = await self._new_task(kind, self._task(kind=kind_name), read, {})
        return await self._queue.enqueue_task(user_id, new, once=once)

    async def submit_child(self, parent: Task, token: str, name: str, body: Any) -> str | None:
        """Submit the task that an attempt at `parent` asks for, once for its `name`.

        It keeps the trace, and the language unless the body has one. Return its id, None when the
        token is stale. Raise as `submit`.
        """
        request = await self._read_task(body)
        new = await self.make(request)
        job = attrs.evolve(
            new.job,
            parent_id=parent.task_id,
            locale=new.job.locale or parent.job.locale,
            trace=parent.job.trace,
        )
        return await self._queue.enqueue_child(
            parent,
            token,
            name,
            attrs.evolve(new, job=job),
            delay=request.delay,
            run_at=request.starts_at(),
        )

    async def make(self, request: TaskRequest) -> NewTask:
        """Return the task that a request asks for, before it is submitted.

        Raise ParamsFault, KindUnknown.
        """
        kind = await self._find(request.kind)
        params = kind.read_params(request.params, most_bytes=self._bounds.params_bytes)
        return await self._new_task(kind, request, params, {})

    async def submit_batch(self, user_id: str, body: Any, once: Idempotency | None) -> Batch:
        """Submit the tasks that a JSON body asks for, all or none. Raise as `submit` does."""
        request, tasks = await self._make_batch(body)
        return await self._queue.create_batch(
            user_id, tasks, notify_each=request.notify_each, once=once
        )

    async def estimate_batch(
        self, user_id: str, body: Any, once: Idempotency | None
    ) -> dict[str, Any]:
        """Say when the batch that a JSON body asks for would start and end. Raise as `estimate`."""
        _, tasks = await self._make_batch(body)
        found = await self._queue.estimate_batch(user_id, tasks, once=once)
        shown = describe_estimate(found, tasks[0], 0.0)
        # Each task has a label of its own.
        del shown["label"]
        return shown | {"total": len(tasks)} | ({"batch_id": found.there} if found.there else {})

    async def _make_batch(self, body: Any) -> tuple[BatchRequest, list[NewTask]]:
        request = await self._read_batch(body)
        kind = await self._find(request.kind)
        tasks, faults = [], Faults()
        firsts: Firsts = {}
        for number, (item, one) in enumerate(zip(request.items, request.tasks(), strict=True)):
            params = self._read_item(kind, number, request.params, item.params, faults)
            if params is not None:
                tasks.append(await self._new_task(kind, one, params, firsts))
            await _serve_others(number)
        faults.settle()
        return request, tasks

    async def get(self, task_id: str, owner: str | None) -> Task:
        """Read a task. Raise TaskNotFound, also for another's."""
        task = await self._queue.get_task(task_id)
        if task is None or owner not in (None, task.user_id):
            raise TaskNotFound(task_id)
        return task

    async def read(self, task_id: str, owner: str | None) -> dict[str, Any]:
        """Return a task as it is on the wire. Raise TaskNotFound, also for another's."""
        return await self._show_one(await self.get(task_id, owner))

    async def read_output(self, task_id: str, owner: str | None) -> dict[str, Any]:
        """Return what a task has told, as on the wire. Raise TaskNotFound, also for another's."""
        # First, so that what is logged meanwhile stands in what the task tells itself.
        logged = await self._queue.read_logged(task_id)
        task = await self.get(task_id, owner)
        items = lines_of(logged, task.snapshot)
        return {"locale": task.job.locale or None, "items": items, "older": logged.older}

    async def get_batch(self, batch_id: str, owner: str | None) -> Batch:
        """Read a batch. Raise BatchNotFound, also for another's."""
        batch = await self._queue.get_batch(batch_id)
        if batch is None or owner not in (None, batch.user_id):
            raise BatchNotFound(batch_id)
        return batch

    async def find(self, owner: str | None, wanted: TaskFilter) -> dict[str, Any]:
        """Return a page of tasks, the newest first, as it is on the wire; without results."""
        if owner is None and wanted.batch_id:
            # The list of the batch's user is shorter than that of everybody.
            batch = await self._queue.get_batch(wanted.batch_id)
            owner = None if batch is None else batch.user_id
        return await self._show_page(await find_page(self._queue, owner, wanted))

    async def search(self, wanted: Search) -> dict[str, Any]:
        """Return a page of everybody's tasks, the newest first, as on the wire, without results."""
        return await self._show_page(await self._queue.search(wanted))

    async def find_in_batch(
        self, batch_id: str, owner: str | None, before: str, limit: int
    ) -> dict[str, Any]:
        """Return a page of a batch's tasks. Raise BatchNotFound, also for another's."""
        batch = await self.get_batch(batch_id, owner)
        wanted = TaskFilter(batch_id=batch_id, before=before, limit=limit)
        return await self.find(batch.user_id, wanted)

    async def cancel(self, task_id: str, owner: str | None, by: By) -> dict[str, Any]:
        """End a task, unless it has ended; return it. Raise TaskNotFound, also for another's."""
        return await self._show_one(await self._queue.cancel_task(task_id, owner, by))

    async def cancel_batch(self, batch_id: str, owner: str | None, by: By) -> Batch:
        """Cancel what has not ended of a batch. Raise BatchNotFound, also for another's."""
        return await self._queue.cancel_batch(batch_id, owner, by)

    async def rerun(self, task_id: str, owner: str | None, by: By) -> Task:
        """Run again what failed, died or was cancelled.

        Raise TaskNotFound, NotEnded, Conflict; QueueFull, but for an operator (None).
        """
        return await self._queue.rerun_task(task_id, owner, by)

    async def rerun_dead(self, task_id: str, by: By) -> dict[str, Any]:
        """Run again what is dead; return it as it is on the wire. Raise as `rerun` does."""
        if (await self.get(task_id, None)).status != TaskState.DEAD:
            raise TaskNotFound(task_id)
        return await self._show_one(await self.rerun(task_id, None, by))

    async def _show_page(self, page: TaskPage) -> dict[str, Any]:
        shown = await self._show(page.items)
        for one in shown:
            del one["result"]
        return {"items": shown, "next": page.next}

    async def _show_one(self, task: Task) -> dict[str, Any]:
        [shown] = await self._show([task])
        return shown

    async def _show(self, tasks: Sequence[Task]) -> list[dict[str, Any]]:
        snapshots = await self._plans.all_shown([task.snapshot or b"{}" for task in tasks])
        waits = any(task.waiting_for for task in tasks)
        states = await self._read_states() if waits else {}
        return [
            _describe(task, snapshot, states.get(task.kind))
            for task, snapshot in zip(tasks, snapshots, strict=True)
        ]

    async def _read_states(self) -> dict[str, KindState]:
        if time.monotonic() >= self._states_until:
            states = await self._queue.read_kinds()
            self._states = {state.entry.kind: state for state in states}
            self._states_until = time.monotonic() + STATES_SECONDS
        return self._states

    async def _read_task(self, body: Any) -> TaskRequest:
        """Read a task's body. Raise Problem 422 with all that is wrong with it."""
        faults = Faults()
        request = read_body(body, self._seed_task if _is_seed(body) else self._task, faults)
        if request is not None:
            return request.request()
        kind = await self._find_kind(body, faults)
        if kind is not None and isinstance(params := body.get("params", {}), dict):
            self._read_params(kind, params, faults)
        raise faults.problem()

    async def _read_batch(self, body: Any) -> BatchRequest:
        """Read a batch's body. Raise Problem 422 with all that is wrong with it."""
        faults = Faults()
        request = read_body(body, self._seed_batch if _is_seed(body) else self._batch, faults)
        if request is not None:
            return request.request()
        kind = await self._find_kind(body, faults)
        if kind is not None and self._is_readable(common := body.get("params", {})):
            for number, params in _params_of_items(body, self._bounds.max_batch):
                self._read_item(kind, number, common, params, faults)
                await _serve_others(number)
        raise faults.problem()

    async def _find(self, name: str) -> KnownKind:
        """Return a kind of which anybody may make tasks. Raise KindUnknown."""
        if name.startswith(RESERVED):
            raise KindUnknown(phrase("tasks of {name} are made by the server alone", name=name))
        return await self._kinds.find(name, self._queue)

    async def _find_kind(self, body: Any, faults: Faults) -> KnownKind | None:
        """Return the kind that a wrong body names, if it can be one; add that there is none."""
        name = body.get("kind") if isinstance(body, dict) else None
        try:
            check_name("kind", name if isinstance(name, str) else "", KIND_LENGTH)
            return await self._find(str(name))
        except OutOfBounds:
            return None
        except KindUnknown as unknown:
            faults.add(str(unknown))
            return None

    def _read_item(
        self,
        kind: KnownKind,
        number: int,
        common: dict[str, Any],
        params: dict[str, Any],
        faults: Faults,
    ) -> dict[str, Any] | None:
        """Read the parameters of a batch's item, laid over those that all have.

        The faults of what all have are told at its place, not at the item's.
        """
        place, others = f"items[{number}].params", common.keys() - params.keys()
        return self._read_params(kind, {**common, **params}, faults, place, others)

    def _read_params(
        self,
        kind: KnownKind,
        params: dict[str, Any],
        faults: Faults,
        place: str = PLACE,
        common: Container[str] = (),
    ) -> dict[str, Any] | None:
        """Return parameters as the kind keeps them; None: their faults are added."""
        most = self._bounds.params_bytes
        try:
            return kind.read_params(params, place=place, common=common, most_bytes=most)
        except ParamsFault as fault:
            for one in fault.faults:
                faults.add(one)
            return None

    async def _new_task(
        self, kind: KnownKind, request: TaskRequest, params: dict[str, Any], firsts: Firsts
    ) -> NewTask:
        outline = kind.outline(params)
        plan, expected = outline.plan, outline.expected
        alike = (outline.key, expected)
        if alike not in firsts:
            is_asked = len(firsts) < MOST_SORTS
            forecast = await self._estimates.forecast(outline) if is_asked else None
            firsts[alike] = first_fragment(plan, expected, forecast)
        job = Job(
            label=(request.label or kind.label(params))[: self._bounds.label_length or None],
            params=params,
            tags=tuple(dict.fromkeys(request.tags)),
            callback_url=request.callback_url or "",
            timeout=request.timeout,
            budget_seconds=request.budget_seconds,
            locale=request.locale or "",
        )
        return NewTask(
            kind=request.kind,
            job=job,
            first=firsts[alike],
            plan=plan,
            shown=kind.shown(params),
            priority=request.priority,
            key=request.key,
            max_attempts=request.max_attempts or kind.max_attempts,
            expected_seconds=expected or None,
            notify=request.notify,
            unique=None if request.unique is None else request.unique.rule(),
        )

    def _is_readable(self, params: Any) -> bool:
        """Say whether the parameters that all items have can be laid under theirs."""
        try:
            check_json(PLACE, params, self._bounds.params_bytes)
        except OutOfBounds:
            return False
        return isinstance(params, dict)


def _is_seed(body: Any) -> bool:
    """Say whether a body is of the first version, which has a symbol and names no kind."""
    return isinstance(body, dict) and "kind" not in body and bool(SEED_FIELDS & body.keys())


def _params_of_items(body: dict[str, Any], most: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the parameters of a wrong batch's items, where they can be read, and their places."""
    items = body.get("items")
    if not isinstance(items, list) or len(items) > most > 0:
        return
    for number, item in enumerate(items):
        params = item.get("params", {}) if isinstance(item, dict) else None
        if isinstance(params, dict):
            yield number, params


async def _serve_others(number: int) -> None:
    """Let others be served, once in a while of many steps."""
    if number % AT_ONCE == 0:
        await asyncio.sleep(0)


def _describe(task: Task, snapshot: bytes, state: KindState | None) -> dict[str, Any]:
    shown: dict[str, Any] = orjson.loads(snapshot)
    return {
        **shown,
        "task_id": task.task_id,
        "kind": task.kind,
        "label": task.label,
        "user_id": task.user_id,
        "batch_id": task.batch_id,
        "status": task.status,
        "priority": task.priority,
        "key": task.key,
        "tags": task.job.tags,
        "schedule": task.job.schedule or None,
        "parent_id": task.job.parent_id or None,
        "locale": task.job.locale or None,
        "params": task.params,
        "result": task.result,
        # Its snapshot says why a task waits for another attempt.
        "error": task.error or shown.get("error"),
        "attempt": task.attempt,
        "max_attempts": task.max_attempts,
        "attempts": _attempts(task),
        "created_at": iso_of(task.created_at),
        "started_at": iso_of(task.started_at),
        "ended_at": iso_of(task.ended_at),
        **({"run_at": iso_of(task.run_at)} if task.run_at else {}),
        "waiting_for": waiting_for(task, is_served=state is not None and state.workers > 0),
    }


def _attempts(task: Task) -> list[dict[str, Any]]:
    """Return the attempts that have ended, and the one that runs or was the last."""
    # A task that was handed back waits as if it had not started.
    waits = task.status in (TaskState.QUEUED, TaskState.DELAYED)
    started_at = None if waits else iso_of(task.started_at)
    if started_at is None or any(one["started_at"] == started_at for one in task.attempts):
        return list(task.attempts)
    runs = task.status == TaskState.PROCESSING
    last = {
        "attempt": task.attempt,
        "started_at": started_at,
        "ended_at": iso_of(task.ended_at),
        "outcome": "running" if runs else task.status,
        "error": task.error,
    }
    return [*task.attempts, last]
