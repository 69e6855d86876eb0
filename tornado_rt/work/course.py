"""The progress of each step of a plan."""

from typing import Any

import attrs

from tornado_rt.work.forecast import Forecast, name_of
from tornado_rt.work.plan import (
    MOST_LEAVES,
    MOST_LEVELS,
    Leaf,
    Plan,
    Step,
    StepPath,
    weights_of,
)
from tornado_rt.work.values import MOST_COUNT, as_number, as_percent, clean_line, require

MAX_UNIT_LENGTH = 50


@attrs.frozen
class Count:
    """`done` of `total`; `total` None means unknown."""

    done: float
    total: float | None
    unit: str

    @property
    def fraction(self) -> float:
        """The part that is done, 0 when the total is unknown."""
        return min(self.done / self.total, 1.0) if self.total else 0.0

    @property
    def text(self) -> str:
        """The count in words, such as "42 of 105 frames"."""
        of = "" if self.total is None else f" of {_digits(self.total)}"
        return f"{_digits(self.done)}{of} {self.unit}".rstrip()

    def shown(self) -> dict[str, Any]:
        """Return what a snapshot has of it."""
        fields = {"done": self.done, "total": self.total, "unit": self.unit or None}
        return {name: value for name, value in fields.items() if value is not None}


@attrs.define
class Place:
    """A step: its progress from 0 to 1; `mark`: p pending, r running, c completed, s skipped."""

    title: str
    mark: str = "p"
    fraction: float = 0.0
    count: Count | None = None


class Course:
    """A plan, and how far each of its steps is. It is not safe for threads.

    A step is named by its path. The path () is the whole task and always exists. Progress never
    decreases.
    """

    def __init__(self, plan: Plan | None) -> None:
        self.plan = plan
        self.places: dict[StepPath, Place] = {(): Place("")}
        if plan is not None:
            self.places.update({path: Place(title) for path, title in plan.titles.items()})
        self._running: list[StepPath] = []
        # Steps all of whose inner steps were added while running: how many will come is unknown.
        self._open: set[StepPath] = set()
        self._least = 0.0
        self._forecast: Forecast | None = None
        # The weights of steps by what is known of tasks like it; empty: by the plan.
        self._usual: dict[StepPath, float] = {}

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        """The plan's leaves."""
        return self.plan.leaves if self.plan else ()

    @property
    def marks(self) -> str:
        """One letter for each leaf."""
        return "".join([self.places[leaf.path].mark for leaf in self.leaves])

    def weigh(self, forecast: Forecast) -> None:
        """Weigh steps by the time that they usually take, once that is known."""
        self._forecast = forecast if forecast.weighs else None
        self._usual = {}
        if self._forecast is None:
            return
        for leaf in self.leaves:
            usual = self._forecast.usual(name_of(leaf.path), leaf.share)
            for depth in range(1, len(leaf.path) + 1):
                around = leaf.path[:depth]
                self._usual[around] = self._usual.get(around, 0.0) + usual.seconds

    def progress(self) -> float:
        """Return how much is done, from 0 to 1."""
        done = self._done(self.plan.steps if self.plan else (), ())
        self._least = max(self._least, min(done, 1.0))
        return self._least

    @property
    def is_open(self) -> bool:
        """Whether nobody knows how much there is to do: steps are found on the way."""
        return any(not path or self.places[path].mark == "r" for path in self._open)

    def here(self) -> StepPath:
        """Return the running step that was begun last, else the whole."""
        return self._running[-1] if self._running else ()

    def current(self, marks: str) -> int:
        """Return the index of the leaf where the work is, for the `marks` of now.

        Of the running step that was begun last, or of the whole, it is the leaf that runs, else the
        first pending one, else the last.
        """
        if self.plan is None:
            return 0
        inside = self.plan.spans[self.here()]
        for mark in "rp":
            if (index := marks.find(mark, inside.start, inside.stop)) >= 0:
                return index
        return inside.stop - 1

    def shown(self) -> dict[str, Any]:
        """Return what a snapshot has of it."""
        leaves, marks = self.leaves, self.marks
        at = self.current(marks)
        return {
            "progress": as_percent(self.progress()),
            "current_step": at,
            "current_step_name": leaves[at].title if leaves else "",
            "total_steps": len(leaves),
            "plan": self.plan.digest if self.plan else None,
            "marks": marks,
        }

    def find(self, name: str, around: StepPath) -> StepPath | None:
        """Return the step of this name that is nearest: inside, beside, or around a step.

        From the whole, a pending one anywhere.
        """
        for depth in range(len(around), -1, -1):
            if (*around[:depth], name) in self.places:
                return (*around[:depth], name)
        anywhere = () if around else self.places.items()
        pending = (path for path, place in anywhere if path[-1:] == (name,) and place.mark == "p")
        return next(pending, None)

    def begin(self, path: StepPath) -> None:
        """Start a step; its earlier progress stays."""
        place = self.places[path]
        place.mark, place.count = "r", None
        self._running.append(path)

    def end(self, path: StepPath, mark: str = "c") -> None:
        """Mark a step, and all inside it that is pending or running, as completed or skipped."""
        for other, place in self.places.items():
            if place.mark in "pr" and other[: len(path)] == path:
                place.mark, place.fraction = mark, 1.0
        self._running = [other for other in self._running if other[: len(path)] != path]

    def go_to(self, index: int) -> None:
        """Complete all leaves before one and start it, unless a later one was begun."""
        if any(mark in "rc" for mark in self.marks[index + 1 :]):
            return
        for leaf in self.leaves[:index]:
            self.end(leaf.path)
        path = self.leaves[index].path
        if path not in self._running and self.places[path].mark == "p":
            self.begin(path)

    def add(self, step: Step, around: StepPath) -> StepPath | None:
        """Put a step last inside another; return None when the plan has no room for it."""
        if len(self.leaves) >= MOST_LEAVES or len(around) >= MOST_LEVELS:
            return None
        plan = Plan(_with(self.plan.steps if self.plan else (), around, step))
        if not any(path[:-1] == around for path in self.places if path):
            self._open.add(around)
        self._lay(plan)
        return (*around, step.name)

    def replace(self, plan: Plan | None) -> None:
        """Take another plan; steps that both have stay as far as they are."""
        self._open.clear()
        self._lay(plan)

    def _lay(self, plan: Plan | None) -> None:
        self.progress()
        self.plan = plan
        old, self.places = self.places, {(): self.places[()]}
        for path, title in plan.titles.items() if plan else ():
            self.places[path] = old.get(path) or Place(title)
            self.places[path].title = title
        self._running = [path for path in self._running if path in self.places]
        if self._forecast is not None:
            self.weigh(self._forecast)

    def _weights_of(self, steps: tuple[Step, ...], path: StepPath) -> list[float]:
        if not self._usual:
            return weights_of(steps)
        return [self._usual[(*path, step.name)] for step in steps]

    def _done(self, steps: tuple[Step, ...], path: StepPath) -> float:
        own = self.places[path].fraction
        if own >= 1 or not steps:
            return own
        weights = self._weights_of(steps, path)
        done = sum(
            weight * self._done(step.steps, (*path, step.name))
            for step, weight in zip(steps, weights, strict=True)
        )
        inner = done / sum(weights)
        if path in self._open:
            # Count one more step than there is, so that the bar does not wait at its end.
            inner *= len(steps) / (len(steps) + 1)
        return max(own, inner)


def as_fraction(value: object) -> float:
    """Return a number from 0 to 1. Raise ValueError."""
    number = as_number(value)
    # A sum of shares may be a little more than 1.
    require(0 <= number <= 1 + 1e-9, f"a fraction is from 0 to 1, not {number}")
    return min(number, 1.0)


def as_count(done: object, total: object, unit: object) -> Count | None:
    """Return what is counted, None for nothing. Raise ValueError."""
    if done is None:
        require(total is None, "a total is told with what is done of it")
        return None
    word = "" if unit is None else clean_line(unit, MAX_UNIT_LENGTH)
    return Count(_as_amount(done), None if total is None else _as_amount(total), word)


def _as_amount(value: object) -> float:
    number = as_number(value)
    require(0 <= number <= MOST_COUNT, f"done and total are 0 or more, not {number}")
    return number


def _with(steps: tuple[Step, ...], around: StepPath, new: Step) -> tuple[Step, ...]:
    """Return steps with one more at the end of the step `around`."""
    if not around:
        return (*steps, new)
    return tuple(
        attrs.evolve(one, steps=_with(one.steps, around[1:], new)) if one.name == around[0] else one
        for one in steps
    )


def _digits(number: float) -> str:
    return str(int(number)) if number == int(number) else f"{number:.2f}"
