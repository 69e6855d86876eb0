"""Publishing in few round trips: what is published in one moment goes in one pipeline."""

import asyncio
import contextvars
from collections import deque

import attrs
from redis.asyncio import Redis
from redis.exceptions import RedisError

# Most messages in one pipeline.
TOGETHER = 500


@attrs.frozen(eq=False)
class _Waiting:
    """A message, and who waits until Redis has it."""

    channel: str
    envelope: bytes
    taken: asyncio.Future[None]


class SharedPublish:
    """Publishes in the order of the calls."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: deque[_Waiting] = deque()
        self._job: asyncio.Task[None] | None = None

    async def publish(self, channel: str, envelope: bytes) -> None:
        """Return when Redis has taken it. Raise RedisError or OSError."""
        loop = asyncio.get_running_loop()
        one = _Waiting(channel, envelope, loop.create_future())
        self._waiting.append(one)
        if self._job is None:
            # It serves others too: it belongs to no handler that happens to be the first.
            context = contextvars.Context()
            self._job = loop.create_task(self._run(), name="shared-publish", context=context)
        await one.taken

    async def _run(self) -> None:
        try:
            while self._waiting:
                count = min(len(self._waiting), TOGETHER)
                await self._send([self._waiting.popleft() for _ in range(count)])
        finally:
            self._job = None
            while self._waiting:
                self._waiting.popleft().taken.cancel()

    async def _send(self, some: list[_Waiting]) -> None:
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for one in some:
                    pipe.publish(one.channel, one.envelope)
                await pipe.execute()
        except (RedisError, OSError) as error:
            for one in some:
                if not one.taken.done():
                    one.taken.set_exception(error)
            return
        except BaseException:
            for one in some:
                one.taken.cancel()
            raise
        for one in some:
            if not one.taken.done():
                one.taken.set_result(None)
