"""The outbox: what ended in Redis becomes one notification in MongoDB, whatever is killed when.

The script that ends a task appends an entry to the stream `{queue}:outbox`. The pump stores its
notification under the entry's `event_id`, hands its callback and its webhooks to the deliveries
under ids made of it, then removes the entry; cut off before that it finds the entry again, and each
of these finds what was done.
"""

import asyncio
import contextlib
import time
from collections import deque
from functools import partial
from typing import Any

import attrs
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from services.notifications import (
    NotificationService,
    NotStorable,
)
from services.outbox.entries import CALLBACK_ALONE, OutboxEvent
from services.outbox.looking import MAX_BAD, stream_of
from services.queue import QueueFull
from services.webhooks import WebhookService
from services.webhooks.sending import dropped
from tornado_rt.metrics import Metrics
from tornado_rt.tracing import within
from tornado_rt.turns import OUTAGES, NoTurn

log = structlog.get_logger(__name__)

GROUP = "notifications"
COUNT = 100
# Most entries that wait here, and most whose fields are kept meanwhile.
MOST_KNOWN = 10_000
MOST_HELD = 200
# Shorter than the client waits for any answer.
BLOCK_SECONDS = 0.5
# Longer than an entry takes: another pump will not finish an entry that it read this long ago.
CLAIM_SECONDS = 10.0
CLAIM_MS = int(CLAIM_SECONDS * 1000)
# Nobody else can have taken an entry over within this long after its reading [s].
OURS_SECONDS = CLAIM_SECONDS / 2
OURS_MS = int(OURS_SECONDS * 1000)
BACKOFF_SECONDS = 1.0

Fields = dict[bytes, bytes]


@attrs.define(eq=False)
class _Entry:
    """An entry that this process has read and not moved yet.

    `fields` are None while too many are held: they are read again. `read_at` is when Redis last
    said that it is ours, `told` whether only its removal is left.
    """

    id: bytes
    fields: Fields | None
    read_at: float
    told: bool = False


class OutboxPump:
    """Moves entries until cancelled; several processes may run one each.

    The entries of one user are moved in their order, and no user waits for another's: each has a
    line. `consumer` is this process's name, the same after a restart; `page` the path of the
    page that its links lead to, "" for none.
    """

    def __init__(
        self,
        redis: Redis,
        notifications: NotificationService,
        webhooks: WebhookService,
        *,
        queue_name: str,
        consumer: str,
        page: str = "/",
        metrics: Metrics | None = None,
    ) -> None:
        self._redis = redis
        self._notifications = notifications
        self._webhooks = webhooks
        self._stream = stream_of(queue_name)
        self._consumer = consumer
        self._page = page
        self._metrics = metrics or Metrics()
        self._lines: dict[bytes, deque[_Entry]] = {}
        self._movers: set[asyncio.Task[None]] = set()
        self._known: dict[bytes, _Entry] = {}
        self._held = 0
        # Cleared while the last one that was tried met an outage.
        self._flows = asyncio.Event()
        self._flows.set()
        # Up to where we looked at what this process had read before; None: at all of it.
        self._history: bytes | None = b"0"
        self._claim_at, self._claim_from = 0.0, b"0-0"
        # Made once: a Redis that is full refuses to make it again, also where it is.
        self._has_group = False

    async def run(self) -> None:
        """Pump until cancelled; an outage of either store is waited out."""
        try:
            while True:
                try:
                    await self._take_in(BLOCK_SECONDS)
                    continue
                except (RedisError, OSError) as error:
                    log.warning("outbox_waits", error=error)
                except Exception:
                    log.exception("outbox_failed")
                await asyncio.sleep(BACKOFF_SECONDS)
        finally:
            await self._stop()

    async def flush(self, seconds: float) -> None:
        """Move what is there now, for at most `seconds`; the rest is moved at the next start."""
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(seconds):
                while await self.pump(0):
                    pass

    async def pump(self, wait_seconds: float) -> int:
        """Move what is there, waiting for it at most `wait_seconds`; return how many were read."""
        count = await self._take_in(wait_seconds)
        if self._movers:
            await asyncio.wait(self._movers)
        return count

    async def _take_in(self, wait_seconds: float) -> int:
        """Read some entries and put each into its user's line."""
        if not self._flows.is_set() or len(self._known) >= MOST_KNOWN:
            # More of them would only wait here.
            await asyncio.sleep(BACKOFF_SECONDS)
            if len(self._known) >= MOST_KNOWN:
                return 0
        try:
            entries = await self._read(wait_seconds)
        except BaseException as error:
            # Entries that Redis has given out meanwhile are looked for the next time.
            self._history = b"0"
            # A Redis that was emptied has no group any more.
            self._has_group = self._has_group and "NOGROUP" not in str(error)
            raise
        for id_, fields in entries:
            self._line_up(id_, fields)
        return len(entries)

    def _line_up(self, id_: bytes, fields: Fields) -> None:
        now = time.monotonic()
        if id_ in self._known:
            self._known[id_].read_at = now
            return
        entry = self._known[id_] = _Entry(id_, fields if self._held < MOST_HELD else None, now)
        self._held += entry.fields is not None
        user_id = fields.get(b"user_id", b"")
        if user_id in self._lines:
            self._lines[user_id].append(entry)
            return
        self._lines[user_id] = deque([entry])
        mover = asyncio.create_task(self._move_line(user_id), name="outbox-line")
        self._movers.add(mover)
        mover.add_done_callback(self._movers.discard)

    async def _move_line(self, user_id: bytes) -> None:
        line = self._lines[user_id]
        while line:
            if await self._is_moved(line[0]):
                self._forget(line.popleft())
            else:
                await asyncio.sleep(BACKOFF_SECONDS)
        del self._lines[user_id]

    async def _is_moved(self, entry: _Entry) -> bool:
        """Try once; False: another time may be better."""
        try:
            await self._move(entry)
        except NoTurn as error:
            # The user asks for this themselves.
            log.info("outbox_user_busy", error=error)
            return False
        except OUTAGES as error:
            if self._flows.is_set():
                log.warning("outbox_waits", error=error)
            self._flows.clear()
            return False
        except Exception:
            log.exception("outbox_failed")
            return False
        self._flows.set()
        return True

    def _forget(self, entry: _Entry) -> None:
        self._held -= entry.fields is not None
        del self._known[entry.id]

    async def _stop(self) -> None:
        for mover in self._movers:
            mover.cancel()
        await asyncio.gather(*self._movers, return_exceptions=True)
        # All of it is read again.
        self._lines.clear()
        self._known.clear()
        self._held, self._history = 0, b"0"

    async def _read(self, wait_seconds: float) -> list[tuple[bytes, Fields]]:
        await self._ensure_group()
        if self._history is not None and (own := await self._read_group(self._history)):
            self._history = own[-1][0]
            return [(id_, fields) for id_, fields in own if fields]
        self._history = None
        if time.monotonic() >= self._claim_at and (left := await self._claim_left()):
            return left
        found = await self._read_group(b">", int(wait_seconds * 1000) or None)
        return [(id_, fields) for id_, fields in found if fields]

    async def _read_group(
        self, after: bytes, wait_ms: int | None = None
    ) -> list[tuple[bytes, Fields | None]]:
        found: Any = await self._redis.xreadgroup(
            GROUP, self._consumer, {self._stream: after}, count=COUNT, block=wait_ms
        )
        if not found:
            return []
        batches = found.values() if isinstance(found, dict) else [found[0][1]]
        return [entry for batch in batches for entry in _flat(batch)]

    async def _claim_left(self) -> list[tuple[bytes, Fields]]:
        """Take over what another pump has read long ago; it has ended."""
        left: Any = await self._redis.xautoclaim(
            self._stream, GROUP, self._consumer, CLAIM_MS, self._claim_from, count=COUNT
        )
        self._claim_from = left[0]
        more = self._claim_from != b"0-0"
        self._claim_at = 0.0 if more else time.monotonic() + CLAIM_SECONDS
        return [(id_, fields) for id_, fields in left[1] if fields]

    async def _ensure_group(self) -> None:
        if self._has_group:
            return
        try:
            await self._redis.xgroup_create(self._stream, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._has_group = True

    async def _move(self, entry: _Entry) -> None:
        if not entry.told:
            fields = await self._fields_of(entry)
            if fields is None:
                return
            await self._tell(entry.id, fields)
            entry.told = True
        # A transaction would be refused by a Redis that is full. Cut off between the two, an entry
        # that is not there stays listed as read.
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xdel(self._stream, entry.id)
            pipe.xack(self._stream, GROUP, entry.id)
            await pipe.execute()

    async def _fields_of(self, entry: _Entry) -> Fields | None:
        """Return them; None: the entry is moved, or another process moves it."""
        if time.monotonic() - entry.read_at < OURS_SECONDS:
            if entry.fields is not None:
                return entry.fields
            found: Any = await self._redis.xrange(self._stream, entry.id, entry.id)
        else:
            # Only while nobody else took it over: of two who say so at once one is told no.
            found = await self._redis.xclaim(
                self._stream, GROUP, self._consumer, OURS_MS, [entry.id]
            )
            entry.read_at = time.monotonic()
            if not found and await self._is_ours(entry):
                # Redis has just given it out to us once more, and we have not read that yet.
                found = await self._redis.xrange(self._stream, entry.id, entry.id)
        return found[0][1] if found else None

    async def _is_ours(self, entry: _Entry) -> bool:
        pending = await self._redis.xpending_range(self._stream, GROUP, entry.id, entry.id, 1)
        return bool(pending) and pending[0]["consumer"] == self._consumer.encode()

    async def _tell(self, id_: bytes, fields: Fields) -> None:
        try:
            event = OutboxEvent.of(fields)
            if event.kind == "withdraw":
                await self._notifications.withdraw(event.user_id, event.withdrawn)
                return
            with within(event.job.trace):
                if fields.get(b"notify") != CALLBACK_ALONE:
                    await self._notify(event)
                if event.callback_url:
                    await self._call_back(event)
                if event.webhook_type:
                    await self._tell_webhooks(event)
        except OUTAGES:
            raise
        except Exception as error:
            # The fault is the entry's own, and stays.
            log.error("bad_outbox_entry", id=id_.decode(), error=error)
            aside: Any = fields
            await self._redis.xadd(self._stream + ":bad", aside, maxlen=MAX_BAD)
            self._metrics.set_aside.inc()

    async def _call_back(self, event: OutboxEvent) -> None:
        about = {"event_id": event.event_id, "key": event.key}
        try:
            told = event.callback()
            await self._webhooks.call_back(event.user_id, event.callback_url, told, **about)
        except QueueFull as full:
            dropped(self._metrics, event.event_id, event.user_id, full)
            why = "not sent: too many of yours wait already"
            await self._notifications.note_callback(event.user_id, event.event_id, why)

    async def _tell_webhooks(self, event: OutboxEvent) -> None:
        await self._webhooks.tell(
            event.webhook_type,
            event.user_id,
            event.webhook_data(),
            event_id=event.event_id,
            key=event.key,
            facts=event.facts(),
            at=event.ended_at,
        )

    async def _notify(self, event: OutboxEvent) -> None:
        wording = event.wording(self._notifications.templates)
        tell = partial(self._notifications.create, event_id=event.event_id, wording=wording)
        try:
            await tell(event.notification(self._page))
        except NotStorable as error:
            log.warning("result_not_notified", event_id=event.event_id, error=error)
            await tell(event.notification_without_result(self._page))


def _flat(batch: Any) -> Any:
    """Return the entries of one stream; RESP3 puts them into a list of their own."""
    return batch[0] if batch and isinstance(batch[0], list) else batch
