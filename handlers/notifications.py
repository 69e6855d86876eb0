"""`/api/notifications` and `/api/broadcast`: keep, push, find, count, mark, delete."""

from handlers.feeds import NotificationFeed
from services.notifications import (
    BroadcastDraft,
    NotificationDraft,
    NotificationService,
    NotificationStatus,
    NotificationType,
)
from tornado_rt.auth import ADMIN, PUBLISH
from tornado_rt.connection import Feed
from tornado_rt.sockets import RealtimeSocket
from tornado_rt.streams import EventStreamHandler
from tornado_rt.web import ApiHandler

PAGE_SIZE = 20
MAX_PAGE_SIZE = 100
MAX_PAGES = 1_000_000
CURSOR_LENGTH = 64


class NotificationApiHandler(ApiHandler):
    """An endpoint on the notification service."""

    def initialize(self, notifications: NotificationService) -> None:
        self.notifications = notifications


class NotificationsHandler(NotificationApiHandler):
    """`GET`: mine, newest first, by cursor or by page. `POST`: make one."""

    async def get(self) -> None:
        found = await self.notifications.find(
            self.identity.user_id,
            limit=self.number("limit", PAGE_SIZE, MAX_PAGE_SIZE),
            before=self.text("before", CURSOR_LENGTH),
            page=self.number("page", 1, MAX_PAGES) if self.argument("page") else None,
            page_size=self.number("page_size", PAGE_SIZE, MAX_PAGE_SIZE),
            status=self.choice("status", NotificationStatus),
            type=self.choice("type", NotificationType),
        )
        self.answer(found.to_dict())

    async def post(self) -> None:
        identity, draft = self.identity, self.body(NotificationDraft)
        if draft.user_id != identity.user_id:
            self.require(PUBLISH)
        self.answer((await self.notifications.create(draft)).to_dict(), 201)


class UnreadCountHandler(NotificationApiHandler):
    """`GET`: how many are unread."""

    async def get(self) -> None:
        self.answer({"unread": await self.notifications.unread_count(self.identity.user_id)})


class ReadHandler(NotificationApiHandler):
    """`POST`: mark one read."""

    takes_body = False

    async def post(self, id_: str) -> None:
        marked = await self.notifications.mark_one(self.identity.user_id, id_)
        self.answer(marked.to_dict())


class ReadAllHandler(NotificationApiHandler):
    """`POST`: mark all read."""

    takes_body = False

    async def post(self) -> None:
        self.answer({"marked": await self.notifications.mark_all_read(self.identity.user_id)})


class NotificationHandler(NotificationApiHandler):
    """`DELETE`: delete one."""

    async def delete(self, id_: str) -> None:
        await self.notifications.delete(self.identity.user_id, id_)
        self.set_status(204)


class NotificationStreamHandler(EventStreamHandler, NotificationApiHandler):
    """`GET`: my notifications as an event stream."""

    async def get(self) -> None:
        await self.stream(NotificationFeed(self.notifications, self.identity.user_id))


class NotificationSocket(RealtimeSocket):
    """`/api/ws/notifications`: my notifications."""

    def initialize(self, notifications: NotificationService) -> None:
        self.notifications = notifications

    async def feed(self) -> Feed:
        return NotificationFeed(self.notifications, self.identity.user_id)


class BroadcastHandler(NotificationApiHandler):
    """`POST`: tell every connected user; nothing is stored."""

    async def post(self) -> None:
        self.require(ADMIN)
        self.answer({"id": await self.notifications.broadcast(self.body(BroadcastDraft))}, 202)
