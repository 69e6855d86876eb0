"""`/api/tasks`: submit, list, watch, cancel tasks, and run them again."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import attrs
from structlog.contextvars import bind_contextvars

from handlers.feeds import ProgressFeed
from services.finding import EVERYBODY, FAILURES, TaskFilter
from services.operating import Operator
from services.progress import PlanBook
from services.queue import By, Idempotency, QueueService, Task, TaskState
from services.tasks import TaskService
from tornado_rt.api import ApiHandler
from tornado_rt.auth import ADMIN, Identity
from tornado_rt.bounds import OutOfBounds, check_name, number_of, read_moment
from tornado_rt.feed import Feed
from tornado_rt.json_body import parse
from tornado_rt.problems import Problem
from tornado_rt.sockets import RealtimeSocket
from tornado_rt.streams import EventStreamHandler
from tornado_rt.web import BaseHandler
from tornado_rt.work.texts import phrase

PAGE_SIZE = 50
MAX_PAGE_SIZE = 200
MAX_RERUN = 1000
# More than any name may have: the query finds nothing by it.
NAME_LENGTH = 255
CURSOR = re.compile(r"[0-9]{1,16}")
NOT_A_CURSOR = phrase("{name} must be the `next` of another page", name="before")
IDEMPOTENCY_KEY_LENGTH = 255


class RerunState(StrEnum):
    """A filter of the tasks that are run again."""

    FAILED = "failed"
    DEAD = "dead"


def check_place(_: Any, __: Any, value: str) -> None:
    """Do as an attrs validator: raise OutOfBounds for what is no `next` of a list of tasks."""
    if value and not CURSOR.fullmatch(value):
        raise OutOfBounds(NOT_A_CURSOR)


@attrs.frozen
class RerunRequest:
    """The body of `POST /api/tasks/retry`: which tasks, at most `limit`.

    `before` is the `next` of an answer that did not come to the end.
    """

    kind: str = ""
    status: RerunState | None = None
    user: str = ""
    tag: str = ""
    batch: str = ""
    limit: int = attrs.field(default=100, validator=number_of(1, MAX_RERUN))
    before: str = attrs.field(default="", validator=check_place)

    def filter(self) -> TaskFilter:
        """Return which tasks are meant."""
        return TaskFilter(
            kind=self.kind,
            tag=self.tag,
            batch_id=self.batch,
            statuses=FAILURES if self.status is None else (TaskState(self.status),),
            before=self.before,
            limit=self.limit,
        )


def once_of(handler: ApiHandler) -> Idempotency | None:
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
    return Idempotency(key, handler.raw_body())


def is_dry_run(handler: ApiHandler) -> bool:
    """Say whether a submission is only to be estimated: `?dry_run=true`.

    Raise Problem 422 for anything but true and false: nobody submits what they meant to ask about.
    """
    given = handler.get_query_arguments("dry_run")
    if given not in ([], ["true"], ["false"]):
        raise Problem(422, phrase("dry_run must be true or false"))
    return given == ["true"]


def owner_of(handler: BaseHandler) -> str | None:
    """Return whose tasks and batches the request may touch: None for an admin, everybody's."""
    owner = owner_of_identity(handler.identity)
    handler.as_admin = handler.as_admin or owner is None
    return owner


def owner_of_identity(identity: Identity) -> str | None:
    """Do as `owner_of` does, by the identity."""
    return None if identity.may(ADMIN) else identity.user_id


def by_of(handler: BaseHandler) -> By:
    """Return who asks for a change, and whether as an admin."""
    return By.asking(handler.identity.user_id, owner_of(handler))


def user_of(handler: BaseHandler, user: str) -> str | None:
    """Return the user that a request names, None for everybody. Raise Problem 403 for another's.

    A user may have the name that means everybody: they name themselves.
    """
    if user == handler.identity.user_id:
        return user
    handler.require(ADMIN)
    return None if user == EVERYBODY else user


def cursor_of(handler: ApiHandler) -> str:
    """Read where a list goes on; "" for its beginning. Raise Problem 400."""
    text = handler.argument("before")
    if text is None:
        return ""
    if not CURSOR.fullmatch(text):
        raise Problem(400, NOT_A_CURSOR)
    return text


def moment_of(handler: ApiHandler, name: str) -> float | None:
    """Read a query argument that is a time [s since the epoch]. Raise Problem 400."""
    text = handler.argument(name)
    try:
        return None if text is None else read_moment(name, text)
    except OutOfBounds as error:
        raise Problem(400, str(error)) from None


def next_of(place: object) -> dict[str, object]:
    """Return the member that says where to go on; none when there is nothing more."""
    return {} if place is None else {"next": place}


def task_links(handler: BaseHandler, task_id: str) -> dict[str, str]:
    """Return where a task is watched and cancelled."""
    page = handler.settings["page"]
    return {
        "self": handler.at(f"/api/tasks/{task_id}"),
        "events": handler.at(f"/api/tasks/{task_id}"),
        "socket": handler.at(f"/api/ws/tasks/{task_id}"),
        **({"page": f"{page}?task={task_id}"} if page else {}),
    }


class TaskApiHandler(ApiHandler):
    """An endpoint on the task service."""

    def initialize(self, tasks: TaskService, queue: QueueService, plans: PlanBook) -> None:
        self.tasks = tasks
        self.queue = queue
        self.plans = plans

    def show(self, fields: Mapping[str, Any]) -> None:
        """Answer with a task, or a part of a list of them, in the reader's language."""
        self.answer_in(self.read_by.words_of(fields), self.read_by.task(fields))

    def accept(self, task: Task) -> None:
        """Answer that a task waits."""
        bind_contextvars(task_id=task.task_id)
        links = task_links(self, task.task_id)
        self.set_header("Location", links["self"])
        told: dict[str, Any] = {"task_id": task.task_id, "kind": task.kind, "label": task.label}
        told |= {"status": task.status, "position": task.position, "links": links}
        self.answer(told, 202)


class TasksHandler(TaskApiHandler):
    """`GET`: tasks, newest first; mine, or with `user` another's.

    `POST`: submit one, or with `dry_run` say when it would start and end.
    """

    async def get(self) -> None:
        wanted = self._filter()
        self.show(await self.tasks.find(self._whose(wanted), wanted))

    async def post(self) -> None:
        user_id, once, estimates = self.identity.user_id, once_of(self), is_dry_run(self)
        body = parse(self.raw_body())
        if estimates:
            self.show(await self.tasks.estimate(user_id, body, once))
        else:
            self.accept(await self.tasks.submit(user_id, body, once))

    def _whose(self, wanted: TaskFilter) -> str | None:
        user = self.text("user", NAME_LENGTH)
        if user is None and wanted.batch_id:
            return owner_of(self)
        return user_of(self, user or self.identity.user_id)

    def _filter(self) -> TaskFilter:
        return TaskFilter(
            kind=self.text("kind", NAME_LENGTH) or "",
            statuses=self.choices("status", TaskState),
            tag=self.text("tag", NAME_LENGTH) or "",
            batch_id=self.text("batch", NAME_LENGTH) or "",
            parent_id=self.text("parent", NAME_LENGTH) or "",
            since=moment_of(self, "since"),
            until=moment_of(self, "until"),
            words=self.text("q", NAME_LENGTH) or "",
            before=cursor_of(self),
            limit=self.number("limit", PAGE_SIZE, MAX_PAGE_SIZE),
        )


class TaskHandler(EventStreamHandler, TaskApiHandler):
    """`GET`: the task's event stream, or the task as JSON. `DELETE`: cancel it."""

    async def get(self, task_id: str) -> None:
        if self.wants_json():
            self.show(await self.tasks.read(task_id, owner_of(self)))
        else:
            await self.tasks.get(task_id, owner_of(self))
            await self.stream(task_feed(self, task_id))

    async def delete(self, task_id: str) -> None:
        self.show(await self.tasks.cancel(task_id, owner_of(self), by_of(self)))


class TaskOutputHandler(TaskApiHandler):
    """`GET`: what a task has told so far."""

    async def get(self, task_id: str) -> None:
        self.show(await self.tasks.read_output(task_id, owner_of(self)))


class TaskRetryHandler(TaskApiHandler):
    """`POST`: run again what failed, died or was cancelled."""

    takes_body = False

    async def post(self, task_id: str) -> None:
        self.accept(await self.tasks.rerun(task_id, owner_of(self), by_of(self)))


class TasksRetryHandler(ApiHandler):
    """`POST`: run again what a filter finds."""

    def initialize(self, operator: Operator) -> None:
        self.operator = operator

    async def post(self) -> None:
        asked, owner = self.body(RerunRequest), owner_of(self)
        user = user_of(self, asked.user or owner or EVERYBODY)
        rerun = await self.operator.rerun_all(
            user, asked.filter(), owner=owner, seconds=self.work_seconds
        )
        self.answer({"retried": rerun.count} | next_of(rerun.next))


class TaskSocket(RealtimeSocket):
    """`/api/ws/tasks/{task_id}`: follow one task."""

    def initialize(self, tasks: TaskService, queue: QueueService, plans: PlanBook) -> None:
        self.tasks = tasks
        self.queue = queue
        self.plans = plans

    async def feed(self) -> Feed:
        task_id = self.path_args[0]
        await self.tasks.get(task_id, owner_of(self))
        return task_feed(self, task_id)


def task_feed(handler: Any, task_id: str) -> Feed:
    """Return what a subscriber of the task follows."""
    by, limits = by_of(handler), handler.hub.limits
    return ProgressFeed(handler.queue, handler.plans, "task", task_id, limits, by)
