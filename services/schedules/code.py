"""Schedules that stand in the code of a kind: the last to start says which there are."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs
import orjson
import structlog

from services.kinds import MOST_BYTES, KindError, ParamsFault, reader_of
from services.schedules.models import OF_KIND, Definition, ScheduleSource, StoredSchedule
from services.schedules.requests import CodeSchedule, read_part
from services.schedules.store import Registering, ScheduleChanged, ScheduleStore, Write
from tornado_rt.work import Kind, Schedule

log = structlog.get_logger(__name__)

# The field that the kind reads; `CodeSchedule` reads the others.
PARAMS = "params"
SAID = tuple(one.name for one in attrs.fields(Schedule) if one.name != PARAMS)


@attrs.frozen
class KindSchedules:
    """The schedules of a kind, as this process's code has them."""

    kind: str
    version: int
    definitions: Sequence[Definition]


@attrs.frozen
class _Known:
    """The registered schedules of a kind: the version of its code, and their ids."""

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


def schedules_of(kinds: Mapping[str, Kind], params_bytes: int = MOST_BYTES) -> list[KindSchedules]:
    """Return the schedules of kinds, of all of them, for some may have had one. Raise KindError.

    `params_bytes` bounds the parameters of their tasks, 0: any size.
    """
    found, faults = [], []
    for kind in kinds.values():
        definitions, wrong = _read_all(kind, params_bytes)
        found.append(KindSchedules(kind.name, kind.version, definitions))
        faults += wrong
    if faults:
        raise KindError(faults)
    return found


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
        except ScheduleChanged:
            continue
        log.info("schedules_registered", kind=own.kind, changed=[one.id for one in writes])
        return


def _changes(
    definitions: Sequence[Definition], there: Mapping[str, StoredSchedule], now: float
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


def _read_all(kind: Kind, params_bytes: int) -> tuple[list[Definition], list[str]]:
    definitions, faults = [], []
    for schedule in kind.schedules:
        definition, wrong = _read(kind, schedule, params_bytes)
        faults += [f"kind {kind.name!r}: schedule {schedule.name!r}: {one}" for one in wrong]
        if definition is not None:
            definitions.append(definition)
    return definitions, faults


def _read(kind: Kind, schedule: Schedule, params_bytes: int) -> tuple[Definition | None, list[str]]:
    """Return a schedule, None when there are faults; and all of those."""
    said, faults = read_part({name: getattr(schedule, name) for name in SAID}, CodeSchedule)
    params, wrong = _read_params(kind, schedule.params, params_bytes)
    if said is None or params is None:
        return None, [*faults, *wrong]
    about = {name: getattr(said, name) for name in SAID}
    about["name"] = f"{kind.name}{OF_KIND}{schedule.name}"
    about["label"] = said.label or None
    return Definition(**about, kind=kind.name, source=ScheduleSource.CODE, params=params), []


def _read_params(
    kind: Kind, params: Mapping[str, Any], most_bytes: int
) -> tuple[dict[str, Any] | None, list[str]]:
    try:
        return reader_of(kind.params_class).read(dict(params), most_bytes=most_bytes)[1], []
    except ParamsFault as fault:
        return None, fault.faults
