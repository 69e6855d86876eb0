"""A MongoDB of one's own, to be killed."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pymongo.errors import PyMongoError

from tests.faults.system import MongoServer
from tests.waiting import until
from tornado_rt.mongo import open_database


@contextlib.asynccontextmanager
async def stored(folder: Path) -> AsyncIterator[tuple[MongoServer, Any]]:
    """Run a store of one's own, and open a database in it."""
    mongodb = MongoServer(folder)
    mongodb.start()
    try:
        await mongodb.ready()
        async with open_database(mongodb.url, "tornado_rt") as database:
            yield mongodb, database
    finally:
        await mongodb.kill()


async def lose_what_is_not_on_disk(mongodb: MongoServer, database: Any) -> None:
    """Kill the store, start it anew, and wait until the client has found that out."""

    async def answers() -> bool:
        with contextlib.suppress(PyMongoError):
            return bool(await database.command("ping"))
        return False

    await mongodb.kill()
    await mongodb.restart()
    await until(answers)
