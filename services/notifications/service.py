"""Notifications: kept in MongoDB, pushed to whoever is there, found again by whoever was not.

Collections: `notifications`; `notification_users` with each user's counter `seq` and the highest
number that was trimmed, `trimmed_seq`; `meta` with the epoch of the numbers.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import attrs
import structlog
from bson import ObjectId
from bson.errors import BSONError
from pymongo import ASCENDING, DESCENDING, ReturnDocument
from pymongo.errors import DocumentTooLarge, DuplicateKeyError, OperationFailure, PyMongoError

from services.notifications.indexes import UNREAD, UNSENT, indexes
from services.notifications.models import (
    LONG_AGO,
    BroadcastDraft,
    Notification,
    NotificationDraft,
    NotificationNotFound,
    NotificationPage,
    NotificationReplay,
    NotificationStatus,
    NotificationType,
    NotStorable,
    number_in,
    seconds_in,
    stored_id,
    time_in,
)
from services.notifications.numbers import CONFLICTS, Numbers, StoreConflict, upsert
from services.notifications.pages import Pages
from services.notifications.shared_read import SharedRead
from tornado_rt.mongo import MongoAccess
from tornado_rt.protocol import (
    BROADCAST,
    Cursor,
    Message,
    MessageType,
    Publisher,
    ResyncReason,
    iso_time,
    user_topic,
)
from tornado_rt.turns import NoTurn
from tornado_rt.work import clean_text

log = structlog.get_logger(__name__)

T = TypeVar("T")

# By the clock of the store, as all that is compared with it.
STORED_NOW = {"stored_at": True, "published_at": True}
TRIM_RETRY_SECONDS = 1.0
REPUBLISH_RETRY_SECONDS = 0.3
# After this long its process does not publish a notification any more.
ORPHAN_SECONDS = 30.0
MARK_RETRY_SECONDS = 0.3
# How far behind a later number an earlier one may be published: two processes number and store each
# in its own time, and during an outage tell only their own users.
OVERTAKING = 1000
# Codes of MongoDB that are about the document: bad value, overflow, invalid BSON, a field's name,
# validation, too large (as such and after an update), an index entry too long.
REFUSALS = {2, 15, 22, 52, 57, 121, 10334, 17419, 17420, 17280}
REASON_LENGTH = 300
# How many documents one write changes at most: the embedded store serves no other write meanwhile.
TOGETHER = 100


@attrs.frozen
class _Head:
    """The last number of a user, the highest that was trimmed, and how many are unread."""

    last: int
    trimmed: int
    unread: int


class NotificationService:
    """Keeps at most `quota` notifications a user (0: any number) for `ttl_days`.

    A resume replays at most `replay_limit`.
    """

    def __init__(
        self,
        database: Any,
        publisher: Publisher,
        *,
        access: MongoAccess | None = None,
        quota: int = 1000,
        ttl_days: int = 90,
        replay_limit: int = 500,
    ) -> None:
        self._all = database["notifications"]
        self._users = database["notification_users"]
        self._numbers = Numbers(self._users, self._all)
        self._pages = Pages(self._all)
        self._meta = database["meta"]
        self._publisher = publisher
        self._access = access or MongoAccess(database)
        self._quota = quota
        self._ttl = timedelta(days=ttl_days)
        self._replay_limit = replay_limit
        self._epoch = ""
        self._untrimmed: set[str] = set()
        self._trim_wanted = asyncio.Event()
        self._published: list[ObjectId | str] = []
        self._mark_wanted = asyncio.Event()
        self._unpublished = asyncio.Event()
        # What an earlier process left.
        self._unpublished.set()
        self._shared_users = SharedRead(self._numbers.read)
        self._shared_unread = SharedRead(self._read_unread)

    async def prepare(self) -> None:
        """Make the indexes and the epoch, where they are missing."""
        await self._all.create_indexes(indexes(self._ttl))
        fresh = {"$setOnInsert": {"epoch": secrets.token_hex(4)}}
        self._epoch = (await upsert(self._meta, "notifications", fresh))["epoch"]

    async def create(
        self, draft: NotificationDraft, *, event_id: str | None = None
    ) -> Notification:
        """Store, then push. A repeated `dedupe_key` renews the unread one that there is.

        A repeated `event_id` stores nothing and pushes again, since the first may have been cut
        off between the two. Raise NotStorable, NoTurn, or PyMongoError while MongoDB is away.
        """
        async with self._access.turn(draft.user_id):
            try:
                stored = await self._store(draft, event_id)
            except (BSONError, OverflowError, PyMongoError) as error:
                if not _is_refusal(error):
                    raise
                raise NotStorable(clean_text(error, REASON_LENGTH)) from error
            await self._push(stored)
        if self._quota:
            self._want_trim(draft.user_id)
        return stored

    async def find(
        self,
        user_id: str,
        *,
        limit: int = 20,
        before: str | None = None,
        page: int | None = None,
        page_size: int = 20,
        status: NotificationStatus | None = None,
        type: NotificationType | None = None,
    ) -> NotificationPage:
        """Find the newest first: those before an id, or the page numbered from 1."""
        wanted: dict[str, Any] = {"user_id": user_id}
        wanted |= {"status": status.value} if status else {}
        wanted |= {"type": type.value} if type else {}
        async with self._access.turn(user_id):
            if page is not None:
                found = await self._pages.find_page(wanted, page, page_size)
            else:
                found = await self._pages.find_before(wanted, before, limit)
            return attrs.evolve(found, unread=await self._count_unread(user_id))

    async def unread_count(self, user_id: str) -> int:
        """Count a user's unread notifications."""
        async with self._access.watched():
            return await self._count_unread(user_id)

    async def mark_read(self, user_id: str, ids: Sequence[str]) -> int:
        """Mark some as read and tell the user's other tabs; return how many changed."""
        known = [ObjectId(id_) for id_ in ids if ObjectId.is_valid(id_)]
        async with self._access.turn(user_id):
            changed = await self._mark_some(user_id, known)
            await self._tell_read(user_id, {"ids": [str(id_) for id_ in known]})
        return changed

    async def mark_one(self, user_id: str, id_: str) -> Notification:
        """Mark one as read. Raise NotificationNotFound, also for another's."""
        key = {"user_id": user_id, "_id": stored_id(id_)}
        async with self._access.turn(user_id):
            if await self._mark(key):
                await self._tell_read(user_id, {"ids": [id_]})
            document = await self._all.find_one(key)
        if document is None:
            raise NotificationNotFound(id_)
        return Notification.of(document)

    async def mark_all_read(self, user_id: str) -> int:
        """Mark all as read and tell the user's other tabs; return how many changed."""
        async with self._access.turn(user_id):
            unread = self._all.find({"user_id": user_id, **UNREAD}, {"_id": 1})
            changed = await self._mark_some(user_id, [one["_id"] async for one in unread])
            await self._tell_read(user_id, {"all": True})
        return changed

    async def delete(self, user_id: str, id_: str) -> None:
        """Delete one. Raise NotificationNotFound, also for another's."""
        key = {"user_id": user_id, "_id": stored_id(id_)}
        async with self._access.turn(user_id):
            if not (await self._all.delete_one(key)).deleted_count:
                raise NotificationNotFound(id_)
            await self._tell_unread(user_id)

    async def note_callback(self, user_id: str, event_id: str, end: str) -> None:
        """Note in an event's metadata the end of its callback, unless MongoDB is away."""
        key = {"user_id": user_id, "event_id": event_id}
        try:
            async with self._access.turn(user_id):
                await self._all.update_one(key, {"$set": {"metadata.callback": end}})
        except (PyMongoError, NoTurn) as error:
            log.warning("callback_not_noted", event_id=event_id, error=error)

    async def broadcast(self, draft: BroadcastDraft) -> str:
        """Push to every connected user; store nothing. Return its id."""
        id_ = str(ObjectId())
        sent = attrs.asdict(draft) | {
            "id": id_,
            "user_id": None,
            "status": NotificationStatus.UNREAD,
            "created_at": iso_time(),
            "read_at": None,
        }
        await self._publisher.publish(BROADCAST, Message.of(MessageType.NOTIFICATION, sent))
        return id_

    async def replay(self, user_id: str, after: Cursor | None = None) -> NotificationReplay:
        """Return all that came after a cursor, oldest first; or why it cannot be had.

        The one at the cursor is among them: when its number was read as the last one it may not
        have been stored yet.
        """
        if after is not None:
            async with self._access.turn(user_id):
                # Read at the same moment: a trim between the two would leave a gap unnoticed.
                return await self._replay(user_id, after, await self._read_head(user_id))
        # A new subscriber shares its reads with the others that come, and needs no turn.
        async with self._access.watched():
            head = await self._read_head(user_id)
        if not head.last:
            none = Cursor(self._epoch, 0)
            return NotificationReplay([], None, none, none, head.unread)
        async with self._access.turn(user_id):
            return await self._replay(user_id, None, head)

    async def _read_head(self, user_id: str) -> _Head:
        user = await self._shared_users.get(user_id) or {}
        last = number_in(user, "seq")
        # A user without a number never got a notification.
        unread = await self._count_unread(user_id) if last else 0
        return _Head(last, number_in(user, "trimmed_seq"), unread)

    async def _replay(self, user_id: str, after: Cursor | None, head: _Head) -> NotificationReplay:
        last, trimmed = head.last, head.trimmed
        begin, cursor = after, Cursor(self._epoch, last)
        found: list[Notification] = []
        resync = None
        if after is not None:
            found, resync = await self._from(user_id, after, last, trimmed)
        if begin is None or resync is not None:
            known = max(await self._last_published(user_id, last) if last else 0, trimmed)
            begin = cursor if known == last else Cursor(self._epoch, known)
        return NotificationReplay(
            list(map(self._message, found)), resync, begin, cursor, head.unread
        )

    async def run_trimmer(self) -> None:
        """Delete what is over the quota, off the request's path, until cancelled."""
        await _whenever(self._trim_wanted, self.trim_pending, "trim_failed", TRIM_RETRY_SECONDS)

    async def trim_pending(self) -> None:
        """Trim every user who got something since the last time."""
        self._trim_wanted.clear()
        users, self._untrimmed = self._untrimmed, set()
        failure: PyMongoError | None = None
        for user_id in users:
            # The others do not wait for one that fails.
            try:
                with _set_aside("trim_refused", user_id=user_id):
                    await self._trim(user_id)
            except PyMongoError as error:
                failure = error
                self._want_trim(user_id)
        if failure is not None:
            raise failure

    async def run_marker(self) -> None:
        """Note in the store what was published, off the request's path, until cancelled."""
        await _whenever(self._mark_wanted, self.mark_pending, "mark_failed", MARK_RETRY_SECONDS)

    async def mark_pending(self) -> None:
        """Note what was published since the last time."""
        self._mark_wanted.clear()
        ids, self._published = self._published, []
        try:
            await self._mark_all_published(ids)
        except PyMongoError:
            self._published += ids
            self._mark_wanted.set()
            raise

    async def _mark_all_published(self, ids: list[ObjectId | str]) -> None:
        with _set_aside("marks_refused", notifications=len(ids)):
            for part in _parts(ids):
                await self._mark_published({"_id": {"$in": part}})
            return
        # It refuses one of them: the others are noted one by one.
        for id_ in ids:
            with _set_aside("mark_refused", id=str(id_)):
                await self._mark_published({"_id": id_})

    async def run_republisher(self) -> None:
        """Tell every process what was told only to one, or to none; until cancelled.

        That is news of an outage of Redis, and of a process that ended before it published.
        """
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ORPHAN_SECONDS):
                    await self._unpublished.wait()
            try:
                self._unpublished.clear()
                if await self.republish():
                    continue
            except PyMongoError as error:
                log.warning("republish_waits", error=error)
            self._unpublished.set()
            await asyncio.sleep(REPUBLISH_RETRY_SECONDS)

    async def republish(self) -> bool:
        """Publish what is left unpublished, the first first; False: Redis is still away."""
        orphaned = {"$lt": datetime.now(UTC) - timedelta(seconds=ORPHAN_SECONDS)}
        wanted = {"$or": [{"unpublished": True}, {**UNSENT, "stored_at": orphaned}]}
        async for document in self._all.find(wanted).sort("stored_at", ASCENDING):
            # One that cannot be told holds up none behind it.
            with _set_aside("notification_not_published", id=str(document["_id"])):
                if not await self._publish_late(document):
                    return False
        return True

    async def _publish_late(self, document: dict[str, Any]) -> bool:
        key, stored = {"_id": document["_id"]}, Notification.of(document)
        # Before it is told: who comes between reads it, or is told.
        await self._all.update_one(key, {"$currentDate": {"published_at": True}})
        if not await self._publisher.publish(user_topic(stored.user_id), self._message(stored)):
            return False
        await self._mark_published(key)
        await self._tell_unread(stored.user_id)
        return True

    async def _mark_published(self, which: dict[str, Any]) -> None:
        # The time is not before that of the publishing: who missed it then finds it by that.
        done = {"$unset": {"unsent": "", "unpublished": ""}, "$currentDate": {"published_at": True}}
        await self._all.update_many(which, done)

    async def read_heads(self, user_ids: Sequence[str]) -> dict[str, Cursor]:
        """Return the last number of each user."""
        found = await self._numbers.read(user_ids)
        return {id_: Cursor(self._epoch, number_in(found.get(id_, {}), "seq")) for id_ in user_ids}

    async def _store(self, draft: NotificationDraft, event_id: str | None) -> Notification:
        for _ in range(CONFLICTS):
            fields = attrs.asdict(draft, value_serializer=_plain)
            fields |= {
                "created_at": datetime.now(UTC),
                "seq": await self._numbers.next(draft.user_id),
            }
            if draft.dedupe_key is not None and (renewed := await self._renew(fields)):
                return renewed
            try:
                return await self._insert(fields, event_id)
            except DuplicateKeyError:
                known = event_id and await self._all.find_one({"event_id": event_id})
                if known:
                    return Notification.of(known)
                # Another process stored the same dedupe key meanwhile: renew that one.
        raise StoreConflict("notifications")

    async def _renew(self, fields: dict[str, Any]) -> Notification | None:
        key = {"user_id": fields["user_id"], "dedupe_key": fields["dedupe_key"], **UNREAD}
        renewed = await self._all.find_one_and_update(
            key,
            {"$set": fields | UNSENT, "$currentDate": STORED_NOW},
            return_document=ReturnDocument.AFTER,
        )
        return None if renewed is None else Notification.of(renewed)

    async def _insert(self, fields: dict[str, Any], event_id: str | None) -> Notification:
        # Absent rather than null, so that the partial indexes leave it out.
        given = {name: value for name, value in fields.items() if value is not None}
        document = given | UNREAD | UNSENT | ({"event_id": event_id} if event_id else {})
        stored = await self._all.find_one_and_update(
            {"_id": ObjectId()},
            {"$setOnInsert": document, "$currentDate": STORED_NOW},
            upsert=True,
            return_document=ReturnDocument.AFTER,
        )
        return Notification.of(stored)

    async def _push(self, stored: Notification) -> None:
        message = self._message(stored)
        if await self._publisher.publish(user_topic(stored.user_id), message):
            self._published.append(stored_id(stored.id))
            self._mark_wanted.set()
        else:
            marked = {"unpublished": True, "blind_seconds": self._publisher.blind_seconds()}
            await self._all.update_one({"_id": stored_id(stored.id)}, {"$set": marked})
            self._unpublished.set()
        await self._tell_unread(stored.user_id)

    def _message(self, stored: Notification) -> Message:
        cursor = Cursor(self._epoch, stored.seq)
        return Message.of(MessageType.NOTIFICATION, stored.to_dict(), str(cursor))

    async def _tell_unread(self, user_id: str) -> None:
        unread = {"unread": await self._count_unread(user_id)}
        message = Message.of(MessageType.UNREAD_COUNT, unread)
        await self._publisher.publish(user_topic(user_id), message)

    async def _tell_read(self, user_id: str, what: dict[str, Any]) -> None:
        await self._publisher.publish(user_topic(user_id), Message.of(MessageType.READ, what))
        await self._tell_unread(user_id)

    async def _mark_some(self, user_id: str, ids: list[ObjectId]) -> int:
        parts = [{"user_id": user_id, "_id": {"$in": part}} for part in _parts(ids)]
        return sum([await self._mark(part) for part in parts])

    async def _mark(self, which: dict[str, Any]) -> int:
        read = {"status": NotificationStatus.READ.value, "read_at": datetime.now(UTC)}
        changed: int = (
            await self._all.update_many({**which, **UNREAD}, {"$set": read})
        ).modified_count
        return changed

    async def _read_unread(self, user_ids: list[str]) -> dict[str, int]:
        wanted = {"user_id": {"$in": user_ids}, **UNREAD}
        counted = self._all.aggregate(
            [{"$match": wanted}, {"$group": {"_id": "$user_id", "unread": {"$sum": 1}}}]
        )
        return {user["_id"]: user["unread"] async for user in counted}

    async def _count_unread(self, user_id: str) -> int:
        return await self._shared_unread.get(user_id) or 0

    async def _last_published(self, user_id: str, offset: int) -> int:
        numbered, order = {"user_id": user_id, "seq": {"$lte": offset}}, [("seq", DESCENDING)]
        newest = await self._all.find_one(numbered, sort=order)
        if newest and "unsent" in newest and newest["_id"] not in self._published:
            # Perhaps it is not published yet, and still to come to who is there now.
            newest = await self._all.find_one(
                {**numbered, "unsent": {"$exists": False}}, sort=order
            )
        return number_in(newest, "seq") if newest else 0

    async def _from(
        self, user_id: str, after: Cursor, last: int, trimmed: int
    ) -> tuple[list[Notification], ResyncReason | None]:
        if after.epoch != self._epoch or after.offset > last:
            return [], ResyncReason.EPOCH
        if after.offset < trimmed:
            return [], ResyncReason.TRIMMED
        found = await self._since(user_id, after.offset)
        if sum(one.seq != after.offset for one in found) > self._replay_limit:
            return [], ResyncReason.LIMIT
        return found, None

    async def _since(self, user_id: str, offset: int) -> list[Notification]:
        later: list[dict[str, Any]] = [{"seq": {"$gte": offset}}]
        # It may be deleted, or renewed under another number: then the one before it.
        seen = await self._all.find_one(
            {"user_id": user_id, "seq": {"$lte": offset}}, sort=[("seq", DESCENDING)]
        )
        if seen is not None:
            # Numbered before the last one seen, but published after it or perhaps not at all; or
            # while the process that told only its own users of the last one did not hear others.
            overtaken = {"seq": {"$gt": offset - OVERTAKING, "$lt": offset}}
            stored_at = time_in(seen, "stored_at") or Notification.of(seen).created_at
            since = max(stored_at, LONG_AGO) - seconds_in(seen, "blind_seconds")
            later += [{**overtaken, "published_at": {"$gte": since}}, {**overtaken, **UNSENT}]
        found = self._all.find({"user_id": user_id, "$or": later})
        ordered = found.sort("seq", ASCENDING).limit(self._replay_limit + 2)
        return [Notification.of(document) async for document in ordered]

    def _want_trim(self, user_id: str) -> None:
        self._untrimmed.add(user_id)
        self._trim_wanted.set()

    async def _trim(self, user_id: str) -> None:
        excess = await self._all.count_documents({"user_id": user_id}) - self._quota
        if excess <= 0:
            return
        oldest = self._all.find({"user_id": user_id}, {"seq": 1})
        documents = [one async for one in oldest.sort("seq", ASCENDING).limit(excess)]
        # First noted, then deleted: a resume never takes a part for the whole.
        highest = max(number_in(one, "seq") for one in documents)
        await self._users.update_one({"_id": user_id}, {"$max": {"trimmed_seq": highest}})
        ids = [one["_id"] for one in documents]
        for part in _parts(ids):
            await self._all.delete_many({"_id": {"$in": part}})


async def _whenever(
    wanted: asyncio.Event, act: Callable[[], Awaitable[None]], failed: str, retry_seconds: float
) -> None:
    """Act each time it is wanted, until cancelled; what failed is wanted still."""
    while True:
        await wanted.wait()
        try:
            await act()
        except PyMongoError as error:
            log.warning(failed, error=error)
            await asyncio.sleep(retry_seconds)


@contextlib.contextmanager
def _set_aside(event: str, **about: Any) -> Iterator[None]:
    """Log an error of one document or user that another time would bring again."""
    try:
        yield
    except (BSONError, PyMongoError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        if not _is_refusal(error):
            raise
        log.error(event, error=error, **about)


def _is_refusal(error: Exception) -> bool:
    """Say whether MongoDB refuses the document itself, now and every other time."""
    if isinstance(error, PyMongoError):
        too_large = isinstance(error, DocumentTooLarge)
        return too_large or (isinstance(error, OperationFailure) and error.code in REFUSALS)
    return True


def _parts(ids: list[T]) -> Iterator[list[T]]:
    """Yield ids in parts of which each is changed by one write."""
    for start in range(0, len(ids), TOGETHER):
        yield ids[start : start + TOGETHER]


def _plain(_: type, __: Any, value: Any) -> Any:
    return str(value) if isinstance(value, str) else value
