"""The numbers of notifications: each user has a counter, `seq`."""

import contextlib
from collections.abc import Sequence
from typing import Any

from pymongo import DESCENDING, ReturnDocument
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

from services.notifications.models import number_in

# How often a write that met another one is repeated.
CONFLICTS = 50
# Codes of MongoDB: the sum is too large (bad value), or it would count up what is no number.
NOT_COUNTED = {2, 14}
# A number that nobody reaches; one above it is a fault.
MOST = 2**53


class StoreConflict(PyMongoError):
    """Others changed the same document again and again; try later."""


class Numbers:
    """Counts in the collection `users`; `all_` has the notifications that were numbered."""

    def __init__(self, users: Any, all_: Any) -> None:
        self._users = users
        self._all = all_

    async def next(self, user_id: str) -> int:
        """Return the next number of a user. Raise StoreConflict.

        A counter that was lost, or is no number, goes on behind the highest that is kept.
        """
        number = await self._count_up(user_id)
        if 1 < number <= MOST:
            return number
        highest = await self._highest(user_id)
        if number == 1:
            if not highest:
                return number
            await self._users.update_one({"_id": user_id}, {"$max": {"seq": highest}})
        else:
            await self._users.update_one({"_id": user_id}, {"$set": {"seq": highest}})
        return await self._count_up(user_id)

    async def read(self, user_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the documents of those users who have one."""
        found = self._users.find({"_id": {"$in": list(user_ids)}})
        return {user["_id"]: user async for user in found}

    async def _count_up(self, user_id: str) -> int:
        """Return the number; 0 for a counter that cannot be counted up."""
        try:
            return number_in(await upsert(self._users, user_id, {"$inc": {"seq": 1}}), "seq")
        except OperationFailure as error:
            if error.code not in NOT_COUNTED:
                raise
            return 0

    async def _highest(self, user_id: str) -> int:
        """Return the highest number that was given out; 0 for none that is known."""
        numbered = {"user_id": user_id, "seq": {"$gt": 0, "$lt": MOST}}
        newest = await self._all.find_one(numbered, sort=[("seq", DESCENDING)]) or {}
        user = await self._users.find_one({"_id": user_id}) or {}
        trimmed = number_in(user, "trimmed_seq")
        return max(number_in(newest, "seq"), trimmed if trimmed < MOST else 0)


async def upsert(collection: Any, id_: str, update: dict[str, Any]) -> dict[str, Any]:
    """Update a document, made if need be; return it as it is then. Raise StoreConflict."""
    for _ in range(CONFLICTS):
        # When two make it at once, one of them fails or gets no document: it exists now.
        with contextlib.suppress(DuplicateKeyError):
            document: dict[str, Any] | None = await collection.find_one_and_update(
                {"_id": id_}, update, upsert=True, return_document=ReturnDocument.AFTER
            )
            if document is not None:
                return document
    raise StoreConflict(id_)
