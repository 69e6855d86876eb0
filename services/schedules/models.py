"""The models of schedules: definitions, states and errors."""

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any

import attrs
import orjson

from services.kinds import KEPT_DEPTH, reader_of
from services.queue import Band, NewTask, iso_of
from services.schedules.times import Times, jitter_of, times_of
from services.submissions import TaskFields, TaskRequest
from tornado_rt.work.texts import Text, msgid, phrase

# The topic on which processes tell each other when a schedule falls due; as in lib/schedules.lua.
SCHEDULES = "schedules"
# Between a user and what is theirs; neither has a line break.
BETWEEN = "\n"
# Between a kind and its schedule, so that two kinds, or a user, may have one of the same name.
OF_KIND = ":"
# The ids of its tasks begin with this much of a schedule's name, so that a person knows them.
SLUG_LENGTH = 24
NOT_IN_IDS = re.compile(r"[^a-z0-9_-]")
# The reasons of fire.lua for making no task, in words.
REASONS = {
    "running": msgid("the last task has not ended"),
    "full": msgid("as many tasks wait as a user may have"),
}

# The fields of an answer that a body cannot set.
ONLY_SHOWN = (
    *("user_id", "source", "next_at", "last_at", "last_task_id"),
    *("fired", "skipped", "skipped_because"),
    *("usual_seconds", "usual_low", "usual_high", "next_ends_at"),
)

# Makes a task to submit: raises KindUnknown, ParamsFault, and what a store raises.
Make = Callable[[TaskRequest], Awaitable[NewTask]]


class ScheduleSource(StrEnum):
    """The origin of a schedule: a request, or the code of a kind."""

    API = "api"
    CODE = "code"


class Overlap(StrEnum):
    """The rule for a firing while the last task has not ended."""

    SKIP = "skip"
    QUEUE = "queue"
    REPLACE = "replace"


class Missed(StrEnum):
    """The rule for times at which nothing ran."""

    SKIP = "skip"
    LAST = "last"
    ALL = "all"


class ScheduleNotFound(Exception):
    """There is no such schedule of this user."""

    def __init__(self, name: str) -> None:
        super().__init__(phrase("there is no schedule {name}", name=name))


class ScheduleRefused(ValueError):
    """A schedule is not valid; `faults` says why, in words for a person."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = list(faults)


class ScheduleConflict(Exception):
    """The stored schedule does not allow the change; the message says why."""


@attrs.frozen(kw_only=True)
class Definition(TaskFields):
    """The definition of a schedule: which tasks it makes, and when.

    Times are in seconds; those of `every` are counted from `start`. `source` is who made it: a user
    may switch one of the code on and off, and change no more of it. `token` distinguishes it from
    an identical later one; a repeated request has the same token.
    """

    name: str
    user_id: str
    source: ScheduleSource = ScheduleSource.API
    cron: str = ""
    every: float = 0.0
    timezone: str = "UTC"
    jitter: float = 0.0
    overlap: Overlap = Overlap.SKIP
    missed: Missed = Missed.LAST
    start: float = 0.0
    token: str = ""

    @staticmethod
    def read(text: bytes) -> "Definition":
        """Read what is kept; a later version may say more. Raise ValueError."""
        fields = orjson.loads(text)
        known = attrs.fields_dict(Definition)
        if not isinstance(fields, dict):
            raise ValueError("not the definition of a schedule")
        read: Definition
        # An earlier version kept "" and 0 where there is none.
        told = {
            name: value
            for name, value in fields.items()
            if name in known and (value or known[name].default is not None)
        }
        read, _ = reader_of(Definition).read(
            told, place="the definition", most_bytes=0, depth=KEPT_DEPTH
        )
        return read

    @property
    def text(self) -> bytes:
        """The JSON that is kept; equal definitions have the same."""
        return orjson.dumps(attrs.asdict(self), option=orjson.OPT_SORT_KEYS)

    @property
    def id(self) -> str:
        """Its name among those of all users."""
        return schedule_id(self.user_id, self.name)

    def times(self) -> Times:
        """Return when it fires. Raise ScheduleFault."""
        return times_of(self.cron, self.every, self.timezone, self.start)

    def fires_as(self, other: "Definition") -> bool:
        """Say whether it has the same times as another."""
        mine, its = (
            (one.cron, one.timezone) if one.cron else (one.every, one.start)
            for one in (self, other)
        )
        return mine == its

    def request(self) -> TaskRequest:
        """Return what is submitted at each of its times."""
        return TaskRequest(**fields_of_task(self))


@attrs.frozen
class ScheduleState:
    """The state of a schedule.

    `fired` tasks were made, and `skipped` times made none; `last_time` [s] is what the last task
    was made for. `why` says why a time of the last firing made none, "" if each made one.
    """

    fired: int = 0
    skipped: int = 0
    last_time: float | None = None
    last_task: str = ""
    why: str = ""


@attrs.frozen
class StoredSchedule:
    """A schedule as it was when read.

    `text` is its definition as it is kept, of which `definition` is None when it cannot be read.
    `due` is its next time [s], None while it is off.
    """

    id: str
    text: bytes
    definition: Definition | None
    state: ScheduleState
    due: float | None
    enabled: bool

    def describe(self, definition: Definition, usual: Band | None) -> dict[str, Any]:
        """Return it as it is on the wire; `usual`: how long its tasks take, None: unknown."""
        one, state = definition, self.state
        when = {"cron": one.cron} if one.cron else {"every": one.every}
        return {
            "name": one.name,
            "user_id": one.user_id,
            **fields_of_task(one),
            **when,
            "timezone": one.timezone,
            "jitter": one.jitter,
            "overlap": one.overlap,
            "missed": one.missed,
            "enabled": self.enabled,
            "source": one.source,
            "next_at": iso_of(self.due),
            "last_at": iso_of(state.last_time),
            "last_task_id": state.last_task or None,
            "fired": state.fired,
            "skipped": state.skipped,
            "skipped_because": Text(REASONS.get(state.why, state.why)) or None,
            "usual_seconds": usual and round(usual.middle, 1),
            "usual_low": usual and round(usual.low, 1),
            "usual_high": usual and round(usual.high, 1),
            "next_ends_at": iso_of(self._end_of_next(one, usual)),
        }

    def _end_of_next(self, one: Definition, usual: Band | None) -> float | None:
        """Return when its next task ends that starts at its time; None: nobody knows."""
        if self.due is None or usual is None:
            return None
        return self.due + jitter_of(one.id, self.due, one.jitter) + usual.middle


def fields_of_task(one: TaskFields) -> dict[str, Any]:
    """Return what it asks of a task, by name."""
    return {field.name: getattr(one, field.name) for field in attrs.fields(TaskFields)}


def schedule_id(user_id: str, name: str) -> str:
    """Return the name of a schedule among those of all users."""
    return f"{user_id}{BETWEEN}{name}"


def task_id_of(id_: str, occasion: str) -> str:
    """Return the id of the task that a schedule makes on an occasion: always the same for one."""
    name = id_.partition(BETWEEN)[2]
    slug = NOT_IN_IDS.sub("-", name[:SLUG_LENGTH])
    digest = hashlib.sha256(id_.encode()).hexdigest()[:20]
    return f"{slug}-{digest}-{occasion}"
