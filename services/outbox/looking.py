"""Questions about the outbox that change nothing: its age, and whether it has an entry."""

import attrs
from redis.asyncio import Redis

from services.queue import key_prefix

# An entry is written by the script that ends its task, which may take this long at most. Most
# entries that are looked at, and of those that were set aside the last ones.
WRITTEN_WITHIN_MS = 1000
MOST_LOOKED_AT = 1000
# Entries that are set aside, the last ones; as many are looked at.
MAX_BAD = 1000


async def read_lag(redis: Redis, queue_name: str) -> float:
    """Return the age of the oldest entry of the outbox in seconds; 0 when there is none."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.xrange(stream_of(queue_name), count=1)
        pipe.time()
        oldest, (seconds, micros) = await pipe.execute()
    if not oldest:
        return 0.0
    written = int(oldest[0][0].partition(b"-")[0]) / 1000
    return float(max(seconds + micros / 1e6 - written, 0.0))


@attrs.frozen
class FoundEntry:
    """An entry of the outbox; `set_aside`: it cannot become a notification."""

    set_aside: bool


async def find_entry(
    redis: Redis, queue_name: str, event_id: str, ended_at: float
) -> FoundEntry | None:
    """Look for the entry of an end among those that are not told yet, and those set aside.

    The scripts write it when the task ends [s since the epoch].
    """
    stream, wanted = stream_of(queue_name), event_id.encode()
    begin = int(ended_at * 1000) - 1
    async with redis.pipeline(transaction=False) as pipe:
        pipe.xrange(stream, str(begin), str(begin + WRITTEN_WITHIN_MS), count=MOST_LOOKED_AT)
        pipe.xrevrange(stream + ":bad", count=MAX_BAD)
        waiting, aside = await pipe.execute()
    for entries, set_aside in ((waiting, False), (aside, True)):
        if any(fields.get(b"event_id") == wanted for _, fields in entries):
            return FoundEntry(set_aside)
    return None


def stream_of(queue_name: str) -> str:
    """Return the key of the outbox of a queue."""
    return key_prefix(queue_name) + "outbox"
