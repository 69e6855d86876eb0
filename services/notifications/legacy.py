"""The layout before version 5 of the data: the collection `notifications`, whose users are moved.

A user is moved when somebody first asks for them, and all others in the background. The documents
of one user are copied, then the account is written, then the old ones go; cut off in between it is
done again.
"""

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from pymongo.errors import BulkWriteError, OperationFailure

from services.notifications.account import MOST, READ, UNREAD, Document
from services.notifications.intents import id_of_event
from services.notifications.lifetime import Lifetime
from services.notifications.models import LONG_AGO, number_in, time_in, time_of

log = structlog.get_logger(__name__)

COLLECTION = "notifications"
# By which documents of the old layout events are known.
EVENTS = "inbox_events"
# A pump that was cut off before the move may repeat an event for this long after it [s].
LATE = timedelta(days=1)
# Most documents that one write removes.
TOGETHER = 50
# Only the old layout has these.
OLD_FIELDS = {
    *("status", "unsent", "unpublished", "stored_at", "published_at", "blind_seconds", "seq"),
}


class Legacy:
    """Reads the old collection, while there is one."""

    def __init__(self, database: Any, lifetime: Lifetime) -> None:
        self._database = database
        self._old = database[COLLECTION]
        self._events = database[EVENTS]
        self._has_events = False
        self._lifetime = lifetime
        self.is_there = False
        self.epoch = ""

    async def look(self) -> None:
        """Find out whether there is one, and end the sweeps of the store over it."""
        names = await self._database.list_collection_names()
        self.is_there = COLLECTION in names
        self._has_events = self.is_there or EVENTS in names
        if not self.is_there and EVENTS in names:
            await self._forget_events()
        if not self.is_there:
            return
        known = await self._database["meta"].find_one({"_id": COLLECTION}) or {}
        self.epoch = str(known.get("epoch", ""))
        try:
            await self._old.drop_index("expiry")
        except OperationFailure as error:
            log.debug("no_expiry", error=error)

    async def told(self, user_id: str, event_id: str) -> Any:
        """Return the `_id` of what a user was told of an event by the version before, or None."""
        if not self._has_events:
            return None
        if self.is_there:
            # It notes the events of a user who is moved.
            await self._note_events((await self.read([user_id]))[user_id])
        found = await self._events.find_one({"_id": id_of_event(user_id, event_id)})
        return None if found is None else found["told"]

    async def _forget_events(self) -> None:
        late = {"at": {"$gt": datetime.now(UTC) - LATE}}
        self._has_events = bool(await self._events.find(late).to_list(None))
        if not self._has_events:
            await self._events.drop()

    async def _note_events(self, old: Sequence[Document]) -> None:
        """Note of events by which documents they are known: they may be told again."""
        now = datetime.now(UTC)
        noted = [
            {"_id": id_of_event(one["user_id"], one["event_id"]), "told": one["_id"], "at": now}
            for one in old
            if isinstance(one.get("event_id"), str)
        ]
        if noted:
            with contextlib.suppress(BulkWriteError):
                await self._events.insert_many(noted, ordered=False)

    async def read(self, user_ids: Sequence[str]) -> dict[str, list[Document]]:
        """Return the old documents of users."""
        found: dict[str, list[Document]] = {id_: [] for id_ in user_ids}
        if self.is_there:
            async for one in self._old.find({"user_id": {"$in": list(user_ids)}}):
                found[one["user_id"]].append(one)
        return found

    async def user_ids(self) -> list[str]:
        """Return whose documents there are, so far as these users have accounts."""
        users = self._database["notification_users"].find({}, {"epoch": 1})
        return [one["_id"] async for one in users if one.get("epoch") is None]

    async def other_user_ids(self) -> list[str]:
        """Return whose documents are left."""
        left = [one.get("user_id") async for one in self._old.find({}, {"user_id": 1})]
        return list({one for one in left if isinstance(one, str)})

    async def forget(self, documents: Sequence[Document]) -> None:
        """Remove what was moved."""
        await self._note_events(documents)
        ids = [one["_id"] for one in documents]
        for start in range(0, len(ids), TOGETHER):
            await self._old.delete_many({"_id": {"$in": ids[start : start + TOGETHER]}})

    async def end(self) -> None:
        """Remove the old collection, of which nothing is left that belongs to anybody."""
        await self._old.drop()
        self.is_there = False
        log.info("inbox_migrated")

    def moved(self, old: Sequence[Document], last: int) -> tuple[list[Document], int]:
        """Return documents of one user in the new layout, and their last version.

        A number becomes the version, so that cursors stay good. Those that nobody may have been
        told of get the numbers after `last`, those without a number stand last in the list.
        """
        ordered = sorted(old, key=_place)
        moved = []
        for seq, document in enumerate(ordered, 1):
            version = max(_number(document), 0)
            if document.keys() & {"unsent", "unpublished"}:
                last += 1
                version = last
            moved.append(self._moved(document, seq, version))
        return moved, max([last, *(one["version"] for one in moved)])

    def _moved(self, old: Document, seq: int, version: int) -> Document:
        kept = {name: value for name, value in old.items() if name not in OLD_FIELDS}
        made_at = time_in(old, "created_at") or time_of(old["_id"])
        unread = old.get("status") == UNREAD
        read_at = time_in(old, "read_at") or made_at
        given: Document = {} if unread else {"read_at": read_at, "seen_at": read_at}
        key = old.get("dedupe_key")
        if unread and isinstance(key, str) and key:
            given["key"] = dedupe_key(key)
        # The age of a document without a time is unknown.
        since = datetime.now(UTC) if made_at == LONG_AGO else made_at
        goes = self._lifetime.fields(since, None, old["_id"])
        # One that is due already goes soon: nobody looks that far back.
        goes["due_at"] = max(goes["due_at"], datetime.now(UTC))
        return {
            **kept,
            **given,
            **goes,
            "created_at": made_at,
            "state": UNREAD if unread else READ,
            "seq": seq,
            "version": version,
            "made": version,
        }


def dedupe_key(key: str) -> str:
    """Return by what an active one with a dedupe key is found."""
    return f"d:{key}"


def _number(document: Document) -> int:
    number = number_in(document, "seq")
    return number if 0 < number < MOST else -1


def _place(document: Document) -> tuple[int, str]:
    """Order by number; those without one first, the later made the earlier."""
    number = _number(document)
    return (number, "" if number > 0 else _reversed(str(document["_id"])))


def _reversed(text: str) -> str:
    return "".join(chr(0x10FFFF - ord(one)) for one in text)
