"""Who is connected to which process, kept in Redis: limits and statistics over all processes.

Each process keeps its own counts, absolute ones, under keys that expire when it is not heard of:
what a killed process leaves is gone by itself. All keys share one hash tag, for Redis Cluster.
"""

import asyncio
import contextlib
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tornado_rt.hub import Hub, HubStats, TooManyConnections
from tornado_rt.redis import SHARED_HOME

log = structlog.get_logger(__name__)

PROCESSES = SHARED_HOME + "processes"
USERS = SHARED_HOME + "users:"
STATS = SHARED_HOME + "stats:"
ADMIT = (Path(__file__).parent / "presence.lua").read_text()

REFRESH_SECONDS = 1.0
# So long a process counts that is not heard of.
FORGET_SECONDS = 5
# Most connections that one call admits.
TOGETHER = 500
CHUNK = 5000


class Presence:
    """Tells Redis what this process's hub has, and asks it for what all have."""

    def __init__(self, redis: Redis, hub: Hub) -> None:
        self._redis = redis
        self._hub = hub
        self._id = secrets.token_hex(8)
        self._admit = redis.register_script(ADMIT)
        self._asked: list[tuple[str, asyncio.Future[None]]] = []
        self._asking: asyncio.Task[None] | None = None
        self._changed: set[str] = set()

    async def admit(self, user_id: str) -> None:
        """Count a user's new connection. Raise TooManyConnections, or RedisError."""
        if not self._hub.limits.per_user:
            self._changed.add(user_id)
            return
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.append((user_id, answer))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), name="presence-admit")
        await answer

    def changed(self, user_id: str) -> None:
        """Note that a connection of the user is gone."""
        self._changed.add(user_id)

    async def run(self) -> None:
        """Keep Redis told until cancelled."""
        while True:
            try:
                await self.refresh()
                await self._drop_dead()
            except (RedisError, OSError) as error:
                log.debug("presence_waits", error=error)
            await asyncio.sleep(REFRESH_SECONDS)

    async def leave(self) -> None:
        """Have Redis forget this process; without Redis it forgets by itself."""
        with contextlib.suppress(RedisError, OSError):
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.srem(PROCESSES, self._id)
                pipe.delete(USERS + self._id)
                pipe.delete(STATS + self._id)
                await pipe.execute()

    async def refresh(self) -> None:
        """Tell Redis what there is now."""
        counts = self._hub.count_users()
        changed, self._changed = self._changed, set()
        try:
            if not await self._tell(counts, changed):
                # Nothing was heard of us for too long, or Redis has lost it.
                await self._tell(counts, set(counts))
        except BaseException:
            self._changed |= changed
            raise

    async def stats(self) -> tuple[int, HubStats]:
        """Return how many processes there are, and their statistics together."""
        await self.refresh()
        found = [await self._stats_of(process) for process in await self._processes()]
        live = [stats for stats in found if stats is not None]
        return len(live), _sum(live)

    async def _ask(self) -> None:
        # Those that ask in the same moment share a call.
        await asyncio.sleep(0)
        try:
            while self._asked:
                asked, self._asked = self._asked[:TOGETHER], self._asked[TOGETHER:]
                await self._answer(asked)
        finally:
            self._asking = None

    async def _answer(self, asked: list[tuple[str, asyncio.Future[None]]]) -> None:
        limit = self._hub.limits.per_user
        arguments: list[str | int] = [self._id, FORGET_SECONDS, limit or 2**31]
        waiting: dict[str, int] = {}
        for user_id, _ in reversed(asked):
            # The last that asks is the one with all others.
            waiting[user_id] = waiting.get(user_id, -1) + 1
            count = self._hub.count_of(user_id) - waiting[user_id]
            arguments[3:3] = [user_id, max(count, 1)]
        try:
            replies = await self._admit(keys=[PROCESSES, USERS], args=arguments)
        except (RedisError, OSError) as error:
            replies = [error] * len(asked)
        for (user_id, answer), reply in zip(asked, replies, strict=True):
            self._settle(user_id, answer, reply, limit)

    def _settle(self, user_id: str, answer: asyncio.Future[None], reply: Any, limit: int) -> None:
        if answer.done():
            self._changed.add(user_id)
        elif isinstance(reply, Exception):
            answer.set_exception(reply)
        elif reply:
            answer.set_result(None)
        else:
            self._hub.metrics.refused.labels("user").inc()
            refusal = TooManyConnections(f"at most {limit} open connections a user")
            answer.set_exception(refusal)

    async def _tell(self, counts: Mapping[str, int], changed: set[str]) -> bool:
        """Tell some counts; return False when those told before are not there any more."""
        own = USERS + self._id
        here = {user: counts[user] for user in changed if user in counts}
        gone = [user for user in changed if user not in counts]
        async with self._redis.pipeline(transaction=False) as pipe:
            for users in _chunks(list(here)):
                pipe.hset(own, mapping={user: here[user] for user in users})
            for users in _chunks(gone):
                pipe.hdel(own, *users)
            pipe.sadd(PROCESSES, self._id)
            pipe.set(STATS + self._id, _encode(self._hub.stats()), ex=FORGET_SECONDS)
            pipe.expire(own, FORGET_SECONDS)
            pipe.hlen(own)
            *_, kept = await pipe.execute()
        return bool(kept >= len(counts))

    async def _processes(self) -> list[str]:
        members: Any = await self._redis.smembers(PROCESSES)
        return [process.decode() for process in members]

    async def _drop_dead(self) -> None:
        """Forget the processes that were killed: their keys have expired."""
        for process in await self._processes():
            if not await self._redis.exists(STATS + process):
                await self._redis.srem(PROCESSES, process)

    async def _stats_of(self, process: str) -> HubStats | None:
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.get(STATS + process)
            pipe.hgetall(USERS + process)
            stats, users = await pipe.execute()
        if stats is None:
            return None
        counts = {user.decode(): int(count) for user, count in users.items()}
        return HubStats(**orjson.loads(stats), users=counts)


def _chunks(users: list[str]) -> list[list[str]]:
    return [users[start : start + CHUNK] for start in range(0, len(users), CHUNK)]


def _encode(stats: HubStats) -> bytes:
    return orjson.dumps(attrs.asdict(stats, filter=attrs.filters.exclude("users")))


def _sum(all_stats: list[HubStats]) -> HubStats:
    total: dict[str, Any] = {}
    for stats in all_stats:
        for name, value in attrs.asdict(stats).items():
            total[name] = _add(total.get(name), value)
    # One who is connected to two processes is one user.
    return HubStats(**(total | {"total_users": len(total["users"])}))


def _add(left: Any, right: Any) -> Any:
    if not isinstance(right, dict):
        return (left or 0) + right
    left = left or {}
    return {key: left.get(key, 0) + right.get(key, 0) for key in {**left, **right}}
