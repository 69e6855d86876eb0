"""The last connections of each user's devices, and why each was closed, in Redis.

Each process keeps what has changed, and writes it once a second, many users in one call: a
connection costs no round trip. More than a bound is not kept: then the newest are.
"""

import asyncio
import itertools
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import attrs
import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from settings import default
from tornado_rt.auth import Identity
from tornado_rt.census import Transport
from tornado_rt.protocol import tasks_topic, user_topic
from tornado_rt.redis import KEY_TYPES, SHARED_HOME, is_of_another_type

log = structlog.get_logger(__name__)

DEVICES = SHARED_HOME + "devices:"
KEEP = KEY_TYPES + (Path(__file__).parent / "devices.lua").read_text()
FLUSH_SECONDS = 1.0
# Connections that one call writes, and that wait to be written at most.
TOGETHER = 500
MOST_WAITING = 20_000
# Topics of a connection that are told, and the names of those that are the user's own.
MOST_TOPICS = 10
INBOX, ALL_TASKS = "me", "tasks"
# Says of a connection that its peer went without a word.
LOST = 1006


class Device(Protocol):
    """A connection of a user. `number` and `opened_at` are ours: 0 until it is opened."""

    identity: Identity
    transport: ClassVar[Transport]
    number: int
    opened_at: float

    @property
    def close_code(self) -> int:
        """Why it was closed; 0 while it is open."""

    def topics(self) -> Sequence[str]:
        """Return what it follows."""


@attrs.frozen
class DeviceRecord:
    """A connection of a user. Times are in seconds since the epoch.

    `closed_at` None: it is open, as far as is known. `is_cut`: its server was killed. `code` is the
    close code, also of an event stream. `topics` of an open connection of many may be empty.
    """

    opened_at: float
    closed_at: float | None
    code: int
    transport: str
    topics: Sequence[str]
    is_cut: bool = False

    def was_open(self, at: float) -> bool:
        """Say whether it was open at a time."""
        if self.opened_at > at or self.is_cut:
            return False
        return self.closed_at is None or self.closed_at > at

    def follows(self, *topics: str) -> bool:
        """Say whether it follows one of these, or may."""
        return not self.topics or any(one in self.topics for one in topics)


class Devices:
    """Keeps the last `most` connections of each user for `seconds`; `most` 0: of nobody.

    `process` is the name of this process, `alive` the key of a process that says so.
    """

    def __init__(
        self,
        redis: Redis,
        process: str,
        alive: str,
        *,
        most: int = default("devices_kept_per_user"),
        seconds: int = default("devices_kept_seconds"),
    ) -> None:
        self._redis = redis
        self._process = process
        self._alive = alive
        self._most = most
        self._seconds = seconds
        self._keep = redis.register_script(KEEP)
        self._numbers = itertools.count(1)
        # By the user and the name of the connection.
        self._waiting: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def opened(self, device: Device) -> None:
        """Note that a connection was opened."""
        if self._most:
            device.number, device.opened_at = next(self._numbers), time.time()
            self._note(device, 0.0)

    def closed(self, device: Device) -> None:
        """Note that a connection was closed; harmless when repeated, and of one not opened."""
        if device.number:
            self._note(device, time.time())
            device.number = 0

    async def run(self) -> None:
        """Write what has changed until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write what has changed; what cannot be written now is written later."""
        while self._waiting:
            part = dict(itertools.islice(self._waiting.items(), TOGETHER))
            try:
                await self._write(part)
            except (RedisError, OSError) as error:
                log.debug("devices_wait", error=error)
                if not is_of_another_type(error):
                    return
                # A key of a user is no hash: a hand has written it.
                await self._make_room(part)
            for key, value in part.items():
                if self._waiting.get(key) == value:
                    del self._waiting[key]

    async def read(self, user_id: str) -> list[DeviceRecord]:
        """Return a user's connections, the first first. Raise RedisError."""
        await self.flush()
        try:
            kept: Any = await self._redis.hgetall(DEVICES + user_id)
        except RedisError as error:
            if not is_of_another_type(error):
                raise
            kept = {}
        living: dict[str, bool] = {}
        found: list[DeviceRecord] = []
        for name, value in kept.items():
            process = name.decode(errors="replace").partition(":")[0]
            if process not in living:
                living[process] = process == self._process or bool(
                    await self._redis.exists(self._alive + process)
                )
            found += _read(value, is_living=living[process])
        return sorted(found, key=lambda one: one.opened_at)

    def _note(self, device: Device, closed_at: float) -> None:
        user_id = device.identity.user_id
        key = user_id, f"{self._process}:{device.number}"
        topics = list(itertools.islice(_names(device.topics(), user_id), MOST_TOPICS))
        told = [
            _in_milliseconds(device.opened_at),
            _in_milliseconds(closed_at),
            device.close_code,
            device.transport.value,
            topics,
        ]
        self._waiting[key] = orjson.dumps(told)
        if len(self._waiting) > MOST_WAITING:
            self._waiting.popitem(last=False)

    async def _write(self, part: dict[tuple[str, str], bytes]) -> None:
        arguments: list[str | bytes | int] = [self._most, self._seconds]
        for (user_id, name), value in part.items():
            arguments += [user_id, name, value]
        await self._keep(keys=[DEVICES], args=arguments)

    async def _make_room(self, part: dict[tuple[str, str], bytes]) -> None:
        """Delete the keys of these users that are no hashes."""
        for user_id in {user_id for user_id, _ in part}:
            if await self._redis.type(DEVICES + user_id) not in (b"hash", b"none"):
                await self._redis.delete(DEVICES + user_id)


def _in_milliseconds(seconds: float) -> float:
    # Python rounds to a number of digits by way of text.
    return round(seconds * 1000) / 1000


def _names(topics: Sequence[str], user_id: str) -> Iterator[str]:
    """Yield topics as a client names them; the application's own say nothing of tasks."""
    own = {user_topic(user_id): INBOX, tasks_topic(user_id): ALL_TASKS}
    for topic in topics:
        if topic in own:
            yield own[topic]
        elif topic.startswith(("task:", "batch:")):
            yield topic


def _read(value: bytes, *, is_living: bool) -> Iterator[DeviceRecord]:
    try:
        opened_at, closed_at, code, transport, topics = orjson.loads(value)
        record = DeviceRecord(
            float(opened_at),
            float(closed_at) or None,
            int(code),
            str(transport),
            [str(one) for one in topics],
            is_cut=not closed_at and not is_living,
        )
    except (ValueError, TypeError):
        # A later version may keep it in another form.
        return
    yield record
