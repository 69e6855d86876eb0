"""Verbs by which a user changes notifications."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import attrs

from services.notifications.account import Document
from services.notifications.accounts import TOGETHER
from services.notifications.intents import (
    ActIntent,
    Answer,
    Changed,
    Committed,
    Undo,
    Withdraw,
    id_of_event,
)
from services.notifications.listing import ListState, Query
from services.notifications.models import (
    Notification,
    NotificationNotFound,
    NotificationStatus,
    stored_id,
)
from services.notifications.parts import Parts
from services.notifications.publication import counts_dict
from services.notifications.verbs import Verb
from tornado_rt.protocol import (
    Message,
    MessageType,
    user_topic,
)
from tornado_rt.work import clean_text

ALL: Document = {"all": True}
# Most versions that one token takes back.
MOST_VERSIONS = 100


@attrs.frozen
class Done:
    """The number of changed ones, the version that takes the verb back, the counts after it."""

    changed: int
    undo: str | None
    counts: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object on the wire."""
        return {"changed": self.changed, "undo": self.undo, **self.counts}


class Acting(Parts):
    """Applies verbs."""

    async def act(
        self, user_id: str, verb: Verb, ids: Sequence[str], until: datetime | None = None
    ) -> Done:
        """Apply a verb to those of the ids that there are."""
        return await self._act(user_id, verb, [stored_id(id_) for id_ in ids], until)

    async def act_where(
        self, user_id: str, verb: Verb, query: Query, until: datetime | None = None
    ) -> Done:
        """Apply a verb to all that a query finds."""
        async with self.access.turn(user_id):
            ids = await self._inbox.ids(user_id, query)
        return await self._act(user_id, verb, ids, until)

    async def act_on(
        self, user_id: str, verb: Verb, id_: str, until: datetime | None = None
    ) -> Notification | None:
        """Apply a verb to one; None: it is gone. Raise NotificationNotFound, also for another's."""
        key = stored_id(id_)
        act = ActIntent(user_id=user_id, verb=verb, ids=[key], until=until, must_be=True)
        document = (await self._commit(act)).result.document
        return None if document is None else Notification.of(document)

    async def undo(self, user_id: str, token: str) -> Done:
        """Take back what a verb did to those that did not change since.

        Raise NotificationNotFound for what is no token of this user's.
        """
        total, counts = 0, None
        for version in _versions(token):
            outcome = await self._commit(Undo(user_id=user_id, version=version))
            total, counts = total + outcome.result.count, counts_dict(outcome.account)
        return Done(total, None, counts or await self.counts(user_id))

    async def answer(self, user_id: str, id_: str, action: str) -> Notification:
        """Answer an action once. Raise NotificationNotFound, AlreadyAnswered."""
        outcome = await self._commit(Answer(user_id=user_id, id=stored_id(id_), action=action))
        return Notification.of(outcome.result)

    async def withdraw(self, user_id: str, event_id: str) -> None:
        """Archive what was told of an event, if nobody has answered it, and offer no actions."""
        await self._commit(Withdraw(user_id=user_id, ids=[id_of_event(user_id, event_id)]))

    async def mark_read(self, user_id: str, ids: Sequence[str]) -> int:
        """Mark some as read; return how many changed."""
        return (await self.act(user_id, Verb.READ, ids)).changed

    async def mark_one(self, user_id: str, id_: str) -> Notification:
        """Mark one as read. Raise NotificationNotFound, also for another's."""
        marked = await self.act_on(user_id, Verb.READ, id_)
        assert marked is not None
        return marked

    async def mark_all_read(self, user_id: str) -> int:
        """Mark all in the inbox as read; return how many changed."""
        return (await self.read_all(user_id)).changed

    async def read_all(self, user_id: str) -> Done:
        """Mark all in the inbox as read, and say so to devices in one word."""
        unread = Query(state=ListState.INBOX, status=NotificationStatus.UNREAD)
        done = await self.act_where(user_id, Verb.READ, unread)
        await self._publisher.publish(user_topic(user_id), Message.of(MessageType.READ, ALL))
        return done

    async def delete(self, user_id: str, id_: str) -> None:
        """Delete one. Raise NotificationNotFound, also for another's."""
        await self.act_on(user_id, Verb.DELETE, id_)

    async def _act(
        self, user_id: str, verb: Verb, ids: Sequence[Any], until: datetime | None
    ) -> Done:
        total, versions = 0, []
        outcome: Committed | None = None
        for start in range(0, len(ids), TOGETHER):
            part = ids[start : start + TOGETHER]
            outcome = await self._commit(
                ActIntent(user_id=user_id, verb=verb, ids=part, until=until)
            )
            result: Changed = outcome.result
            total += result.count
            versions += [] if result.undo is None else [result.undo]
        counts = await self.counts(user_id) if outcome is None else counts_dict(outcome.account)
        # More of them are not taken back.
        undo = ".".join(map(str, versions)) if 0 < len(versions) <= MOST_VERSIONS else None
        return Done(total, undo, counts)


def _versions(token: str) -> list[int]:
    parts = token.split(".")
    if len(parts) > MOST_VERSIONS or not all(
        one.isascii() and one.isdecimal() and len(one) < 16 for one in parts
    ):
        raise NotificationNotFound(clean_text(token, 50))
    return [int(one) for one in reversed(parts)]
