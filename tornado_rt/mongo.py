"""The one door to MongoDB: only this module imports Motor, so that its successor is one change."""

import asyncio
import atexit
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pymongo
import structlog
from motor.motor_tornado import MotorClient, MotorDatabase
from pymongo.errors import ConnectionFailure, PyMongoError
from pymongo.monitoring import (
    ConnectionCheckedOutEvent,
    ConnectionCreatedEvent,
    ConnectionPoolListener,
)
from pymongo.synchronous import monitor

from settings import StoreSettings, default
from tornado_rt.store_urls import without_credentials
from tornado_rt.turns import Turns

log = structlog.get_logger(__name__)

Database = MotorDatabase
DEFAULTS = StoreSettings()
# After how long without an answer MongoDB is asked whether it is there, how long it has to say so,
# and how often in a row it must not.
SUSPECT_SECONDS = 1.0
PROBE_SECONDS = 1.5
PROBES = 2
PROBE_PAUSE_SECONDS = 0.2


class BadMongodbUrl(ValueError):
    """The URL cannot be understood; the message says why."""


class StoreAway(PyMongoError):
    """MongoDB is known not to answer; nobody waits for it any more."""


def leave_threads() -> None:
    """Have the process exit without a wait for threads of closed clients, which sleep for 0.5 s.

    Called where the process is ours: PyMongo may have other users in it.
    """
    atexit.unregister(monitor._shutdown_resources)


def _pass_over(_: Any, event: Any) -> None:
    """Do nothing with an event."""


class Connections(ConnectionPoolListener):
    """Counts how often a client has gone to another connection than those that it had.

    While `count` stays as it is, all writes were to one run of one server: a connection does not
    outlive the process at its other end. So what one write has changed there, a later one finds.
    """

    pool_created = pool_ready = pool_cleared = pool_closed = _pass_over
    connection_ready = connection_closed = connection_checked_in = _pass_over
    connection_check_out_started = connection_check_out_failed = _pass_over

    def __init__(self) -> None:
        self.count = 0
        self._address: Any = None

    def connection_created(self, event: ConnectionCreatedEvent) -> None:
        """Note one that may be to a server that was started anew."""
        self.count += 1

    def connection_checked_out(self, event: ConnectionCheckedOutEvent) -> None:
        """Note one to another server of a replica set, which may have been there before."""
        if event.address != self._address:
            self._address = event.address
            self.count += 1


def connections_of(database: Any) -> Connections:
    """Return what counts the connections of a database that `open_database` has opened."""
    listeners = database.client.delegate.options.event_listeners
    return next(one for one in listeners if isinstance(one, Connections))


class MongoAccess:
    """Lets callers at MongoDB: users in turns, and nobody while it is known to be away.

    Motor has few threads. Without turns one user's requests would hold all of them, and while the
    server stands still each would be held for seconds, one caller after another. `most` work at
    once, `most_a_user` of one user; of a user `most_waiting_a_user` wait, for `wait_seconds`.
    """

    def __init__(
        self,
        database: Any,
        *,
        most: int = default("mongodb_requests"),
        most_a_user: int = default("mongodb_requests_per_user"),
        most_waiting_a_user: int = default("mongodb_waiting_per_user"),
        wait_seconds: float = default("mongodb_wait_seconds"),
    ) -> None:
        self._client = database.client.delegate
        self.most_waiting_a_user = most_waiting_a_user
        self.wait_seconds = wait_seconds
        self._turns = Turns(
            most, most_a_user, most_waiting_a_key=most_waiting_a_user, seconds=wait_seconds
        )
        self._working: set[asyncio.Timeout] = set()
        self._away = False
        self._looking: asyncio.Task[None] | None = None
        # Not Motor's threads: those may all stand still.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="mongodb-probe")

    @contextlib.asynccontextmanager
    async def turn(self, user_id: str) -> AsyncIterator[None]:
        """Hold a turn for the block. Raise StoreAway, or NoTurn when there was none in time."""
        self._refuse_if_away()
        async with self._turns.turn(user_id), self.watched():
            yield

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Run the block without a turn: for what many share. Raise StoreAway."""
        self._refuse_if_away()
        suspect = asyncio.get_running_loop().call_later(SUSPECT_SECONDS, self._look)
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._working.add(limit)
                yield
        except ConnectionFailure:
            self._look()
            raise
        except TimeoutError:
            if limit.expired():
                raise StoreAway("MongoDB does not answer") from None
            raise
        finally:
            self._working.discard(limit)
            suspect.cancel()

    async def close(self) -> None:
        """Stop checking whether MongoDB is back."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _refuse_if_away(self) -> None:
        if self._away:
            # Somebody may have ended what looks for it.
            self._look()
            raise StoreAway("MongoDB does not answer")

    def _look(self) -> None:
        if self._looking is None:
            self._looking = asyncio.create_task(self._find_out(), name="mongodb-probe")

    async def _find_out(self) -> None:
        """Probe until MongoDB answers; after some probes in a row without, it is away."""
        failed = 0
        try:
            while not await self._answers():
                failed += 1
                if failed == PROBES:
                    self._give_up()
                await asyncio.sleep(PROBE_PAUSE_SECONDS)
        finally:
            self._looking = None
        if self._away:
            log.warning("mongodb_back")
        self._away = False

    def _give_up(self) -> None:
        log.warning("mongodb_away")
        self._away = True
        self._turns.refuse_waiting(StoreAway("MongoDB does not answer"))
        now = asyncio.get_running_loop().time()
        for limit in tuple(self._working):
            limit.reschedule(now)

    async def _answers(self) -> bool:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, self._ping)

    def _ping(self) -> bool:
        try:
            with pymongo.timeout(PROBE_SECONDS):
                self._client.admin.command("ping")
        except PyMongoError:
            return False
        return True


@contextlib.asynccontextmanager
async def open_database(
    url: str, name: str, stores: StoreSettings = DEFAULTS
) -> AsyncIterator[Any]:
    """Open a database; it connects when first used and reconnects by itself.

    An operation raises `pymongo.errors.PyMongoError` after the times in `stores`: without a server,
    and from one that does not answer (twice the time, with its one repetition). A write is on disk
    when it is acknowledged, in a replica set on most members: no failover takes it back. Reads are
    the primary's, for a resume that misses nothing. The URL cannot change these two.

    Raise BadMongodbUrl.
    """
    try:
        client = _client(url, stores)
    except (PyMongoError, ValueError, TypeError) as error:
        raise BadMongodbUrl(f"mongodb_url: {without_credentials(str(error), url)}") from None
    try:
        yield client[name]
    finally:
        client.close()


def _client(url: str, stores: StoreSettings) -> Any:
    return MotorClient(
        url,
        serverSelectionTimeoutMS=int(stores.mongodb_connect_seconds * 1000),
        connectTimeoutMS=2000,
        socketTimeoutMS=int(stores.mongodb_answer_seconds * 1000),
        # One value that Python has no object for would make all that a query finds unreadable.
        datetime_conversion="DATETIME_AUTO",
        unicode_decode_error_handler="replace",
        # Without it both MongoDB and the embedded server acknowledge what a SIGKILL still loses.
        journal=True,
        w="majority",
        readPreference="primary",
        tz_aware=True,
        appname="tornado_rt",
        event_listeners=[Connections()],
    )
