"""The outbox: what ended in Redis becomes one notification in MongoDB, whatever is killed when.

The script that ends a task appends an entry to the stream `{queue}:outbox`. The pump stores its
notification under the entry's `event_id`, then removes the entry; cut off between the two it finds
the entry again, and MongoDB's unique index finds the notification.
"""

import asyncio
import contextlib
import time
from datetime import UTC, datetime
from typing import Any

import attrs
import orjson
import structlog
from pymongo.errors import PyMongoError
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from services.callbacks import CallbackSender
from services.notifications import (
    TITLE_LENGTH,
    NotificationDraft,
    NotificationService,
    NotificationType,
    NotStorable,
    Severity,
)
from services.queue import key_prefix
from tornado_rt.bounds import clean_name, clean_text
from tornado_rt.protocol import iso_time
from tornado_rt.turns import NoTurn

log = structlog.get_logger(__name__)

GROUP = "notifications"
COUNT = 100
# Shorter than the client waits for any answer.
BLOCK_SECONDS = 0.5
# Longer than an entry takes: what another pump has read for so long, it will not finish.
CLAIM_SECONDS = 10.0
BACKOFF_SECONDS = 1.0
MAX_BAD = 1000
CONTENT_LENGTH = 2000

SEVERITIES = {
    "completed": Severity.SUCCESS,
    "partial": Severity.WARNING,
    "cancelled": Severity.WARNING,
}


@attrs.frozen(kw_only=True)
class Event:
    """One entry; `result` and `error` are None where there is none."""

    event_id: str
    kind: str
    user_id: str
    task_id: str
    symbol: str
    batch_id: str
    status: str
    result: dict[str, Any] | None
    error: str | None
    callback_url: str
    ended_at: float

    @classmethod
    def of(cls, entry: dict[bytes, bytes]) -> "Event":
        """Read an entry; fields of other versions are passed over.

        Raise ValueError or KeyError when it is none of ours.
        """
        known = {field.name.encode(): field.name for field in attrs.fields(cls)}
        fields: dict[str, Any] = {
            known[name]: text.decode() for name, text in entry.items() if name in known
        }
        missing = known.values() - fields.keys()
        if missing:
            raise KeyError(*sorted(missing))
        fields["result"] = _result(fields["result"])
        fields["error"] = fields["error"] or None
        fields["ended_at"] = float(fields["ended_at"])
        return cls(**fields)

    def notification(self) -> NotificationDraft:
        """Return what the user is told; its metadata hold the result, unless it is too large."""
        about = self.notification_without_result()
        if self.result is None:
            return about
        try:
            return attrs.evolve(about, metadata={**about.metadata, "result": self.result})
        except ValueError:
            # Too large, or not storable in MongoDB: it stands on the task.
            return about

    def notification_without_result(self) -> NotificationDraft:
        """Return the same without the result, and nothing in it that cannot be stored."""
        id_ = self.task_id if self.kind == "task" else self.batch_id
        subject = self.symbol or "Batch"
        return NotificationDraft(
            user_id=self.user_id,
            type=NotificationType.ANALYSIS,
            title=clean_name(f"{subject}: analysis {self.status}", TITLE_LENGTH),
            content=clean_text(self._summary(), CONTENT_LENGTH) or None,
            # Not the event's id: a task that was revived ends under another one.
            link=f"/?{self.kind}={id_}",
            source="queue",
            severity=SEVERITIES.get(self.status, Severity.ERROR),
            metadata={f"{self.kind}_id": id_, "symbol": self.symbol, "status": self.status},
        )

    def _summary(self) -> str:
        if self.error:
            return self.error
        result = self.result or {}
        if self.kind == "batch":
            return f"{result.get('completed', 0)} of {result.get('total', 0)} completed"
        return str(result.get("summary", ""))


# What another time may bring; everything else is wrong with the entry itself.
OUTAGES = (RedisError, PyMongoError, OSError, NoTurn)

Entry = tuple[bytes, dict[bytes, bytes]]


class OutboxPump:
    """Moves entries until cancelled; several processes may run one each.

    `consumer` is this process's name, the same after a restart.
    """

    def __init__(
        self,
        redis: Redis,
        notifications: NotificationService,
        callbacks: CallbackSender,
        *,
        queue_name: str,
        consumer: str,
    ) -> None:
        self._redis = redis
        self._notifications = notifications
        self._callbacks = callbacks
        self._stream = key_prefix(queue_name) + "outbox"
        self._consumer = consumer
        self._look_back_at = 0.0
        # Made once: a Redis that is full refuses to make it again, also where it is.
        self._has_group = False
        self._moving = asyncio.Lock()

    async def run(self) -> None:
        """Pump until cancelled; an outage of either store is waited out."""
        while True:
            try:
                await self.pump(BLOCK_SECONDS)
                continue
            except (RedisError, PyMongoError, OSError) as error:
                log.warning("outbox_waits", error=error)
            except Exception:
                log.exception("outbox_failed")
            await asyncio.sleep(BACKOFF_SECONDS)

    async def flush(self, seconds: float) -> None:
        """Move what is there now, for at most `seconds`; the rest is moved at the next start."""
        with contextlib.suppress(RedisError, PyMongoError, OSError, TimeoutError):
            async with asyncio.timeout(seconds):
                while await self.pump(0):
                    pass

    async def pump(self, wait_seconds: float) -> int:
        """Move what is there, waiting for it at most `wait_seconds`; return how many.

        Users do not wait for each other; the entries of one are moved in their order.
        """
        try:
            entries = await self._read(wait_seconds)
            async with self._moving:
                of_users: dict[bytes, list[Entry]] = {}
                for id_, entry in entries:
                    of_users.setdefault(entry.get(b"user_id", b""), []).append((id_, entry))
                moved = await asyncio.gather(
                    *map(self._move_all, of_users.values()), return_exceptions=True
                )
        except BaseException as error:
            # What was read and not moved is looked for again the next time.
            self._look_back_at = 0.0
            # A Redis that was emptied has no group any more.
            self._has_group = self._has_group and "NOGROUP" not in str(error)
            raise
        for failure in moved:
            if isinstance(failure, BaseException):
                self._look_back_at = 0.0
                raise failure
        return len(entries)

    async def _move_all(self, entries: list[Entry]) -> None:
        try:
            for id_, entry in entries:
                await self._move(id_, entry)
        except NoTurn as error:
            # The user asks for so much themselves; it is looked for again.
            log.info("outbox_user_busy", error=error, entries=len(entries))

    async def _read(self, wait_seconds: float) -> list[Entry]:
        await self._ensure_group()
        if time.monotonic() >= self._look_back_at:
            self._look_back_at = time.monotonic() + CLAIM_SECONDS
            if unfinished := await self._read_unfinished():
                return unfinished
        found: Any = await self._redis.xreadgroup(
            GROUP,
            self._consumer,
            {self._stream: ">"},
            count=COUNT,
            block=int(wait_seconds * 1000) or None,
        )
        return _entries(found)

    async def _read_unfinished(self) -> list[Entry]:
        own: Any = await self._redis.xreadgroup(
            GROUP, self._consumer, {self._stream: "0"}, count=COUNT
        )
        left: Any = await self._redis.xautoclaim(
            self._stream, GROUP, self._consumer, int(CLAIM_SECONDS * 1000), count=COUNT
        )
        return [*_entries(own), *((id_, entry) for id_, entry in left[1] if entry)]

    async def _ensure_group(self) -> None:
        if self._has_group:
            return
        try:
            await self._redis.xgroup_create(self._stream, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._has_group = True

    async def _move(self, id_: bytes, entry: dict[bytes, bytes]) -> None:
        try:
            event = Event.of(entry)
            await self._notify(event)
        except OUTAGES:
            raise
        except Exception as error:
            # Whatever is wrong with it is wrong the next time too.
            log.error("bad_outbox_entry", id=id_.decode(), error=error)
            await self._set_aside(entry)
        else:
            if event.callback_url:
                address = event.callback_url
                self._callbacks.send(event.user_id, address, event.event_id, _callback(event))
        # A transaction would be refused by a Redis that is full. Cut off between the two, an entry
        # that is not there stays listed as read.
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.xdel(self._stream, id_)
            pipe.xack(self._stream, GROUP, id_)
            await pipe.execute()

    async def _notify(self, event: Event) -> None:
        try:
            await self._notifications.create(event.notification(), event_id=event.event_id)
        except NotStorable as error:
            log.warning("result_not_notified", event_id=event.event_id, error=error)
            short = event.notification_without_result()
            await self._notifications.create(short, event_id=event.event_id)

    async def _set_aside(self, entry: Any) -> None:
        await self._redis.xadd(self._stream + ":bad", entry, maxlen=MAX_BAD)


def _entries(found: Any) -> list[Entry]:
    if not found:
        return []
    batches = found.values() if isinstance(found, dict) else [found[0][1]]
    return [(id_, entry) for batch in batches for id_, entry in batch if entry]


def _result(text: str) -> dict[str, Any] | None:
    result = orjson.loads(text) if text else None
    if result is not None and not isinstance(result, dict):
        raise ValueError("the result is not a JSON object")
    return result


def _callback(event: Event) -> dict[str, Any]:
    fields = attrs.asdict(event, filter=attrs.filters.exclude("callback_url", "user_id"))
    return fields | {"ended_at": iso_time(datetime.fromtimestamp(event.ended_at, UTC))}
