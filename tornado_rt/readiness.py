"""Whether every part works, and which do not."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from pymongo.errors import ConnectionFailure, PyMongoError
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from tornado_rt.backplane import Backplane
from tornado_rt.hub import Hub
from tornado_rt.jobs import Jobs
from tornado_rt.redis import is_full
from tornado_rt.work import clean_line

ANSWER_SECONDS = 2.0
SHARED_SECONDS = 1.0
PROBE_MILLISECONDS = 10_000
REASON_LENGTH = 200


class Readiness:
    """Looks at the parts of one server; a store works when it takes a write.

    `probe_key` is written in Redis, and expires. `database`: None for a process without one.
    """

    def __init__(
        self,
        redis: Redis,
        database: Any,
        backplane: Backplane,
        hub: Hub,
        jobs: Jobs,
        key_faults: Callable[[], list[str]],
        data_fault: Callable[[], Awaitable[str | None]],
        folder_fault: Callable[[], str | None],
        probe_key: str,
    ) -> None:
        self._redis = redis
        self._database = database
        self._backplane = backplane
        self._hub = hub
        self._jobs = jobs
        self._key_faults = key_faults
        self._data_fault = data_fault
        self._folder_fault = folder_fault
        self._probe_key = probe_key
        self._looked: asyncio.Task[list[str]] | None = None
        self._look_again_at = 0.0

    async def faults(self) -> list[str]:
        """Return what keeps the server from being ready, within about 2 s; nothing when it is.

        Requests of the same second share one look at the stores.
        """
        loop = asyncio.get_running_loop()
        if self._looked is None or (self._looked.done() and loop.time() >= self._look_again_at):
            self._looked = loop.create_task(self._look(), name="readiness")
            self._look_again_at = loop.time() + SHARED_SECONDS
        found = list(await asyncio.shield(self._looked))
        if not self._backplane.alive:
            found.append("the backplane is away")
        if self._hub.draining:
            found.append("the server is stopping")
        found += [f"the job {name} has died" for name in sorted(self._jobs.died)]
        folder = self._folder_fault()
        return found + ([folder] if folder else []) + self._key_faults()

    async def _look(self) -> list[str]:
        found = await asyncio.gather(
            self._find_redis_fault(), self._find_mongodb_fault(), self._find_data_fault()
        )
        return [fault for fault in found if fault]

    async def _find_data_fault(self) -> str | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._data_fault()
        except (RedisError, OSError):
            # The look at Redis reports it.
            return None

    async def _find_redis_fault(self) -> str | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._redis.set(self._probe_key, "1", px=PROBE_MILLISECONDS)
        except ResponseError as error:
            if is_full(error):
                return "Redis is full"
            return f"Redis does not take writes: {clean_line(error, REASON_LENGTH)}"
        except (RedisError, OSError):
            return "Redis does not answer"
        return None

    async def _find_mongodb_fault(self) -> str | None:
        if self._database is None:
            return None
        probe = {"$set": {"at": datetime.now(UTC)}}
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._database["meta"].update_one({"_id": "probe"}, probe, upsert=True)
        except (ConnectionFailure, TimeoutError):
            return "MongoDB does not answer"
        except PyMongoError as error:
            return f"MongoDB does not take writes: {clean_line(error, REASON_LENGTH)}"
        return None
