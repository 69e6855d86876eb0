"""Whether every part works, and which do not."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from pymongo.errors import PyMongoError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tornado_rt.backplane import Backplane
from tornado_rt.hub import Hub
from tornado_rt.jobs import Jobs
from tornado_rt.store_faults import mongodb_fault, redis_fault

ANSWER_SECONDS = 2.0
# Probes within this time share what one of them found.
SHARED_SECONDS = 1.0
PROBE_EXPIRE_SECONDS = 60


class Readiness:
    """Looks at the parts of one server.

    `key` is the one that is written in Redis; `folder_fault` says what is wrong with the data
    folder.
    """

    def __init__(
        self,
        redis: Redis,
        database: Any,
        backplane: Backplane,
        hub: Hub,
        jobs: Jobs,
        *,
        key: str,
        folder_fault: Callable[[], str],
    ) -> None:
        self._redis = redis
        self._database = database
        self._backplane = backplane
        self._hub = hub
        self._jobs = jobs
        self._key = key
        self._folder_fault = folder_fault
        self._probe: asyncio.Task[list[str]] | None = None
        self._probed = 0.0

    async def faults(self) -> list[str]:
        """Return what keeps the server from being ready, within about 2 s; nothing when it is."""
        stores = await self._stores()
        found = {
            self._folder_fault(): True,
            "the backplane is away": not self._backplane.alive,
            "the server is stopping": self._hub.draining,
        }
        died = [f"the job {name} has died" for name in sorted(self._jobs.died)]
        return [*stores, *(fault for fault, here in found.items() if fault and here), *died]

    async def _stores(self) -> list[str]:
        probe = self._probe
        if probe is None or (probe.done() and time.monotonic() - self._probed > SHARED_SECONDS):
            probe = self._probe = asyncio.create_task(self._write(), name="readiness-probe")
        # A prober that leaves may not end the probe of the others.
        return await asyncio.shield(probe)

    async def _write(self) -> list[str]:
        found = await asyncio.gather(self._write_redis(), self._write_mongodb())
        self._probed = time.monotonic()
        return [fault for fault in found if fault]

    async def _write_redis(self) -> str:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._redis.set(self._key, b"1", ex=PROBE_EXPIRE_SECONDS)
        except (RedisError, OSError) as error:
            return redis_fault(error)
        return ""

    async def _write_mongodb(self) -> str:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._database.probes.replace_one(
                    {"_id": self._key}, {"at": time.time()}, upsert=True
                )
        except (PyMongoError, TimeoutError) as error:
            return mongodb_fault(error)
        return ""
