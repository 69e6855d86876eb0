"""PyMongo does the same reads and writes on the embedded store, without a server.

No server over this store can be faster, and by them one machine is compared with another.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

from bson import ObjectId
from pymongo import MongoClient, WriteConcern
from pymongo.database import Database

from benchmarks.inboxes import user
from benchmarks.inboxes.filling import notifications

SAMPLES = 100
PAGE = 50
# A user of whom nobody else knows.
OWN = "benchmark-alone"


def measure_store(url: str, name: str) -> dict[str, float]:
    """Return the median seconds of each read and write."""
    with MongoClient[dict[str, Any]](url) as client:
        database = client[name]
        try:
            return {what: _median(call) for what, call in _calls(database).items()}
        finally:
            for collection in ("inbox", "notification_users"):
                database[collection].delete_many({"$or": [{"user_id": OWN}, {"_id": OWN}]})


def _calls(database: Database[dict[str, Any]]) -> dict[str, Callable[[], object]]:
    inbox, users = database["inbox"], database["notification_users"]
    unwaited = users.with_options(write_concern=WriteConcern(w=1, j=False))
    kept = inbox.with_options(write_concern=WriteConcern(w="majority", j=True))
    [made] = notifications(1)
    users.insert_one({"_id": OWN, "stamp": 0})
    top = next(iter(inbox.find({"user_id": user(0), "state": "unread", "seq": {"$gt": 0}})))["seq"]
    window = {"user_id": user(0), "state": "unread", "seq": {"$gt": top - 2 * PAGE, "$lte": top}}

    def create() -> None:
        unwaited.update_one({"_id": OWN, "stamp": 0}, {"$set": {"op": bytes(800)}})
        own = {"_id": ObjectId(), "user_id": OWN, "state": "unread", "seq": 1, "version": 1}
        kept.insert_one({**made, **own, "due_at": made["created_at"]})

    return {
        "an account": lambda: users.find_one({"_id": user(0)}),
        "up to 50 notifications": lambda: list(inbox.find(window)),
        "an account and a notification, written": create,
    }


def _median(call: Callable[[], object]) -> float:
    took = []
    for _ in range(SAMPLES):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return statistics.median(took)
