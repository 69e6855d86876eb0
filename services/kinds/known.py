"""A kind as submitters see it: one of this process's code, or another's."""

import re
import string
from abc import ABC, abstractmethod
from collections.abc import Callable, Container
from functools import cached_property
from typing import Any, TypeVar

import attrs
import structlog

from services.kinds.validation import BadSchema, SchemaReader
from services.queue.models import KindEntry, KindLimits
from tornado_rt.bounds import number_of
from tornado_rt.work import Kind, Plan, clean_line, format_label
from tornado_rt.work.attempts.lessons import Outline, key_of
from tornado_rt.work.kind import MAX_LABEL_LENGTH, OWN_FIELDS
from tornado_rt.work.params.faults import PLACE, ParamsFault
from tornado_rt.work.params.reader import KEPT_DEPTH, MOST_BYTES, reader_of
from tornado_rt.work.params.schema import schema_of
from tornado_rt.work.params.shapes import json_types
from tornado_rt.work.values import MAX_ATTEMPTS, MOST_KEPT, MOST_SECONDS, cut

log = structlog.get_logger(__name__)

T = TypeVar("T")

# A format in another's label, such as `>10` or `.2f`.
FORMAT = re.compile(r"[^{}]{0,8}")
LONG_WIDTH = re.compile(r"\d{3}")
# A value of each type of JSON.
SAMPLES: dict[type, Any] = dict(
    zip(
        (str, int, float, bool, list, dict, type(None)),
        ("a", 1, 1.5, True, [], {}, None),
        strict=True,
    )
)
# A label is made whole before it is cut, and each parameter may be 64 KiB long.
MOST_NAMED = 20
MOST_TEMPLATE_LENGTH = 1000


class BadEntry(ValueError):
    """The entry that another process wrote for a kind cannot be used; the message says why."""


@attrs.frozen
class Description:
    """The part of a kind's entry beside its title, version and limits.

    `label` is a format string over the parameters, "" for the title; `plan` the text of the plan
    that all its tasks have, "" for none, or one that only the kind's own process can make.
    """

    params_schema: dict[str, Any]
    label: str = ""
    plan: str = ""
    shown: list[str] = attrs.Factory(list)
    telling: list[str] = attrs.Factory(list)
    max_attempts: int = attrs.field(default=MAX_ATTEMPTS, validator=number_of(1, MOST_KEPT))
    timeout: float = attrs.field(default=0.0, validator=number_of(0, MOST_SECONDS))
    expected_seconds: float | None = attrs.field(
        default=None, validator=attrs.validators.optional(number_of(0, MOST_SECONDS))
    )


def entry_of(kind: Kind) -> KindEntry:
    """Return what other processes are told of a kind."""
    description = Description(
        params_schema=schema_of(kind.params_class),
        label=kind.label if isinstance(kind.label, str) else "",
        plan=_text_of(None if callable(kind.steps) else kind.plan_of(None)),
        shown=list(kind.shown),
        telling=list(kind.telling),
        max_attempts=kind.max_attempts,
        timeout=kind.timeout,
        expected_seconds=None if callable(kind.expected_seconds) else kind.expected_of(None),
    )
    return KindEntry(
        kind=kind.name,
        title=kind.title,
        version=kind.version,
        description=reader_of(Description).write(description, most_bytes=0, depth=KEPT_DEPTH),
        limits=KindLimits(
            limit=kind.limit,
            user_limit=kind.user_limit,
            key_limit=kind.key_limit,
            rate=kind.rate or "",
            key_rate=kind.key_rate or "",
        ),
    )


def _text_of(plan: Plan | None) -> str:
    return "" if plan is None else plan.text.decode()


class KnownKind(ABC):
    """A kind as submitters see it.

    `params` in its methods are what `read_params` has returned, unchanged.
    """

    def __init__(self, entry: KindEntry) -> None:
        """Raise BadEntry."""
        self.name, self.title = entry.kind, entry.title or entry.kind
        self.entry = entry
        self._told = _read_description(entry)
        self.max_attempts = self._told.max_attempts
        # An earlier version let a kind name any.
        self._shown = [name for name in self._told.shown if name not in OWN_FIELDS]

    @abstractmethod
    def read_params(
        self,
        value: object,
        *,
        place: str = PLACE,
        common: Container[str] = (),
        most_bytes: int = MOST_BYTES,
    ) -> dict[str, Any]:
        """Return parameters as they are kept, the defaults filled in. Raise ParamsFault.

        `common`: the parameters whose faults are told at `PLACE`.
        """

    @abstractmethod
    def plan(self, params: dict[str, Any]) -> Plan | None:
        """Return the plan of a task, None when there is none yet."""

    @abstractmethod
    def expected(self, params: dict[str, Any]) -> float | None:
        """Return how long a task is expected to take [s], None: unknown."""

    def label(self, params: dict[str, Any]) -> str:
        """Return what people see of a task: one line of at most 200 characters."""
        made = self._or_none("label", lambda: clean_line(self._label(params), MAX_LABEL_LENGTH))
        return made or cut(self.title, MAX_LABEL_LENGTH)

    def shown(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters that snapshots carry."""
        return {name: params[name] for name in self._shown if name in params}

    def outline(self, params: dict[str, Any]) -> Outline:
        """Return what is known of a task before it runs."""
        plan, told = self.plan(params), self._told.telling
        key = key_of(self.name, plan.digest if plan else "", [params.get(name) for name in told])
        return Outline(self.name, key, plan, self.expected(params))

    @abstractmethod
    def _label(self, params: dict[str, Any]) -> str:
        """Return the label, of any length; it may raise what an author's code raises."""

    def _or_none(self, what: str, make: Callable[[], T]) -> T | None:
        """Return what is made, None when an author's code fails: the task is worth more."""
        try:
            return make()
        except Exception as error:
            log.warning("kind_failed", kind=self.name, what=what, error=repr(error)[:200])
            return None


class _Reading:
    """Parameters, and what this process's kind makes of them."""

    def __init__(self, kind: Kind, params: dict[str, Any], read: Any) -> None:
        self._kind = kind
        self.params = params
        self.read = read

    @cached_property
    def plan(self) -> Plan | None:
        return self._kind.plan_of(self.read)


class LocalKind(KnownKind):
    """A kind of this process's code."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(entry_of(kind))
        self.kind = kind
        self._reader = reader_of(kind.params_class)
        self._last: _Reading | None = None

    def read_params(
        self,
        value: object,
        *,
        place: str = PLACE,
        common: Container[str] = (),
        most_bytes: int = MOST_BYTES,
    ) -> dict[str, Any]:
        read, params = self._reader.read(value, place=place, common=common, most_bytes=most_bytes)
        self._last = _Reading(self.kind, params, read)
        return params

    def plan(self, params: dict[str, Any]) -> Plan | None:
        return self._or_none("plan", lambda: self._reading(params).plan)

    def expected(self, params: dict[str, Any]) -> float | None:
        given = self.kind.expected_of
        return self._or_none("expected_seconds", lambda: given(self._reading(params).read))

    def _label(self, params: dict[str, Any]) -> str:
        return self.kind.label_of(self._reading(params).read, params)

    def _reading(self, params: dict[str, Any]) -> _Reading:
        """Return what was read last, or read again what was read before that."""
        if self._last is None or self._last.params is not params:
            read, _ = self._reader.read(params, most_bytes=0)
            self._last = _Reading(self.kind, params, read)
        return self._last


class SharedKind(KnownKind):
    """A kind of another process, as it has described it."""

    def __init__(self, entry: KindEntry) -> None:
        super().__init__(entry)
        self._template = self._told.label if _is_harmless(self._told.label) else ""
        try:
            self._reader = SchemaReader(self._told.params_schema)
            self._plan = Plan.read(self._told.plan) if self._told.plan else None
        except (BadSchema, ValueError) as error:
            raise BadEntry(str(error)) from None

    def read_params(
        self,
        value: object,
        *,
        place: str = PLACE,
        common: Container[str] = (),
        most_bytes: int = MOST_BYTES,
    ) -> dict[str, Any]:
        return self._reader.read(value, place=place, common=common, most_bytes=most_bytes)

    def plan(self, params: dict[str, Any]) -> Plan | None:
        return self._plan

    def expected(self, params: dict[str, Any]) -> float | None:
        return self._told.expected_seconds

    def _label(self, params: dict[str, Any]) -> str:
        return format_label(self._template, params)


def has_label_everywhere(kind: Kind) -> bool:
    """Say whether a process that has only the entry of a kind makes the same label."""
    if not isinstance(kind.label, str):
        return kind.label is None
    if not _is_harmless(kind.label):
        return False
    fields = reader_of(kind.params_class).fields
    parts = string.Formatter().parse(kind.label)
    named = [(name, form or "") for _, name, form, _ in parts if name is not None]
    return all(name in fields and _has_format(fields[name].shape, form) for name, form in named)


def _has_format(shape: Any, form: str) -> bool:
    """Say whether any JSON that is read into a type has this format."""
    types = json_types(shape)
    samples = [value for kind, value in SAMPLES.items() if types & {kind, object}]
    return any(_takes(format, one, form) for one in samples)


def _takes(function: Callable[..., object], *arguments: object) -> bool:
    try:
        function(*arguments)
    except (ValueError, TypeError):
        return False
    return True


def _read_description(entry: KindEntry) -> Description:
    """Read an entry's description; one of a later version may say more. Raise BadEntry."""
    known = attrs.fields_dict(Description)
    told = {name: value for name, value in entry.description.items() if name in known}
    try:
        read: Description
        read, _ = reader_of(Description).read(
            told, place="its description", most_bytes=0, depth=KEPT_DEPTH
        )
    except ParamsFault as fault:
        raise BadEntry(str(fault)) from None
    return read


def _is_harmless(template: str) -> bool:
    """Say whether another's format string does nothing but name parameters.

    An attribute of a value could tell more than the value, and a width, or the same long value many
    times, could fill the memory.
    """
    if len(template) > MOST_TEMPLATE_LENGTH:
        return False
    try:
        parts = [(name, form or "") for _, name, form, _ in string.Formatter().parse(template)]
    except ValueError:
        return False
    named = [(name, form) for name, form in parts if name is not None]
    return len(named) <= MOST_NAMED and all(
        name.isidentifier() and FORMAT.fullmatch(form) and not LONG_WIDTH.search(form)
        for name, form in named
    )
