"""Debts: a notification leaves the server by webhooks, Web Push and e-mail.

A debt is written in the same operation as the notification that it is about, and removed when a
delivery was handed over. Cut off between the two it is handed over again, under the same id, by
which the deliveries know it.
"""

import asyncio
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Protocol

import attrs
import structlog
from bson import ObjectId

from services.notifications.account import UNREAD, Account, Document
from services.notifications.indexes import OWED
from services.notifications.ledger import Ledger, News
from services.notifications.models import Notification
from services.notifications.preferences import Preferences
from tornado_rt.turns import OUTAGES

log = structlog.get_logger(__name__)

# A process has this long for its own debt, and looks this often for debts of others [s].
LEFT_SECONDS = 10.0
RETRY_SECONDS = 1.0
# Most debts that are handed over at once.
TOGETHER = 100


class NotificationEvent(StrEnum):
    """An event of a notification."""

    CREATED = "created"
    WITHDRAWN = "withdrawn"
    ANSWERED = "answered"


@attrs.frozen(kw_only=True)
class Debt:
    """Something to tell outside: `id` is the same whenever it is told.

    `notification` is the one that was created or answered, as it is on the wire; `ids` are those
    that were read, archived or deleted.
    """

    id: str
    event: NotificationEvent
    user_id: str
    notification: Document = attrs.field(factory=dict)
    ids: Sequence[str] = ()
    channels: Sequence[str] = ()
    version: int = 0
    # An e-mail waits this long for the user, if they have said so [s]; None: they have not.
    email_delay: float | None = None

    def to_document(self) -> Document:
        """Return it as it is stored."""
        return {**attrs.asdict(self), "_id": ObjectId(self.id), "event": self.event.value}

    @classmethod
    def of(cls, stored: Document) -> "Debt":
        """Read it. Raise KeyError or ValueError for what is none."""
        return cls(
            id=str(stored["_id"]),
            event=NotificationEvent(stored["event"]),
            user_id=stored["user_id"],
            notification=stored["notification"],
            ids=stored["ids"],
            channels=stored["channels"],
            version=stored["version"],
            email_delay=stored["email_delay"],
        )


class Outlet(Protocol):
    """A way out of the server."""

    def wants(self, account: Account, debt: Debt) -> bool:
        """Say whether it has something to do with it; without a wait."""
        ...

    async def hand_over(self, debt: Debt) -> None:
        """See to it that it is delivered, once by the debt's id. Raise while a store is away."""
        ...


class Owed:
    """Notes debts in ledgers, and hands them over until cancelled."""

    def __init__(self, database: Any) -> None:
        self._owed = database[OWED]
        self._outlets: list[Outlet] = []
        self._wanted = asyncio.Event()
        # An earlier process may have left some.
        self._wanted.set()

    def serve(self, outlet: Outlet) -> None:
        """Let an outlet have what it wants."""
        self._outlets.append(outlet)

    def note(self, ledger: Ledger) -> None:
        """Write into the operation of a ledger what is owed for its news."""
        if not self._outlets:
            return
        account = ledger.account
        wanted = [
            debt
            for debt in _debts(ledger)
            if any(outlet.wants(account, debt) for outlet in self._outlets)
        ]
        if wanted:
            delay = Preferences.of(account.preferences).email.delay_seconds
            ledger.owed += [attrs.evolve(one, email_delay=delay).to_document() for one in wanted]

    def wake(self, ledgers: Iterable[Ledger]) -> None:
        """Hand over soon what was noted."""
        if any(ledger.owed for ledger in ledgers):
            self._wanted.set()

    async def run(self) -> None:
        """Hand over until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LEFT_SECONDS):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            try:
                await self.hand_over()
            except OUTAGES as error:
                log.warning("deliveries_wait", error=error)
                self._wanted.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def hand_over(self) -> None:
        """Hand over what is owed."""
        owed = await self._owed.find({}).to_list(None)
        for start in range(0, len(owed), TOGETHER):
            part = owed[start : start + TOGETHER]
            await asyncio.gather(*map(self._hand_over, part))
            await self._owed.delete_many({"_id": {"$in": [one["_id"] for one in part]}})

    async def _hand_over(self, stored: Document) -> None:
        try:
            debt = Debt.of(stored)
        except (KeyError, ValueError) as error:
            log.error("debt_unreadable", id=str(stored.get("_id")), error=error)
            return
        for outlet in self._outlets:
            await outlet.hand_over(debt)


def _debts(ledger: Ledger) -> Iterable[Debt]:
    account = ledger.account
    about = {"user_id": account.user_id, "channels": list(account.channels)}
    for news in ledger.news:
        yield from _debts_of(news, {**about, "version": news.version})


def _debts_of(news: News, about: dict[str, Any]) -> Iterable[Debt]:
    if news.new is not None and news.new.get("state") == UNREAD:
        yield Debt(
            id=str(ObjectId()), event=NotificationEvent.CREATED, notification=news.told, **about
        )
    if news.answered is not None:
        told = Notification.of(news.answered).to_dict()
        yield Debt(id=str(ObjectId()), event=NotificationEvent.ANSWERED, notification=told, **about)
    away = [str(one["_id"]) for one in news.changed if one.get("state") != UNREAD]
    away += [str(id_) for id_ in news.removed]
    if away:
        yield Debt(id=str(ObjectId()), event=NotificationEvent.WITHDRAWN, ids=away, **about)
