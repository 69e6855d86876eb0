"""Quota, lifetime and snooze: notifications go by themselves, and come back.

Each job asks for a bounded range of an index, changes what it finds through the committer, and
serves others in between: it holds nobody up.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import attrs
import structlog
from pymongo.errors import PyMongoError

from services.notifications.account import FORGOTTEN, Account, Document
from services.notifications.accounts import TOGETHER, Accounts
from services.notifications.indexes import INBOX
from services.notifications.intents import Committed, Due, Intent, Purge, Trim
from services.notifications.ledger import part_of
from services.notifications.models import number_in, time_in
from tornado_rt.mongo import MongoAccess
from tornado_rt.turns import NoTurn

log = structlog.get_logger(__name__)

# Interval at which users with too many are looked for [s].
TRIM_SECONDS = 1.0
# A user is trimmed who has this many too many, or has had some for this long [s]. Measured on the
# embedded store: of 20 at once each costs a third of what one alone does.
TRIM_STEP = 20
LATEST_SECONDS = 2.0
# Interval at which due notifications are looked for [s].
LOOK_SECONDS = 1.0
# Interval at which the time of the last look is noted for the next start [s].
NOTE_SECONDS = 60.0
# The clock looks back this far: one that was due then may have been written since.
OVERLAP = timedelta(seconds=10)
# A window over what is due is made narrower and wider so that it finds about this many.
WANTED = 100
NARROWEST, WIDEST = timedelta(milliseconds=20), timedelta(hours=6)
RETRY_SECONDS = 1.0
# Most parts of a digest that are kept.
PARTS = 200
# After how many more they are counted.
PARTS_STEP = 20
DUE_KEY = "inbox_due"
DUE_FIELDS = {"user_id": 1, "state": 1, "version": 1}

Commit = Callable[[Intent], Awaitable[Committed]]


class RetentionStore(Protocol):
    """The collections by their names."""

    def __getitem__(self, name: str) -> Any: ...


@attrs.define
class _Over:
    """By how many a user is over the quota, and since when [s]."""

    excess: int = 0
    since: float = attrs.field(factory=time.monotonic)


class Retention:
    """Keeps at most `quota` notifications a user (0: any number), each for its lifetime."""

    def __init__(
        self,
        database: RetentionStore,
        access: MongoAccess,
        accounts: Accounts,
        *,
        commit: Commit,
        quota: int,
    ) -> None:
        self._all = database[INBOX]
        self._meta = database["meta"]
        self._access = access
        self._accounts = accounts
        self._commit = commit
        self._quota = quota
        # Users who have more than the quota.
        self._over: dict[str, _Over] = {}
        # The users of digests with too many parts.
        self._digests: dict[Any, str] = {}
        self._wanted = asyncio.Event()
        self._looked: datetime | None = None
        self._width = timedelta(seconds=1)
        self._noted_at = time.monotonic()

    def watch(self, account: Account) -> None:
        """Trim a user soon who has more than the quota."""
        if 0 < self._quota < account.counts.kept:
            over = self._over.setdefault(account.user_id, _Over())
            over.excess = account.counts.kept - self._quota
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
                await self._trim_all(self._ripe())
            except (PyMongoError, NoTurn) as error:
                log.warning("trim_failed", error=error)
                await asyncio.sleep(RETRY_SECONDS)

    async def trim_pending(self) -> None:
        """Trim every user who has more than the quota, even when one of them fails."""
        await self._trim_all(self._over.copy())

    def _ripe(self) -> Mapping[str, _Over]:
        """Return who is trimmed now: many of one user at once cost less than one after another."""
        before = time.monotonic() - LATEST_SECONDS
        return {
            user_id: over
            for user_id, over in self._over.items()
            if over.excess >= TRIM_STEP or over.since <= before
        }

    async def _trim_all(self, users: Mapping[str, _Over]) -> None:
        failure: Exception | None = None
        for user_id, over in users.items():
            try:
                await self._trim(user_id, over.excess)
            except (PyMongoError, NoTurn) as error:
                failure = error
        digests, self._digests = self._digests, {}
        for head_id, user_id in digests.items():
            try:
                await self._purge_parts(user_id, head_id)
            except (PyMongoError, NoTurn) as error:
                failure = error
        if not self._over and not self._digests:
            self._wanted.clear()
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

    async def _trim(self, user_id: str, excess: int) -> None:
        places = 0
        while excess > 0:
            most = min(excess, TOGETHER)
            # Where it finds nothing the places are empty, or pinned.
            places = max(2 * places, most)
            trim = Trim(user_id=user_id, quota=self._quota, most=most, places=places)
            outcome = await self._commit(trim)
            account = outcome.account
            excess = account.counts.kept - self._quota
            if outcome.result:
                places = 0
            elif account.trimmed_seq + places >= account.seq:
                # All that is left is pinned.
                break
        # It was just looked after, and no create has come since.
        self._over.pop(user_id, None)

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
