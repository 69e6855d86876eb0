"""Pages that were listed lately: of a user's list only what has changed since is read again."""

import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from services.notifications.account import Account, Counts, Document
from services.notifications.listing import ListState, Query
from services.notifications.models import NotificationStatus

# The most documents of all pages together; each takes some 3 kB.
MOST_DOCUMENTS = 10_000
# Much less than what was removed stays. Other processes note the ends of callbacks without a
# version: they are seen after this time [s].
SECONDS = 30.0


Key = tuple[str, ListState, NotificationStatus | None, int]


class Page(Protocol):
    """A page has some documents, the account that they agree with, and when it was read [s].

    `drops` are those of `Pages` before it was read.
    """

    @property
    def documents(self) -> Sequence[Document]: ...

    @property
    def account(self) -> Account: ...

    @property
    def read_at(self) -> float: ...

    @property
    def drops(self) -> int: ...


P = TypeVar("P", bound=Page)


class Pages(Generic[P]):
    """Keeps pages from the top of a list, those that were used last."""

    def __init__(self) -> None:
        # The number of times that pages were forgotten: a read that began before it is not kept.
        self.drops = 0
        self._kept: OrderedDict[Key, P] = OrderedDict()
        self._documents = 0

    def find(self, user_id: str, query: Query) -> P | None:
        """Return the page of a query as it was, None when it is not kept."""
        key = _key(user_id, query)
        page = None if key is None else self._kept.get(key)
        return None if page is None or time.monotonic() > page.read_at + SECONDS else page

    def keep(self, user_id: str, query: Query, page: P) -> None:
        """Keep a page in place of the one before."""
        key = _key(user_id, query)
        if key is None or page.drops != self.drops:
            return
        self._drop(key)
        self._kept[key] = page
        self._documents += len(page.documents)
        while self._documents > MOST_DOCUMENTS:
            self._drop(next(iter(self._kept)))

    def drop(self, user_id: str) -> None:
        """Forget the pages of a user."""
        self.drops += 1
        for key in [one for one in self._kept if one[0] == user_id]:
            self._drop(key)

    def clear(self) -> None:
        """Forget all pages."""
        self.drops += 1
        self._kept.clear()
        self._documents = 0

    def _drop(self, key: Key) -> None:
        if (page := self._kept.pop(key, None)) is not None:
            self._documents -= len(page.documents)


def is_near(page: Page, now: Account, most: int) -> bool:
    """Say whether so little has changed since that reading it takes less time than a page."""
    then = page.account
    return (
        then.epoch == now.epoch
        and now.floor <= then.version <= now.version <= then.version + most
        and _distance(then.counts, now.counts) <= most
    )


def _distance(then: Counts, now: Counts) -> int:
    before, after = then.to_dict(), now.to_dict()
    return max(abs(after[name] - before[name]) for name in before)


def _key(user_id: str, query: Query) -> Key | None:
    """Return by what a page is kept; None for one that is not."""
    return (user_id, query.state, query.status, query.limit) if query.is_top else None
