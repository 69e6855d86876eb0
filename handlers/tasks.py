"""`/api/tasks`: submit, list, watch and cancel tasks."""

from datetime import datetime
from typing import Any

import attrs
import orjson

from handlers.feeds import ProgressFeed
from services.callbacks import validate_callback_url
from services.progress import TaskParams, estimate_seconds, plan_fragment, show
from services.queue import Once, QueueService, Task, TaskNotFound
from tornado_rt.bounds import OutOfBounds, check_name, name_of, number_of
from tornado_rt.connection import Feed
from tornado_rt.problems import Problem
from tornado_rt.sockets import RealtimeSocket
from tornado_rt.streams import EventStreamHandler
from tornado_rt.web import ApiHandler

SYMBOL_LENGTH = 64
TIME_LENGTH = 64
LISTED_TASKS = 50
MAX_DELAY_SECONDS = 30 * 86400.0
IDEMPOTENCY_KEY_LENGTH = 255


def _check_callback(_: Any, __: Any, value: str | None) -> None:
    if value is not None:
        validate_callback_url(value)


def _check_time(_: Any, field: Any, value: str | None) -> None:
    if value is None:
        return
    try:
        check_name(field.name, value, TIME_LENGTH)
        moment = datetime.fromisoformat(value)
        moment.timestamp()
    except (ValueError, OverflowError):
        raise OutOfBounds(f"{field.name} must be a time such as 2026-01-02T03:04:05Z") from None
    if moment.tzinfo is None:
        raise OutOfBounds(f"{field.name} must have a time zone, such as 2026-01-02T03:04:05Z")


@attrs.frozen
class TaskRequest:
    """The body of `POST /api/tasks`; `delay` in seconds, or `run_at` in ISO 8601."""

    symbol: str = attrs.field(validator=name_of(SYMBOL_LENGTH))
    params: TaskParams = attrs.field(factory=TaskParams)
    delay: float = attrs.field(default=0.0, validator=number_of(0, MAX_DELAY_SECONDS))
    run_at: str | None = attrs.field(default=None, validator=_check_time)
    callback_url: str | None = attrs.field(default=None, validator=_check_callback)

    def starts_at(self) -> float:
        """Return `run_at` in seconds since the epoch; 0 without one."""
        return 0.0 if self.run_at is None else datetime.fromisoformat(self.run_at).timestamp()


def once_of(handler: ApiHandler) -> Once | None:
    """Read the header `Idempotency-Key` (IETF draft-ietf-httpapi-idempotency-key-header).

    Raise Problem 400 for one that cannot be kept.
    """
    key = handler.request.headers.get("Idempotency-Key")
    if not key:
        return None
    try:
        check_name("Idempotency-Key", key, IDEMPOTENCY_KEY_LENGTH)
    except OutOfBounds as error:
        raise Problem(400, str(error)) from None
    return Once(key, handler.raw_body())


def task_links(task_id: str) -> dict[str, str]:
    """Return where a task is watched and cancelled."""
    return {
        "self": f"/api/tasks/{task_id}",
        "events": f"/api/tasks/{task_id}",
        "socket": f"/api/ws/tasks/{task_id}",
        "page": f"/?task={task_id}",
    }


class TasksHandler(ApiHandler):
    """`GET`: my tasks, newest first. `POST`: submit one."""

    def initialize(self, queue: QueueService) -> None:
        self.queue = queue

    async def get(self) -> None:
        tasks = await self.queue.list_tasks(self.identity.user_id, LISTED_TASKS)
        self.answer({"items": [orjson.Fragment(show(task.snapshot)) for task in tasks]})

    async def post(self) -> None:
        user_id, request = self.identity.user_id, self.body(TaskRequest)
        params = attrs.asdict(request.params)
        task = await self.queue.enqueue_task(
            user_id,
            request.symbol,
            params,
            plan=plan_fragment(request.params),
            expected_seconds=estimate_seconds(**params),
            delay=request.delay,
            run_at=request.starts_at(),
            callback_url=request.callback_url,
            once=once_of(self),
        )
        links = task_links(task.task_id)
        self.set_header("Location", links["self"])
        accepted = {"task_id": task.task_id, "status": task.status, "position": task.position}
        self.answer(accepted | {"links": links}, 202)


class TaskHandler(EventStreamHandler, ApiHandler):
    """`GET`: the task's event stream, or its snapshot as JSON. `DELETE`: cancel it."""

    def initialize(self, queue: QueueService) -> None:
        self.queue = queue

    async def get(self, task_id: str) -> None:
        task = await own_task(self.queue, task_id, self.identity.user_id)
        if self.wants_json():
            self.answer(show(task.snapshot))
        else:
            await self.stream(task_feed(self, self.queue, task_id))

    async def delete(self, task_id: str) -> None:
        task = await self.queue.cancel_task(task_id, self.identity.user_id)
        self.answer(show(task.snapshot))


class TaskSocket(RealtimeSocket):
    """`/api/ws/tasks/{task_id}`: follow one task."""

    def initialize(self, queue: QueueService) -> None:
        self.queue = queue

    async def feed(self) -> Feed:
        task_id = self.path_args[0]
        await own_task(self.queue, task_id, self.identity.user_id)
        return task_feed(self, self.queue, task_id)


async def own_task(queue: QueueService, task_id: str, user_id: str) -> Task:
    """Return a task of this user. Raise TaskNotFound for another's, as for none."""
    task = await queue.get_task(task_id)
    if task is None or task.user_id != user_id:
        raise TaskNotFound(task_id)
    return task


def task_feed(handler: Any, queue: QueueService, task_id: str) -> Feed:
    """Return what a subscriber of the task follows."""
    return ProgressFeed(queue, "task", task_id, handler.hub.limits)
