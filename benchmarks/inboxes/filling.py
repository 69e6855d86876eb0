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


def notifications(total: int) -> Iterator[dict[str, Any]]:
    """Yield those of one user after another, the oldest first; every second one is unread."""
    began = datetime.now(UTC) - FIRST_AT
    for number in range(total):
        seq = number % PER_USER + 1
        unread = seq % 2 == 0
        made = began + timedelta(milliseconds=number % PER_USER)
        yield {
            "user_id": user(number // PER_USER),
            "seq": seq,
            "type": "alert",
            "title": f"Report {seq}",
            "content": CONTENT,
            "link": "/reports/1",
            "source": "benchmark",
            "severity": "info",
            "metadata": {"report": seq},
            "status": "unread" if unread else "read",
            "created_at": made,
            **({} if unread else {"read_at": made}),
        }


def fill(database: Database[dict[str, Any]], total: int) -> None:
    """Store so many in the product's layout; its indexes are there."""
    _insert(
        database,
        "notifications",
        (one | {"stored_at": one["created_at"]} for one in notifications(total)),
    )
    owners = range(-(-total // PER_USER))
    counts = ({"_id": user(n), "seq": min(total - n * PER_USER, PER_USER)} for n in owners)
    _insert(database, "notification_users", counts)


def fill_naive(database: Database[dict[str, Any]], total: int) -> None:
    """Store the same as `benchmarks.inboxes.naive` does."""
    plain = ({k: v for k, v in one.items() if k != "seq"} for one in notifications(total))
    _insert(database, "notifications", plain)


def _insert(
    database: Database[dict[str, Any]], name: str, documents: Iterator[dict[str, Any]]
) -> None:
    # Nothing is lost when it fails: the whole store is thrown away.
    collection = database.get_collection(name, write_concern=WriteConcern(w=1, j=False))
    while part := list(itertools.islice(documents, TOGETHER)):
        collection.insert_many(part, ordered=False)
