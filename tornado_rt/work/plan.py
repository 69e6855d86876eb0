"""The steps of a task."""

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import attrs

from tornado_rt.work.values import check_unique, clean_line, is_number, json_of, require

# Of the names and titles of steps.
MAX_STEP_LENGTH = 200
MOST_LEAVES = 1000
MOST_LEVELS = 16
MOST_WEIGHT = 1e12

# The names of the steps around a step, the outermost first, and its own.
StepPath = tuple[str, ...]


def _as_steps(steps: "Iterable[Step | str]") -> "tuple[Step, ...]":
    return tuple(Step(one) if isinstance(one, str) else one for one in steps)


def _as_weight(weight: float) -> float:
    require(is_number(weight, 0, MOST_WEIGHT), "the weight of a step is a number of 0 or more")
    return float(weight)


def _as_step_name(name: str) -> str:
    require(isinstance(name, str) and name != "", "a step has a name")
    return clean_line(name, MAX_STEP_LENGTH)


@attrs.frozen
class Step:
    """One step of a plan.

    `weight`: its share beside its siblings', the same for all when all are 0. `title`: what people
    see, by default the name. `steps`: the steps inside it, which share its weight by their own.
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
    path: StepPath


# Many ask what is known of a plan.
@attrs.frozen(cache_hash=True)
class Plan:
    """The steps of a task. Raise ValueError for an invalid plan: the text says why."""

    steps: tuple[Step, ...] = attrs.field(converter=_as_steps)

    def __attrs_post_init__(self) -> None:
        _check_steps(self.steps, MOST_LEVELS)
        count = len(self.leaves)
        require(count <= MOST_LEAVES, f"a plan has at most {MOST_LEAVES} steps, not {count}")

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """The steps that have none inside, in their order."""
        return tuple(_leaves_of(self.steps, 1.0, (), ()))

    @cached_property
    def titles(self) -> dict[StepPath, str]:
        """The title of each step, also of those that have steps inside."""
        return dict(_titles_of(self.steps, ()))

    @cached_property
    def spans(self) -> dict[StepPath, range]:
        """The leaves inside each step; () is the whole."""
        spans: dict[StepPath, range] = {}
        for index, leaf in enumerate(self.leaves):
            for depth in range(len(leaf.path) + 1):
                first = spans.get(leaf.path[:depth], range(index, index)).start
                spans[leaf.path[:depth]] = range(first, index + 1)
        return spans

    @cached_property
    def text(self) -> bytes:
        """The plan as JSON; equal plans have equal texts."""
        return json_of([_plain(step) for step in self.steps])

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


Steps = Iterable[Step | str]


def plan_of(steps: Steps | None) -> Plan | None:
    """Return the plan of these steps, None when there are none. Raise ValueError."""
    steps = _as_steps(steps or ())
    if not steps:
        return None
    try:
        return _known_plan(steps)
    except TypeError:
        # It has something that is no step and cannot be hashed.
        return Plan(steps)


# A function of the parameters returns the same steps for most of them.
@functools.lru_cache(maxsize=256)
def _known_plan(steps: tuple[Step, ...]) -> Plan:
    return Plan(steps)


def _check_steps(steps: tuple[Step, ...], levels: int) -> None:
    require(len(steps) > 0, "a plan has a step")
    require(levels > 0, f"steps nest at most {MOST_LEVELS} levels")
    for step in steps:
        if not isinstance(step, Step):
            raise ValueError(f"{step!r:.100} is no Step")
        if step.steps:
            _check_steps(step.steps, levels - 1)
    check_unique("steps", [step.name for step in steps])


def weights_of(steps: tuple[Step, ...]) -> list[float]:
    """Return what each step weighs beside the others: the same when all are 0."""
    weights = [step.weight for step in steps]
    return weights if any(weights) else [1.0] * len(steps)


def _leaves_of(
    steps: tuple[Step, ...], share: float, group: tuple[str, ...], path: StepPath
) -> Iterator[Leaf]:
    weights = weights_of(steps)
    whole = sum(weights)
    for step, weight in zip(steps, weights, strict=True):
        part, here = share * weight / whole, (*path, step.name)
        if step.steps:
            yield from _leaves_of(step.steps, part, (*group, step.title), here)
        else:
            yield Leaf(step.name, step.title, part, group, here)


def _titles_of(steps: tuple[Step, ...], path: StepPath) -> Iterator[tuple[StepPath, str]]:
    for step in steps:
        here = (*path, step.name)
        yield here, step.title
        yield from _titles_of(step.steps, here)


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
