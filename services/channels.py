"""The ways in which a user wants to be told when nobody is there, in the user's document."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from services.notifications.models import Notification, NotificationStatus, stored_id

PUSH = "push"
EMAIL = "email"

# Gets the user, the name of the channel, and whether it is on. A repetition is harmless.
SetChannel = Callable[[str, str, bool], Awaitable[None]]
# Gets the user and ids; returns those notifications that are unread still, as on the wire.
StillUnread = Callable[[str, Sequence[str]], Awaitable[list[dict[str, Any]]]]


class Channels:
    """Keeps the channels, and reads what is unread. The service of the inbox takes its place."""

    def __init__(self, database: Any) -> None:
        self._users = database["notification_users"]
        self._all = database["notifications"]

    async def set(self, user_id: str, name: str, on: bool) -> None:
        """Turn a channel of a user on or off."""
        change = "$addToSet" if on else "$pull"
        await self._users.update_one({"_id": user_id}, {change: {"channels": name}}, upsert=on)

    async def still_unread(self, user_id: str, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return those of the notifications that are unread, oldest first."""
        found = self._all.find(
            {
                "_id": {"$in": [stored_id(one) for one in ids]},
                "user_id": user_id,
                "status": NotificationStatus.UNREAD.value,
            }
        )
        unread = [Notification.of(one) async for one in found]
        return [one.to_dict() for one in sorted(unread, key=lambda one: one.seq)]
