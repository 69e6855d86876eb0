"""Whether every part works, and which do not."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pymongo.errors import PyMongoError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tornado_rt.backplane import Backplane
from tornado_rt.hub import Hub
from tornado_rt.jobs import Jobs

ANSWER_SECONDS = 2.0


class Readiness:
    """Looks at the parts of one server."""

    def __init__(
        self,
        redis: Redis,
        database: Any,
        backplane: Backplane,
        hub: Hub,
        jobs: Jobs,
        key_faults: Callable[[], list[str]],
        data_fault: Callable[[], Awaitable[str | None]],
    ) -> None:
        self._redis = redis
        self._database = database
        self._backplane = backplane
        self._hub = hub
        self._jobs = jobs
        self._key_faults = key_faults
        self._data_fault = data_fault

    async def faults(self) -> list[str]:
        """Return what keeps the server from being ready, within about 2 s; nothing when it is."""
        redis, mongodb, data = await asyncio.gather(
            self._redis_answers(), self._mongodb_answers(), self._find_data_fault()
        )
        found = {
            "Redis does not answer": not redis,
            "MongoDB does not answer": not mongodb,
            "the backplane is away": not self._backplane.alive,
            "the server is stopping": self._hub.draining,
        }
        died = [f"the job {name} has died" for name in sorted(self._jobs.died)]
        died += [data] if data else []
        return [fault for fault, here in found.items() if here] + died + self._key_faults()

    async def _find_data_fault(self) -> str | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await self._data_fault()
        except (RedisError, OSError):
            # Said by others.
            return None

    async def _redis_answers(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return bool(await self._redis.ping())
        except (RedisError, OSError):
            return False

    async def _mongodb_answers(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._database.command("ping")
        except (PyMongoError, TimeoutError):
            return False
        return True
