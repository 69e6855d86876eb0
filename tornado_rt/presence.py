"""The connections of all processes, kept in Redis: limits and statistics over all of them.

Each process keeps its own counts, absolute ones, under keys that expire when it is not heard of:
what a killed process leaves is gone by itself. All keys share one hash tag, for Redis Cluster.
"""

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tornado_rt.batcher import Batcher
from tornado_rt.census import Census, HubStats
from tornado_rt.redis import KEY_TYPES, SHARED_HOME, is_of_another_type

log = structlog.get_logger(__name__)

PROCESSES = SHARED_HOME + "processes"
USERS = SHARED_HOME + "users:"
ADDRESSES = SHARED_HOME + "addresses:"
STATS = SHARED_HOME + "stats:"
ADMIT = KEY_TYPES + (Path(__file__).parent / "presence.lua").read_text()

# The reply of the script for a connection that may stay.
ADMITTED = "admitted"

REFRESH_SECONDS = 1.0
# A silent process still counts for this long [s].
FORGET_SECONDS = 5
# Most connections that one call admits.
TOGETHER = 500
CHUNK = 5000


@attrs.define
class _Counts:
    """Connections here, counted by user or by address; `changed`: not sent yet."""

    key: str
    of_one: Callable[[str], int]
    of_all: Callable[[], Mapping[str, int]]
    changed: set[str] = attrs.field(factory=set)

    def with_each(self, asking: Sequence[str]) -> list[int]:
        """Return the count at which each asks; the last has all others before it."""
        behind, found = Counter[str](), []
        for name in reversed(asking):
            found.append(max(self.of_one(name) - behind[name], 1))
            behind[name] += 1
        return found[::-1]


@attrs.frozen
class _Asking:
    """One connection that asks to be admitted."""

    user_id: str
    address: str


class Presence:
    """Sends Redis the census of this process, and asks it for those of all."""

    def __init__(self, redis: Redis, census: Census) -> None:
        self._redis = redis
        self._census = census
        # The name of this process.
        self.process = secrets.token_hex(8)
        self._admit = redis.register_script(ADMIT)
        self._users = _Counts(USERS + self.process, census.count_of, census.count_users)
        self._addresses = _Counts(ADDRESSES + self.process, census.count_at, census.count_addresses)
        # Those that come in the same moment share a call.
        self._admissions: Batcher[_Asking, str] = Batcher(
            self._admit_all, "presence-admit", together=TOGETHER, common=(RedisError, OSError)
        )

    async def admit(self, user_id: str, address: str) -> None:
        """Count a new connection. Raise TooManyConnections, or RedisError."""
        limits = self._limits()
        if not any(limits.values()):
            self.changed(user_id, address)
            return
        answer = await self._admissions.ask(_Asking(user_id, address))
        if answer != ADMITTED:
            raise self._census.refuse(answer, limits[answer])

    def changed(self, user_id: str, address: str) -> None:
        """Note that a connection of the user, from there, is gone."""
        self._users.changed.add(user_id)
        self._addresses.changed.add(address)

    async def run(self) -> None:
        """Keep Redis up to date until cancelled."""
        while True:
            try:
                await self.refresh()
                await self._drop_dead()
            except (RedisError, OSError) as error:
                log.debug("presence_waits", error=error)
                if is_of_another_type(error):
                    await self._delete(PROCESSES)
            await asyncio.sleep(REFRESH_SECONDS)

    async def close(self) -> None:
        """End what is under way."""
        await self._admissions.close()

    async def leave(self) -> None:
        """Make Redis forget this process; without Redis its keys expire."""
        with contextlib.suppress(RedisError, OSError):
            await self._redis.srem(PROCESSES, self.process)
        await self._delete()

    async def _delete(self, *more: str) -> None:
        with contextlib.suppress(RedisError, OSError):
            keys = (self._users.key, self._addresses.key, STATS + self.process)
            await self._redis.delete(*keys, *more)

    async def refresh(self) -> None:
        """Send Redis the counts of now."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.sadd(PROCESSES, self.process)
            pipe.set(STATS + self.process, _encode(self._census.stats()), ex=FORGET_SECONDS)
            await pipe.execute()
        for counts in (self._users, self._addresses):
            await self._refresh(counts)

    async def _refresh(self, counts: _Counts) -> None:
        here = counts.of_all()
        changed, counts.changed = counts.changed, set()
        try:
            if not await self._tell(counts.key, here, changed):
                # Nothing was heard of us for too long, or Redis has lost it.
                await self._tell(counts.key, here, set(here))
        except BaseException:
            counts.changed |= changed
            raise

    async def stats(self) -> tuple[int, HubStats]:
        """Return how many processes there are, and their statistics together."""
        await self.refresh()
        others = [process for process in await self._processes() if process != self.process]
        found = [await self._stats_of(process) for process in others]
        # This process knows its own counts, also when Redis has just lost them.
        live = [self._census.stats(), *(stats for stats in found if stats is not None)]
        return len(live), _sum(live)

    def _limits(self) -> dict[str, int]:
        limits = self._census.limits
        return {"user": limits.live.ws_max_connections_per_user, "address": limits.per_address}

    async def _admit_all(self, asking: list[_Asking]) -> list[str]:
        """Return of each `ADMITTED`, or whose limit is reached."""
        arguments: list[str | int] = [self.process, FORGET_SECONDS, *self._limits().values()]
        of_users = self._users.with_each([one.user_id for one in asking])
        at_addresses = self._addresses.with_each([one.address for one in asking])
        for one, of_user, at_address in zip(asking, of_users, at_addresses, strict=True):
            arguments += [one.user_id, of_user, one.address, at_address]
        replies = await self._admit(keys=[PROCESSES, USERS, ADDRESSES], args=arguments)
        for one, of_user, at_address in zip(asking, of_users, at_addresses, strict=True):
            if self._users.of_one(one.user_id) < of_user or (
                self._addresses.of_one(one.address) < at_address
            ):
                # Some have left meanwhile, and Redis may have learned of that first.
                self.changed(one.user_id, one.address)
        return [reply.decode() for reply in replies]

    async def _tell(self, key: str, counts: Mapping[str, int], changed: set[str]) -> bool:
        """Send some counts; return False when those sent before are gone."""
        here = {name: counts[name] for name in changed if name in counts}
        gone = [name for name in changed if name not in counts]
        expected = len(counts)
        async with self._redis.pipeline(transaction=False) as pipe:
            for names in _chunks(list(here)):
                pipe.hset(key, mapping={name: here[name] for name in names})
            for names in _chunks(gone):
                pipe.hdel(key, *names)
            pipe.expire(key, FORGET_SECONDS)
            pipe.hlen(key)
            *_, kept = await pipe.execute()
        return bool(kept >= expected)

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
        return _decode(stats, counts)


def _chunks(names: list[str]) -> list[list[str]]:
    return [names[start : start + CHUNK] for start in range(0, len(names), CHUNK)]


def _decode(stats: bytes, users: dict[str, int]) -> HubStats:
    """Read what a process has sent. One of another version may send more, or less."""
    fields = attrs.fields(HubStats)
    told = orjson.loads(stats) | {"users": users}
    empty: dict[str, Any] = {field.name: 0 if field.type is int else {} for field in fields}
    return HubStats(**{name: told.get(name, nothing) for name, nothing in empty.items()})


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
