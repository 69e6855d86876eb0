"""Quota, lifetime and snooze: notifications go by themselves, and come back.

Each job asks for a bounded range of an index, changes what it finds through the committer, and
serves others in between: it holds nobody up.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import structlog
from pymongo.errors import PyMongoError

from services.notifications.account import FORGOTTEN, Account, Document
from services.notifications.accounts import TOGETHER, Accounts
from services.notifications.inbox import Inbox
from services.notifications.indexes import INBOX
from services.notifications.intents import Due, Intent, Outcome, Purge, Trim
from services.notifications.ledger import part_of
from services.notifications.models import number_in, time_in
from tornado_rt.mongo import MongoAccess
from tornado_rt.turns import NoTurn

log = structlog.get_logger(__name__)

# How long after a user has more than the quota they are trimmed: of many at once [s].
TRIM_SECONDS = 1.0
# How often it is looked what is due [s].
LOOK_SECONDS = 1.0
# How often it is noted for the next start up to when that was done [s].
NOTE_SECONDS = 60.0
# The clock looks back this far: one that was due then may have been written since.
OVERLAP = timedelta(seconds=10)
# A window over what is due is made narrower and wider so that it finds about this many.
WANTED = 100
NARROWEST, WIDEST = timedelta(milliseconds=20), timedelta(hours=6)
RETRY_SECONDS = 1.0
# How many parts of a digest are kept.
PARTS = 200
# After how many more they are counted.
PARTS_STEP = 20
DUE_KEY = "inbox_due"
DUE_FIELDS = {"user_id": 1, "state": 1, "version": 1}

Commit = Callable[[Intent], Awaitable[Outcome]]
ReadAccount = Callable[[str], Awaitable[Account]]


class Store(Protocol):
    """The collections by their names."""

    def __getitem__(self, name: str) -> Any: ...


class Retention:
    """Keeps at most `quota` notifications a user (0: any number), each for its lifetime."""

    def __init__(
        self,
        database: Store,
        access: MongoAccess,
        accounts: Accounts,
        inbox: Inbox,
        *,
        commit: Commit,
        read_account: ReadAccount,
        quota: int,
    ) -> None:
        self._all = database[INBOX]
        self._meta = database["meta"]
        self._access = access
        self._accounts = accounts
        self._inbox = inbox
        self._commit = commit
        self._read_account = read_account
        self._quota = quota
        self._over: set[str] = set()
        # The users of digests with too many parts.
        self._digests: dict[Any, str] = {}
        self._wanted = asyncio.Event()
        self._looked: datetime | None = None
        self._width = timedelta(seconds=1)
        self._noted_at = time.monotonic()

    def watch(self, account: Account) -> None:
        """Trim a user soon who has more than the quota."""
        if 0 < self._quota < account.counts.kept:
            self._over.add(account.user_id)
            self._wanted.set()

    def watch_parts(self, head: Document) -> None:
        """Remove soon the parts of a digest beyond the newest ones."""
        count = number_in(head, "count")
        if count > PARTS and count % PARTS_STEP == 0:
            self._digests[head["_id"]] = head["user_id"]
            self._wanted.set()

    async def run_trimmer(self) -> None:
        """Trim until cancelled."""
        while True:
            await self._wanted.wait()
            await asyncio.sleep(TRIM_SECONDS)
            try:
                await self.trim_pending()
            except (PyMongoError, NoTurn) as error:
                log.warning("trim_failed", error=error)
                await asyncio.sleep(RETRY_SECONDS)

    async def trim_pending(self) -> None:
        """Trim every user who has more than the quota, whichever of them fails."""
        self._wanted.clear()
        users, self._over = self._over, set()
        failure: Exception | None = None
        for user_id in users:
            try:
                await self._trim(user_id)
            except (PyMongoError, NoTurn) as error:
                failure = error
                self._over.add(user_id)
                self._wanted.set()
        digests, self._digests = self._digests, {}
        for head_id, user_id in digests.items():
            try:
                await self._purge_parts(user_id, head_id)
            except (PyMongoError, NoTurn) as error:
                failure = error
        if failure is not None:
            raise failure

    async def run_clock(self) -> None:
        """Do what is due until cancelled."""
        while True:
            try:
                await self.do_due()
            except (PyMongoError, NoTurn) as error:
                log.warning("due_waits", error=error)
            await asyncio.sleep(LOOK_SECONDS)

    async def do_due(self) -> None:
        """Let go what has expired, bring back what was snoozed, and forget what went long ago."""
        begin, now = await self._begin(), datetime.now(UTC)
        while begin < now:
            end = min(begin + self._width, now)
            self._adapt(await self._do_between(begin, end))
            begin = self._looked = end
        if time.monotonic() - self._noted_at > NOTE_SECONDS:
            await self._meta.update_one({"_id": DUE_KEY}, {"$set": {"due": now}}, upsert=True)
            self._noted_at = time.monotonic()

    async def _purge_parts(self, user_id: str, head_id: Any) -> None:
        """Remove the parts of a digest beyond the newest ones."""
        query = {"user_id": user_id, "state": part_of(head_id)}
        parts = [one async for one in self._all.find(query)]
        parts.sort(key=lambda one: -one["seq"])
        for ids in _parts([one["_id"] for one in parts[PARTS:]]):
            await self._commit(Purge(user_id=user_id, ids=ids))

    async def _trim(self, user_id: str) -> None:
        while True:
            account = await self._read_account(user_id)
            excess = account.counts.kept - self._quota
            if excess <= 0:
                return
            ids = await self._inbox.oldest(account, min(excess, TOGETHER))
            if not ids:
                # All that is left is pinned.
                return
            trim = Trim(user_id=user_id, ids=ids, quota=self._quota, version=account.version)
            await self._commit(trim)

    async def _begin(self) -> datetime:
        if self._looked is not None:
            return self._looked - OVERLAP
        known = await self._meta.find_one({"_id": DUE_KEY}) or {}
        # Before the first look nothing was due.
        return (time_in(known, "due") or datetime.now(UTC) - timedelta(days=1)) - OVERLAP

    async def _do_between(self, begin: datetime, end: datetime) -> int:
        async with self._access.watched():
            query = {"due_at": {"$gt": begin, "$lte": end}}
            due = [one async for one in self._all.find(query, DUE_FIELDS)]
        await self._forget([one for one in due if one.get("state") in FORGOTTEN])
        of_user: defaultdict[str, list[Any]] = defaultdict(list)
        for document in due:
            if document.get("state") not in FORGOTTEN:
                of_user[str(document.get("user_id"))].append(document["_id"])
        await asyncio.gather(*(self._do_due(user_id, ids) for user_id, ids in of_user.items()))
        return len(due)

    async def _forget(self, gone: list[Document]) -> None:
        """Forget what went long ago; cursors from before that get a resync."""
        highest: dict[str, int] = {}
        for one in gone:
            user_id = str(one.get("user_id"))
            highest[user_id] = max(highest.get(user_id, 0), number_in(one, "version"))
        is_kept = not highest
        while not is_kept:
            seen = self._accounts.connection_count
            for user_id, version in highest.items():
                await self._accounts.raise_floor(user_id, version)
            is_kept = await self._accounts.is_kept(seen)
        await self._accounts.purge([one["_id"] for one in gone])

    async def _do_due(self, user_id: str, due: list[Any]) -> None:
        for ids in _parts(due):
            await self._commit(Due(user_id=user_id, ids=ids))

    def _adapt(self, count: int) -> None:
        if count > WANTED:
            self._width = max(self._width / 2, NARROWEST)
        elif count < WANTED / 4:
            self._width = min(self._width * 2, WIDEST)


def _parts(ids: list[Any]) -> Iterable[list[Any]]:
    for start in range(0, len(ids), TOGETHER):
        yield ids[start : start + TOGETHER]
