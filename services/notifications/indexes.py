"""The indexes of the notifications, and the two states that some of them are partial by."""

from datetime import timedelta

from pymongo import ASCENDING, DESCENDING, IndexModel

from services.notifications.models import NotificationStatus

UNREAD = {"status": NotificationStatus.UNREAD.value}
# Set while it is not known that a notification was published: from its storing on.
UNSENT = {"unsent": True}


def indexes(ttl: timedelta) -> list[IndexModel]:
    """Return all of them; a notification goes after `ttl`."""
    present = {"$exists": True}
    return [
        IndexModel([("user_id", ASCENDING), ("created_at", DESCENDING)], name="user_created"),
        IndexModel([("user_id", ASCENDING), ("status", ASCENDING)], name="user_status"),
        IndexModel([("user_id", ASCENDING), ("seq", DESCENDING)], name="user_seq"),
        IndexModel(
            [("user_id", ASCENDING), ("dedupe_key", ASCENDING)],
            name="user_dedupe",
            unique=True,
            partialFilterExpression={"dedupe_key": present, **UNREAD},
        ),
        IndexModel(
            [("event_id", ASCENDING)],
            name="event",
            unique=True,
            partialFilterExpression={"event_id": present},
        ),
        IndexModel(
            [("unpublished", ASCENDING)],
            name="unpublished",
            partialFilterExpression={"unpublished": True},
        ),
        IndexModel([("unsent", ASCENDING)], name="unsent", partialFilterExpression=UNSENT),
        IndexModel(
            [("created_at", ASCENDING)],
            name="expiry",
            expireAfterSeconds=int(ttl.total_seconds()),
        ),
    ]
