"""Verbs that read notifications, and what a user has chosen."""

from collections.abc import Sequence
from typing import Any

import attrs

from services.notifications.account import EVENT, GONE, UNREAD, Document
from services.notifications.intents import id_of_event
from services.notifications.listing import Query
from services.notifications.models import (
    Notification,
    NotificationPage,
    NotificationReplay,
    stored_id,
)
from services.notifications.parts import Parts
from services.notifications.preferences import Mute
from services.notifications.publication import counts_dict
from tornado_rt.protocol import Cursor


@attrs.frozen
class EventTold:
    """The notification of an event; `muted_for`: why it was not pushed, None: it was."""

    notification: Notification
    muted_for: Mute | None
    is_gone: bool

    @classmethod
    def of(cls, document: Document) -> "EventTold":
        """Read a document of the collection."""
        known = document.get("muted_for")
        # An earlier version has kept no reason.
        muted_for = Mute(known) if known in list(Mute) else Mute.TYPE
        told = Notification.of(document)
        return cls(told, muted_for if told.muted else None, document.get("state") == GONE)


class InboxReading(Parts):
    """Reads."""

    async def find(self, user_id: str, query: Query | None = None) -> NotificationPage:
        """Find a page, the newest first. Raise NotificationNotFound for a place that is none."""
        query = query or Query()
        async with self.access.turn(user_id):
            known = self._committer.remembered(user_id)
            found = await self._inbox.find(user_id, query, known)
        items = found.notifications()
        counts = counts_dict(found.account)
        page = NotificationPage(items, found.following, **counts, total=found.total)
        if query.page is None:
            return page
        return attrs.evolve(page, page=query.page, page_size=query.page_size)

    async def get(self, user_id: str, id_: str) -> Notification:
        """Return one. Raise NotificationNotFound, also for another's."""
        async with self.access.turn(user_id):
            return Notification.of(await self._inbox.one(user_id, id_))

    async def of_event(self, user_id: str, event_id: str) -> EventTold | None:
        """Return what a user was told of an event, also when it is gone; None: nothing is kept.

        Raise NoTurn, or PyMongoError while MongoDB is away.
        """
        async with self.access.turn(user_id):
            found = await self._all.find_one({"_id": id_of_event(user_id, event_id)})
            if found is not None and found.get("state") == EVENT:
                found = await self._all.find_one({"_id": found.get("of")})
        return None if found is None else EventTold.of(found)

    async def parts(self, user_id: str, id_: str, limit: int) -> list[Notification]:
        """Return what a digest stands for, the newest first. Raise NotificationNotFound."""
        async with self.access.turn(user_id):
            head = await self._inbox.one(user_id, id_)
            return list(map(Notification.of, await self._inbox.parts(user_id, head, limit)))

    async def still_unread(self, user_id: str, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return those of the notifications that are unread, as on the wire, oldest first."""
        keys = [stored_id(id_) for id_ in ids]
        async with self.access.turn(user_id):
            found = await self._all.find({"_id": {"$in": keys}}).to_list(None)
        unread = [one for one in found if one["user_id"] == user_id and one["state"] == UNREAD]
        return [Notification.of(one).to_dict() for one in sorted(unread, key=_place)]

    async def replay(self, user_id: str, after: Cursor | None = None) -> NotificationReplay:
        """Return all that came after a cursor, oldest first; or why it cannot be had."""
        # A later caller shares the reads of the others, and needs no turn.
        account = await self._read_account(user_id)
        cursor = account.cursor(self._epochs.current)
        if after is None:
            return NotificationReplay([], None, cursor, cursor, counts_dict(account))
        async with self.access.turn(user_id):
            messages, resync, account = await self._log.read(account, after)
        cursor = account.cursor(self._epochs.current)
        begin = after if resync is None else cursor
        return NotificationReplay(messages, resync, begin, cursor, counts_dict(account))

    async def read_heads(self, user_ids: Sequence[str]) -> dict[str, Cursor]:
        """Return the last number of each user."""
        found = await self._accounts.read(user_ids)
        newest = {id_: one.settled() if one.is_busy else one for id_, one in found.items()}
        return {id_: one.cursor(self._epochs.current) for id_, one in newest.items()}


def _place(document: Document) -> int:
    return int(document["seq"])
