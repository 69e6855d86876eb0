"""An entry of the outbox as an event: the texts and fields of its notification and its posts."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import attrs
import orjson
import structlog

from services.analysis.words import ANALYSIS, LABEL_FIELD, label_fields
from services.notifications import (
    LINK_LENGTH,
    TITLE_LENGTH,
    NotificationDraft,
    NotificationType,
    Severity,
)
from services.notifications.creation import Wording
from services.notifications.fields import Action
from services.notifications.locales import is_locale
from services.notifications.models import SOURCE_LENGTH
from services.notifications.templates import Templates
from services.queue import iso_of
from services.queue.jobs import unpack_job
from services.queue.models import Job
from tornado_rt.work import clean_line, clean_text
from tornado_rt.work.texts import Stored

log = structlog.get_logger(__name__)

CONTENT_LENGTH = 2000
NAME_LENGTH = 255
# A larger result is not sent to webhooks: it stands on the task.
WEBHOOK_RESULT_BYTES = 16384

SEVERITIES = {
    "completed": Severity.SUCCESS,
    "partial": Severity.WARNING,
    "cancelled": Severity.WARNING,
}

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


@attrs.frozen(kw_only=True)
class OutboxEvent:
    """One entry: the end of a task or a batch; a note, a question or its withdrawal of a task.

    `result` is None where there is none, or none that can be read. `title`, `content` and
    `severity` are a note's or a question's.

    It is wide because it has the fields of an entry.
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
    def of(cls, entry: dict[bytes, bytes]) -> "OutboxEvent":
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
