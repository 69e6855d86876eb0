"""Notifications that wait to be told by mail, in the collection `email_digests`.

A document a user: `waiting`, the ids to tell, and `told`, the last ones that were told.
"""

from collections.abc import Sequence
from typing import Any

# More than come into one mail; of older ones the user hears in the inbox.
MOST_WAITING = 500
MOST_TOLD = 1000


class Digests:
    """Gathers what becomes one mail."""

    def __init__(self, database: Any) -> None:
        self._all = database["email_digests"]

    async def expect(self, user_id: str, ids: Sequence[str]) -> None:
        """Have notifications told in the user's next mail, by any delivery.

        Call it before their delivery is added. A repeated call is harmless.
        """
        waiting = {"$each": list(ids), "$slice": -MOST_WAITING}
        await self._all.update_one({"_id": user_id}, {"$push": {"waiting": waiting}}, upsert=True)

    async def due(self, user_id: str, ids: Sequence[str]) -> list[str]:
        """Return the ids to tell with these, without those that were told already."""
        document = await self._all.find_one({"_id": user_id}) or {}
        told = set(document.get("told", ()))
        wanted = dict.fromkeys([*document.get("waiting", ()), *ids])
        return [one for one in wanted if one not in told]

    async def settle(self, user_id: str, ids: Sequence[str]) -> None:
        """Note that these were told, or need not be."""
        told = {"$each": list(ids), "$slice": -MOST_TOLD}
        change = {"$push": {"told": told}, "$pull": {"waiting": {"$in": list(ids)}}}
        await self._all.update_one({"_id": user_id}, change, upsert=True)
