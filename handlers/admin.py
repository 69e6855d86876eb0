"""Statistics, and the settings that change while the server runs."""

import re
from enum import StrEnum
from typing import Any

import attrs

from handlers.tasks import TaskApiHandler, by_of, next_of, user_of
from services.finding import EVERYBODY
from services.operating import Operator
from services.queue import ALL_KINDS, QueueService, TaskState, describe_dead
from services.system_settings import SystemSettingsService
from tornado_rt.api import ApiHandler
from tornado_rt.auth import ADMIN
from tornado_rt.bounds import OutOfBounds, name_of, number_of
from tornado_rt.presence import Presence
from tornado_rt.work.texts import phrase

PAGE_SIZE = 50
MAX_PAGE_SIZE = 500
MAX_OFFSET = 1_000_000
NAME_LENGTH = 255
MAX_PURGED = 1_000_000
# Where a purge goes on: a line or a time, and a number.
PLACE = re.compile(r"[0-9][a-z0-9._-]{0,80}/[0-9]{1,24}(?:\.[0-9]{1,9})?")
# Where one by tag does: the number of a submission.
TAGGED_PLACE = re.compile(r"[0-9]{1,16}")
# Tasks that one check reads: nobody else is served meanwhile.
MOST_CHECKED = 5000


class StatsScope(StrEnum):
    """Whose statistics."""

    PROCESS = "process"
    ALL = "all"


class QueueApiHandler(ApiHandler):
    """An endpoint on the queue."""

    def initialize(self, queue: QueueService) -> None:
        self.queue = queue


class QueueStatsHandler(QueueApiHandler):
    """`GET`: how many tasks are in each state."""

    async def get(self) -> None:
        self.answer(attrs.asdict(await self.queue.stats()))


class QueueCheckHandler(QueueApiHandler):
    """`GET`: what does not fit together in the queue; an empty list when all is well."""

    async def get(self) -> None:
        self.require(ADMIN)
        self.answer({"violations": await self.queue.check_invariants(MOST_CHECKED)})


class DeadTasksHandler(QueueApiHandler):
    """`GET`: the tasks that are dead, the last to die first."""

    async def get(self) -> None:
        self.require(ADMIN)
        offset = self.number("offset", 0, MAX_OFFSET, least=0)
        dead = await self.queue.list_dead(self.number("limit", PAGE_SIZE, MAX_PAGE_SIZE), offset)
        shown = [self.read_by.task(describe_dead(task)) for task in dead]
        self.answer_in(self.read_by.words, {"items": shown})


class DeadTaskHandler(QueueApiHandler):
    """`DELETE`: discard a dead task."""

    async def delete(self, task_id: str) -> None:
        self.require(ADMIN)
        await self.queue.discard_task(task_id)
        self.set_status(204)


class RetryDeadTaskHandler(TaskApiHandler):
    """`POST`: give a dead task all its attempts again."""

    takes_body = False

    async def post(self, task_id: str) -> None:
        self.require(ADMIN)
        self.show(await self.tasks.rerun_dead(task_id, by_of(self)))


@attrs.frozen
class KindRequest:
    """The body that names a kind; without it, all kinds."""

    kind: str = attrs.field(default=ALL_KINDS, validator=name_of(NAME_LENGTH, least=0))


@attrs.frozen
class PurgeRequest:
    """The body of `POST /api/queue/purge`; `limit` 0 is all there are.

    `after` is the `next` of an answer that did not come to the end.
    """

    status: TaskState
    kind: str = ALL_KINDS
    user: str = ""
    tag: str = ""
    limit: int = attrs.field(default=0, validator=number_of(0, MAX_PURGED))
    after: str = ""

    def __attrs_post_init__(self) -> None:
        place = TAGGED_PLACE if self.tag else PLACE
        if self.after and not place.fullmatch(self.after):
            raise OutOfBounds(phrase("{name} must be the `next` of another answer", name="after"))


class OperatorHandler(ApiHandler):
    """An endpoint of the operator, for an admin only."""

    def initialize(self, operator: Operator) -> None:
        self.operator = operator

    def asked_kind(self) -> str:
        """Return the kind that the body names; that of all without a body."""
        self.require(ADMIN)
        return self.body(KindRequest).kind if self.raw_body() else ALL_KINDS


class PauseHandler(OperatorHandler):
    """`POST`: have no task of a kind start, or of any."""

    async def post(self) -> None:
        kind = self.asked_kind()
        running = await self.operator.pause(kind)
        self.answer({"kind": kind, "paused": True, "running": running})


class ResumeHandler(OperatorHandler):
    """`POST`: have tasks start again."""

    async def post(self) -> None:
        kind = self.asked_kind()
        paused_all = await self.operator.resume(kind)
        self.answer({"kind": kind, "paused": False, "paused_all": paused_all})


class PurgeHandler(OperatorHandler):
    """`POST`: cancel waiting tasks, or delete ended ones."""

    async def post(self) -> None:
        self.require(ADMIN)
        asked = self.body(PurgeRequest)
        purged = await self.operator.purge(
            asked.status,
            asked.kind,
            user_of(self, asked.user or EVERYBODY) or "",
            asked.limit,
            tag=asked.tag,
            after=asked.after,
            seconds=self.work_seconds,
        )
        self.answer({"purged": purged.count} | next_of(purged.next))


class LimitsHandler(OperatorHandler):
    """`GET`: the limits of a kind, or over all. `PUT`: change some. `DELETE`: drop the changes."""

    async def get(self, kind: str = ALL_KINDS) -> None:
        self.require(ADMIN)
        self.answer(await self.operator.read_limits(kind))

    async def put(self, kind: str = ALL_KINDS) -> None:
        self.require(ADMIN)
        self.answer(await self.operator.change_limits(kind, self.body(dict[str, Any])))

    async def delete(self, kind: str = ALL_KINDS) -> None:
        self.require(ADMIN)
        self.answer(await self.operator.change_limits(kind, None))


class KindsHandler(OperatorHandler):
    """`GET`: the kinds of tasks, with what their parameters are and who runs them."""

    async def get(self) -> None:
        listed = await self.operator.list_kinds()
        self.answer_in(self.read_by.words, self.read_by.kind(listed))


class ConnectionStatsHandler(ApiHandler):
    """`GET`: the connections of this process or, with `?scope=all`, of all.

    An admin also sees whose.
    """

    def initialize(self, presence: Presence) -> None:
        self.presence = presence

    async def get(self) -> None:
        processes, stats = 1, self.hub.stats()
        if self.choice("scope", StatsScope) is StatsScope.ALL:
            processes, stats = await self.presence.stats()
        self._answer_stats({"processes": processes, **attrs.asdict(stats)})

    def _answer_stats(self, stats: dict[str, Any]) -> None:
        if not self.identity.may(ADMIN):
            del stats["users"]
        self.answer(stats)


class SettingsHandler(ApiHandler):
    """`GET` and `PUT`: the settings that every process follows at once."""

    def initialize(self, system_settings: SystemSettingsService) -> None:
        self.system_settings = system_settings

    async def get(self) -> None:
        self.require(ADMIN)
        self.answer(attrs.asdict(await self.system_settings.get()))

    async def put(self) -> None:
        self.require(ADMIN)
        changes = self.body(dict[str, Any])
        self.answer(attrs.asdict(await self.system_settings.update(changes)))
