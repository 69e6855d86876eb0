"""The notifications of a user."""

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from tornado_rt_client import verbs
from tornado_rt_client.events import InboxEvent
from tornado_rt_client.records import Notification, UnreadCount

if TYPE_CHECKING:
    from tornado_rt_client.async_client import AsyncClient
    from tornado_rt_client.client import Client


@attrs.frozen
class Inbox:
    """One's notifications: those that the filters find. Iterate over it, the newest come first."""

    _client: "Client" = attrs.field(repr=False)
    _filters: verbs.Filter

    def __iter__(self) -> Iterator[Notification]:
        return self._client.pages(verbs.list_inbox(self._filters))

    def unread_count(self) -> UnreadCount:
        """Return how many are unread and unseen."""
        return self._client.send(verbs.unread_count())

    def mark_read(self, *ids: str) -> UnreadCount:
        """Mark these as read; return the counts after that."""
        return self.act("read", *ids)

    def mark_all_read(self) -> UnreadCount:
        """Mark all of the inbox as read; return the counts after that."""
        return self.act("read", all=True)

    def act(self, verb: str, *ids: str, **more: Any) -> UnreadCount:
        """Apply a verb to these, to what a `filter` finds, or with `all=True` to all of the inbox.

        A verb is `seen`, `read`, `unread`, `archive`, `unarchive`, `snooze` (with `seconds` or
        `until`), `unsnooze`, `pin`, `unpin` or `delete`.
        """
        return self._client.send(verbs.act(verb, ids, more))

    def answer(self, notification_id: str, action: str) -> Notification:
        """Answer an action of a notification. Raise Conflict when it was answered before."""
        return self._client.send(verbs.answer(notification_id, action))

    def watch(self, timeout: float | None = None) -> Generator[InboxEvent, None, None]:
        """Iterate over what changes, without end: `Arrived`, `Changed`, `Counts`, `Resync`.

        The counts come first. Open it before you read the list, else news in between is missed.
        """
        return self._client.follow(verbs.watch_inbox(), timeout)


@attrs.frozen
class AsyncInbox:
    """One's notifications: those that the filters find, by `async for`, the newest first."""

    _client: "AsyncClient" = attrs.field(repr=False)
    _filters: verbs.Filter

    def __aiter__(self) -> AsyncIterator[Notification]:
        return self._client.pages(verbs.list_inbox(self._filters))

    async def unread_count(self) -> UnreadCount:
        """Return how many are unread and unseen."""
        return await self._client.send(verbs.unread_count())

    async def mark_read(self, *ids: str) -> UnreadCount:
        """Mark these as read; return the counts after that."""
        return await self.act("read", *ids)

    async def mark_all_read(self) -> UnreadCount:
        """Mark all of the inbox as read; return the counts after that."""
        return await self.act("read", all=True)

    async def act(self, verb: str, *ids: str, **more: Any) -> UnreadCount:
        """Apply a verb to these, to what a `filter` finds, or with `all=True` to all of the inbox.

        A verb is `seen`, `read`, `unread`, `archive`, `unarchive`, `snooze` (with `seconds` or
        `until`), `unsnooze`, `pin`, `unpin` or `delete`.
        """
        return await self._client.send(verbs.act(verb, ids, more))

    async def answer(self, notification_id: str, action: str) -> Notification:
        """Answer an action of a notification. Raise Conflict when it was answered before."""
        return await self._client.send(verbs.answer(notification_id, action))

    def watch(self, timeout: float | None = None) -> AsyncGenerator[InboxEvent, None]:
        """Iterate over what changes, without end: `Arrived`, `Changed`, `Counts`, `Resync`.

        The counts come first. Open it before you read the list, else news in between is missed.
        """
        return self._client.follow(verbs.watch_inbox(), timeout)
