"""What an author of work imports: kinds of tasks, their steps, and the run that a handler is given.

It imports nothing of this server, so that a client can carry it.

    Exception
    ├── TaskError   final; its text is for the user
    ├── Retry       run again later
    └── LeaseLost   the task is no longer this attempt's
"""

import hashlib
import inspect
import json
import math
import re
import string
import unicodedata
import zoneinfo
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar

import attrs

MAX_MESSAGE_LENGTH = 2000
MAX_LABEL_LENGTH = 200
# Of the names and titles of steps.
MAX_STEP_LENGTH = 200
MOST_LEAVES = 1000
MOST_LEVELS = 16
MOST_WEIGHT = 1e12
MOST_RATE = 10**6

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
RATE = re.compile(r"([0-9]{1,7})/([0-9]{0,7})([smhd])")
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

# Control characters, lone surrogates, line and paragraph separators: no store keeps all of them.
FORBIDDEN = {"Cc", "Cs", "Zl", "Zp"}
LAYOUT = set("\t\n\r")

Function = TypeVar("Function", bound=Callable[..., Any])


class TaskError(Exception):
    """Raised by a handler for a final failure, which its text explains to the user."""


class Retry(Exception):
    """Raised by a handler to be run again after `delay`, None for the kind's own.

    `delay` is in seconds, or a timedelta. It is at least 0 and at most 30 days.
    """

    def __init__(self, reason: str, *, delay: float | timedelta | None = None) -> None:
        super().__init__(reason)
        self.delay = delay


class LeaseLost(Exception):
    """The task is no longer this attempt's: it was cancelled, or given to another worker."""


def clean_text(value: object, most: int) -> str:
    """Return any object as text that can be kept, cut to `most` characters. It never raises."""
    try:
        text = str(value)
    except BaseException as error:
        text = f"<{type(value).__name__}: {type(error).__name__} in its text>"
    text = text[:most].encode(errors="replace").decode()
    if text.isprintable():
        return text
    return "".join(one if one in LAYOUT or _may_stand(one) else "\ufffd" for one in text)


def clean_line(value: object, most: int) -> str:
    """Return any object as one line of text that can be kept, cut to `most` characters."""
    return "".join(" " if one in LAYOUT else one for one in clean_text(value, most))


def format_label(template: str, params: Mapping[str, Any]) -> str:
    """Return the label that a kind's template makes of parameters."""
    return clean_line(template.format_map(params), MAX_LABEL_LENGTH)


def _as_steps(steps: "Iterable[Step | str]") -> "tuple[Step, ...]":
    return tuple(Step(one) if isinstance(one, str) else one for one in steps)


def _as_weight(weight: float) -> float:
    _require(is_number(weight, 0, MOST_WEIGHT), "the weight of a step is a number of 0 or more")
    return float(weight)


def _as_step_name(name: str) -> str:
    _require(isinstance(name, str) and name != "", "a step has a name")
    return clean_line(name, MAX_STEP_LENGTH)


@attrs.frozen
class Step:
    """One step of a plan.

    `weight`: its share beside its siblings'. `title`: what people see, by default the name.
    `steps`: the steps inside it, which share its weight by their own.
    """

    name: str = attrs.field(converter=_as_step_name)
    weight: float = attrs.field(default=1.0, converter=_as_weight)
    title: str = ""
    steps: "tuple[Step, ...]" = attrs.field(default=(), converter=_as_steps)

    def __attrs_post_init__(self) -> None:
        title = clean_line(self.title, MAX_STEP_LENGTH) or self.name
        object.__setattr__(self, "title", title)


@attrs.frozen
class Leaf:
    """A step without steps inside it.

    `share`: of the whole, the shares of a plan sum to 1. `group`: the titles of the steps around
    it, the outermost first. `path`: the names of these and its own.
    """

    name: str
    title: str
    share: float
    group: tuple[str, ...]
    path: tuple[str, ...]


@attrs.frozen
class Plan:
    """The steps of a task. Raise ValueError for what is no plan: the text says why."""

    steps: tuple[Step, ...] = attrs.field(converter=_as_steps)

    def __attrs_post_init__(self) -> None:
        _check_steps(self.steps, MOST_LEVELS)
        count = len(self.leaves)
        _require(count <= MOST_LEAVES, f"a plan has at most {MOST_LEAVES} steps, not {count}")

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """The steps that have none inside, in their order."""
        return tuple(_leaves_of(self.steps, 1.0, (), ()))

    @cached_property
    def text(self) -> bytes:
        """The plan as JSON; equal plans have equal texts."""
        return _json_of([_plain(step) for step in self.steps])

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits that name the plan's content."""
        return hashlib.sha256(self.text).hexdigest()[:16]

    @classmethod
    def read(cls, text: bytes | str) -> "Plan":
        """Return the plan that has this text."""
        try:
            return cls([_read_step(one) for one in json.loads(text)])
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(f"not a plan: {error!r}") from None


@attrs.frozen
class Rate:
    """At most `count` starts in `seconds`."""

    count: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Read "10/s", "10/m", "10/h", "10/d", or a number of units, as "5/30s".

        Raise ValueError.
        """
        match = RATE.fullmatch(text) if isinstance(text, str) else None
        count, units = (int(match[1]), int(match[2] or 1)) if match else (0, 0)
        if not match or not 1 <= count <= MOST_RATE or not 1 <= units <= MOST_RATE:
            raise ValueError(f'a rate is text as "10/s", "10/m", "5/30s" or "100/d", not {text!r}')
        return cls(count, units * UNIT_SECONDS[match[3]])


@attrs.frozen(kw_only=True)
class Schedule:
    """When tasks of a kind are made by themselves: by `cron`, or `every` so many seconds.

    `overlap`: what happens while the last task is not ended: "skip", "queue" or "replace".
    `jitter`: seconds at most that a task is delayed by chance. `missed`: what is made up for after
    a time in which nothing ran: "skip" nothing, "last" one, "all".
    """

    name: str
    cron: str = ""
    every: float = 0.0
    timezone: str = "UTC"
    params: Mapping[str, Any] = attrs.field(factory=dict)
    overlap: str = "skip"
    jitter: float = 0.0
    missed: str = "last"
    label: str = ""
    user_id: str = "system"

    def __attrs_post_init__(self) -> None:
        def require(condition: bool, fault: str) -> None:
            _require(condition, f"schedule {self.name!r}: {fault}")

        _check_name("the name of a schedule", self.name)
        require(is_number(self.every, 0), "every is a number of seconds")
        require(is_number(self.jitter, 0), "jitter is a number of seconds")
        require(bool(self.cron) != bool(self.every), "it has either cron or every")
        require(self.overlap in OVERLAPS, f"overlap is one of {', '.join(OVERLAPS)}")
        require(self.missed in MISSED, f"missed is one of {', '.join(MISSED)}")
        require(_is_timezone(self.timezone), f"there is no time zone {self.timezone!r}")


OVERLAPS = ("skip", "queue", "replace")
MISSED = ("skip", "last", "all")

Steps = Iterable[Step | str]


@attrs.frozen(eq=False)
class Kind:
    """A sort of work: the class of its parameters, its plan, limits, retries and handler.

    `steps`: the plan, or a function of the parameters that returns it; None: no plan. `label`: what
    people see of a task, a format string over the parameters ("{path} as {preset}") or a function
    of them; None: the title. `shown`: parameters that snapshots carry beside the label. `version`:
    limits of a higher version replace those that are in force. `limit`, `user_limit`, `key_limit`:
    how many may run, in all, of a user, of a key; `rate`, `key_rate`: how many may start, as
    "10/m". `timeout`: seconds that an attempt may take. `retry_errors`: whether an exception is
    tried again, after `backoff` (the first and the longest wait in seconds), until `max_attempts`.
    `expected_seconds`: how long a task takes, a number or a function of the parameters. For each
    limit and the timeout 0 means none. Raise ValueError for what is none of this.
    """

    name: str
    params_class: type
    title: str = attrs.field(default="", kw_only=True)
    label: str | Callable[[Any], str] | None = attrs.field(default=None, kw_only=True)
    steps: Steps | Callable[[Any], Steps | None] | None = attrs.field(default=None, kw_only=True)
    shown: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=tuple)
    version: int = attrs.field(default=0, kw_only=True)
    limit: int = attrs.field(default=0, kw_only=True)
    user_limit: int = attrs.field(default=0, kw_only=True)
    key_limit: int = attrs.field(default=0, kw_only=True)
    rate: str | None = attrs.field(default=None, kw_only=True)
    key_rate: str | None = attrs.field(default=None, kw_only=True)
    timeout: float = attrs.field(default=0.0, kw_only=True)
    max_attempts: int = attrs.field(default=3, kw_only=True)
    retry_errors: bool = attrs.field(default=True, kw_only=True)
    backoff: tuple[float, float] = attrs.field(default=(5.0, 300.0), kw_only=True)
    expected_seconds: float | Callable[[Any], float] | None = attrs.field(
        default=None, kw_only=True
    )
    schedules: tuple[Schedule, ...] = attrs.field(default=(), kw_only=True, converter=tuple)
    function: Callable[..., Any] | None = attrs.field(default=None, init=False)
    _plan: Plan | None = attrs.field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        _check_name("the name of a kind", self.name)
        try:
            _check_kind(self)
            if self.steps is not None and not callable(self.steps):
                object.__setattr__(self, "_plan", _plan_of(self.steps))
        except (ValueError, TypeError) as error:
            raise ValueError(f"kind {self.name!r}: {error}") from None
        object.__setattr__(self, "title", clean_line(self.title, MAX_LABEL_LENGTH) or self.name)

    def handler(self, function: Function) -> Function:
        """Set the function of (params, run) that does the work; to be used as a decorator."""
        kind = f"kind {self.name!r}"
        _require(self.function is None, f"{kind} has a handler already")
        _require(_is_handler(function), f"{kind}: the handler is a function, and no generator")
        try:
            inspect.signature(function).bind("params", "run")
        except TypeError:
            raise ValueError(f"{kind}: the handler takes (params, run)") from None
        object.__setattr__(self, "function", function)
        return function

    def plan_of(self, params: Any) -> Plan | None:
        """Return the plan for these parameters, None when there is none."""
        return _plan_of(self.steps(params)) if callable(self.steps) else self._plan

    def label_of(self, params: Any) -> str:
        """Return what people see of a task with these parameters."""
        if callable(self.label):
            return clean_line(self.label(params), MAX_LABEL_LENGTH) or self.title
        if self.label is None:
            return self.title
        names = attrs.fields_dict(self.params_class)
        return format_label(self.label, {name: getattr(params, name) for name in names})

    def expected_of(self, params: Any) -> float | None:
        """Return how long a task with these parameters is expected to take [s], None: unknown."""
        given = self.expected_seconds
        seconds = given(params) if callable(given) else given
        _require(seconds is None or is_number(seconds, 0), "expected_seconds is a number or None")
        return seconds or None


def is_number(value: object, least: float = -math.inf, most: float = math.inf) -> bool:
    """Tell whether something is a finite number from `least` to `most`; a bool is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and least <= value <= most


def _require(condition: bool, fault: str) -> None:
    if not condition:
        raise ValueError(fault)


def _check_name(what: str, name: object) -> None:
    _require(
        isinstance(name, str) and NAME.fullmatch(name) is not None,
        f"{what} is 1 to 64 of a-z, 0-9, dot, dash and underscore, a letter or digit first,"
        f" not {name!r}",
    )


def _check_kind(kind: Kind) -> None:
    cls = kind.params_class
    _require(isinstance(cls, type) and attrs.has(cls), "the parameters' class is an attrs class")
    names = attrs.fields_dict(cls)
    for name in kind.shown:
        _require(name in names, f"shown names {name!r}, which {cls.__name__} does not have")
    if isinstance(kind.label, str):
        _check_label(kind.label, names)
    else:
        _require(kind.label is None or callable(kind.label), "the label is text or a function")
    for name in ("version", "limit", "user_limit", "key_limit"):
        _require(_is_count(getattr(kind, name), 0), f"{name} is a whole number, 0 or more")
    _require(_is_count(kind.max_attempts, 1), "max_attempts is a whole number, 1 or more")
    _require(is_number(kind.timeout, 0), "timeout is a number of seconds, 0 for none")
    _require(isinstance(kind.retry_errors, bool), "retry_errors is True or False")
    for rate in (kind.rate, kind.key_rate):
        _require(rate is None or Rate.parse(rate) is not None, "")
    _check_backoff(kind.backoff)
    if not callable(kind.expected_seconds):
        kind.expected_of(None)
    for one in kind.schedules:
        _require(isinstance(one, Schedule), "schedules are a list of Schedule")
    _check_unique("schedules", [one.name for one in kind.schedules])


def _check_label(label: str, names: Mapping[str, Any]) -> None:
    for _, name, inner, _ in string.Formatter().parse(label):
        _require(not inner or "{" not in inner, "a format in the label holds no parameter")
        if name is not None:
            _require(name in names, f"the label names {name!r}, which is no parameter")


def _check_backoff(backoff: tuple[Any, ...]) -> None:
    fault = "backoff is the first and the longest wait in seconds, such as (5, 300)"
    _require(isinstance(backoff, tuple | list) and len(backoff) == 2, fault)
    first, longest = backoff
    _require(is_number(longest, 0) and is_number(first, 0, longest), fault)


def _check_steps(steps: tuple[Step, ...], levels: int) -> None:
    _require(len(steps) > 0, "a plan has a step")
    _require(levels > 0, f"steps nest at most {MOST_LEVELS} levels")
    for step in steps:
        _require(isinstance(step, Step), f"{step!r} is no Step")
        if step.steps:
            _check_steps(step.steps, levels - 1)
    _check_unique("steps", [step.name for step in steps])
    _require(any(step.weight for step in steps), "the weights of steps are not all 0")


def _check_unique(what: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        _require(name not in seen, f"two {what} have the name {name!r}")
        seen.add(name)


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_handler(function: object) -> bool:
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return False
    return callable(function) and not inspect.isclass(function)


def _is_timezone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return False
    return True


def _may_stand(character: str) -> bool:
    return unicodedata.category(character) not in FORBIDDEN


def _json_of(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _plan_of(steps: Steps | None) -> Plan | None:
    steps = _as_steps(steps or ())
    return Plan(steps) if steps else None


def _leaves_of(
    steps: tuple[Step, ...], share: float, group: tuple[str, ...], path: tuple[str, ...]
) -> Iterator[Leaf]:
    whole = sum(step.weight for step in steps)
    for step in steps:
        part, here = share * step.weight / whole, (*path, step.name)
        if step.steps:
            yield from _leaves_of(step.steps, part, (*group, step.title), here)
        else:
            yield Leaf(step.name, step.title, part, group, here)


def _plain(step: Step) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": step.name, "weight": step.weight}
    if step.title != step.name:
        fields["title"] = step.title
    if step.steps:
        fields["steps"] = [_plain(one) for one in step.steps]
    return fields


def _read_step(fields: dict[str, Any]) -> Step:
    inner = [_read_step(one) for one in fields.get("steps", ())]
    return Step(fields["name"], fields["weight"], fields.get("title", ""), tuple(inner))
