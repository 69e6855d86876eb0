"""The past of the queue: points every 5 and 60 seconds, a bounded number of each, kept in Redis.

Each process may make a point; the first one does, and its point is published.
"""

import asyncio
import time
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import attrs
import orjson
import structlog
from redis.exceptions import RedisError

from services.kinds import RESERVED
from services.queue import KindState, QueueService
from tornado_rt.feed import Opening
from tornado_rt.protocol import Cursor, Message, MessageType, ResyncReason, iso_time

log = structlog.get_logger(__name__)

EPOCH = "series"
ENDS = ("completed", "failed", "cancelled", "dead")
# Of more kinds a point has those that have done most.
MOST_KINDS = 200


class Resolution(IntEnum):
    """The time between two points [s]."""

    SHORT = 5
    LONG = 60


# Points that are kept of each: an hour, and a day.
KEPT = {Resolution.SHORT: 720, Resolution.LONG: 1440}


class Series:
    """Makes the points, and reads them."""

    def __init__(self, queue: QueueService) -> None:
        self._queue = queue

    async def run(self) -> None:
        """Make points until cancelled."""
        while True:
            await asyncio.sleep(Resolution.SHORT - time.time() % Resolution.SHORT)
            try:
                await self.make_points()
            except (RedisError, OSError) as error:
                log.debug("series_waits", error=error)

    async def make_points(self) -> None:
        """Make the points whose time has come, unless another process has made them."""
        now = time.time()
        due = [step for step in Resolution if await self._queue.last_point(step) < now // step]
        if not due:
            return
        point = orjson.dumps(await self._point())
        for step in due:
            await self._queue.keep_point(step, int(now // step), point, KEPT[step])

    async def read(self, step: Resolution) -> dict[str, Any]:
        """Return a series as it is on the wire, the oldest point first."""
        points = [orjson.Fragment(point) for _, point in await self._queue.read_points(step)]
        return {"step": int(step), "points": points}

    async def follow(self, after: Cursor | None) -> Opening:
        """Return the points of the short step behind a cursor; without one the newest."""
        if after is None or after.epoch != EPOCH:
            points = await self._queue.read_points(Resolution.SHORT, 1)
            number, point = points[-1] if points else (0, b"null")
            here = Cursor(EPOCH, number)
            lost = None if after is None else ResyncReason.EPOCH
            messages = () if after is None else (_message(number, point),)
            state = {"snapshot": orjson.Fragment(point)} if after is None else {}
            return Opening(state, messages, Cursor(EPOCH, max(number - 1, 0)), here, lost)
        points = await self._queue.read_points(Resolution.SHORT)
        newer = [_message(number, point) for number, point in points if number > after.offset]
        last = points[-1][0] if points else after.offset
        return Opening({}, tuple(newer), after, Cursor(EPOCH, max(last, after.offset)))

    async def _point(self) -> dict[str, Any]:
        states = await self._queue.read_kinds()
        ends = await self._queue.read_ends()
        return {
            "at": iso_time(),
            "submitted": await self._queue.count_submitted(),
            "stats": attrs.asdict(await self._queue.stats()),
            "kinds": dict(_busiest(states, ends)),
        }


def describe_kind(state: KindState, ends: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Return how a kind stands: what waits and runs, and how many tasks have ended."""
    of_kind = ends.get(state.entry.kind, {})
    oldest = state.oldest_seconds
    return {
        "queued": state.queued,
        "running": state.running,
        "oldest_seconds": None if oldest is None else round(oldest, 3),
        **{status: of_kind.get(status, 0) for status in ENDS},
    }


def is_shown(state: KindState) -> bool:
    """Say whether a kind is one of the application's; the entry over all kinds is none."""
    name = state.entry.kind
    return bool(name) and not name.startswith(RESERVED)


def _busiest(
    states: list[KindState], ends: dict[str, dict[str, int]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    told = {one.entry.kind: describe_kind(one, ends) for one in states if is_shown(one)}
    busy = {kind: one for kind, one in told.items() if any(one.values())}
    order = sorted(busy, key=lambda kind: -sum(value or 0 for value in busy[kind].values()))
    yield from ((kind, busy[kind]) for kind in sorted(order[:MOST_KINDS]))


def _message(number: int, point: bytes) -> Message:
    return Message(MessageType.MESSAGE, point, str(Cursor(EPOCH, number)))
