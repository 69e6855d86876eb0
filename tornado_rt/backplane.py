"""This process's one Redis subscription connection, shared by all its subscribers.

Redis Pub/Sub loses what was published while the connection was away. After a lost connection comes
a new one, on which all topics are subscribed again; the repeated confirmation is the sign of a gap,
which is reported for each topic.

Only the reader connects. redis-py's PubSub would let a sender connect too, and two that read the
answers of one handshake break it: so nothing is sent before the handshake is over, or repeated.

A probe that this process publishes to itself shows every second that Redis answers and that the
subscription brings what is published.

It is long because the reader, the probe and the repair share the state of one connection.
"""

import asyncio
import contextlib
import math
import secrets
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from tornado_rt.batcher import Batcher
from tornado_rt.jobs import Jobs
from tornado_rt.metrics import Metrics
from tornado_rt.protocol import CHANNEL_PREFIX, CONTROL, Message, channel, probe_topic

log = structlog.get_logger(__name__)

SUBSCRIBE_SECONDS = 1.2
RETRY_SECONDS = 0.2
PROBE_SECONDS = 1.0
# A subscription without a probe for this long is dead [s].
SILENT_SECONDS = 3.0
# Clients learn of an outage that lasts this long [s].
PATIENCE_SECONDS = 0.5
# Most topics in one SUBSCRIBE, and most messages in one pipeline.
TOGETHER = 1000
PUBLISHED_TOGETHER = 500
# Retries nothing, and does not connect again before it gives up.
NEVER = Retry(NoBackoff(), 0, ())


Waiting = list["asyncio.Future[None]"]


class BackplaneDown(Exception):
    """Redis did not confirm a subscription in time."""


class MessageListener(Protocol):
    """Receives what the backplane brings. No method waits or raises."""

    def deliver(self, topic: str, message: Message) -> None:
        """Take a message of a topic."""
        ...

    def gap(self, topic: str) -> None:
        """Learn that messages of a topic may have been lost."""
        ...

    def outage(self, down: bool) -> None:
        """Learn that Redis is away, or back."""
        ...


class Nobody:
    """Listens while there is no hub."""

    def deliver(self, topic: str, message: Message) -> None:
        pass

    def gap(self, topic: str) -> None:
        pass

    def outage(self, down: bool) -> None:
        pass


class Backplane:
    """Subscribes topics, publishes messages, and hands what arrives to the listener while it runs.

    A topic is in `_confirmed` from Redis's confirmation until `unsubscribe`. It is down from the
    first sign that Redis does not answer or the subscription is cut, until both work again.
    """

    def __init__(self, redis: Redis, metrics: Metrics) -> None:
        self._redis = redis
        self._listener: MessageListener = Nobody()
        self._sender: Batcher[tuple[str, bytes], None] = Batcher(
            self._publish_all, "publish", together=PUBLISHED_TOGETHER, common=(RedisError, OSError)
        )
        self._metrics = metrics
        # None while there is no connection that may be sent to.
        self._pubsub: PubSub | None = None
        self._wanted: set[str] = set()
        self._confirmed: set[str] = set()
        # Those who wait for each topic that Redis has still to confirm, and until when they do, the
        # first to give up first: thousands that come at once share a timer.
        self._waiting: dict[str, Waiting] = {}
        self._deadlines: deque[tuple[float, str, Waiting]] = deque()
        self._giving_up: asyncio.TimerHandle | None = None
        # Changes that the sender has still to send to Redis; `_changed` wakes it.
        self._unsent: list[str] = []
        self._unwanted: set[str] = set()
        self._changed = asyncio.Event()
        self._probe = probe_topic(secrets.token_hex(8))
        self._heard_at = 0.0
        self._connected = True
        self._answers = True
        self._down = False
        # Whether the subscription was cut since Redis went away: then each topic's gap is reported
        # when it is confirmed again.
        self._was_cut = False
        self._told = False
        self._telling: asyncio.TimerHandle | None = None
        self._jobs = Jobs()

    @property
    def alive(self) -> bool:
        """Whether Redis answers and the subscription is up and read."""
        return not (self._down or self._jobs.died)

    @contextlib.asynccontextmanager
    async def running(self, listener: MessageListener) -> AsyncIterator[None]:
        """Read and keep the subscription for a listener until the block ends."""
        self._listener = listener
        self._wanted.update((CONTROL, self._probe))
        await self._open()
        self._heard_at = time.monotonic()
        self._metrics.backplane_up.set(True)
        self._jobs.keep(self._read, "backplane-reader")
        self._jobs.keep(self._send_changes, "backplane-sender")
        self._jobs.keep(self._watch, "backplane-watch")
        try:
            yield
        finally:
            for timer in (self._telling, self._giving_up):
                if timer is not None:
                    timer.cancel()
            await self._jobs.close()
            await self._sender.close()

    async def subscribe(self, topic: str) -> None:
        """Return once Redis has confirmed.

        Raise BackplaneDown when it has not 1.2 s after it was asked, and at once when it is down.
        """
        self._wanted.add(topic)
        if topic in self._confirmed:
            return
        if self._down:
            raise BackplaneDown("Redis is away")
        loop = asyncio.get_running_loop()
        waiting = self._waiting.get(topic)
        if waiting is None:
            waiting = self._waiting[topic] = []
            self._deadlines.append((loop.time() + SUBSCRIBE_SECONDS, topic, waiting))
            if self._giving_up is None:
                self._giving_up = loop.call_later(SUBSCRIBE_SECONDS, self._give_up)
            self._unsent.append(topic)
            self._changed.set()
        confirmed: asyncio.Future[None] = loop.create_future()
        waiting.append(confirmed)
        await confirmed

    def unsubscribe(self, topic: str) -> None:
        """Stop following the topic; a background job unsubscribes it."""
        self._wanted.discard(topic)
        self._confirmed.discard(topic)
        self._leave(topic)

    async def publish(self, topic: str, message: Message) -> bool:
        """Send to every process; say whether Redis took it. Never raises.

        Without Redis only our own subscribers get it; nobody waits for one that is known to be
        away.
        """
        if self._answers:
            try:
                await self._sender.ask((channel(topic), message.encode()))
                return True
            except (RedisError, OSError) as error:
                log.warning("publish_degraded", topic=topic, error=error)
                self._note(answers=False)
        self._metrics.degraded.inc()
        self._listener.deliver(topic, message)
        return False

    async def _publish_all(self, some: list[tuple[str, bytes]]) -> list[None]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for name, envelope in some:
                pipe.publish(name, envelope)
            await pipe.execute()
        return [None] * len(some)

    def _give_up(self) -> None:
        """Tell those whose time is up, and wait for the next of them."""
        loop = asyncio.get_running_loop()
        self._giving_up = None
        while self._deadlines:
            deadline, topic, waiting = self._deadlines[0]
            if deadline > loop.time():
                self._giving_up = loop.call_at(deadline, self._give_up)
                return
            self._deadlines.popleft()
            if self._waiting.get(topic) is waiting:
                # The next caller asks Redis again.
                del self._waiting[topic]
                for confirmed in waiting:
                    if not confirmed.done():
                        error = BackplaneDown("Redis did not confirm the subscription")
                        confirmed.set_exception(error)

    def _leave(self, topic: str) -> None:
        self._unwanted.add(topic)
        self._changed.set()

    async def _send_changes(self) -> None:
        """Subscribe and unsubscribe topics; the changes of one moment together."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            wanted = [topic for topic in self._unsent if topic in self._wanted]
            unwanted = [topic for topic in self._unwanted if topic not in self._wanted]
            self._unsent.clear()
            self._unwanted.clear()
            try:
                await _in_parts(self._connected_pubsub().subscribe, wanted)
                await _in_parts(self._connected_pubsub().unsubscribe, unwanted)
            except (RedisError, OSError) as error:
                # The next connection subscribes what is wanted then.
                log.debug("changes_unsent", error=error)

    def _connected_pubsub(self) -> PubSub:
        connection: Any = None if self._pubsub is None else self._pubsub.connection
        if self._pubsub is None or not connection.is_connected:
            raise RedisConnectionError("there is no subscription now")
        return self._pubsub

    async def _open(self) -> PubSub:
        """Subscribe all that is wanted on a new connection. Raise RedisError or OSError."""
        pubsub = self._redis.pubsub(push_handler_func=_as_it_is)
        try:
            await _in_parts(pubsub.subscribe, list(self._wanted))
        except BaseException:
            await pubsub.aclose()  # type: ignore[no-untyped-call]
            raise
        self._pubsub = pubsub
        return pubsub

    async def _read(self) -> None:
        while True:
            try:
                await self._read_one(self._pubsub or await self._open())
            except (RedisError, OSError) as error:
                log.warning("backplane_away", error=error)
            self._note(connected=False)
            await asyncio.sleep(RETRY_SECONDS)

    async def _read_one(self, pubsub: PubSub) -> None:
        """Read until the connection is lost, which is raised.

        `PubSub.listen` would connect again, and takes as long as all that is done with a message.
        """
        connection: Any = pubsub.connection
        usual, connection.retry = connection.retry, NEVER
        try:
            while True:
                pushed = await connection.read_response(
                    timeout=math.inf, disconnect_on_error=False, push_request=True
                )
                if pushed is None:
                    # It was for redis-py.
                    continue
                if pushed[0] == b"unsubscribe":
                    # redis-py keeps a list of those that are still to come.
                    await pubsub.handle_message(pushed)  # type: ignore[no-untyped-call]
                self._dispatch(*pushed)
        finally:
            self._pubsub = None
            # It goes back to the pool, for the commands of anybody.
            connection.retry = usual
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _watch(self) -> None:
        silent_since = time.monotonic()
        while True:
            await asyncio.sleep(RETRY_SECONDS if self._down else PROBE_SECONDS)
            self._note(answers=await self._publish_probe())
            silent_since = max(silent_since, self._heard_at)
            if not self._answers:
                silent_since = time.monotonic()
            elif time.monotonic() - silent_since > SILENT_SECONDS:
                log.warning("backplane_silent")
                silent_since = time.monotonic()
                await self._cut()

    async def _publish_probe(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._redis.publish(channel(self._probe), b"")
        except (RedisError, OSError, TimeoutError):
            return False
        return True

    async def _cut(self) -> None:
        """Make the reader connect again."""
        if self._pubsub is not None:
            connection: Any = self._pubsub.connection
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect()

    def _dispatch(self, kind: bytes, name: bytes, data: Any) -> None:
        topic = name.decode().removeprefix(CHANNEL_PREFIX)
        self._heard_at = time.monotonic()
        if kind == b"subscribe":
            self._confirm(topic)
        elif kind == b"message" and topic != self._probe:
            self._receive(topic, data)

    def _receive(self, topic: str, envelope: bytes) -> None:
        try:
            message = Message.decode(envelope)
        except (ValueError, TypeError):
            # The latter for what nests deeper than can be written again.
            log.warning("bad_envelope", topic=topic)
            return
        self._listener.deliver(topic, message)

    def _confirm(self, topic: str) -> None:
        self._note(connected=True)
        if topic not in self._wanted:
            # It was left while the connection was being made.
            self._leave(topic)
            return
        if topic in self._confirmed:
            self._metrics.resyncs.inc()
            self._listener.gap(topic)
        self._confirmed.add(topic)
        for confirmed in self._waiting.pop(topic, ()):
            # Its client may have left.
            if not confirmed.done():
                confirmed.set_result(None)

    def _note(self, *, connected: bool | None = None, answers: bool | None = None) -> None:
        self._connected = self._connected if connected is None else connected
        self._answers = self._answers if answers is None else answers
        self._was_cut = self._was_cut or not self._connected
        down = not (self._connected and self._answers)
        if down == self._down:
            return
        self._down = down
        self._metrics.backplane_up.set(not down)
        if down:
            loop = asyncio.get_running_loop()
            self._telling = loop.call_later(PATIENCE_SECONDS, self._tell)
        else:
            self._return()

    def _tell(self) -> None:
        self._telling, self._told = None, True
        log.warning("redis_away")
        self._listener.outage(True)

    def _return(self) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if not self._was_cut:
            # Redis stood still: others may have given up publishing, and reached only their own.
            for topic in tuple(self._confirmed):
                self._listener.gap(topic)
        self._was_cut = False
        if self._told:
            self._told = False
            log.warning("redis_back")
            self._listener.outage(False)


async def _as_it_is(pushed: list[Any]) -> list[Any]:
    """Return what Redis has pushed; redis-py's own writes all of it out, for a log."""
    return pushed


async def _in_parts(change: Callable[..., Awaitable[object]], topics: list[str]) -> None:
    for start in range(0, len(topics), TOGETHER):
        await change(*map(channel, topics[start : start + TOGETHER]))
