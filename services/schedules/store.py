"""Schedules in Redis, under the prefix of their queue."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import structlog

from services.queue import NewTask, QueueService
from services.queue.service import task_fields
from services.schedules.models import BETWEEN, Definition, Overlap, ScheduleState, StoredSchedule
from tornado_rt.tracing import sending

log = structlog.get_logger(__name__)

# Sorts behind each name of a user, and before those of other users.
BEHIND = chr(ord(BETWEEN) + 1)


class ScheduleChanged(Exception):
    """Another was quicker: read it again."""


class TooMany(Exception):
    """The user has as many schedules as they may."""


@attrs.frozen
class Write:
    """A change of one schedule, that holds only while it is as it was read.

    `was` is its definition then, b"" for none; `text` the new one, b"" to drop it. `due` [s] is its
    next time, None to leave that as it is; `off` whether it is switched off, None likewise.
    """

    id: str
    was: bytes
    text: bytes
    due: float | None = None
    off: bool | None = None


@attrs.frozen
class Registering:
    """A change of the schedules registered by a kind's code: the text before and after."""

    kind: str
    was_known: bytes
    known: bytes


@attrs.frozen
class FoundSchedules:
    """Schedules that there are, read at the time `now` [s]; `known` is registered of the kind."""

    now: float
    known: bytes
    items: Sequence[StoredSchedule]


@attrs.frozen
class DueSchedules:
    """The schedules that are due at the time `now` [s]; the first of the others is in `due_in`."""

    now: float
    items: Sequence[StoredSchedule]
    due_in: float | None
    unregistered: bool


@attrs.frozen
class Occasion:
    """A task that a schedule makes: for the time `at`, to start at `run_at` [s]."""

    task_id: str
    at: float
    run_at: float


@attrs.frozen(kw_only=True)
class Firing:
    """One firing of a schedule.

    `expected` is the time that it is due at, None when it fires though it is not due; `next_time`
    its next one. A task is made of `new` for each occasion; `dropped` times before have none, for
    `why`.
    """

    id: str
    definition: bytes
    user_id: str
    overlap: Overlap = Overlap.SKIP
    expected: float | None = None
    next_time: float | None = None
    new: NewTask | None = None
    occasions: Sequence[Occasion] = ()
    dropped: int = 0
    why: str = ""


@attrs.frozen
class Fired:
    """The outcome of a firing: how many tasks it made, and `why` one was not, "" for no reason."""

    made: int = 0
    why: str = ""


class ScheduleStore:
    """Reads and writes schedules, each time in one script."""

    def __init__(self, queue: QueueService) -> None:
        self._queue = queue
        self._scripts = queue.scripts

    async def read(self, ids: Sequence[str], kind: str = "") -> FoundSchedules:
        """Read those of these schedules that there are, and what is registered of a kind."""
        return await self._read(ids, "", "", 0, kind)

    async def now(self) -> float:
        """Return the time by the clock of Redis [s]."""
        return (await self.read(())).now

    async def list_of(self, user_id: str, after: str, most: int) -> FoundSchedules:
        """Read a user's schedules by name, those behind the name `after`, "" for all."""
        own = f"{user_id}{BETWEEN}"
        return await self._read((), f"({own}{after}", f"({user_id}{BEHIND}", most, "")

    async def list_all(self, after: str, most: int) -> FoundSchedules:
        """Read everybody's schedules by user and name, those behind the id `after`, "" for all."""
        return await self._read((), f"({after}" if after else "-", "+", most, "")

    async def write(
        self, writes: Sequence[Write], *, most: int = 0, registering: Registering | None = None
    ) -> None:
        """Make all of these changes, or none. Raise ScheduleChanged; TooMany with `most` a user."""
        # Not beside others, with which it would be repeated when Redis does not have one of them.
        reply = await self._scripts.run_alone(
            "schedule_write",
            writes=[_write_fields(one) for one in writes],
            most=most,
            **attrs.asdict(registering or Registering("", b"", b"")),
        )
        if reply == b"changed":
            raise ScheduleChanged
        if reply == b"full":
            raise TooMany

    async def read_due(self, kinds: Sequence[str], most: int) -> DueSchedules:
        """Read what is due; `kinds` are those whose code has schedules."""
        now, items, due_in, unregistered = await self._scripts.run(
            "schedule_due", most=most, kinds=list(kinds)
        )
        due = float(due_in) if due_in else None
        return DueSchedules(float(now), _read_all(items), due, bool(unregistered))

    async def fire(self, firing: Firing) -> Fired:
        """Make tasks and set the next time. Raise ScheduleChanged.

        What another process has fired makes none.
        """
        new, plans = firing.new, {}
        if new is not None and new.plan is not None:
            plans[new.plan.digest] = new.plan.text
        with _sending(firing) as trace:
            reply = await self._scripts.run(
                "fire",
                name=firing.id,
                definition=firing.definition,
                expected=False if firing.expected is None else firing.expected,
                next=False if firing.next_time is None else firing.next_time,
                overlap=firing.overlap.value,
                tasks=[_occasion_fields(firing, one, trace) for one in firing.occasions],
                dropped=firing.dropped,
                why=firing.why,
                plans=plans,
                waiting=self._queue.max_waiting_per_user,
                kept=self._queue.kept_per_user,
            )
        if reply == b"changed":
            raise ScheduleChanged
        return Fired() if reply == b"fired" else Fired(int(reply[0]), reply[1].decode())

    async def _read(
        self, ids: Sequence[str], from_: str, till: str, most: int, kind: str
    ) -> FoundSchedules:
        now, known, items = await self._scripts.run(
            "schedule_read", names=list(ids), **{"from": from_}, till=till, most=most, kind=kind
        )
        return FoundSchedules(float(now), known, _read_all(items))


def _write_fields(write: Write) -> dict[str, Any]:
    fields = {
        "name": write.id,
        "user": write.id.partition(BETWEEN)[0],
        "was": write.was,
        "text": write.text,
        "due": False if write.due is None else write.due,
    }
    return fields if write.off is None else {**fields, "off": write.off}


def _sending(firing: Firing) -> contextlib.AbstractContextManager[Mapping[str, str]]:
    """Record that tasks are sent, if some are."""
    if firing.new is None or not firing.occasions:
        return contextlib.nullcontext({})
    made = firing.occasions
    if len(made) == 1:
        return sending(firing.new.kind, message_id=made[0].task_id)
    return sending(firing.new.kind, count=len(made))


def _occasion_fields(
    firing: Firing, occasion: Occasion, trace: Mapping[str, str]
) -> dict[str, Any]:
    assert firing.new is not None
    fields = task_fields(firing.user_id, firing.new, occasion.task_id, trace=trace)
    return {**fields, "at": occasion.at, "run_at": occasion.run_at}


def _read_all(items: Sequence[Sequence[Any]]) -> list[StoredSchedule]:
    return [_read_stored(*one) for one in items]


def _read_stored(
    name: bytes, text: bytes, due: bytes, off: int, state: Sequence[Any]
) -> StoredSchedule:
    fired, skipped, last_time, last_task, why = state
    return StoredSchedule(
        id=name.decode(),
        text=text,
        definition=_read_definition(name, text),
        state=ScheduleState(
            int(fired),
            int(skipped),
            float(last_time) or None,
            last_task.decode(errors="replace"),
            why.decode(errors="replace"),
        ),
        due=float(due) if due else None,
        enabled=not off,
    )


def _read_definition(name: bytes, text: bytes) -> Definition | None:
    try:
        return Definition.read(text)
    except ValueError as error:
        log.warning("schedule_unreadable", schedule=name.decode(errors="replace"), error=str(error))
        return None
