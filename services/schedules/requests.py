"""Read the timing of a schedule from a request or from the code of a kind."""

import time
from collections.abc import Mapping
from typing import Any, TypeVar

import attrs

from services.schedules.models import OF_KIND, Missed, Overlap
from services.schedules.times import (
    MOST_JITTER,
    ScheduleFault,
    check_steps,
    check_zone,
    times_of,
)
from tornado_rt.auth import USER_ID_LENGTH
from tornado_rt.bounds import OutOfBounds, name_of, number_of
from tornado_rt.json_body import structure
from tornado_rt.problems import Problem
from tornado_rt.work.kind import MAX_LABEL_LENGTH, NAME
from tornado_rt.work.texts import phrase

T = TypeVar("T")

# Fields of a task's body that a schedule cannot have: its tasks start at its times.
OF_ONE_TASK = ("delay", "run_at", "unique")


def check_schedule_name(name: str) -> None:
    """Raise OutOfBounds unless a user may give a schedule this name."""
    if not NAME.fullmatch(name):
        raise OutOfBounds(
            phrase(
                "name must be 1 to 64 of a-z, 0-9, dot, dash and underscore, "
                "a letter or digit first"
            )
        )


def is_of_kind(name: str) -> bool:
    """Say whether a schedule of this name stands in the code of a kind."""
    kind, between, own = name.partition(OF_KIND)
    return bool(between) and all(map(NAME.fullmatch, (kind, own)))


def _check_name(_: Any, __: Any, value: str) -> None:
    check_schedule_name(value)


def _check_zone(_: Any, __: Any, value: str) -> None:
    check_zone(value)


@attrs.frozen(kw_only=True)
class ScheduleRequest:
    """When a schedule fires: at the times of `cron`, or `every` N seconds."""

    name: str = attrs.field(validator=_check_name)
    cron: str = ""
    every: float = 0.0
    timezone: str = attrs.field(default="UTC", validator=_check_zone)
    jitter: float = attrs.field(default=0.0, validator=number_of(0, MOST_JITTER))
    overlap: Overlap = Overlap.SKIP
    missed: Missed = Missed.LAST
    enabled: bool = True

    def __attrs_post_init__(self) -> None:
        now = time.time()
        if times_of(self.cron, self.every, self.timezone, now).next_after(now) is None:
            raise ScheduleFault(phrase("cron {expression} never comes", expression=repr(self.cron)))
        if self.cron:
            check_steps(self.cron)
        elif self.jitter > self.every:
            # Tasks would start in another order than that of their times.
            raise ScheduleFault(
                phrase("jitter must be at most every, {every} s", every=f"{self.every:.15g}")
            )


TIMING = tuple(one.name for one in attrs.fields(ScheduleRequest))


@attrs.frozen(kw_only=True)
class CodeSchedule(ScheduleRequest):
    """The fields of a schedule in the code of a kind, but for the parameters of its tasks."""

    user_id: str = attrs.field(validator=name_of(USER_ID_LENGTH))
    label: str = attrs.field(validator=name_of(MAX_LABEL_LENGTH, least=0))


def read_part(body: Mapping[str, Any], shape: type[T]) -> tuple[T | None, list[str]]:
    """Return what a part of a body says, None when there are faults; and those."""
    try:
        return structure(dict(body), shape), []
    except Problem as problem:
        return None, problem.errors or [problem.detail]
