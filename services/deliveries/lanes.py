"""The order of deliveries: of those of one lane only the first is under way.

The queue hands out another task of a key while one of them waits for its next attempt. A lane is
what lasts: a delivery is in it from its adding until it has arrived or is given up.
"""

import hashlib
from typing import Any

from redis.asyncio import Redis


class Lanes:
    """The lanes of one queue, in Redis under its `prefix`, and how often each delivery failed."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._number = prefix + "lane_number"
        self._lane = prefix + "lane_of:"
        self._failures = prefix + "lane_failures"

    async def join(self, lane: str, task_id: str) -> None:
        """Put a delivery at the end of a lane; one that is in it keeps its place."""
        number = await self._redis.incr(self._number)
        await self._redis.zadd(self._lane + lane, {task_id: number}, nx=True)

    async def first(self, lane: str) -> str:
        """Return the first of a lane, "" for none."""
        found: Any = await self._redis.zrange(self._lane + lane, 0, 0)
        return str(found[0].decode()) if found else ""

    async def leave(self, lane: str, task_id: str) -> None:
        """Take a delivery out of its lane, "" for none, and forget its failures."""
        async with self._redis.pipeline(transaction=False) as pipe:
            if lane:
                pipe.zrem(self._lane + lane, task_id)
            pipe.hdel(self._failures, task_id)
            await pipe.execute()

    async def count_failure(self, task_id: str) -> int:
        """Count a failed attempt; return how many there were."""
        return int(await self._redis.hincrby(self._failures, task_id, 1))


def lane_of(*names: str) -> str:
    """Return the lane of some names; "" when the last one is."""
    return digest_of(*names) if names[-1] else ""


def digest_of(*names: str) -> str:
    """Return letters and digits that stand for some names."""
    return hashlib.sha256("\0".join(names).encode(errors="replace")).hexdigest()[:32]
