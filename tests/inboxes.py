"""Helpers of the tests of notifications: a publisher that keeps all, drafts, and a count of all."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from services.notifications import NotificationDraft, NotificationService, NotificationType
from services.notifications.account import NONE, Counts, Document, counts_of
from services.notifications.accounts import Accounts
from tornado_rt.protocol import Message

Make = Callable[..., Awaitable[NotificationService]]


@attrs.define
class Published:
    """Keeps what was published, in its order; `held`: publishing waits until it is let go."""

    messages: list[tuple[str, Message]] = attrs.field(factory=list)
    held: asyncio.Event | None = None

    async def publish(self, topic: str, message: Message) -> bool:
        if self.held is not None:
            await self.held.wait()
        self.messages.append((topic, message))
        return True

    def of_type(self, type_: str) -> list[dict[str, Any]]:
        """The data of the messages of one type."""
        return [m.fields() for _, m in self.messages if m.type == type_]

    def versions(self, user_id: str) -> list[int]:
        """The versions that were told to a user."""
        told = [m for topic, m in self.messages if topic == f"user:{user_id}"]
        return [m.cursor.offset for m in told if m.cursor is not None]


def draft(user_id: str = "alice", **more: Any) -> NotificationDraft:
    """Return a draft of an alert `x`, but for the changes."""
    fields: dict[str, Any] = {"type": NotificationType.ALERT, "title": "x"}
    return NotificationDraft(user_id=user_id, **(fields | more))


async def unread(service: NotificationService, user_id: str = "alice") -> int:
    """Return how many are unread."""
    return (await service.counts(user_id))["unread"]


async def titles(service: NotificationService, user_id: str = "alice", *args: Any) -> list[str]:
    """Return the titles in the list, the newest first."""
    return [one.title for one in (await service.find(user_id, *args)).items]


def counted(documents: list[Document]) -> Counts:
    """Count documents one by one."""
    counts = NONE
    for document in documents:
        counts = counts.moved(NONE, counts_of(document))
    return counts


async def check_accounts(database: Any) -> None:
    """Fail unless each account agrees with the documents of its user, and nothing is half done."""
    documents = await database.inbox.find({}).to_list(None)
    reader = Accounts(database)
    accounts = await reader.settled(await reader.user_ids())
    await reader.endings.close()
    assert {one["user_id"] for one in documents} <= accounts.keys()
    for user_id, account in accounts.items():
        mine = [one for one in documents if one["user_id"] == user_id]
        assert account.is_whole, account
        assert account.counts == counted(mine), user_id
        assert max((one["version"] for one in mine), default=0) <= account.version, user_id
        assert max((one["seq"] for one in mine), default=0) <= account.seq, user_id
        places = [one["seq"] for one in mine]
        assert len(places) == len(set(places)), user_id
    assert await database.inbox.find({}).to_list(None) == documents
