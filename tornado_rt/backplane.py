"""This process's one Redis subscription connection, shared by all its subscribers.

Redis Pub/Sub loses what was published while the connection was away. redis-py subscribes again by
itself; the repeated confirmation is the sign of a gap, which is reported for each topic.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tornado_rt.jobs import Jobs
from tornado_rt.metrics import Metrics
from tornado_rt.protocol import CHANNEL_PREFIX, CONTROL, Message, channel

log = structlog.get_logger(__name__)

SUBSCRIBE_SECONDS = 2.0
RETRY_SECONDS = 0.2

Deliver = Callable[[str, Message], None]


class BackplaneDown(Exception):
    """Redis did not confirm a subscription in time."""


class Backplane:
    """Subscribes topics, publishes messages, and hands what arrives to `deliver`.

    `decode` reads an envelope; it raises ValueError for what is none. A topic is in `_confirmed`
    from Redis's confirmation until `unsubscribe`.
    """

    def __init__(
        self,
        redis: Redis,
        deliver: Deliver,
        gap: Callable[[str], None],
        metrics: Metrics,
        decode: Callable[[bytes], Message] = Message.decode,
    ) -> None:
        self._redis = redis
        self._deliver = deliver
        self._gap = gap
        self._metrics = metrics
        self._decode = decode
        self._pubsub = redis.pubsub()
        self._wanted: set[str] = set()
        self._confirmed: set[str] = set()
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._unwanted: set[str] = set()
        self._unwanted_event = asyncio.Event()
        self._sending = asyncio.Lock()
        self._connected = False
        self._jobs = Jobs()

    @property
    def alive(self) -> bool:
        """Whether the subscription connection is up and read."""
        return self._connected and not self._jobs.died

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read and keep the subscription until the block ends."""
        self._wanted.add(CONTROL)
        # With nothing subscribed, reading ends at once.
        await self._pubsub.subscribe(channel(CONTROL))
        self._jobs.start(self._read(), "backplane-reader")
        self._jobs.start(self._drop_unwanted(), "backplane-unsubscriber")
        try:
            yield
        finally:
            await self._jobs.close()
            await self._pubsub.aclose()  # type: ignore[no-untyped-call]

    async def subscribe(self, topic: str) -> None:
        """Return once Redis has confirmed. Raise BackplaneDown after 2 s."""
        self._wanted.add(topic)
        if topic in self._confirmed:
            return
        confirmation = self._waiting.get(topic)
        try:
            async with asyncio.timeout(SUBSCRIBE_SECONDS):
                if confirmation is None:
                    confirmation = self._waiting[topic] = asyncio.Future()
                    await self._send_subscribe(topic)
                await asyncio.shield(confirmation)
        except (TimeoutError, RedisError, OSError) as error:
            self._waiting.pop(topic, None)
            raise BackplaneDown(f"Redis did not confirm the subscription: {error!r}") from error

    def unsubscribe(self, topic: str) -> None:
        """Stop following the topic; Redis is told by a background job."""
        self._wanted.discard(topic)
        self._confirmed.discard(topic)
        self._unwanted.add(topic)
        self._unwanted_event.set()

    async def publish(self, topic: str, message: Message) -> None:
        """Send to every process. Without Redis only our own subscribers get it. Never raises."""
        try:
            await self._redis.publish(channel(topic), message.encode())
        except (RedisError, OSError) as error:
            log.warning("publish_degraded", topic=topic, error=repr(error))
            self._metrics.degraded.inc()
            self._deliver(topic, message)

    async def _send_subscribe(self, topic: str) -> None:
        async with self._sending:
            await self._pubsub.subscribe(channel(topic))

    async def _drop_unwanted(self) -> None:
        while True:
            await self._unwanted_event.wait()
            self._unwanted_event.clear()
            async with self._sending:
                topics = [topic for topic in self._unwanted if topic not in self._wanted]
                self._unwanted.clear()
                await self._send_unsubscribe(topics)

    async def _send_unsubscribe(self, topics: list[str]) -> None:
        if not topics:
            return
        try:
            await self._pubsub.unsubscribe(*map(channel, topics))
        except (RedisError, OSError):
            # redis-py has forgotten them: the next connection does not subscribe them again.
            log.debug("unsubscribe_unsent", topics=len(topics))

    async def _read(self) -> None:
        while True:
            try:
                async for item in self._pubsub.listen():
                    self._dispatch(item)
            except (RedisError, OSError) as error:
                self._note_connected(False)
                log.warning("backplane_away", error=repr(error))
            await asyncio.sleep(RETRY_SECONDS)

    def _dispatch(self, item: dict[str, Any]) -> None:
        name = item["channel"].decode()
        topic = name.removeprefix(CHANNEL_PREFIX)
        if item["type"] == "message":
            self._receive(topic, item["data"])
        elif item["type"] == "subscribe":
            self._confirm(topic)

    def _receive(self, topic: str, envelope: bytes) -> None:
        try:
            message = self._decode(envelope)
        except ValueError:
            log.warning("bad_envelope", topic=topic)
            return
        self._deliver(topic, message)

    def _confirm(self, topic: str) -> None:
        self._note_connected(True)
        if topic not in self._wanted:
            return
        if topic in self._confirmed:
            self._metrics.resyncs.inc()
            self._gap(topic)
        self._confirmed.add(topic)
        confirmation = self._waiting.pop(topic, None)
        if confirmation is not None and not confirmation.done():
            confirmation.set_result(None)

    def _note_connected(self, connected: bool) -> None:
        self._connected = connected
        self._metrics.backplane_up.set(connected)
