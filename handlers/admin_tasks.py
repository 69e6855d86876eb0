"""`/api/admin/tasks`: search over all tasks, and acting on many of them."""

from typing import Any

import attrs

from handlers.tasks import (
    NAME_LENGTH,
    PAGE_SIZE,
    TaskApiHandler,
    check_place,
    cursor_of,
    moment_of,
)
from services.admin import BulkVerb, BulkWork
from services.queue import Search, TaskState
from tornado_rt.api import ApiHandler
from tornado_rt.auth import ADMIN
from tornado_rt.bounds import OutOfBounds, check_name, name_of, number_of, read_moment
from tornado_rt.work.texts import phrase

MAX_PAGE_SIZE = 200
MOST_TASKS = 1000
TASK_ID_LENGTH = 64


def _are_ids(_: Any, __: Any, value: list[str] | None) -> None:
    for number, one in enumerate(value or ()):
        check_name(f"ids[{number}]", one, TASK_ID_LENGTH)


def _is_moment(_: Any, field: Any, value: str) -> None:
    if value:
        read_moment(field.name, value)


@attrs.frozen
class FilterRequest:
    """A filter of tasks, as the arguments of a search; an empty field matches all."""

    q: str = attrs.field(default="", validator=name_of(NAME_LENGTH, least=0))
    user: str = attrs.field(default="", validator=name_of(NAME_LENGTH, least=0))
    kind: str = attrs.field(default="", validator=name_of(NAME_LENGTH, least=0))
    status: list[TaskState] = attrs.field(factory=list)
    tag: str = attrs.field(default="", validator=name_of(NAME_LENGTH, least=0))
    batch: str = attrs.field(default="", validator=name_of(NAME_LENGTH, least=0))
    since: str = attrs.field(default="", validator=_is_moment)
    until: str = attrs.field(default="", validator=_is_moment)

    def search(self, before: str, limit: int) -> Search:
        """Return the search."""
        return Search(
            words=self.q,
            user=self.user,
            kind=self.kind,
            statuses=tuple(self.status),
            tag=self.tag,
            batch=self.batch,
            since=read_moment("since", self.since) if self.since else None,
            until=read_moment("until", self.until) if self.until else None,
            before=before,
            limit=limit,
        )


@attrs.frozen
class BulkRequest:
    """The body of an act on many tasks: `ids`, or a `filter` and how many of those at most.

    `before` is the `next` of an answer that did not come to the end.
    """

    ids: list[str] | None = attrs.field(default=None, validator=_are_ids)
    filter: FilterRequest | None = None
    limit: int = attrs.field(default=MOST_TASKS, validator=number_of(1, MOST_TASKS))
    before: str = attrs.field(default="", validator=check_place)

    def __attrs_post_init__(self) -> None:
        if (self.ids is None) == (self.filter is None):
            raise OutOfBounds(phrase("name tasks by ids, or by a filter: one of both"))
        if self.filter is not None and self.filter.search("", 1).is_open():
            raise OutOfBounds(phrase("filter must have at least one condition"))


@attrs.frozen
class BulkUndoRequest:
    """The body of `POST /api/admin/undo`."""

    undo: str = attrs.field(validator=name_of(TASK_ID_LENGTH))


class SearchHandler(TaskApiHandler):
    """`GET`: tasks of all users that fit, the newest first."""

    async def get(self) -> None:
        self.require(ADMIN)
        wanted = Search(
            words=self.text("q", NAME_LENGTH) or "",
            user=self.text("user", NAME_LENGTH) or "",
            kind=self.text("kind", NAME_LENGTH) or "",
            statuses=self.choices("status", TaskState),
            tag=self.text("tag", NAME_LENGTH) or "",
            batch=self.text("batch", NAME_LENGTH) or "",
            since=moment_of(self, "since"),
            until=moment_of(self, "until"),
            before=cursor_of(self),
            limit=self.number("limit", PAGE_SIZE, MAX_PAGE_SIZE),
        )
        self.show(await self.tasks.search(wanted))


class BulkApiHandler(ApiHandler):
    """An endpoint that acts on many tasks."""

    def initialize(self, bulk: BulkWork) -> None:
        self.bulk = bulk


class BulkHandler(BulkApiHandler):
    """`POST`: retry, cancel or discard tasks."""

    async def post(self, verb: str) -> None:
        self.require(ADMIN)
        asked, verb = self.body(BulkRequest, ids=MOST_TASKS), BulkVerb(verb)
        if asked.ids is not None:
            self.answer(await self.bulk.act_on(verb, asked.ids))
            return
        wanted = (asked.filter or FilterRequest()).search(asked.before, asked.limit)
        self.answer(await self.bulk.act_where(verb, wanted, self.work_seconds))


class BulkUndoHandler(BulkApiHandler):
    """`POST`: take back what was done to many tasks, within some seconds."""

    async def post(self) -> None:
        self.require(ADMIN)
        self.answer({"undone": await self.bulk.undo(self.body(BulkUndoRequest).undo)})
