"""The one door to MongoDB: only this module imports Motor, so that its successor is one change."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from motor.motor_tornado import MotorClient, MotorDatabase
from pymongo.errors import PyMongoError

from tornado_rt.store_faults import without_secrets

Database = MotorDatabase
SELECTION_SECONDS = 1.5
ANSWER_SECONDS = 5.0


class BadMongodbUrl(ValueError):
    """The address cannot be read."""


@contextlib.asynccontextmanager
async def open_database(url: str, name: str) -> AsyncIterator[Any]:
    """Open a database; it connects when first used and reconnects by itself.

    An operation raises `pymongo.errors.PyMongoError` after 1.5 s without a server, and after 5 s
    (10 s with its one repetition) from one that does not answer. A write is on disk when it is
    acknowledged, in a replica set on most members: no failover takes it back. Reads are the
    primary's, for a resume that misses nothing. The URL cannot change these two.

    Raise BadMongodbUrl.
    """
    client = _open_client(url)
    try:
        yield client[name]
    finally:
        client.close()


def _open_client(url: str) -> Any:
    try:
        return _client(url)
    except (PyMongoError, ValueError, TypeError) as error:
        raise BadMongodbUrl(f"mongodb_url: {without_secrets(str(error), url)}") from None


def _client(url: str) -> Any:
    return MotorClient(
        url,
        serverSelectionTimeoutMS=int(SELECTION_SECONDS * 1000),
        connectTimeoutMS=2000,
        socketTimeoutMS=int(ANSWER_SECONDS * 1000),
        # Without it both MongoDB and the embedded server acknowledge what a SIGKILL still loses.
        journal=True,
        w="majority",
        readPreference="primary",
        tz_aware=True,
        appname="tornado_rt",
    )
