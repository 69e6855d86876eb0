"""Fill a store with notifications as if they had been created, and much faster."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import WriteConcern
from pymongo.database import Database

from benchmarks.inboxes import user

# As many as the product keeps of a user.
PER_USER = 1000
TOGETHER = 1000
CONTENT = "The analysis of ten years of daily prices has ended; its report is ready."
# Far from the age at which they go.
FIRST_AT = timedelta(days=1)


def owners(total: int, own: int = PER_USER, each: int = PER_USER) -> Iterator[tuple[str, int]]:
    """Yield each user and how many they have: `own` of the measured one, `each` of the others."""
    yield user(0), min(own, total)
    for number, begin in enumerate(range(own, total, each), 1):
        yield user(number), min(each, total - begin)


def notifications(user_id: str, count: int) -> Iterator[dict[str, Any]]:
    """Yield those of one user, the oldest first; every second one is unread."""
    began = datetime.now(UTC) - FIRST_AT
    for seq in range(1, count + 1):
        made = began + timedelta(milliseconds=seq)
        state = {"status": "unread"} if seq % 2 == 0 else {"status": "read", "read_at": made}
        yield state | {
            "user_id": user_id,
            "type": "alert",
            "title": f"Report {seq}",
            "content": CONTENT,
            "link": "/reports/1",
            "source": "benchmark",
            "severity": "info",
            "metadata": {"report": seq},
            "created_at": made,
        }


def fill(
    database: Database[dict[str, Any]], total: int, *, own: int = PER_USER, each: int = PER_USER
) -> None:
    """Store so many in the product's layout, as `owners` says; its indexes are there."""
    known = list(owners(total, own, each))
    numbered = (
        one | {"seq": seq, "stored_at": one["created_at"]}
        for owner in known
        for seq, one in enumerate(notifications(*owner), 1)
    )
    _insert(database, "notifications", numbered)
    heads = ({"_id": user_id, "seq": count} for user_id, count in known)
    _insert(database, "notification_users", heads)


def fill_naive(database: Database[dict[str, Any]], total: int) -> None:
    """Store the same as `benchmarks.inboxes.naive` does."""
    all_of_them = (one for owner in owners(total) for one in notifications(*owner))
    _insert(database, "notifications", all_of_them)


def _insert(
    database: Database[dict[str, Any]], name: str, documents: Iterator[dict[str, Any]]
) -> None:
    # Nothing is lost when it fails: the whole store is thrown away.
    collection = database.get_collection(name, write_concern=WriteConcern(w=1, j=False))
    while part := list(itertools.islice(documents, TOGETHER)):
        collection.insert_many(part, ordered=False)
