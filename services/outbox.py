"""The outbox: what ended in Redis becomes one notification in MongoDB, whatever is killed when.

The script that ends a task appends an entry to the stream `{queue}:outbox`. The pump stores its
notification under the entry's `event_id`, hands its callback and its webhooks to the deliveries
under ids made of it, then removes the entry; cut off before that it finds the entry again, and each
of these finds what was done.
"""

import asyncio
import contextlib
import re
import time
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote

import attrs
import orjson
import structlog
from pymongo.errors import PyMongoError
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from services.analysis.words import ANALYSIS, LABEL_FIELD, label_fields
from services.notifications import (
    LINK_LENGTH,
    TITLE_LENGTH,
    NotificationDraft,
    NotificationService,
    NotificationType,
    NotStorable,
    Severity,
)
from services.notifications.creation import Wording
from services.notifications.fields import Action
from services.notifications.locales import is_locale
from services.notifications.models import SOURCE_LENGTH
from services.notifications.templates import Templates
from services.queue import QueueFull, iso_of, key_prefix
from services.queue.jobs import unpack_job
from services.queue.models import Job
from services.webhooks import WebhookService
from services.webhooks.sending import dropped
from tornado_rt.metrics import Metrics
from tornado_rt.tracing import within
from tornado_rt.turns import NoTurn
from tornado_rt.work import clean_line, clean_text
from tornado_rt.work.texts import Stored

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
MAX_BAD = 1000
# An entry is written by the script that ends its task, which may take this long at most. Most
# entries that are looked at, and of those that were set aside the last ones.
WRITTEN_WITHIN_MS = 1000
MOST_LOOKED_AT = 1000
MOST_BAD_LOOKED_AT = MAX_BAD
CONTENT_LENGTH = 2000
NAME_LENGTH = 255
# A larger result is not sent to webhooks: it stands on the task.
WEBHOOK_RESULT_BYTES = 16384

SEVERITIES = {
    "completed": Severity.SUCCESS,
    "partial": Severity.WARNING,
    "cancelled": Severity.WARNING,
}


@attrs.frozen(kw_only=True)
class Event:
    """One entry: the end of a task or a batch; a note, a question or its withdrawal of a task.

    `result` is None where there is none, or none that can be read. `title`, `content` and
    `severity` are a note's or a question's.
    """

    event_id: str
    user_id: str
    kind: str = "task"
    task_kind: str = ANALYSIS
    task_id: str = ""
    batch_id: str = ""
    status: str = "ended"
    job: Job = attrs.field(factory=lambda: Job(label=""))
    result: Any = None
    # A question's name, the id of its note, and the labels of its options by their ids.
    name: str = ""
    note: str = ""
    options: Mapping[str, str] = attrs.field(factory=dict)
    # As the task wrote it, however deep it nests.
    result_json: orjson.Fragment | None = None
    error: str | None = None
    ended_at: float = 0.0
    title: str = ""
    content: str = ""
    severity: str = ""

    @classmethod
    def of(cls, entry: dict[bytes, bytes]) -> "Event":
        """Read an entry of any version; what cannot be read in it is left out.

        Raise ValueError or KeyError when it does not say what it is or whose.
        """
        result = _result(entry.get(b"result", b""))
        written: dict[str, Any] = {name: _text(entry.get(name.encode(), b"")) for name in WRITTEN}
        note: dict[str, Any] = {}
        if written["kind"] in SAID:
            # Its text stands in the place of a task's result.
            note, result = _note(result), None
        return cls(
            **{name: text for name, text in written.items() if text},
            **note,
            event_id=entry[b"event_id"].decode(),
            user_id=entry[b"user_id"].decode(),
            job=_job(entry),
            result=result,
            result_json=None if result is None else orjson.Fragment(entry[b"result"]),
            error=_text(entry.get(b"error", b"")) or None,
            ended_at=_time(entry.get(b"ended_at", b"")),
        )

    @property
    def callback_url(self) -> str:
        """Where its submitter is told; empty for nowhere."""
        return "" if self.is_said else self.job.callback_url

    @property
    def is_said(self) -> bool:
        """Whether the task itself says it, in its own words."""
        return self.kind in SAID

    @property
    def withdrawn(self) -> str:
        """The event that is taken back; empty for none."""
        told = self.result if self.kind == "withdraw" and isinstance(self.result, dict) else {}
        return str(told.get("event_id", ""))

    def notification(self, page: str = "/") -> NotificationDraft:
        """Return what the user is told; its metadata hold the result, unless it is too large.

        `page`: the path of the page that shows tasks, "" for none.
        """
        about = self.notification_without_result(page)
        if self.result is None:
            return about
        try:
            return attrs.evolve(about, metadata={**about.metadata, "result": self.result})
        except ValueError:
            # Too large, or not storable in MongoDB: it stands on the task.
            return about

    def notification_without_result(self, page: str) -> NotificationDraft:
        """Return the same without the result, and nothing in it that cannot be stored."""
        link = f"{page}?{self._subject}={quote(self._subject_id, safe='')}"
        return NotificationDraft(
            user_id=self.user_id,
            type=NotificationType.ANALYSIS if self._is_analysis else NotificationType.SYSTEM,
            title=clean_line(self._said, TITLE_LENGTH) or self.task_kind,
            content=self._content(),
            locale=self.job.locale or self._locale_of_batch(),
            # Not the event's id: a task that was run again ends under another one.
            link=link if page and len(link) <= LINK_LENGTH else None,
            source="queue" if self._is_analysis else clean_line(self.task_kind, SOURCE_LENGTH),
            severity=self._severity(),
            metadata=self._metadata(),
            actions=[Action(id=one, label=self.options[one], answer=True) for one in self.options],
            # A task waits for the answer: no quota takes it before.
            pinned=self.kind == "ask",
        )

    def callback(self) -> dict[str, Any]:
        """Return what is posted to `callback_url`."""
        return {
            "event_id": self.event_id,
            "kind": self.kind,
            "task_kind": self.task_kind,
            "task_id": self.task_id,
            "batch_id": self.batch_id,
            "label": self.job.label,
            **self._of_analysis(self.job.label),
            "tags": self.job.tags,
            "status": self.status,
            "result": self.result_json,
            "error": self.error,
            "ended_at": iso_of(self.ended_at),
        }

    @property
    def webhook_type(self) -> str:
        """The type of its webhook event; empty when webhooks are told nothing of it."""
        is_end = self.kind in ("task", "batch") and STATUS.fullmatch(self.status)
        return f"{self.kind}.{self.status}" if is_end else ""

    @property
    def key(self) -> str:
        """The subject: deliveries of one key arrive in their order."""
        return f"{self._subject}:{self._subject_id}"

    def webhook_data(self) -> dict[str, Any]:
        """Return what webhooks are told: as a callback, without a large result."""
        told, result = self.callback(), self.result_json
        size = 0 if result is None else len(orjson.dumps(result))
        if size <= WEBHOOK_RESULT_BYTES:
            return told
        return told | {"result": None, "result_omitted": True}

    def facts(self) -> dict[str, str]:
        """Return what the filters of webhooks look at."""
        return {"kind": self.task_kind, "status": self.status, "severity": self._severity().value}

    @property
    def _is_analysis(self) -> bool:
        return self.task_kind == ANALYSIS

    @property
    def _subject(self) -> str:
        return "task" if self.kind in OF_TASKS else "batch"

    @property
    def _subject_id(self) -> str:
        return clean_line(self.task_id if self._subject == "task" else self.batch_id, NAME_LENGTH)

    @property
    def _said(self) -> str:
        return self.title if self.is_said else self.job.label

    def wording(self, templates: Templates) -> Wording | None:
        """Return the texts of an end; a note brings its own."""
        if self.is_said:
            return None
        subjects = ["analysis"] * self._is_analysis + ["batch"] * (self._subject == "batch")
        result = self.result if isinstance(self.result, dict) else {}
        variables = {
            "label": clean_line(self.job.label, NAME_LENGTH) or self.task_kind,
            "status": clean_line(self.status, NAME_LENGTH),
            **{name: _count(result.get(name)) for name in ("completed", "total")},
        }
        name = templates.name_of_end(".".join(subjects) or "task", self.status)
        return Wording(template=name, variables=variables)

    def _severity(self) -> Severity:
        if not self.is_said:
            return SEVERITIES.get(self.status, Severity.ERROR)
        return Severity(self.severity) if self.severity in list(Severity) else Severity.INFO

    def _metadata(self) -> dict[str, Any]:
        label = clean_line(self.job.label, NAME_LENGTH)
        kind, status = (clean_line(one, NAME_LENGTH) for one in (self.task_kind, self.status))
        about = {f"{self._subject}_id": self._subject_id, "kind": kind, "label": label}
        more = {} if self.is_said else {"status": status}
        if self.kind == "ask":
            # By these an answer is known: see services/answers.py.
            more = {"question": self.name, "note": self.note}
        return about | self._of_analysis(label) | more

    def _of_analysis(self, label: str) -> dict[str, str]:
        return label_fields(label) if self._is_analysis else {}

    def _content(self) -> str | None:
        text = clean_text(self._summary(), CONTENT_LENGTH)
        # It was stored in English, and is told in the language of its reader.
        return (text if self.is_said else Stored(text)) or None

    def _locale_of_batch(self) -> str | None:
        result = self.result if isinstance(self.result, dict) and self.kind == "batch" else {}
        locale = result.get("locale")
        return locale if is_locale(locale) else None

    def _summary(self) -> object:
        if self.is_said:
            return self.content
        if self.error:
            return self.error
        result = self.result if isinstance(self.result, dict) else {}
        summary = None if self.kind == "batch" else result.get("summary")
        return "" if summary is None else summary


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


STATUS = re.compile("[a-z]{1,32}")
# Texts of an entry that stand in an event as they are.
WRITTEN = ("kind", "task_kind", "task_id", "batch_id", "status")
# Kinds of entries in the words of a running task, and all kinds that are about a task.
SAID = ("note", "ask")
OF_TASKS = ("task", "withdraw", *SAID)
# The texts of a note; a question has all of them.
NOTED = ("title", "content", "severity", "name", "note")
# The value of `notify` of an entry whose end is no news: it is posted to its callback only.
CALLBACK_ALONE = b"c"
# Errors that pass; every other error is the entry's own.
OUTAGES = (RedisError, PyMongoError, OSError, NoTurn)

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
        self._stream = _stream_of(queue_name)
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
            event = Event.of(fields)
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

    async def _call_back(self, event: Event) -> None:
        about = {"event_id": event.event_id, "key": event.key}
        try:
            told = event.callback()
            await self._webhooks.call_back(event.user_id, event.callback_url, told, **about)
        except QueueFull as full:
            dropped(self._metrics, event.event_id, event.user_id, full)
            why = "not sent: too many of yours wait already"
            await self._notifications.note_callback(event.user_id, event.event_id, why)

    async def _tell_webhooks(self, event: Event) -> None:
        await self._webhooks.tell(
            event.webhook_type,
            event.user_id,
            event.webhook_data(),
            event_id=event.event_id,
            key=event.key,
            facts=event.facts(),
            at=event.ended_at,
        )

    async def _notify(self, event: Event) -> None:
        wording = event.wording(self._notifications.templates)
        tell = partial(self._notifications.create, event_id=event.event_id, wording=wording)
        try:
            await tell(event.notification(self._page))
        except NotStorable as error:
            log.warning("result_not_notified", event_id=event.event_id, error=error)
            await tell(event.notification_without_result(self._page))


async def read_lag(redis: Redis, queue_name: str) -> float:
    """Return the age of the oldest entry of the outbox in seconds; 0 when there is none."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.xrange(_stream_of(queue_name), count=1)
        pipe.time()
        oldest, (seconds, micros) = await pipe.execute()
    if not oldest:
        return 0.0
    written = int(oldest[0][0].partition(b"-")[0]) / 1000
    return float(max(seconds + micros / 1e6 - written, 0.0))


@attrs.frozen
class Found:
    """An entry of the outbox; `set_aside`: it cannot become a notification."""

    set_aside: bool


async def find_entry(redis: Redis, queue_name: str, event_id: str, ended_at: float) -> Found | None:
    """Look for the entry of an end among those that are not told yet, and those set aside.

    The scripts write it when the task ends [s since the epoch].
    """
    stream, wanted = _stream_of(queue_name), event_id.encode()
    begin = int(ended_at * 1000) - 1
    async with redis.pipeline(transaction=False) as pipe:
        pipe.xrange(stream, str(begin), str(begin + WRITTEN_WITHIN_MS), count=MOST_LOOKED_AT)
        pipe.xrevrange(stream + ":bad", count=MOST_BAD_LOOKED_AT)
        waiting, aside = await pipe.execute()
    for entries, set_aside in ((waiting, False), (aside, True)):
        if any(fields.get(b"event_id") == wanted for _, fields in entries):
            return Found(set_aside)
    return None


def _stream_of(queue_name: str) -> str:
    return key_prefix(queue_name) + "outbox"


def _flat(batch: Any) -> Any:
    """Return the entries of one stream; RESP3 puts them into a list of their own."""
    return batch[0] if batch and isinstance(batch[0], list) else batch


def _time(text: bytes) -> float:
    try:
        moment = float(text)
        datetime.fromtimestamp(moment, UTC)
    except (ValueError, OverflowError, OSError):
        return time.time()
    return moment


def _text(content: bytes) -> str:
    return content.decode(errors="replace")


def _note(fields: Any) -> dict[str, Any]:
    said = fields if isinstance(fields, dict) else {}
    texts: dict[str, Any] = {name: said[name] for name in NOTED if isinstance(said.get(name), str)}
    options = said.get("options")
    return texts | ({"options": options} if isinstance(options, dict) else {})


def _job(entry: dict[bytes, bytes]) -> Job:
    """Return the job of an entry; one of the version before has the label and no job."""
    packed = entry.get(b"job", b"")
    try:
        if packed:
            return unpack_job(packed)
    except ValueError as error:
        log.warning("job_unreadable", error=error)
    label, callback_url = entry.get(LABEL_FIELD.encode(), b""), entry.get(b"callback_url", b"")
    return Job(label=_text(label), callback_url=_text(callback_url))


def _result(text: bytes) -> Any:
    try:
        return orjson.loads(text) if text else None
    except ValueError as error:
        log.warning("result_unreadable", error=error)
        return None
