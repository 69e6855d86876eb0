"""Plans as workers elsewhere write them: steps, each a name or an object."""

from typing import Any

from tornado_rt.work import Plan, Step
from tornado_rt.work.plan import MOST_LEVELS
from tornado_rt.work.values import cut, require

STEP_FIELDS = {"name", "weight", "title", "steps"}


def read_plan(steps: object) -> Plan | None:
    """Return the plan of these steps, None for null and for none. Raise ValueError."""
    if steps is None:
        return None
    require(isinstance(steps, list), "a plan is a list of steps, or null")
    read = _read_steps(steps, MOST_LEVELS)
    return Plan(read) if read else None


def _read_steps(steps: Any, levels: int) -> tuple[Step, ...]:
    require(isinstance(steps, list), "the steps inside a step are a list")
    require(levels > 0, f"steps nest at most {MOST_LEVELS} levels")
    return tuple(_read_step(one, levels) for one in steps)


def _read_step(step: Any, levels: int) -> Step:
    if isinstance(step, str):
        return Step(step)
    fault = "a step is a name, or an object with a name, and perhaps weight, title and steps"
    require(isinstance(step, dict) and step.keys() <= STEP_FIELDS and "name" in step, fault)
    title = step.get("title", "")
    require(isinstance(title, str), f"the title of step {cut(str(step['name']), 40)!r} is text")
    inner = _read_steps(step.get("steps", []), levels - 1)
    return Step(step["name"], step.get("weight", 1.0), title, inner)
