"""Lists of one user's notifications, the newest first.

The places in the list (`seq`) are dense as a rule. So a page is a window over them, and where a
window finds too few, the next one below is wider. A list and its counts are of one version: a
change meanwhile makes it be read again.

It is long because the three ways to read a page share its windows.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import attrs
from bson import ObjectId

from services.notifications.account import (
    ARCHIVED,
    KEPT_STATES,
    MOST,
    READ,
    SNOOZED,
    UNREAD,
    Account,
    Document,
)
from services.notifications.indexes import INBOX
from services.notifications.ledger import is_shown, part_of
from services.notifications.listing import ListState, Query
from services.notifications.models import (
    Notification,
    NotificationNotFound,
    StoreConflict,
    number_in,
    stored_id,
)
from services.notifications.pages import Pages, is_near
from tornado_rt.mongo import connections_of

# Most accounts that are remembered.
REMEMBERED = 1000
# Number of times that a list which changed meanwhile is read again.
TRIES = 20
# Most documents that a request looks at; the next page goes on behind them.
MOST_LOOKED_AT = 2000
# The widest window, of places in the list.
WIDEST = 4000
STATES = {
    ListState.INBOX: (UNREAD, READ),
    ListState.ARCHIVED: (ARCHIVED,),
    ListState.SNOOZED: (SNOOZED,),
    ListState.PINNED: (UNREAD, READ),
    ListState.ALL: KEPT_STATES,
}
PLACE = "s"

ReadAccount = Callable[[str], Awaitable[Account]]


@attrs.frozen
class FoundPage:
    """A page, the place behind it, and the account that it agrees with."""

    documents: Sequence[Document]
    following: str | None
    account: Account
    total: int | None = None
    # The places that it has looked at: from `low` on, and below `high`, if it is not the top.
    low: int = 0
    high: int | None = None
    # The number of the client's connections before it was read.
    seen: int = 0
    # The count of forgotten pages before this read.
    drops: int = 0
    # Whether it is what there was at the version of the account, and nothing of later.
    is_exact: bool = False
    # When it was read as a whole, by the clock of the loop [s].
    read_at: float = attrs.field(factory=time.monotonic)
    # The documents as they were read into notifications, by their `_id`; a page that is kept has
    # most of them again.
    _known: dict[Any, tuple[Document, Notification]] = attrs.field(factory=dict)

    def notifications(self) -> list[Notification]:
        """Return the documents as notifications."""
        known = {}
        for document in self.documents:
            before, notification = self._known.get(document["_id"], (None, None))
            if notification is None or before is not document:
                notification = Notification.of(document)
            known[document["_id"]] = document, notification
        self._known.clear()
        self._known.update(known)
        return [notification for _, notification in known.values()]

    def holds(self, seq: int) -> bool:
        """Say whether a place is on this page."""
        return seq >= self.low and (self.high is None or seq <= self.high)


class Inbox:
    """Reads documents; `read_account` reads an account with nothing under way."""

    def __init__(self, database: Any, read_account: ReadAccount) -> None:
        self.pages: Pages[FoundPage] = Pages()
        self._connections = connections_of(database)
        self._inbox = database[INBOX]
        self._read_account = read_account
        # Accounts of which a page was read last.
        self._seen: OrderedDict[str, Account] = OrderedDict()

    async def find(self, user_id: str, query: Query, known: Account | None = None) -> FoundPage:
        """Find a page. Raise NotificationNotFound for a place that is none, StoreConflict.

        `known` is the account as it was seen last; it may have changed since.
        """
        found, now = await self._find_kept(user_id, query)
        if found is None:
            known = now or self._newer(user_id, known) or await self._read_account(user_id)
            found = await self._find(known, query)
        for _ in range(TRIES):
            if found.is_exact:
                self._see(found.account)
                return self._keep(user_id, query, found)
            now = await self._read_account(user_id)
            if found.seen != self._connections.count:
                # The store may have been started anew, and have lost some of what was read.
                found = await self._find(now, query)
            elif now.version == found.account.version:
                # Nothing had been begun when the page was read.
                found = attrs.evolve(found, account=now, is_exact=True)
            elif query.page is None and not query.total:
                found = await self._corrected(found, now, query)
            else:
                found = await self._find(now, query)
        raise StoreConflict(user_id)

    def forget(self) -> None:
        """Read all anew: the store is not what it was."""
        self.pages.clear()
        self._seen.clear()

    def _newer(self, user_id: str, known: Account | None) -> Account | None:
        seen = self._seen.get(user_id)
        return known if seen is None or (known and known.version > seen.version) else seen

    def _see(self, account: Account) -> None:
        """Remember an account: who goes on to the next page mostly finds it as it was."""
        self._seen[account.user_id] = account
        self._seen.move_to_end(account.user_id)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)

    def _keep(self, user_id: str, query: Query, found: FoundPage) -> FoundPage:
        if query.is_top and len(found.documents) == found.account.counts.of(_states(query)):
            # Nothing stands behind it any more.
            found = attrs.evolve(found, following=None, low=0)
        self.pages.keep(user_id, query, found)
        return found

    async def _find_kept(
        self, user_id: str, query: Query
    ) -> tuple[FoundPage | None, Account | None]:
        """Return a page that is kept with what has changed since, or None; and the account."""
        seen, drops = self._connections.count, self.pages.drops
        kept = self.pages.find(user_id, query)
        if kept is None:
            return None, None
        now = await self._read_account(user_id)
        if not is_near(kept, now, query.limit):
            return None, now
        # A kept page is on disk.
        kept = attrs.evolve(kept, seen=seen, drops=drops)
        if now.version == kept.account.version:
            return attrs.evolve(kept, account=now), now
        found = await self._corrected(kept, now, query)
        # With another that is gone from it each time, it would end as an empty one.
        is_full = len(found.documents) == query.limit or found.following is None
        return (found if is_full else None), now

    async def _corrected(self, found: FoundPage, now: Account, query: Query) -> FoundPage:
        """Return a page with what has changed up to an account.

        It is exact unless something has changed after that: each change raises the version of a
        document, and one that was removed is still there.
        """
        since = {"user_id": now.user_id, "version": {"$gt": found.account.version}}
        changed = await self._inbox.find(since).to_list(None)
        ids, states = {one["_id"] for one in changed}, _states(query)
        kept = [one for one in found.documents if one["_id"] not in ids]
        kept += [
            one
            for one in changed
            if one.get("state") in states and query.matches(one) and found.holds(one["seq"])
        ]
        kept.sort(key=_newest_first)
        is_exact = found.seen == self._connections.count and all(
            number_in(one, "version") <= now.version for one in changed
        )
        found = attrs.evolve(found, account=now, is_exact=is_exact)
        if len(kept) <= query.limit:
            return attrs.evolve(found, documents=kept)
        kept = kept[: query.limit]
        last = int(kept[-1]["seq"])
        return attrs.evolve(found, documents=kept, following=_place(last), low=last)

    async def one(self, user_id: str, id_: str) -> Document:
        """Return one. Raise NotificationNotFound, also for another's."""
        document = await self._inbox.find_one({"_id": stored_id(id_)})
        if document is None or document.get("user_id") != user_id or not is_shown(document):
            raise NotificationNotFound(id_)
        return dict(document)

    async def parts(self, user_id: str, head: Document, limit: int) -> list[Document]:
        """Return what a digest stands for, the newest first."""
        query = {"user_id": user_id, "state": part_of(head["_id"])}
        found = [one async for one in self._inbox.find(query)]
        return sorted(found, key=_newest_first)[:limit]

    async def ids(self, user_id: str, query: Query) -> list[Any]:
        """Return the ids of all that a query finds. Raise StoreConflict."""
        account = await self._read_account(user_id)
        for _ in range(TRIES):
            kept = account.counts.kept
            found = await Walk(self._inbox, account, query).take(kept + 1, most=kept + 1)
            now = await self._read_account(user_id)
            if now.version == account.version:
                return [one["_id"] for one in found]
            account = now
        raise StoreConflict(user_id)

    async def _find(self, account: Account, query: Query) -> FoundPage:
        seen, drops = self._connections.count, self.pages.drops
        walk = Walk(self._inbox, account, query)
        if query.before is not None:
            await self._begin_behind(walk, query.before)
        if query.page is not None:
            numbered = await self._numbered(walk, account, query)
            return attrs.evolve(numbered, seen=seen, drops=drops)
        documents = await walk.take(query.limit + 1)
        more = len(documents) > query.limit
        documents = documents[: query.limit]
        following = _place(documents[-1]["seq"]) if more else walk.place
        total = await self._total(account, query) if query.total else None
        low = documents[-1]["seq"] if more else walk.low
        return FoundPage(documents, following, account, total, low, walk.top, seen, drops)

    async def _numbered(self, walk: "Walk", account: Account, query: Query) -> FoundPage:
        assert query.page is not None
        end = query.page * query.page_size
        documents = (await walk.take(end + 1, most=end + MOST_LOOKED_AT))[end - query.page_size :]
        more = len(documents) > query.page_size
        documents = documents[: query.page_size]
        following = _place(documents[-1]["seq"]) if more else None
        return FoundPage(documents, following, account, await self._total(account, query))

    async def _total(self, account: Account, query: Query) -> int:
        if query.is_counted:
            return account.counts.of(_states(query))
        walk = Walk(self._inbox, account, attrs.evolve(query, before=None))
        kept = account.counts.kept
        return len(await walk.take(kept, most=kept + 1))

    async def _begin_behind(self, walk: "Walk", before: str) -> None:
        if before.startswith(PLACE) and before[len(PLACE) :].isascii():
            digits = before[len(PLACE) :]
            if digits.isdecimal():
                walk.begin_behind(int(digits))
                return
        key = stored_id(before)
        known = await self._inbox.find_one({"_id": key})
        if known is not None and known.get("user_id") == walk.user_id:
            walk.begin_behind(known["seq"])
        elif isinstance(key, ObjectId):
            # It was deleted meanwhile: go on from when it was made.
            walk.only_older(key)
        else:
            raise NotificationNotFound(before)


class Walk:
    """Goes down the list of one user, window by window."""

    def __init__(self, inbox: Any, account: Account, query: Query) -> None:
        self.user_id = account.user_id
        self._inbox = inbox
        self._query = query
        # Of the others the account has none; one that came since is found when it is read again.
        self._states = [one for one in _states(query) if account.counts.of([one])]
        self._top: int | None = None
        self._seq = account.seq
        self._version = account.version
        self._older_than: ObjectId | None = None
        # The number of all: once all are seen there is no lower one to look for.
        self._left: int | None = account.counts.of(self._states)
        self.place: str | None = None
        # Down to which place it has looked.
        self.low = 0

    @property
    def top(self) -> int | None:
        """The place that it began at; None for the top of the list."""
        return self._top

    def begin_behind(self, seq: int) -> None:
        """Begin below a place."""
        self._top, self._left = min(seq - 1, MOST), None

    def only_older(self, id_: ObjectId) -> None:
        """Pass over what was made after an id."""
        self._older_than = id_

    async def take(self, count: int, most: int = MOST_LOOKED_AT) -> list[Document]:
        """Return up to `count` that match; `place` is where to go on after `most` looked at."""
        found: list[Document] = []
        looked, width = 0, min(count, WIDEST)
        # One that came after the account was read stands above it.
        top = self._seq if self._top is None else min(self._top, self._seq)
        bound: Document = {} if self._top is None else {"$lte": self._top}
        while top > 0 and len(found) < count and self._left != 0:
            if looked >= most:
                self.place, self.low = _place(top + 1), top + 1
                break
            low = max(top - width, 0)
            some = await read_window(self._inbox, self.user_id, self._states, {"$gt": low, **bound})
            looked += len(some)
            if self._left is not None:
                # The account does not know of those that came into the state since.
                self._left -= sum(number_in(one, "version") <= self._version for one in some)
            found += filter(self._matches, some)
            dense = 2 * len(some) >= width
            width = min(max(2 * (count - len(found)), 16) if dense else 4 * width, WIDEST)
            top, bound = low, {"$lte": low}
        return found[:count]

    def _matches(self, document: Document) -> bool:
        if self._older_than is not None and not _is_older(document, self._older_than):
            return False
        return self._query.matches(document)


async def read_window(
    inbox: Any, user_id: str, states: Sequence[str], window: Document
) -> list[Document]:
    """Return what stands in a window of the list, the newest first."""
    queries = [{"user_id": user_id, "state": state, "seq": window} for state in states]
    parts = await asyncio.gather(*(inbox.find(query).to_list(None) for query in queries))
    return sorted((one for part in parts for one in part), key=_newest_first)


def _states(query: Query) -> Sequence[str]:
    states = STATES[query.state]
    if query.status is None:
        return states
    return [one for one in states if one not in (UNREAD, READ) or one == query.status]


def _newest_first(document: Document) -> int:
    return -int(document["seq"])


def _is_older(document: Document, id_: ObjectId) -> bool:
    made_at = document.get("created_at")
    # An id tells whole seconds.
    return made_at is not None and made_at < id_.generation_time + timedelta(seconds=1)


def _place(seq: int) -> str:
    return f"{PLACE}{seq}"
