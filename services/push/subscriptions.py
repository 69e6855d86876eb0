"""The subscriptions of all users, in the collection `push_subscriptions`.

A subscription's id is a hash of its endpoint, so a browser has one: if another user signs in there,
it becomes theirs.
"""

import hmac
from typing import Any

from pymongo import ASCENDING, IndexModel

from services.base64url import decode
from services.channels import PUSH, SetChannel
from services.push.models import PushSubscription, SubscriptionDraft, SubscriptionNotFound, id_of
from settings import default
from tornado_rt.mongo import MongoAccess


class Subscriptions:
    """Keeps at most `most` subscriptions a user (0: any number); the oldest goes.

    `server_key`: the public key that browsers subscribe with. The channel `push` of a user is on
    while they have a subscription.
    """

    def __init__(
        self,
        database: Any,
        set_channel: SetChannel,
        *,
        server_key: str,
        access: MongoAccess | None = None,
        most: int = default("push_subscriptions_per_user"),
        allow_private: bool = False,
    ) -> None:
        self._all = database["push_subscriptions"]
        self._access = access or MongoAccess(database)
        self._set_channel = set_channel
        self._most = most
        self._allow_private = allow_private
        self.server_key = server_key

    async def prepare(self) -> None:
        """Make the index where it is missing."""
        await self._all.create_indexes([IndexModel([("user_id", ASCENDING)], name="user")])

    async def add(self, user_id: str, draft: SubscriptionDraft) -> str:
        """Keep a browser's subscription; return its id. Raise EndpointRefused."""
        draft.check_address(self._allow_private)
        async with self._access.turn(user_id):
            return await self._add(PushSubscription.make(user_id, draft, self.server_key))

    async def renew(self, endpoint: str, auth: str, draft: SubscriptionDraft) -> str:
        """Put a subscription in the place of an earlier one, which its browser knows the keys of.

        Raise EndpointRefused, SubscriptionNotFound.
        """
        draft.check_address(self._allow_private)
        async with self._access.watched():
            document = await self._all.find_one({"_id": id_of(endpoint)})
            if document is None or not hmac.compare_digest(document["auth"], _bytes_of(auth)):
                raise SubscriptionNotFound
            old = PushSubscription.of(document)
            made = PushSubscription.make(old.user_id, draft, self.server_key)
            return await self._add(made, instead_of=old.id)

    async def find(self, user_id: str) -> list[PushSubscription]:
        """Return a user's, the oldest first."""
        async with self._access.turn(user_id):
            return await self._of(user_id)

    async def remove(self, user_id: str, id_: str) -> None:
        """Forget one of a user's. Raise SubscriptionNotFound."""
        async with self._access.turn(user_id):
            if not await self._delete(user_id, id_):
                raise SubscriptionNotFound

    async def discard(self, subscription: PushSubscription) -> None:
        """Forget one that its push service does not know any more."""
        async with self._access.watched():
            await self._delete(subscription.user_id, subscription.id)

    async def _add(self, made: PushSubscription, *, instead_of: str = "") -> str:
        before = await self._all.find_one({"_id": made.id})
        await self._all.replace_one({"_id": made.id}, made.document(), upsert=True)
        if instead_of not in ("", made.id):
            await self._all.delete_one({"_id": instead_of, "user_id": made.user_id})
        await self._trim(made.user_id)
        # Also when it was on: the write may have been lost with the process of an earlier one.
        await self._set_channel(made.user_id, PUSH, True)
        if before is not None and before["user_id"] != made.user_id:
            await self._turn_off_without_any(before["user_id"])
        return made.id

    async def _trim(self, user_id: str) -> None:
        kept = await self._of(user_id)
        excess = kept[: -self._most] if self._most else []
        if excess:
            ids = [one.id for one in excess]
            await self._all.delete_many({"_id": {"$in": ids}, "user_id": user_id})

    async def _delete(self, user_id: str, id_: str) -> bool:
        deleted = await self._all.delete_one({"_id": id_, "user_id": user_id})
        await self._turn_off_without_any(user_id)
        return bool(deleted.deleted_count)

    async def _turn_off_without_any(self, user_id: str) -> None:
        if await self._of(user_id):
            return
        await self._set_channel(user_id, PUSH, False)
        # One may have come in between.
        if await self._of(user_id):
            await self._set_channel(user_id, PUSH, True)

    async def _of(self, user_id: str) -> list[PushSubscription]:
        found = [PushSubscription.of(one) async for one in self._all.find({"user_id": user_id})]
        return sorted(found, key=lambda one: (one.created_at, one.id))


def _bytes_of(text: str) -> bytes:
    try:
        return decode(text)
    except ValueError:
        return b""
