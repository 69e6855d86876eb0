"""`/api/schedules`: what makes tasks by the clock."""

import base64
import binascii
import re

from handlers.tasks import NAME_LENGTH, once_of, task_links
from services.finding import EVERYBODY
from services.schedules import ScheduleService
from tornado_rt.api import ApiHandler
from tornado_rt.auth import ADMIN
from tornado_rt.json_body import parse
from tornado_rt.problems import Problem
from tornado_rt.work.texts import phrase

PAGE_SIZE = 100
MAX_PAGE_SIZE = 500
CURSOR_LENGTH = 2000
NAME = "[a-z0-9][a-z0-9._-]{0,63}"
# Any name: one that no schedule may have is told so, and is not found.
SCHEDULE = "([^/]+)"
# The `next` of a page, decoded: the last name in it, and in everybody's list its user before it.
# For a schedule of the code the kind stands before the name.
PLACE = re.compile(rf"(?:{NAME}:)?{NAME}")
PLACE_OF_ALL = re.compile(rf"[^\n]+\n{PLACE.pattern}")
NOT_A_CURSOR = phrase("{name} must be the `next` of another page", name="after")


class ScheduleApiHandler(ApiHandler):
    """An endpoint on the schedules: of the user, or for an admin of another with `user`."""

    def initialize(self, schedules: ScheduleService) -> None:
        self.schedules = schedules

    def whose(self) -> str | None:
        """Return whose schedules are meant, None: everybody's. Raise Problem 403."""
        user = self.text("user", NAME_LENGTH)
        # Their own also for a user who is named as everybody is.
        if not user or user == self.identity.user_id:
            return self.identity.user_id
        self.require(ADMIN)
        return None if user == EVERYBODY else user

    def of_one(self) -> str:
        """Return whose a schedule is. Raise Problem 403, and 400 where everybody is meant."""
        if (user := self.whose()) is None:
            raise Problem(400, phrase("user must name one user"))
        return user


class SchedulesHandler(ScheduleApiHandler):
    """`GET`: schedules by name; for an admin with `user=*` everybody's. `POST`: make one."""

    async def get(self) -> None:
        whose = self.whose()
        limit = self.number("limit", PAGE_SIZE, MAX_PAGE_SIZE)
        page = await self.schedules.find(whose, self._after(whose), limit)
        last = page["next"]
        shown = page | {"next": last and base64.urlsafe_b64encode(last.encode()).decode()}
        self.answer_in(self.read_by.words, shown)

    async def post(self) -> None:
        made = await self.schedules.create(self.of_one(), parse(self.raw_body()))
        self.set_header("Location", self.at(f"/api/schedules/{made['name']}"))
        self.answer(made, 201)

    def _after(self, whose: str | None) -> str:
        text = self.text("after", CURSOR_LENGTH) or ""
        try:
            after = base64.b64decode(text, altchars=b"-_", validate=True).decode()
        except (binascii.Error, ValueError):
            raise Problem(400, NOT_A_CURSOR) from None
        if text and not (PLACE_OF_ALL if whose is None else PLACE).fullmatch(after):
            raise Problem(400, NOT_A_CURSOR)
        return after


class ScheduleHandler(ScheduleApiHandler):
    """`GET`: a schedule. `PUT`: replace or make it, or switch it. `DELETE`: drop it."""

    async def get(self, name: str) -> None:
        self.answer_in(self.read_by.words, await self.schedules.get(self.of_one(), name))

    async def put(self, name: str) -> None:
        shown, is_new = await self.schedules.put(self.of_one(), name, parse(self.raw_body()))
        self.answer(shown, 201 if is_new else 200)

    async def delete(self, name: str) -> None:
        await self.schedules.delete(self.of_one(), name)
        self.set_status(204)


class ScheduleRunHandler(ScheduleApiHandler):
    """`POST`: make a task of a schedule now."""

    takes_body = False

    async def post(self, name: str) -> None:
        task = await self.schedules.run_now(self.of_one(), name, once_of(self))
        links = task_links(self, task.task_id)
        self.set_header("Location", links["self"])
        told = {"task_id": task.task_id, "kind": task.kind, "label": task.label}
        self.answer(told | {"status": task.status, "position": task.position, "links": links}, 202)
