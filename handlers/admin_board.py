"""`/api/admin`: how everything stands and stood; workers, connections, webhooks; who did what."""

import re
from enum import StrEnum
from typing import Any

import attrs
from tornado.routing import URLSpec

from handlers.admin_tasks import BulkHandler, BulkUndoHandler, SearchHandler
from handlers.tasks import NAME_LENGTH
from services.admin import AdminLog, BulkVerb, Fleet, Overview, Resolution, Series
from services.webhooks import WebhookService
from tornado_rt.api import ApiHandler
from tornado_rt.auth import ADMIN
from tornado_rt.bounds import OutOfBounds, name_of
from tornado_rt.census import Transport
from tornado_rt.problems import Problem
from tornado_rt.roll import Chosen, Roll
from tornado_rt.work.texts import phrase

PAGE_SIZE = 100
MAX_PAGE_SIZE = 500
ADDRESS_LENGTH = 64
# Where lists go on: running tasks, connections, the log, webhooks.
LEASE_PLACE = re.compile(r"[0-9]{1,20}/[A-Za-z0-9_-]{1,64}")
ROLL_PLACE = re.compile(r"[0-9a-f]{16}\.[0-9a-f]{8}")
LOG_PLACE = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
WEBHOOK_PLACE = re.compile(r"[A-Za-z0-9_-]{1,64}")


BULK = f"({'|'.join(BulkVerb)})"
WORKER = "([^/]{1,255})"


class AdminHandler(ApiHandler):
    """An endpoint of `/api/admin`: for an admin only."""

    async def prepare(self) -> None:
        await super().prepare()
        if self.request.method != "OPTIONS":
            self.require(ADMIN)

    def place(self, name: str, form: re.Pattern[str]) -> str:
        """Return where a list goes on, "" for its beginning. Raise Problem 400."""
        text = self.argument(name) or ""
        if text and not form.fullmatch(text):
            raise Problem(400, phrase("{name} must be the `next` of another page", name=name))
        return text

    def page_size(self) -> int:
        """Return how many items a page may have. Raise Problem 400."""
        return self.number("limit", PAGE_SIZE, MAX_PAGE_SIZE)


class OverviewHandler(AdminHandler):
    """`GET`: queues, kinds, workers and connections now."""

    def initialize(self, overview: Overview) -> None:
        self.overview = overview

    async def get(self) -> None:
        self.answer(await self.overview.read())


class SeriesHandler(AdminHandler):
    """`GET`: the same of the last hour or day."""

    def initialize(self, series: Series) -> None:
        self.series = series

    async def get(self) -> None:
        asked = self.argument("step") or str(int(Resolution.SHORT))
        steps = {str(int(step)): step for step in Resolution}
        if asked not in steps:
            raise Problem(
                400, phrase("{name} must be one of {choices}", name="step", choices=list(steps))
            )
        self.answer(await self.series.read(steps[asked]))


class FleetHandler(AdminHandler):
    """An endpoint on workers and what they run."""

    def initialize(self, fleet: Fleet) -> None:
        self.fleet = fleet


class RunningHandler(FleetHandler):
    """`GET`: running tasks with their workers and leases."""

    async def get(self) -> None:
        page = await self.fleet.list_running(
            kind=self.text("kind", NAME_LENGTH) or "",
            user_id=self.text("user", NAME_LENGTH) or "",
            worker_id=self.text("worker", NAME_LENGTH) or "",
            after=self.place("after", LEASE_PLACE),
            limit=self.page_size(),
        )
        self.answer(page)


class WorkersHandler(FleetHandler):
    """`GET`: the workers that live."""

    async def get(self) -> None:
        self.answer({"items": await self.fleet.list_workers()})


class WorkerVerb(StrEnum):
    """Acts on a worker."""

    DRAIN = "drain"
    RESUME = "resume"


ACT = f"({'|'.join(WorkerVerb)})"


class WorkerHandler(FleetHandler):
    """`POST`: have a worker claim nothing more, or claim again."""

    takes_body = False

    async def post(self, worker_id: str, verb: str) -> None:
        draining = WorkerVerb(verb) is WorkerVerb.DRAIN
        self.answer(await self.fleet.drain(worker_id, draining=draining))


@attrs.frozen
class CloseRequest:
    """The body that names connections: exactly one of these."""

    id: str = attrs.field(default="", validator=name_of(NAME_LENGTH, least=0))
    user: str = attrs.field(default="", validator=name_of(NAME_LENGTH, least=0))
    address: str = attrs.field(default="", validator=name_of(ADDRESS_LENGTH, least=0))

    def __attrs_post_init__(self) -> None:
        if sum(map(bool, (self.id, self.user, self.address))) != 1:
            raise OutOfBounds(phrase("name connections by one of id, user and address"))


class RollHandler(AdminHandler):
    """An endpoint on the connections of all processes."""

    def initialize(self, roll: Roll) -> None:
        self.roll = roll


class ConnectionsHandler(RollHandler):
    """`GET`: connections, the oldest first."""

    async def get(self) -> None:
        transport = self.choice("transport", Transport)
        chosen = Chosen(
            user=self.text("user", NAME_LENGTH) or "",
            address=self.text("address", ADDRESS_LENGTH) or "",
            transport="" if transport is None else transport.value,
        )
        self.answer(await self.roll.list(chosen, self.place("after", ROLL_PLACE), self.page_size()))


class CloseHandler(RollHandler):
    """`POST`: close connections, by id, user or address."""

    async def post(self) -> None:
        asked = self.body(CloseRequest)
        closed = await self.roll.close(Chosen(**attrs.asdict(asked)))
        self.answer({"closed": closed})


class AllWebhooksHandler(AdminHandler):
    """`GET`: the webhooks of all, with the last answers of their receivers."""

    def initialize(self, webhooks: WebhookService) -> None:
        self.webhooks = webhooks

    async def get(self) -> None:
        after = self.place("after", WEBHOOK_PLACE)
        page = await self.webhooks.list_all(self.identity.user_id, after, self.page_size())
        self.answer(page)


class LogHandler(AdminHandler):
    """`GET`: who did what, the newest first."""

    def initialize(self, log: AdminLog) -> None:
        self.log = log

    async def get(self) -> None:
        user = self.text("user", NAME_LENGTH) or ""
        self.answer(await self.log.read(self.place("before", LOG_PLACE), self.page_size(), user))


def admin_routes(
    *, tasks: dict[str, Any], webhooks: dict[str, Any], admin: dict[str, dict[str, Any]]
) -> list[URLSpec]:
    """Return the routes; the arguments are what `initialize` of the handlers gets."""
    return [
        URLSpec(r"/api/admin/overview", OverviewHandler, admin["overview"]),
        URLSpec(r"/api/admin/series", SeriesHandler, admin["series"]),
        URLSpec(r"/api/admin/running", RunningHandler, admin["fleet"]),
        URLSpec(r"/api/admin/tasks", SearchHandler, tasks),
        URLSpec(rf"/api/admin/tasks/{BULK}", BulkHandler, admin["bulk"]),
        URLSpec(r"/api/admin/undo", BulkUndoHandler, admin["bulk"]),
        URLSpec(r"/api/admin/workers", WorkersHandler, admin["fleet"]),
        URLSpec(rf"/api/admin/workers/{WORKER}/{ACT}", WorkerHandler, admin["fleet"]),
        URLSpec(r"/api/admin/connections", ConnectionsHandler, admin["roll"]),
        URLSpec(r"/api/admin/connections/close", CloseHandler, admin["roll"]),
        URLSpec(r"/api/admin/webhooks", AllWebhooksHandler, webhooks),
        URLSpec(r"/api/admin/log", LogHandler, admin["log"]),
    ]
