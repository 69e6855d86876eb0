"""The log of a user: a device reads the versions after its cursor, whole or not at all.

Versions are contiguous, and each is told by one message. So a device that gets a message whose
version does not follow the last one knows that it has missed something, and reads it here.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from services.notifications.account import EVENT, GONE, UNREAD, Account, Document
from services.notifications.indexes import INBOX
from services.notifications.intents import is_part
from services.notifications.ledger import News
from services.notifications.models import StoreConflict, number_in
from services.notifications.publication import message_of
from tornado_rt.protocol import Cursor, Message, ResyncReason

# Number of times that a log which changed meanwhile is read again.
TRIES = 20
# Versions that are looked through for each message that may be replayed.
VERSIONS_A_MESSAGE = 4

ReadAccount = Callable[[str], Awaitable[Account]]


class Log:
    """Replays at most `replay_limit` messages."""

    def __init__(self, database: Any, read_account: ReadAccount, replay_limit: int) -> None:
        self._inbox = database[INBOX]
        self._read_account = read_account
        self._replay_limit = replay_limit

    async def read(
        self, account: Account, after: Cursor
    ) -> tuple[Sequence[Message], ResyncReason | None, Account]:
        """Return all after a cursor, oldest first, or why it cannot be had; and up to where.

        Raise StoreConflict.
        """
        for _ in range(TRIES):
            reason = self._refusal(account, after)
            if reason is not None or after.offset == account.version:
                return [], reason, account
            news = await self._news(account, after.offset)
            now = await self._read_account(account.user_id)
            # A store that was killed meanwhile may have lost what came after the account.
            is_whole = all(one.version <= account.version for one in news)
            if is_whole and now.version == account.version and now.floor == account.floor:
                return *self._messages(account, news), account
            account = now
        raise StoreConflict(account.user_id)

    def _messages(
        self, account: Account, news: Sequence[News]
    ) -> tuple[Sequence[Message], ResyncReason | None]:
        if len(news) > self._replay_limit:
            return [], ResyncReason.LIMIT
        assert account.epoch is not None
        epoch = account.epoch.id
        return [message_of(one, Cursor(epoch, one.version)) for one in news], None

    def _refusal(self, account: Account, after: Cursor) -> ResyncReason | None:
        if not account.knows(after):
            return ResyncReason.EPOCH
        if after.offset < account.floor:
            return ResyncReason.TRIMMED
        if account.version - after.offset > VERSIONS_A_MESSAGE * self._replay_limit:
            return ResyncReason.LIMIT
        return None

    async def _news(self, account: Account, offset: int) -> list[News]:
        since = {"user_id": account.user_id, "version": {"$gt": offset}}
        documents = [one async for one in self._inbox.find(since) if not _has_no_news(one)]
        news: list[News] = []
        changed: dict[int, list[Document]] = {}
        removed: dict[int, list[Any]] = {}
        for document in documents:
            made = number_in(document, "made")
            if document.get("state") == GONE:
                removed.setdefault(number_in(document, "version"), []).append(document["_id"])
            elif made > offset:
                news.append(_first_news(document, made))
            else:
                changed.setdefault(number_in(document, "version"), []).append(document)
        news += [News(version=version, changed=some) for version, some in changed.items()]
        news += [News(version=version, removed=ids) for version, ids in removed.items()]
        return sorted(news, key=lambda one: one.version)


def _has_no_news(document: Document) -> bool:
    return is_part(document) or document.get("state") == EVENT


def _first_news(document: Document, made: int) -> News:
    """Return what a device hears of one that it does not know; it is no news that was read."""
    if document.get("state") == UNREAD:
        return News(version=made, new=document)
    return News(version=made, changed=[document])
