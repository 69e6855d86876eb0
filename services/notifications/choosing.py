"""Verbs about what a user wants to be told of, and how."""

from collections.abc import Sequence

from services.notifications.intents import (
    Prefer,
    Reach,
)
from services.notifications.parts import Parts
from services.notifications.preferences import Preferences
from services.notifications.types import TypeText


class Choosing(Parts):
    """Keeps what users choose."""

    async def preferences(self, user_id: str) -> Preferences:
        """Return a user's preferences; the defaults for one who never chose."""
        async with self.access.watched():
            return Preferences.of((await self._read_account(user_id)).preferences)

    async def set_preferences(self, user_id: str, preferences: Preferences) -> None:
        """Replace a user's preferences."""
        await self._commit(Prefer(user_id=user_id, preferences=preferences.to_dict()))

    async def set_channel(self, user_id: str, channel: str, on: bool) -> None:
        """Turn one way to reach a user when nobody is there on or off."""
        await self._commit(Reach(user_id=user_id, channel=channel, on=on))

    async def types(self, user_id: str, asked: str | None = None) -> Sequence[TypeText]:
        """Return the list of types, with the texts in the user's language, else the asked one."""
        return self._types.in_locale((await self.preferences(user_id)).locale, asked)
