"""The items of messages of workers elsewhere: what each may say, within bounds."""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, TypeVar

import attrs

from tornado_rt.bounds import OutOfBounds, check_name, name_of
from tornado_rt.json_body import MOST_BYTES, Faults, reader_of
from tornado_rt.problems import Problem
from tornado_rt.work import MOST_STATE_BYTES
from tornado_rt.work.attempts.endings import MOST_RETRY_SECONDS
from tornado_rt.work.once import MAX_ONCE_LENGTH
from tornado_rt.work.plan import MAX_STEP_LENGTH, MOST_LEVELS
from tornado_rt.work.texts import phrase

T = TypeVar("T")

ID_LENGTH = 64
TASK_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
TOKEN = re.compile(r"[A-Za-z0-9]{1,64}")
UNIT_LENGTH = 50
MOST_PLAN_BYTES = 1_048_576
# Of everything that is bounded by other rules.
ANY_BYTES = {MOST_BYTES: 0}
STATE_BYTES = {MOST_BYTES: MOST_STATE_BYTES}


class EndingItem(StrEnum):
    """The end of an attempt in the words of a worker."""

    COMPLETED = "completed"
    FAILED = "failed"
    ERROR = "error"
    RETRY = "retry"
    RELEASED = "released"


ENDINGS = {ending.value: ending for ending in EndingItem}
PLAIN_END = {"task_id", "token", "outcome"}


class _Absent:
    """Stands for a member that an item does not have, where null means something."""


ABSENT = _Absent()


def _between(least: float, most: float) -> Any:
    def check(_: Any, field: Any, value: float | None) -> None:
        if value is not None and not least <= value <= most:
            raise OutOfBounds(
                phrase(
                    "{name} must be from {least} to {most}",
                    name=field.name,
                    least=f"{least:.15g}",
                    most=f"{most:.15g}",
                )
            )

    return check


def _is_token(_: Any, field: Any, value: str) -> None:
    if not TOKEN.fullmatch(value):
        raise OutOfBounds(
            phrase("{name} must be the token that the task was sent with", name=field.name)
        )


def _is_id(_: Any, field: Any, value: str) -> None:
    if not TASK_ID.fullmatch(value):
        raise OutOfBounds(phrase("{name} must be the id of a task", name=field.name))


def _is_step(_: Any, field: Any, value: object) -> None:
    names = [value] if isinstance(value, str) else value
    if names is None:
        return
    if not isinstance(names, list) or not 0 < len(names) <= MOST_LEVELS:
        raise OutOfBounds(
            phrase(
                "{name} must be the name of a step, or names from the outermost", name=field.name
            )
        )
    for name in names:
        if not isinstance(name, str):
            raise OutOfBounds(phrase("{name} must hold names of steps", name=field.name))
        check_name(field.name, name, MAX_STEP_LENGTH)


@attrs.frozen(kw_only=True)
class Named:
    """An attempt at a task."""

    task_id: str = attrs.field(validator=_is_id)
    token: str = attrs.field(validator=_is_token)

    @property
    def lease(self) -> tuple[str, str]:
        """Its id and its token."""
        return self.task_id, self.token


@attrs.frozen(kw_only=True)
class ReportedItem(Named):
    """The progress that an item tells."""

    progress: float | None = attrs.field(default=None, validator=_between(0, 100))
    step: Any = attrs.field(default=None, validator=_is_step)
    fraction: float | None = attrs.field(default=None, validator=_between(0, 1))
    done: float | None = None
    total: float | None = None
    unit: str | None = attrs.field(default=None, validator=name_of(UNIT_LENGTH, least=0))
    message: str | None = None
    plan: Any = attrs.field(default=ABSENT, metadata={MOST_BYTES: MOST_PLAN_BYTES})
    state: dict[str, Any] | None = attrs.field(default=None, metadata=STATE_BYTES)
    snapshot: dict[str, Any] | None = attrs.field(default=None, metadata=STATE_BYTES)

    @property
    def tells(self) -> bool:
        """Whether it says how far the task is, or has a state."""
        told = (self.progress, self.step, self.fraction, self.done, self.message, self.snapshot)
        return any(one is not None for one in (*told, self.state)) or self.plan is not ABSENT


@attrs.frozen(kw_only=True)
class NotifyItem:
    """A notification for the user of the task; repeated at once with the same `id` it makes one."""

    title: str
    content: str | None = None
    severity: str = "info"
    id: str = attrs.field(default="", validator=name_of(ID_LENGTH, least=0))


@attrs.frozen(kw_only=True)
class AskItem:
    """A question to the user of the task."""

    name: str
    title: str
    options: dict[str, Any]
    content: str | None = None
    severity: str = "info"
    id: str = attrs.field(default="", validator=name_of(ID_LENGTH, least=0))


@attrs.frozen(kw_only=True)
class SubmitItem:
    """A task for the user of the task, once under a `name`; `task`: the body of a submission."""

    name: str = attrs.field(validator=name_of(MAX_ONCE_LENGTH))
    task: dict[str, Any] = attrs.field(metadata=ANY_BYTES)


@attrs.frozen(kw_only=True)
class ReportItem(ReportedItem):
    """An item of a report; `keep` has results of `once` by name."""

    keep: dict[str, Any] = attrs.field(factory=dict, metadata=ANY_BYTES)
    notify: NotifyItem | None = None
    submit: SubmitItem | None = None
    ask: AskItem | None = None
    withdraw: str | None = attrs.field(default=None, validator=name_of(200))


@attrs.frozen(kw_only=True)
class AckItem(ReportedItem):
    """The end of an attempt, and its last report; `delay` [s]: None for the usual one."""

    outcome: EndingItem
    error: str = ""
    delay: float | None = attrs.field(default=None, validator=_between(0, MOST_RETRY_SECONDS))


def plain_end(value: Any) -> tuple[tuple[str, str], EndingItem] | None:
    """Return the attempt and its end of an item that says no more, as most do; else None."""
    if type(value) is not dict or value.keys() != PLAIN_END:
        return None
    task_id, token, outcome = value["task_id"], value["token"], value["outcome"]
    if not (isinstance(task_id, str) and isinstance(token, str) and isinstance(outcome, str)):
        return None
    if outcome not in ENDINGS or not (TASK_ID.fullmatch(task_id) and TOKEN.fullmatch(token)):
        return None
    return (task_id, token), ENDINGS[outcome]


def items_of(data: Any, most: int) -> Sequence[Any]:
    """Return the items of a message. Raise Problem 422."""
    items = data.get("items") if isinstance(data, dict) else None
    if not isinstance(items, list):
        raise Problem(
            422,
            phrase("the body is not valid"),
            errors=[phrase("{place} must be a list", place="items")],
        )
    if len(items) > most:
        raise Problem(
            422,
            phrase("the body is not valid"),
            errors=[phrase("{place} must have at most {most} items", place="items", most=most)],
        )
    return items


def read_item(value: Any, number: int, shape: type[T]) -> T:
    """Read an item into its shape. Raise Problem 422 that names its place."""
    faults = Faults()
    # A class can be hashed; mypy takes none for something that can.
    target: Any = shape
    read: T = reader_of(target)(value, f"items[{number}]", faults, None)
    faults.settle()
    return read
