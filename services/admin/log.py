"""The log of what admins changed: a stream in Redis, beside the queue."""

from datetime import UTC, datetime
from typing import Any

import attrs
import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tornado_rt.noting import Act
from tornado_rt.protocol import iso_time

log = structlog.get_logger(__name__)

# Most entries of one page that are read when those of one user are asked for.
LOOKED_AT = 2000
READ_AT_ONCE = 200
# Greatest value of each of the two numbers of an id.
GREATEST = 2**64 - 1


class AdminLog:
    """Keeps the last `most` acts; 0: none. All commands and processes of a queue share it."""

    def __init__(self, redis: Redis, prefix: str, most: int) -> None:
        self._redis = redis
        self._key = f"{prefix}admin_log"
        self._most = most

    async def note(self, act: Act) -> None:
        """Keep an act. While Redis is away it stands in the server's own log alone."""
        if act.via == "http":
            log.info("admin_act", user_id=act.user_id, action=act.action, status=act.status)
        if not self._most:
            return
        entry: Any = {"act": orjson.dumps(attrs.asdict(act))}
        try:
            await self._redis.xadd(self._key, entry, maxlen=self._most, approximate=False)
        except (RedisError, OSError) as error:
            log.warning("admin_act_not_kept", action=act.action, error=error)

    async def read(self, before: str, limit: int, user_id: str = "") -> dict[str, Any]:
        """Return a page, the newest first, as it is on the wire; "" for any user.

        A page of one user looks at 2,000 entries at most, and may have fewer than `limit` and go on
        all the same.
        """
        found: list[dict[str, Any]] = []
        place = before
        for _ in range(0, LOOKED_AT, READ_AT_ONCE):
            if not (newest := _newest_before(place)):
                return {"items": found, "next": None}
            part: Any = await self._redis.xrevrange(self._key, newest, "-", count=READ_AT_ONCE)
            for id_, fields in part:
                if len(found) == limit:
                    return {"items": found, "next": place}
                place = id_.decode()
                act = orjson.loads(fields[b"act"])
                if user_id in ("", act["user_id"]):
                    found.append({"id": place, "at": _time_of(place), **act})
            if len(part) < READ_AT_ONCE:
                return {"items": found, "next": None}
        return {"items": found, "next": place}


def _newest_before(place: str) -> str:
    """Return the greatest id before a place, which is any two numbers; "" when there is none."""
    if not place:
        return "+"
    milliseconds, number = (min(int(one), GREATEST) for one in place.split("-"))
    if number:
        return f"{milliseconds}-{number - 1}"
    return f"{milliseconds - 1}-{GREATEST}" if milliseconds else ""


def _time_of(id_: str) -> str:
    """Return when an entry was made: Redis's clock."""
    return iso_time(datetime.fromtimestamp(int(id_.partition("-")[0]) / 1000, UTC))
