"""Endpoints of a user's preferences, and of the choices that there are."""

from typing import Any

from services.notifications.preferences import Preferences, PreferencesStore
from tornado_rt.api import ApiHandler


class PreferencesApiHandler(ApiHandler):
    """An endpoint on what keeps the preferences."""

    def initialize(self, notifications: PreferencesStore, **_: Any) -> None:
        self.notifications = notifications


class PreferencesHandler(PreferencesApiHandler):
    """`GET`: mine. `PUT`: replace all of mine."""

    async def get(self) -> None:
        found = await self.notifications.preferences(self.identity.user_id)
        self.answer(found.to_dict())

    async def put(self) -> None:
        chosen = self.body(Preferences)
        await self.notifications.set_preferences(self.identity.user_id, chosen)
        self.answer(chosen.to_dict())


class TypesHandler(PreferencesApiHandler):
    """`GET`: the types that a page lists in its form, with texts in my language.

    It is that of my preferences, else that of the request.
    """

    async def get(self) -> None:
        asked = self.read_by.asked
        tag = None if asked is None else asked.tag
        listed = await self.notifications.types(self.identity.user_id, tag)
        self.answer({"items": [one.to_dict() for one in listed]})
