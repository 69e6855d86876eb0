"""The collections of the inbox and their indexes.

They answer every query from an index, on MongoDB and on the embedded store, which uses an index for
equality on its first fields and one range or `$in` on the next, finds a filter's index by its first
field, and pushes neither a sort nor a limit down.
"""

from typing import Any

from pymongo import ASCENDING, DESCENDING, IndexModel

INBOX = "inbox"
USERS = "notification_users"
OWED = "inbox_owed"
# Equality with a text implies it, so that a query uses the index.
A_TEXT = {"$gt": ""}


def indexes() -> list[IndexModel]:
    """Return those of the notifications."""
    return [
        IndexModel(
            [("user_id", ASCENDING), ("state", ASCENDING), ("seq", DESCENDING)],
            name="user_state_number",
        ),
        IndexModel([("user_id", ASCENDING), ("version", ASCENDING)], name="user_version"),
        IndexModel(
            [("user_id", ASCENDING), ("key", ASCENDING)],
            name="user_key",
            partialFilterExpression={"key": A_TEXT},
        ),
        IndexModel([("due_at", ASCENDING)], name="due"),
    ]


async def make_indexes(database: Any) -> None:
    """Make them where they are missing."""
    await database[INBOX].create_indexes(indexes())
