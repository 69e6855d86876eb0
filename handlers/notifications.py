"""`/api/notifications` and `/api/broadcast`: keep, push, find, count, change, delete."""

from datetime import datetime
from typing import Any

from handlers.feeds import NotificationFeed, changed_by
from handlers.tasks import once_of, task_links
from services.notifications import NotificationService, Verb
from services.notifications.announcing import NAME as ANNOUNCEMENT
from services.notifications.creation import Once
from services.notifications.requests import (
    MOST_FILTERED,
    MOST_LIMIT,
    ActRequest,
    ListRequest,
    UndoRequest,
    When,
)
from services.notifications.sending import BroadcastRequest, SendRequest
from services.tasks import TaskService
from tornado_rt.api import ApiHandler
from tornado_rt.auth import ADMIN, PUBLISH
from tornado_rt.bounds import OutOfBounds
from tornado_rt.feed import Feed
from tornado_rt.json_body import parse, structure
from tornado_rt.problems import Problem
from tornado_rt.sockets import RealtimeSocket
from tornado_rt.streams import EventStreamHandler
from tornado_rt.work.texts import phrase

# Query arguments by what they are; a list may be repeated or have commas.
TEXTS = ("state", "status", "source", "since", "until", "q", "before")
NUMBERS = ("limit", "page", "page_size")
LISTS = ("type", "severity")
SWITCHES = {"true": True, "1": True, "false": False, "0": False}


class NotificationApiHandler(ApiHandler):
    """An endpoint on the notification service."""

    def initialize(self, notifications: NotificationService, tasks: TaskService) -> None:
        self.notifications = notifications
        self.tasks = tasks

    async def announce(self, body: Any) -> None:
        """Tell all known users by a task. Raise KindUnknown where nobody can."""
        given = {"request": body}
        user_id = self.identity.user_id
        task = await self.tasks.submit_own(user_id, ANNOUNCEMENT, given, once_of(self))
        self.answer({"task_id": task.task_id, "links": task_links(self, task.task_id)}, 202)


class NotificationsHandler(NotificationApiHandler):
    """`GET`: mine, newest first, by cursor or by page. `POST`: make one."""

    async def get(self) -> None:
        query = _request(ListRequest, self._listed()).query()
        found = await self.notifications.find(self.identity.user_id, query)
        self.answer(found.to_dict())

    async def post(self) -> None:
        body = parse(self.raw_body())
        request = structure(body, SendRequest)
        if list(request.recipients) != [self.identity.user_id]:
            self.require(PUBLISH)
        if request.all:
            await self.announce(body)
            return
        sent = await self.notifications.send(request, self._once())
        if request.user_id is not None:
            self.answer(sent[0].to_dict(), 201)
        else:
            self.answer({"items": [one.to_dict() for one in sent]}, 201)

    def _once(self) -> Once | None:
        once = once_of(self)
        return None if once is None else Once.of(self.identity.user_id, once.key, once.request)

    def _listed(self) -> dict[str, Any]:
        given: dict[str, Any] = {name: self.argument(name) for name in TEXTS}
        for name in NUMBERS:
            if (text := self.argument(name)) is not None:
                given[name] = _whole_number(name, text)
        for name in LISTS:
            given[name] = [one for text in self.arguments(name) for one in text.split(",")]
            if len(given[name]) > MOST_FILTERED:
                raise Problem(
                    400,
                    phrase(
                        "{name} must have at most {most} values",
                        name=name,
                        most=MOST_FILTERED,
                    ),
                )
        if (text := self.argument("total")) is not None:
            given["total"] = SWITCHES.get(text, text)
        return {name: value for name, value in given.items() if value not in (None, [])}


def _whole_number(name: str, text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return int(text)
    if name == "page":
        raise Problem(400, phrase("{name} must be a number", name=name))
    raise Problem(
        400,
        phrase(
            "{name} must be a number from {least} to {most}", name=name, least=1, most=MOST_LIMIT
        ),
    )


def _request(shape: type[ListRequest], given: dict[str, Any]) -> ListRequest:
    """Read query arguments. Raise Problem 400."""
    try:
        return structure(given, shape)
    except Problem as problem:
        told = "; ".join(problem.errors or [str(problem)])
        raise Problem(400, told) from None


class UnreadCountHandler(NotificationApiHandler):
    """`GET`: how many are unread and unseen."""

    async def get(self) -> None:
        self.answer(await self.notifications.counts(self.identity.user_id))


class ActHandler(NotificationApiHandler):
    """`POST`: apply a verb to some, to all, or to what a filter finds."""

    async def post(self, verb: str) -> None:
        request = self.body(ActRequest)
        done = await changed_by(self.notifications, self.identity.user_id, Verb(verb), request)
        self.answer(done.to_dict())


class UndoHandler(NotificationApiHandler):
    """`POST`: take back what a verb did."""

    async def post(self) -> None:
        request = self.body(UndoRequest)
        done = await self.notifications.undo(self.identity.user_id, request.undo)
        self.answer(done.to_dict())


class ActOnHandler(NotificationApiHandler):
    """`POST`: apply a verb to one."""

    takes_body = False

    async def post(self, id_: str, verb: str) -> None:
        done = await self.notifications.act_on(self.identity.user_id, Verb(verb), id_)
        if done is None:
            self.set_status(204)
        else:
            self.answer(done.to_dict())


class SnoozeHandler(NotificationApiHandler):
    """`POST`: put one off."""

    async def post(self, id_: str) -> None:
        until = _moment(self.body(When))
        done = await self.notifications.act_on(self.identity.user_id, Verb.SNOOZE, id_, until)
        assert done is not None
        self.answer(done.to_dict())


def _moment(when: When) -> datetime:
    try:
        return when.moment()
    except OutOfBounds as error:
        raise Problem(422, str(error)) from None


class ReadAllHandler(NotificationApiHandler):
    """`POST`: mark all read."""

    takes_body = False

    async def post(self) -> None:
        self.answer({"marked": await self.notifications.mark_all_read(self.identity.user_id)})


class NotificationHandler(NotificationApiHandler):
    """`GET`: one. `DELETE`: delete it."""

    async def get(self, id_: str) -> None:
        self.answer((await self.notifications.get(self.identity.user_id, id_)).to_dict())

    async def delete(self, id_: str) -> None:
        await self.notifications.delete(self.identity.user_id, id_)
        self.set_status(204)


class PartsHandler(NotificationApiHandler):
    """`GET`: what a digest stands for, the newest first."""

    async def get(self, id_: str) -> None:
        limit = self.number("limit", MOST_LIMIT, MOST_LIMIT)
        parts = await self.notifications.parts(self.identity.user_id, id_, limit)
        self.answer({"items": [one.to_dict() for one in parts]})


class AnswerHandler(NotificationApiHandler):
    """`POST`: answer an action of one, once on all devices."""

    takes_body = False

    async def post(self, id_: str, action: str) -> None:
        answered = await self.notifications.answer(self.identity.user_id, id_, action)
        self.answer(answered.to_dict())


class NotificationStreamHandler(EventStreamHandler, NotificationApiHandler):
    """`GET`: my notifications as an event stream."""

    async def get(self) -> None:
        await self.stream(NotificationFeed(self.notifications, self.identity.user_id))


class NotificationSocket(RealtimeSocket):
    """`/api/ws/notifications`: my notifications."""

    def initialize(self, notifications: NotificationService, **_: Any) -> None:
        self.notifications = notifications

    async def feed(self) -> Feed:
        return NotificationFeed(self.notifications, self.identity.user_id)


class BroadcastHandler(NotificationApiHandler):
    """`POST`: tell every connected user; nothing is stored, but with `persist`, for all users."""

    async def post(self) -> None:
        self.require(ADMIN)
        body = parse(self.raw_body())
        request = structure(body, BroadcastRequest)
        if request.persist:
            del body["persist"]
            await self.announce({**body, "all": True})
        else:
            self.answer({"id": await self.notifications.broadcast(request.draft())}, 202)
