"""The data version in MongoDB: the document `data` of the collection `meta`.

Every change up to this version was an addition, which readers stand: a step only writes the number.
"""

import contextlib
from typing import Any

from pymongo.errors import DuplicateKeyError

from services.migrations.version import DATA_VERSION, MADE_BY, check_version

KEY = {"_id": "data"}


async def read_mongodb_version(database: Any) -> int | None:
    """Return the version, None where none is written. Raise DataRefused."""
    document = await database["meta"].find_one(KEY)
    if document is None:
        return None
    return check_version("MongoDB", str(document.get("version")), str(document.get("made_by", "")))


async def prepare_mongodb(database: Any) -> None:
    """Bring what is stored to this version. Raise DataRefused."""
    if await read_mongodb_version(database) == DATA_VERSION:
        return
    written = {"$set": {"version": DATA_VERSION, "made_by": MADE_BY}}
    # When two processes insert it at once, one fails.
    with contextlib.suppress(DuplicateKeyError):
        await database["meta"].update_one(KEY, written, upsert=True)
