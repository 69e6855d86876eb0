"""Fill a store with notifications as if they had been created, and much faster."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo import WriteConcern
from pymongo.database import Database

from benchmarks.inboxes import user
from services.notifications.account import READ, UNREAD, Account, Counts, Epoch
from services.notifications.indexes import INBOX, USERS
from services.notifications.lifetime import Lifetime

# The number that the product keeps of a user.
PER_USER = 1000
TOGETHER = 1000
CONTENT = "The analysis of ten years of daily prices has ended; its report is ready."
# Far from the age at which they go.
FIRST_AT = timedelta(days=1)
LIFETIME = Lifetime(timedelta(days=90))


def owners(total: int, own: int = PER_USER, each: int = PER_USER) -> Iterator[tuple[str, int]]:
    """Yield each user and how many they have: `own` of the measured one, `each` of the others."""
    yield user(0), min(own, total)
    for number, begin in enumerate(range(own, total, each), 1):
        yield user(number), min(each, total - begin)


def notifications(count: int) -> Iterator[dict[str, Any]]:
    """Yield those of one user, the oldest first; every second one is unread."""
    began = datetime.now(UTC) - FIRST_AT
    for number in range(1, count + 1):
        made = began + timedelta(milliseconds=number)
        yield {
            "_id": ObjectId(),
            "type": "alert",
            "title": f"Report {number}",
            "content": CONTENT,
            "link": "/reports/1",
            "source": "benchmark",
            "severity": "info",
            "metadata": {"report": number},
            "created_at": made,
            **({} if is_unread(number) else {"read_at": made}),
        }


def is_unread(number: int) -> bool:
    """Say whether a notification is unread."""
    return number % 2 == 0


def fill(
    database: Database[dict[str, Any]], total: int, *, own: int = PER_USER, each: int = PER_USER
) -> None:
    """Store this many in the product's layout, as `owners` says; its indexes are there."""
    known = list(owners(total, own, each))
    _insert(database, INBOX, (one for owner in known for one in _as_stored(*owner)))
    _insert(database, USERS, (_account(*owner) for owner in known))


def _as_stored(user_id: str, count: int) -> Iterator[dict[str, Any]]:
    """Yield notifications as a create or a read leaves them; each took one version."""
    for number, fields in enumerate(notifications(count), 1):
        read_at = fields.get("read_at")
        yield {
            **fields,
            **LIFETIME.fields(fields["created_at"], None, fields["_id"]),
            **({"seen_at": read_at} if read_at else {}),
            "user_id": user_id,
            "state": UNREAD if is_unread(number) else READ,
            "seq": number,
            "version": number,
            "made": number,
        }


def _account(user_id: str, count: int) -> dict[str, Any]:
    unread = sum(map(is_unread, range(1, count + 1)))
    counts = Counts(unread=unread, unseen=unread, inbox=count)
    epoch = Epoch(0, "filled")
    account = Account(user_id=user_id, version=count, seq=count, counts=counts, epoch=epoch)
    return {"_id": user_id, "stamp": account.stamp, "op": None, **account.to_fields()}


def fill_naive(database: Database[dict[str, Any]], total: int) -> None:
    """Store the same as `benchmarks.inboxes.naive` does."""
    all_of_them = (
        {**one, "user_id": user_id, "status": "unread" if is_unread(number) else "read"}
        for user_id, count in owners(total)
        for number, one in enumerate(notifications(count), 1)
    )
    _insert(database, "notifications", all_of_them)


def _insert(
    database: Database[dict[str, Any]], name: str, documents: Iterator[dict[str, Any]]
) -> None:
    # Nothing is lost when it fails: the whole store is thrown away.
    collection = database.get_collection(name, write_concern=WriteConcern(w=1, j=False))
    while part := list(itertools.islice(documents, TOGETHER)):
        collection.insert_many(part, ordered=False)
