"""Schedules that stand in the code of a kind: the last to start says which there are."""

import math
from collections.abc import Iterator, Mapping, Sequence

import attrs
import orjson
import structlog

from services.kinds import KindError, ParamsFault, reader_of
from services.schedules.models import OF_KIND, Definition, Missed, Overlap, Source, Stored
from services.schedules.store import Changed, Registering, ScheduleStore, Write
from services.schedules.times import MOST_JITTER, ScheduleFault
from tornado_rt.auth import USER_ID_LENGTH
from tornado_rt.bounds import OutOfBounds, check_name
from tornado_rt.work import Kind, Schedule

log = structlog.get_logger(__name__)


@attrs.frozen
class KindSchedules:
    """The schedules of a kind, as this process's code has them."""

    kind: str
    version: int
    definitions: Sequence[Definition]


@attrs.frozen
class _Known:
    """What is registered of a kind: of which version, and the ids of its schedules."""

    version: int = -1
    ids: tuple[str, ...] = ()

    @classmethod
    def read(cls, text: bytes) -> "_Known":
        """Read what is kept; what cannot be read is nothing."""
        try:
            fields = orjson.loads(text)
            return cls(int(fields["version"]), tuple(map(str, fields["ids"])))
        except (ValueError, KeyError, TypeError):
            return cls()

    @property
    def text(self) -> bytes:
        """The JSON that is kept."""
        return orjson.dumps({"version": self.version, "ids": self.ids})


def schedules_of(kinds: Mapping[str, Kind], now: float) -> list[KindSchedules]:
    """Return the schedules of kinds, of all of them, for some may have had one. Raise KindError."""
    faults = [fault for kind in kinds.values() for fault in _faults_of(kind, now)]
    if faults:
        raise KindError(faults)
    return [
        KindSchedules(kind.name, kind.version, [_definition(kind, one) for one in kind.schedules])
        for kind in kinds.values()
    ]


async def register(store: ScheduleStore, own: KindSchedules) -> None:
    """Make the schedules of a kind known, and drop those that it has no more.

    What a later version of the kind has said stays. The same again changes nothing; one that is
    changed keeps whether it is on, and its next time if it fires as before.
    """
    while True:
        known_text = (await store.read((), own.kind)).known
        known = _Known.read(known_text)
        ids = tuple(one.id for one in own.definitions)
        if known.version > own.version or not (ids or known.ids):
            return
        found = await store.read(tuple(dict.fromkeys((*ids, *known.ids))))
        there = {one.id: one for one in found.items}
        gone = [there[id_] for id_ in known.ids if id_ in there and id_ not in ids]
        writes = [
            *_changes(own.definitions, there, found.now),
            *(Write(one.id, one.text, b"") for one in gone),
        ]
        told = _Known(own.version, ids).text
        if not writes and told == known_text:
            return
        try:
            await store.write(writes, registering=Registering(own.kind, known_text, told))
        except Changed:
            continue
        log.info("schedules_registered", kind=own.kind, changed=[one.id for one in writes])
        return


def _changes(
    definitions: Sequence[Definition], there: Mapping[str, Stored], now: float
) -> Iterator[Write]:
    for definition in definitions:
        old = there.get(definition.id)
        before = None if old is None else old.definition
        start = math.floor(now) if before is None else before.start
        meant = attrs.evolve(definition, start=float(start))
        if old is not None and old.text == meant.text:
            continue
        keeps_time = before is not None and before.fires_as(meant) and old is not None and old.due
        due = None if keeps_time else meant.times().next_after(now)
        yield Write(definition.id, b"" if old is None else old.text, meant.text, due)


def _definition(kind: Kind, schedule: Schedule) -> Definition:
    return Definition(
        name=f"{kind.name}{OF_KIND}{schedule.name}",
        user_id=schedule.user_id,
        kind=kind.name,
        source=Source.CODE,
        params=reader_of(kind.params_class).read(dict(schedule.params))[1],
        label=schedule.label,
        cron=schedule.cron,
        every=float(schedule.every),
        timezone=schedule.timezone,
        jitter=float(schedule.jitter),
        overlap=Overlap(schedule.overlap),
        missed=Missed(schedule.missed),
    )


def _faults_of(kind: Kind, now: float) -> Iterator[str]:
    for schedule in kind.schedules:
        for fault in _faults_of_one(kind, schedule, now):
            yield f"kind {kind.name!r}: schedule {schedule.name!r}: {fault}"


def _faults_of_one(kind: Kind, schedule: Schedule, now: float) -> Iterator[str]:
    try:
        check_name("user_id", schedule.user_id, USER_ID_LENGTH)
        definition = _definition(kind, schedule)
        if definition.times().next_after(now) is None:
            yield f"{schedule.cron!r} never comes"
    except ParamsFault as fault:
        yield from fault.faults
    except (ScheduleFault, OutOfBounds) as fault:
        yield str(fault)
    if schedule.jitter > MOST_JITTER:
        yield f"jitter must be from 0 to {MOST_JITTER:g}"
