"""Lessons of ended tasks about those like them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import attrs

from tornado_rt.work import Kind, Plan
from tornado_rt.work.forecast import Forecast

# Hexadecimal digits of what a kind's telling parameters are.
TELLING_DIGITS = 16
# Most segments of one task whose times are kept; beyond it the time of the whole is.
MOST_SEGMENTS = 200
WHOLE = ""

Times = Sequence[tuple[str, float]]


@attrs.frozen
class Outline:
    """The facts about a task before it runs: its plan, and how long its author expects [s].

    `key` names the tasks that are like it: of the same kind and plan, with the same values of the
    parameters that the kind names as telling.
    """

    kind: str
    key: str
    plan: Plan | None = None
    expected: float | None = None


@attrs.frozen
class Lesson:
    """The times of a completed task, as they are kept: `entry` by its key, `whole` by its kind."""

    key: str
    kind: str
    entry: bytes
    whole: bytes


class Forecasts(Protocol):
    """Knows how long tasks take."""

    def at_hand(self, outline: Outline) -> Forecast | None:
        """Return what is known of tasks like one; None: `forecast` has to read it."""
        ...

    async def forecast(self, outline: Outline) -> Forecast | None:
        """Return what is known of tasks like one; None when it cannot be had now."""
        ...

    def wants(self, outline: Outline) -> bool:
        """Say whether a task that completes now is to teach; others may have told enough."""
        ...

    def lesson(self, outline: Outline, task_id: str, times: Times) -> Lesson:
        """Return what a completed task has taught."""
        ...


def key_of(kind: str, plan: str, telling: Sequence[Any]) -> str:
    """Return the name of the tasks that are like one; `plan`: its digest, "" for none."""
    digest = ""
    if telling:
        text = json.dumps(list(telling), sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:TELLING_DIGITS]
    return f"{kind}:{plan}:{digest}"


def outline_of(kind: Kind, params: Any, kept: Mapping[str, Any]) -> Outline:
    """Return what is known of a task of a kind; `kept`: its parameters as JSON has them.

    Raise whatever the author's functions raise.
    """
    plan = kind.plan_of(params)
    telling = [kept.get(name) for name in kind.telling]
    key = key_of(kind.name, plan.digest if plan else "", telling)
    return Outline(kind.name, key, plan, kind.expected_of(params))
