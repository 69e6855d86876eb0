"""Devices are told of each change, at once and in its order."""

import asyncio
from collections.abc import Iterable, Iterator

from services.notifications.account import Account, Counts, Document
from services.notifications.ledger import Ledger, News
from services.notifications.models import Notification
from tornado_rt.protocol import Cursor, Message, MessageType, Publisher, user_topic


class Publication:
    """Publishes the news of ledgers."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    async def tell(self, ledgers: Iterable[Ledger]) -> None:
        """Publish all of it; the messages of one user in their order."""
        calls = [
            self._publisher.publish(user_topic(ledger.account.user_id), message)
            for ledger in ledgers
            for message in messages_of(ledger)
        ]
        if calls:
            await asyncio.gather(*calls)


def messages_of(ledger: Ledger) -> Iterator[Message]:
    """Yield the news of one user, then the counts after them."""
    account = ledger.account
    assert account.epoch is not None
    for news in (*ledger.news, *ledger.again):
        yield message_of(news, Cursor(account.epoch.id, news.version))
        if news.read:
            yield Message.of(MessageType.READ, {"ids": [str(one["_id"]) for one in news.changed]})
    if ledger.news or ledger.again:
        yield counts_message(account)


def message_of(news: News, cursor: Cursor) -> Message:
    """Return the message of one version."""
    if news.new is not None and not news.new.get("muted"):
        return Message.of(MessageType.NOTIFICATION, news.told, str(cursor))
    changed = [Notification.of(one).to_dict() for one in news.changed]
    data: Document = {
        "items": [*([] if news.new is None else [news.told]), *changed],
        "deleted": [str(id_) for id_ in news.removed],
    }
    if news.preferences is not None:
        data["preferences"] = news.preferences
    return Message.of(MessageType.CHANGED, data, str(cursor))


def counts_message(account: Account) -> Message:
    """Return the message of the counts; a device keeps those of the highest version."""
    return Message.of(MessageType.UNREAD_COUNT, counts_dict(account))


def counts_dict(account: Account) -> dict[str, int]:
    """Return the counts on the wire."""
    counts: Counts = account.counts
    return {"unread": counts.unread, "unseen": counts.unseen, "version": account.version}
