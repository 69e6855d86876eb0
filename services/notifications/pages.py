"""Pages of a user's notifications: by number, or from one notification on."""

from datetime import timedelta
from typing import Any

from pymongo import ASCENDING, DESCENDING

from services.notifications.models import (
    Notification,
    NotificationNotFound,
    NotificationPage,
    stored_id,
)

NEWEST_FIRST = [("seq", DESCENDING)]


class Pages:
    """Reads the collection `all_`; `wanted` names the user and what else they ask for.

    Those that were stored by hand without a number stand last, in the order of their ids.
    """

    def __init__(self, all_: Any) -> None:
        self._all = all_

    async def find_page(
        self, wanted: dict[str, Any], page: int, page_size: int
    ) -> NotificationPage:
        """Find the page numbered from 1; its `unread` is not counted."""
        items = await self._read(wanted, NEWEST_FIRST, page_size, skip=(page - 1) * page_size)
        total = await self._all.count_documents(wanted)
        following = items[-1].id if page * page_size < total and items else None
        return NotificationPage(items, following, 0, total, page, page_size)

    async def find_before(
        self, wanted: dict[str, Any], before: str | None, limit: int
    ) -> NotificationPage:
        """Find those before an id; `unread` is not counted. Raise NotificationNotFound."""
        older: dict[str, Any] = {}
        order = NEWEST_FIRST
        if before is not None:
            older, order = await self._behind(wanted["user_id"], before)
        found = await self._read({**wanted, **older}, order, limit + 1)
        following = found[limit - 1].id if len(found) > limit else None
        return NotificationPage(found[:limit], following, 0)

    async def _behind(self, user_id: str, id_: str) -> tuple[dict[str, Any], list[tuple[str, int]]]:
        """Return what stands behind an id, and in which order."""
        key = stored_id(id_)
        known = await self._all.find_one({"user_id": user_id, "_id": key})
        if known is None:
            if isinstance(key, str):
                raise NotificationNotFound(id_)
            # It was deleted meanwhile: go on from when it was made.
            made_before = key.generation_time + timedelta(seconds=1)
            return {"created_at": {"$lt": made_before}}, NEWEST_FIRST
        if isinstance(known.get("seq"), int | float):
            return {"seq": {"$lt": known["seq"]}}, NEWEST_FIRST
        return {"seq": None, "_id": {"$gt": known["_id"]}}, [("_id", ASCENDING)]

    async def _read(
        self, wanted: dict[str, Any], order: list[tuple[str, int]], limit: int, skip: int = 0
    ) -> list[Notification]:
        found = self._all.find(wanted).sort(order).skip(skip).limit(limit)
        return [Notification.of(document) async for document in found]
