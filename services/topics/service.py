"""Publishes on topics of the application, and reads what was published, in Redis."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.topics.names import check_topic
from tornado_rt.batcher import Batcher
from tornado_rt.bounds import check_json
from tornado_rt.feed import Opening
from tornado_rt.protocol import Cursor, Message, ResyncReason, app_topic, channel
from tornado_rt.redis import KEY_TYPES, SHARED_HOME

log = structlog.get_logger(__name__)

FOLDER = Path(__file__).parent
TOPIC_PREFIX = SHARED_HOME + "topic:"
LOG_PREFIX = SHARED_HOME + "topic-log:"
CALL_PREFIX = SHARED_HOME + "topic-call:"
# A call is repeated when its reply was lost, within seconds.
CALL_SECONDS = 60.0
# Most topics that are read in one pipeline.
READ_TOGETHER = 100

# For each topic: the epoch, the number of the last message, the number of the first one here, the
# messages.
Kept = tuple[str, int, int, list[Message]]


@attrs.frozen
class PublishRequest:
    """The body of `POST /api/publish`; `data` is any JSON."""

    topic: str
    data: Any = None


class TopicService:
    """Topics of the application. Each keeps its last `kept` messages for `seconds`."""

    def __init__(self, redis: Redis, *, kept: int, seconds: float, message_bytes: int) -> None:
        self._redis = redis
        self._publish = redis.register_script(KEY_TYPES + (FOLDER / "publish.lua").read_text())
        self._read = redis.register_script(KEY_TYPES + (FOLDER / "read.lua").read_text())
        # Those who come back with a hundred topics ask a few times.
        self._reads: Batcher[tuple[str, int], Kept] = Batcher(
            self._read_all, "read-topics", together=READ_TOGETHER, common=(RedisError, OSError)
        )
        self._kept = kept
        self._milliseconds = int(seconds * 1000)
        self._message_bytes = message_bytes

    async def publish(self, topic: str, data: Any) -> str:
        """Publish to all who follow the topic; return the id of the message.

        Raise OutOfBounds for a wrong topic, or data that is too large or too deep.
        """
        check_topic(topic)
        encoded = check_json("data", data, self._message_bytes)
        call = CALL_PREFIX + secrets.token_hex(16)
        id_: bytes = await self._publish(
            [*_keys(topic), call],
            [
                channel(app_topic(topic)),
                encoded,
                _new_epoch(),
                self._kept,
                self._milliseconds,
                int(CALL_SECONDS * 1000),
            ],
        )
        return id_.decode()

    async def read(self, topic: str, after: Cursor | None) -> Opening:
        """Return what was published after a cursor; without one, the last message as a snapshot."""
        wanted = -1 if after is None else after.offset
        epoch, last, first, kept = await self._reads.ask((topic, wanted))
        cursor = Cursor(epoch, last)
        if after is None:
            snapshot = orjson.Fragment(kept[-1].data) if kept else None
            return Opening({"snapshot": snapshot}, (), cursor, cursor)
        resync = None
        if after.epoch != epoch or after.offset > last:
            resync = ResyncReason.EPOCH
            epoch, last, first, kept = await self._reads.ask((topic, 0))
        elif first > after.offset + 1:
            resync = ResyncReason.TRIMMED
        # A resync stands where a client resumes that has seen nothing of what comes after it.
        begin = cursor if resync is None else Cursor(epoch, first - 1)
        return Opening({}, tuple(kept), begin, Cursor(epoch, last), resync)

    async def read_heads(self, topics: Sequence[str]) -> Mapping[str, Cursor]:
        """Return where each topic ends, of those that there are."""
        pipeline = self._redis.pipeline(transaction=False)
        for topic in topics:
            pipeline.hmget(_keys(topic)[0], ["epoch", "seq"])
        found = await pipeline.execute()
        return {
            topic: Cursor(epoch.decode(), int(seq or 0))
            for topic, (epoch, seq) in zip(topics, found, strict=True)
            if epoch is not None
        }

    async def close(self) -> None:
        """End what is under way."""
        await self._reads.close()

    async def _read_all(self, asked: list[tuple[str, int]]) -> list[Kept]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for topic, after in asked:
                arguments = [_new_epoch(), str(self._milliseconds), str(after)]
                await self._read(_keys(topic), arguments, client=pipe)
            replies = await pipe.execute()
        return [
            (epoch.decode(), last, first, list(_readable(kept)))
            for epoch, last, first, kept in replies
        ]


def _readable(kept: Sequence[bytes]) -> Iterator[Message]:
    """Yield the messages, without what another program has put among them."""
    for envelope in kept:
        try:
            message = Message.decode(envelope)
        except (ValueError, TypeError):
            log.warning("bad_envelope_kept")
            continue
        if message.cursor is not None:
            yield message


def _keys(topic: str) -> list[str]:
    return [TOPIC_PREFIX + topic, LOG_PREFIX + topic]


def _new_epoch() -> str:
    return secrets.token_hex(8)
