"""Kinds that workers elsewhere declare: checked, and made known as those of any process."""

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import orjson

from services.kinds import RESERVED, KindRegistry
from services.kinds.known import BadEntry, SharedKind
from services.queue import KindEntry, KindLimits, LimitsRefused, QueueService
from services.queue.kinds import check_limits
from services.remote.bounds import RemoteBounds
from services.remote.plans import read_plan
from services.topics.names import matches
from tornado_rt.bounded import Bounded
from tornado_rt.bounds import OutOfBounds, number_of, text_of
from tornado_rt.json_body import MOST_BYTES, Faults, reader_of
from tornado_rt.problems import Problem
from tornado_rt.work.kind import MAX_LABEL_LENGTH, NAME
from tornado_rt.work.texts import phrase
from tornado_rt.work.values import MAX_ATTEMPTS, MOST_KEPT, MOST_SECONDS, cut

# Most bytes of one declaration, and most declarations that a process remembers.
DECLARATION_BYTES = 65_536
MOST_DECLARED = 1000


def _is_kind(_: Any, field: Any, value: str) -> None:
    if not NAME.fullmatch(value):
        raise OutOfBounds(
            phrase(
                "{name} must be 1 to 64 of a-z, 0-9, dot, dash and underscore, "
                "a letter or digit first: {value}",
                name=field.name,
                value=repr(cut(value, 50)),
            )
        )
    if value.startswith(RESERVED):
        raise OutOfBounds(
            phrase(
                "{name}: tasks of {value} are run by the server alone", name=field.name, value=value
            )
        )


@attrs.frozen(kw_only=True)
class Declaration:
    """A kind as a worker declares it; the fields are those of `Kind`, its plan is one for all."""

    kind: str = attrs.field(validator=_is_kind)
    params_schema: dict[str, Any] = attrs.field(metadata={MOST_BYTES: DECLARATION_BYTES})
    title: str = attrs.field(default="", validator=text_of(MAX_LABEL_LENGTH))
    version: int = attrs.field(default=0, validator=number_of(0, MOST_KEPT))
    label: str = ""
    plan: Any = attrs.field(default=None, metadata={MOST_BYTES: DECLARATION_BYTES})
    shown: list[str] = attrs.field(factory=list)
    telling: list[str] = attrs.field(factory=list)
    max_attempts: int = attrs.field(default=MAX_ATTEMPTS, validator=number_of(1, MOST_KEPT))
    timeout: float = attrs.field(default=0.0, validator=number_of(0, MOST_SECONDS))
    expected_seconds: float | None = None
    limits: dict[str, Any] = attrs.field(factory=dict)

    def entry(self) -> KindEntry:
        """Return what processes tell each other of it. Raise ValueError."""
        plan = read_plan(self.plan)
        description = {
            "params_schema": self.params_schema,
            "label": self.label,
            "plan": "" if plan is None else plan.text.decode(),
            "shown": self.shown,
            "telling": self.telling,
            "max_attempts": self.max_attempts,
            "timeout": self.timeout,
            "expected_seconds": self.expected_seconds,
        }
        return KindEntry(
            kind=self.kind,
            title=self.title or self.kind,
            version=self.version,
            description=description,
            limits=KindLimits(**check_limits(self.kind, self.limits)),
        )


class DeclaredKinds:
    """Reads what workers say of kinds. For kinds of `local` the server's own word counts."""

    def __init__(self, queue: QueueService, local: KindRegistry, bounds: RemoteBounds) -> None:
        self._queue = queue
        self._local = local.local
        self._bounds = bounds
        # A declaration is read once: a claim over HTTP may declare its kinds each time.
        self._read: Bounded[bytes, KindEntry] = Bounded(MOST_DECLARED)
        self._known: dict[str, KindEntry] = {}

    async def learn(self, kinds: Sequence[Any], allowed: Sequence[str] | None) -> tuple[str, ...]:
        """Make known what is new, and return the names in order.

        `allowed`: patterns of the kinds that the worker may have, None: all. Raise Problem 422 that
        names the faults, 403 for a kind that is not allowed, 409 when too many are known; and what
        the queue raises.
        """
        faults, entries, names = Faults(), [], []
        for number, one in enumerate(kinds):
            entry = self._read_one(one, f"kinds[{number}]", faults)
            if isinstance(entry, KindEntry):
                names.append(entry.kind)
                entries.append(entry)
            elif entry is not None:
                names.append(entry)
        faults.settle()
        if not names:
            raise Problem(
                422,
                phrase("the body is not valid"),
                errors=[phrase("{name} must name one or more", name="kinds")],
            )
        for name in names:
            if not (allowed is None or matches(name, allowed)):
                told = f"the claim `kinds` of your token has no pattern for kind {name}"
                raise Problem(403, told)
        await self._make_known(entries)
        return tuple(sorted(set(names)))

    def facts(self, kind: str) -> Mapping[str, Any]:
        """Return the description of a kind that a worker has declared here."""
        entry = self._known.get(kind)
        return {} if entry is None else entry.description

    async def _make_known(self, entries: Sequence[KindEntry]) -> None:
        own = [one for one in entries if one.kind not in self._local]
        fresh = [one for one in own if self._known.get(one.kind) != one]
        if not fresh:
            return
        names = self._known.keys() | {one.kind for one in fresh}
        if len(names) > MOST_DECLARED:
            raise Problem(
                409,
                phrase(
                    "at most {most} kinds of workers elsewhere are known",
                    most=MOST_DECLARED,
                ),
            )
        await self._queue.add_kinds(fresh)
        self._known |= {one.kind: one for one in fresh}

    def _read_one(self, value: Any, place: str, faults: Faults) -> KindEntry | str | None:
        if isinstance(value, str):
            try:
                _is_kind(None, _Place(place), value)
            except OutOfBounds as error:
                faults.add(str(error))
                return None
            return value
        if isinstance(value, dict) and value.keys() == {"kind"}:
            return self._read_one(value["kind"], f"{place}.kind", faults)
        digest = orjson.dumps(value)
        known = self._read.find(digest)
        if known is None:
            known = _read_entry(value, place, faults)
            if known is not None:
                self._read.put(digest, known)
        return known


@attrs.frozen
class _Place:
    """A field as a validator sees it."""

    name: str


def _read_entry(value: Any, place: str, faults: Faults) -> KindEntry | None:
    before = faults.count
    read: Declaration = reader_of(Declaration)(value, place, faults, None)
    if faults.count > before:
        return None
    try:
        entry = read.entry()
        # So a submission is refused for what it says, not for what the kind is.
        SharedKind(entry)
    except (BadEntry, LimitsRefused, ValueError) as error:
        faults.add(phrase("{place}: {error}", place=place, error=error))
        return None
    return entry
