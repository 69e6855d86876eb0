"""The data version in Redis: the key `version` of the queue, and the steps from one to the next.

A step is one script for the records, a part of them at a time, and for what is left when all are
done. It may be cut off anywhere and repeated: each record says itself whether it was changed.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import structlog
from redis.asyncio import Redis

from services.analysis.earlier import digests_by_name, texts_by_digest
from services.migrations.version import DATA_VERSION, MADE_BY, DataRefused, check_version
from services.queue import key_prefix
from tornado_rt.protocol import CONTROL, channel

log = structlog.get_logger(__name__)

FOLDER = Path(__file__).parent
# A lock that its owner does not renew ends after this time.
LOCK_SECONDS = 10
# Another process has this long for the migration, and one that stops stays connected for this long
# [s].
WAIT_SECONDS = 300.0
LEAVE_SECONDS = 6.0
POLL_SECONDS = 0.1
PART = 200
FINISH = "finish"
# The version from which on plans have digests; before they had names.
DIGESTS_SINCE = 4
# Versions whose step is in MongoDB alone.
OF_MONGODB = {5}


async def read_redis_version(redis: Redis, queue_name: str) -> int | None:
    """Return the version, None where none is written. Raise DataRefused."""
    prefix = key_prefix(queue_name)
    if await redis.type(prefix + "version") not in (b"string", b"none"):
        raise DataRefused(f"{prefix}version in Redis is not a version: use another store")
    values: Any = await redis.mget(prefix + "version", prefix + "made_by")
    found, made_by = values
    if found is None:
        return None
    return check_version(
        "Redis", found.decode(errors="replace"), (made_by or b"").decode(errors="replace")
    )


async def has_queue(redis: Redis, queue_name: str) -> bool:
    """Say whether anything is stored of a queue. Raise DataRefused."""
    if await read_redis_version(redis, queue_name) is not None:
        return True
    # The first layouts name no version.
    keys = redis.scan_iter(match=key_prefix(queue_name) + "*", count=1000)
    return await anext(keys, None) is not None


async def prepare_redis(redis: Redis, queue_name: str) -> None:
    """Bring what is stored to this version. Raise DataRefused.

    One process does it, the others wait for it.
    """
    migration = _Migration(redis, key_prefix(queue_name))
    deadline = time.monotonic() + WAIT_SECONDS
    while await read_redis_version(redis, queue_name) != DATA_VERSION:
        if await migration.lock():
            try:
                await migration.run(await read_redis_version(redis, queue_name))
            finally:
                await migration.unlock()
        elif time.monotonic() > deadline:
            raise DataRefused(
                "another process migrates the data in Redis: start again when it is done"
            )
        else:
            await asyncio.sleep(POLL_SECONDS)


async def data_fault(redis: Redis, queue_name: str) -> str | None:
    """Return why what is stored cannot be read now; None when it can."""
    try:
        version = await read_redis_version(redis, queue_name)
    except DataRefused as error:
        return str(error)
    if version is None:
        version = await _Migration(redis, key_prefix(queue_name)).layout_of_first()
    return None if version == DATA_VERSION else f"the data in Redis has version {version}: restart"


class _Migration:
    """Brings the queue of one prefix to this version."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._lock = prefix + "migrating"
        self._token = secrets.token_hex(8)
        self._layout = redis.register_script((FOLDER / "layout.lua").read_text())

    async def lock(self) -> bool:
        """Take the lock, unless another process has it."""
        return bool(await self._redis.set(self._lock, self._token, nx=True, ex=LOCK_SECONDS))

    async def unlock(self) -> None:
        """Leave the lock to others, if it is still ours."""
        if await self._redis.get(self._lock) == self._token.encode():
            await self._redis.delete(self._lock)

    async def run(self, version: int | None) -> None:
        """Go from a version to this one; None: that of a layout that names none."""
        if version is None:
            version = await self._find_layout()
            # A process that goes on after us starts from here.
            await self._write(version)
        if version == DATA_VERSION:
            return
        await self._wait_for_others()
        for number in range(version + 1, DATA_VERSION + 1):
            log.info("data_migrates", store="redis", version=number)
            if number not in OF_MONGODB:
                await self._step(number)
            await self._write(number)

    async def layout_of_first(self) -> int:
        """Return the layout of the task that is the first in the line."""
        first: Any = await self._redis.zrange(self._prefix + "waiting", 0, 0)
        names = [b"task:" + id_ for id_ in first]
        return int(await self._layout(keys=[self._prefix], args=names))

    async def _find_layout(self) -> int:
        found = DATA_VERSION
        async for names in self._records():
            found = min(found, int(await self._layout(keys=[self._prefix], args=names)))
            await self._renew()
        return found

    async def _step(self, number: int) -> None:
        step = self._redis.register_script((FOLDER / f"to_{number}.lua").read_text())
        own = [orjson.dumps(digests_by_name())] if number == DIGESTS_SINCE else []
        async for names in self._records():
            await step(keys=[self._prefix], args=[*own, *names])
            await self._renew()
        await step(keys=[self._prefix], args=[*own, FINISH])
        if own:
            await self._keep_plans()

    async def _keep_plans(self) -> None:
        """Keep the texts of the plans that migrated tasks name."""
        used: Any = await self._redis.hkeys(self._prefix + "plan_uses")
        known = texts_by_digest()
        texts: Any = {digest: known[digest.decode()] for digest in used if digest.decode() in known}
        if texts:
            await self._redis.hset(self._prefix + "plans", mapping=texts)

    async def _wait_for_others(self) -> None:
        """Raise DataRefused when processes of the version that made the data go on running."""
        deadline = time.monotonic() + LEAVE_SECONDS
        while count := dict(await self._redis.pubsub_numsub(channel(CONTROL))).popitem()[1]:
            if time.monotonic() > deadline:
                raise DataRefused(
                    f"{count} processes of an earlier version use the data in Redis, which "
                    f"{MADE_BY} has to migrate: stop them, then start again"
                )
            await self._renew()
            await asyncio.sleep(POLL_SECONDS)

    async def _records(self) -> AsyncIterator[list[bytes]]:
        """Yield the names of all tasks and batches, a part at a time; some may come twice."""
        names: list[bytes] = []
        async for key in self._redis.scan_iter(match=self._prefix + "*", count=1000):
            name = key.removeprefix(self._prefix.encode())
            if name.startswith((b"task:", b"batch:")):
                names.append(name)
            if len(names) == PART:
                yield names
                names = []
        if names:
            yield names

    async def _renew(self) -> None:
        await self._redis.set(self._lock, self._token, ex=LOCK_SECONDS)

    async def _write(self, version: int) -> None:
        by = MADE_BY if version == DATA_VERSION else ""
        names = {"version": str(version), "made_by": by}
        await self._redis.mset({self._prefix + name: value for name, value in names.items()})
