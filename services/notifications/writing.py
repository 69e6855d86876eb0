"""Verbs that store notifications, or tell without."""

import asyncio
from datetime import UTC, datetime

import structlog
from bson import ObjectId
from bson.errors import BSONError
from pymongo.errors import DocumentTooLarge, OperationFailure, PyMongoError

from services.notifications.account import UNREAD
from services.notifications.accounts import REFUSALS
from services.notifications.creation import Once, Wording
from services.notifications.intents import id_of_event
from services.notifications.models import (
    BroadcastDraft,
    Notification,
    NotificationDraft,
    NotStorable,
)
from services.notifications.parts import Parts
from services.notifications.sending import SendRequest
from tornado_rt.protocol import (
    BROADCAST,
    Message,
    MessageType,
)
from tornado_rt.tracing import sending
from tornado_rt.turns import NoTurn
from tornado_rt.work import clean_text

log = structlog.get_logger(__name__)

REASON_LENGTH = 300
# As spans name it.
NOTIFICATION = "notification"


class Writing(Parts):
    """Stores."""

    async def create(
        self,
        draft: NotificationDraft,
        *,
        event_id: str | None = None,
        wording: Wording | None = None,
        once: Once | None = None,
    ) -> Notification:
        """Store, then push. A repeated `dedupe_key` renews the unread one that there is.

        A repeated `event_id` stores nothing and pushes again, since the first may have been cut
        off between the two. Raise NotStorable, TemplateRefused, SentBefore, NoTurn, or PyMongoError
        while MongoDB is away.
        """
        with sending(NOTIFICATION, message_id=event_id or ""):
            return await self.store(draft, event_id=event_id, wording=wording, once=once)

    async def store(
        self,
        draft: NotificationDraft,
        *,
        event_id: str | None = None,
        wording: Wording | None = None,
        once: Once | None = None,
    ) -> Notification:
        """Do the same as a part of what is recorded already. Raise as `create`."""
        print_ = None
        if once is not None:
            event_id, print_ = once.event_id(draft.user_id), once.print
        if event_id is not None and (known := await self._legacy.told(draft.user_id, event_id)):
            found = await self._all.find_one({"_id": known})
            return Notification.of(found or {"_id": known, "user_id": draft.user_id})
        try:
            if wording is not None:
                account = await self._read_account(draft.user_id)
                draft = self._creation.worded(draft, wording, account)
            outcome = await self._commit(self._creation.intent(draft, event_id, print_))
        except (BSONError, OverflowError, PyMongoError) as error:
            if not _is_refusal(error):
                raise
            raise NotStorable(clean_text(error, REASON_LENGTH)) from error
        self._retention.watch_parts(outcome.result)
        return outcome.notification

    async def send(self, request: SendRequest, once: Once | None) -> list[Notification]:
        """Tell each user whom a request names. Raise as `create`; some may be told then."""
        wording = request.wording
        if wording is not None:
            # In any language that one of them may have chosen.
            self.templates.check(wording.template, wording.variables)
        drafts = list(map(request.draft, request.recipients))
        if len(drafts) == 1:
            return [await self.create(drafts[0], wording=wording, once=once)]
        with sending(NOTIFICATION, count=len(drafts)):
            calls = (self.store(draft, wording=wording, once=once) for draft in drafts)
            return list(await asyncio.gather(*calls))

    async def known_users(self) -> list[str]:
        """Return all users who ever got a notification."""
        return await self._accounts.user_ids()

    async def note_callback(self, user_id: str, event_id: str, end: str) -> None:
        """Note in an event's metadata the end of its callback, unless MongoDB is away."""
        key = {"_id": id_of_event(user_id, event_id), "user_id": user_id}
        try:
            async with self.access.turn(user_id):
                await self._all.update_one(key, {"$set": {"metadata.callback": end}})
            # It has no version of its own.
            self._inbox.pages.drop(user_id)
        except (PyMongoError, NoTurn) as error:
            log.warning("callback_not_noted", event_id=event_id, error=error)

    async def broadcast(self, draft: BroadcastDraft) -> str:
        """Push to every connected user; store nothing. Return its id."""
        id_ = ObjectId()
        made = {"_id": id_, "state": UNREAD, "created_at": datetime.now(UTC)}
        sent = Notification.of(self._creation.fields(draft) | made).to_dict() | {"user_id": None}
        await self._publisher.publish(BROADCAST, Message.of(MessageType.NOTIFICATION, sent))
        return str(id_)


def _is_refusal(error: Exception) -> bool:
    """Say whether MongoDB refuses the document itself, now and every other time."""
    if isinstance(error, PyMongoError):
        too_large = isinstance(error, DocumentTooLarge)
        return too_large or (isinstance(error, OperationFailure) and error.code in REFUSALS)
    return True
