"""Kinds of tasks."""

import functools
import inspect
import re
import string
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import attrs

from tornado_rt.work.handlers import fault_of, is_async
from tornado_rt.work.plan import Plan, Steps, plan_of
from tornado_rt.work.values import (
    MAX_ATTEMPTS,
    MOST_COUNT,
    MOST_KEPT,
    MOST_SECONDS,
    RETRY_SECONDS,
    check_unique,
    clean_line,
    is_count,
    is_number,
    require,
)

MAX_LABEL_LENGTH = 200
MOST_RATE = 10**6

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
RATE = re.compile(r"([0-9]{1,7})/([0-9]{0,7})([smhd])")
UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

# The fields of a task, of its snapshots and of its events: a parameter that snapshots carry has
# another name.
OWN_FIELDS = frozenset(
    {
        *("task_id", "batch_id", "user_id", "kind", "label", "key", "priority", "tags", "params"),
        *("locale", "parent_id"),
        *("status", "final_status", "result", "error", "attempt", "max_attempts", "attempts"),
        *("created_at", "started_at", "ended_at", "updated_at", "run_at", "schedule"),
        *("position", "starts_in", "starts_in_low", "starts_in_high", "waiting_for"),
        *("progress", "message", "done", "total", "unit"),
        *("plan", "marks", "steps", "total_steps", "current_step", "current_step_name"),
        *("elapsed_time", "remaining_time", "remaining_low", "remaining_high"),
        *("estimated_total_time", "revised", "revised_at", "slow_since", "stalled_since"),
        *("times", "usual", "step_progress", "steps_open"),
    }
)

OVERLAPS = ("skip", "queue", "replace")
MISSED = ("skip", "last", "all")

Function = TypeVar("Function", bound=Callable[..., Any])


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
    """When tasks of a kind are made: by `cron`, or every `every` seconds.

    `overlap`: what happens if the last task has not ended: "skip", "queue" or "replace". `jitter`:
    the longest random delay [s]. `missed`: which times are made up for after a pause: "skip" none,
    "last" the last one, "all" every one.
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
        _check_name("the name of a schedule", self.name)
        try:
            _check_schedule(self)
        except ValueError as error:
            raise ValueError(f"schedule {self.name!r}: {error}") from None


# These tell a type checker what they take: `tuple` alone does not.
def _as_names(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(names)


def _as_schedules(schedules: Iterable[Schedule]) -> tuple[Schedule, ...]:
    return tuple(schedules)


@attrs.frozen(eq=False)
class Kind:
    """A sort of work: the class of its parameters, its plan, limits, retries and handler.

    `name`: how submissions name it. `title`: what people see of the kind, by default its name.
    `steps`: the plan, or a function of the parameters that returns it; None: no plan. `label`: what
    people see of a task, a format string over the parameters as JSON has them ("{path} as
    {preset}") or a function of them; None: the title. `shown`: parameters that snapshots carry
    beside the label. `telling`: parameters by which tasks of the kind differ in
    how long they take. `version`: limits of a higher version replace those that are in force.
    `limit`, `user_limit`, `key_limit`: how many may run, in all, of a user, of a key; `rate`,
    `key_rate`: how many may start, as "10/m". `timeout`: longest duration of an attempt [s].
    `retry_errors`: whether an attempt that raises is repeated, after `backoff` (the first and the
    longest wait [s]), until `max_attempts`. `expected_seconds`: expected duration of a task [s], a
    number or a function of the parameters. `schedules`: when tasks are made without a submission. A
    limit or timeout of 0 means none. Raise ValueError for an invalid argument.

    It is wide because each option of a kind is a field.
    """

    name: str
    params_class: type
    title: str = attrs.field(default="", kw_only=True)
    label: str | Callable[[Any], str] | None = attrs.field(default=None, kw_only=True)
    steps: Steps | Callable[[Any], Steps | None] | None = attrs.field(default=None, kw_only=True)
    shown: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_as_names)
    telling: tuple[str, ...] = attrs.field(default=(), kw_only=True, converter=_as_names)
    version: int = attrs.field(default=0, kw_only=True)
    limit: int = attrs.field(default=0, kw_only=True)
    user_limit: int = attrs.field(default=0, kw_only=True)
    key_limit: int = attrs.field(default=0, kw_only=True)
    rate: str | None = attrs.field(default=None, kw_only=True)
    key_rate: str | None = attrs.field(default=None, kw_only=True)
    timeout: float = attrs.field(default=0.0, kw_only=True)
    max_attempts: int = attrs.field(default=MAX_ATTEMPTS, kw_only=True)
    retry_errors: bool = attrs.field(default=True, kw_only=True)
    backoff: tuple[float, float] = attrs.field(default=RETRY_SECONDS, kw_only=True)
    expected_seconds: float | Callable[[Any], float] | None = attrs.field(
        default=None, kw_only=True
    )
    schedules: tuple[Schedule, ...] = attrs.field(default=(), kw_only=True, converter=_as_schedules)
    function: Callable[..., Any] | None = attrs.field(default=None, init=False)
    # True for an `async def`. Any other function gets a SyncRun.
    is_async: bool = attrs.field(default=False, init=False)
    _plan: Plan | None = attrs.field(default=None, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        _check_name("the name of a kind", self.name)
        try:
            _check_kind(self)
            if self.steps is not None and not callable(self.steps):
                object.__setattr__(self, "_plan", plan_of(self.steps))
        except (ValueError, TypeError) as error:
            raise ValueError(f"kind {self.name!r}: {error}") from None
        object.__setattr__(self, "title", clean_line(self.title, MAX_LABEL_LENGTH) or self.name)

    def handler(self, function: Function) -> Function:
        """Set the function of (params, run) that does the work; to be used as a decorator."""
        kind = f"kind {self.name!r}"
        require(self.function is None, f"{kind} has a handler already")
        if fault := fault_of(function):
            raise ValueError(f"{kind}: the handler is {fault}")
        try:
            inspect.signature(function).bind("params", "run")
        except TypeError:
            raise ValueError(f"{kind}: the handler takes (params, run)") from None
        object.__setattr__(self, "function", function)
        object.__setattr__(self, "is_async", is_async(function))
        return function

    def plan_of(self, params: Any) -> Plan | None:
        """Return the plan for these parameters, None when there is none."""
        return plan_of(self.steps(params)) if callable(self.steps) else self._plan

    def label_of(self, params: Any, kept: Mapping[str, Any]) -> str:
        """Return what people see of a task with these parameters; `kept` are the same as JSON."""
        if callable(self.label):
            return clean_line(self.label(params), MAX_LABEL_LENGTH) or self.title
        if self.label is None:
            return self.title
        return format_label(self.label, kept, functools.partial(getattr, params))

    def expected_of(self, params: Any) -> float | None:
        """Return how long a task with these parameters is expected to take [s], None: unknown."""
        given = self.expected_seconds
        seconds = given(params) if callable(given) else given
        if seconds is None:
            return None
        fault = f"expected_seconds is a number of seconds from 0 to {MOST_SECONDS}, or None"
        require(is_number(seconds, 0, MOST_SECONDS), fault)
        return seconds or None


def format_label(
    template: str, kept: Mapping[str, Any], read: Callable[[str], Any] | None = None
) -> str:
    """Return the label that a kind's template makes from parameters as they are kept, in JSON.

    So it is the same in each process. `read` returns a parameter as its class has it, for a format
    that its JSON does not have, such as that of a time. Raise what formatting raises.
    """
    parts = []
    for text, name, form, conversion in string.Formatter().parse(template):
        parts.append(text)
        if name is not None:
            field = f"{{{f'!{conversion}' if conversion else ''}{f':{form}' if form else ''}}}"
            parts.append(_format(field, name, kept, read))
    return clean_line("".join(parts), MAX_LABEL_LENGTH)


def _format(
    field: str, name: str, kept: Mapping[str, Any], read: Callable[[str], Any] | None
) -> str:
    try:
        return field.format(_whole(kept[name]))
    except (KeyError, ValueError, TypeError):
        if read is None:
            raise
        return field.format(read(name))


def _whole(value: Any) -> Any:
    """Return JSON in which 5.0 is 5, for a submission may write either."""
    if isinstance(value, float) and value.is_integer() and abs(value) < MOST_COUNT:
        return int(value)
    if isinstance(value, list):
        return [_whole(one) for one in value]
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    return value


def _check_name(what: str, name: object) -> None:
    require(
        isinstance(name, str) and NAME.fullmatch(name) is not None,
        f"{what} is 1 to 64 of a-z, 0-9, dot, dash and underscore, a letter or digit first,"
        f" not {name!r}",
    )


def _check_schedule(schedule: Schedule) -> None:
    require(is_number(schedule.every, 0), "every is a number of seconds")
    require(is_number(schedule.jitter, 0), "jitter is a number of seconds")
    require(bool(schedule.cron) != bool(schedule.every), "it has either cron or every")
    require(schedule.overlap in OVERLAPS, f"overlap is one of {', '.join(OVERLAPS)}")
    require(schedule.missed in MISSED, f"missed is one of {', '.join(MISSED)}")
    require(_is_timezone(schedule.timezone), f"there is no time zone {schedule.timezone!r}")
    require(isinstance(schedule.params, Mapping), "params is a dict of the parameters")


def _check_kind(kind: Kind) -> None:
    cls = kind.params_class
    require(isinstance(cls, type) and attrs.has(cls), "the parameters' class is an attrs class")
    names = attrs.fields_dict(cls)
    for name in kind.telling:
        require(name in names, f"telling names {name!r}, which {cls.__name__} does not have")
    for name in kind.shown:
        require(name in names, f"shown names {name!r}, which {cls.__name__} does not have")
        require(name not in OWN_FIELDS, f"shown names {name!r}, which each snapshot has for itself")
    if isinstance(kind.label, str):
        _check_label(kind.label, names)
    else:
        require(kind.label is None or callable(kind.label), "the label is text or a function")
    for name in ("version", "limit", "user_limit", "key_limit"):
        require(is_count(getattr(kind, name), 0), f"{name} is a whole number from 0 to {MOST_KEPT}")
    fault = f"max_attempts is a whole number from 1 to {MOST_KEPT}"
    require(is_count(kind.max_attempts, 1), fault)
    fault = f"timeout is a number of seconds from 0 to {MOST_SECONDS}, 0 for none"
    require(is_number(kind.timeout, 0, MOST_SECONDS), fault)
    require(isinstance(kind.retry_errors, bool), "retry_errors is True or False")
    for rate in (kind.rate, kind.key_rate):
        if rate is not None:
            Rate.parse(rate)
    _check_backoff(kind.backoff)
    if not callable(kind.expected_seconds):
        kind.expected_of(None)
    for one in kind.schedules:
        require(isinstance(one, Schedule), "schedules are a list of Schedule")
    check_unique("schedules", [one.name for one in kind.schedules])


def _check_label(label: str, names: Mapping[str, Any]) -> None:
    for _, name, inner, _ in string.Formatter().parse(label):
        require(not inner or "{" not in inner, "a format in the label holds no parameter")
        if name is not None:
            require(name in names, f"the label names {name!r}, which is no parameter")


def _check_backoff(backoff: tuple[Any, ...]) -> None:
    fault = "backoff is the first and the longest wait in seconds, such as (5, 300)"
    require(isinstance(backoff, tuple | list) and len(backoff) == 2, fault)
    first, longest = backoff
    require(is_number(longest, 0, MOST_SECONDS) and is_number(first, 0, longest), fault)


def _is_timezone(name: object) -> bool:
    try:
        zoneinfo.ZoneInfo(name)  # type: ignore[arg-type]
    except (TypeError, ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return False
    return True
