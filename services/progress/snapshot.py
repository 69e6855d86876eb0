"""A snapshot as it is kept and sent between processes, and as it is shown.

What is kept names the plan by its digest, under `plan`, and has a letter for each of its leaves,
under `marks`: completed, skipped, running, pending. It has a tenth of the length of what is shown,
which has `steps` in their place, each with its times: of `times` and `usual`.
"""

from typing import Any

import orjson

from tornado_rt.work import Leaf, Plan
from tornado_rt.work.timekeeper import MOST_SECONDS

# Digits of a share in what is shown.
WEIGHT_DIGITS = 4
STATUSES = {"c": b'"completed"', "s": b'"skipped"', "r": b'"pending"', "p": b'"pending"'}
STATUSES_BY_END = {
    "processing": STATUSES | {"r": b'"current"'},
    "completed": STATUSES | {"r": b'"completed"', "p": b'"completed"'},
    "failed": STATUSES | {"r": b'"failed"'},
    "dead": STATUSES | {"r": b'"failed"'},
}


def read_kept(snapshot: bytes) -> dict[str, Any] | None:
    """Return the fields of a snapshot that names a plan, or says that it has none.

    None: it is shown as it is. Raise ValueError when it is not JSON.
    """
    if b'"plan"' not in snapshot:
        return None
    fields = orjson.loads(snapshot)
    return fields if isinstance(fields, dict) and "plan" in fields else None


class PlanView:
    """The leaves of a plan as JSON; what is between the pieces is the status of each.

    `size`: the bytes of all pieces.
    """

    __slots__ = ("_pieces", "size")

    def __init__(self, plan: Plan | None) -> None:
        leaves = () if plan is None else plan.leaves
        self._pieces = tuple(map(_pieces_of, leaves))
        self.size = sum(len(before) + len(after) for before, after in self._pieces)

    def show(self, fields: dict[str, Any]) -> bytes:
        """Return the snapshot with these fields as it is shown, whatever they are.

        `plan` and `marks` are taken out of them.
        """
        fields.pop("plan", None)
        marks = self._marks_of(fields)
        times = _times_of(fields, len(self._pieces))
        # Nothing is known of what the status may be: it can be of a type that is not hashable.
        statuses = STATUSES_BY_END.get(str(fields.get("status")), STATUSES)
        steps = (
            before + statuses.get(mark, STATUSES["p"]) + after + time + b"}"
            for (before, after), mark, time in zip(self._pieces, marks, times, strict=False)
        )
        fields["steps"] = orjson.Fragment(b"[" + b",".join(steps) + b"]")
        return orjson.dumps(fields)

    def _marks_of(self, fields: dict[str, Any]) -> str:
        """Return a mark for each leaf; what failed without a running one did so at the current."""
        marks, here = fields.pop("marks", None), fields.get("current_step")
        marks = (marks if isinstance(marks, str) else "").ljust(len(self._pieces), "p")
        failed = fields.get("status") in ("failed", "dead") and "r" not in marks
        if failed and type(here) is int and 0 <= here < len(marks) and marks[here] in "pc":
            return marks[:here] + "r" + marks[here + 1 :]
        return marks


def _pieces_of(leaf: Leaf) -> tuple[bytes, bytes]:
    weight = round(leaf.share, WEIGHT_DIGITS)
    before = {"name": leaf.name, "description": leaf.title, "weight": weight}
    group = b',"group":' + orjson.dumps(leaf.group) if leaf.group else b""
    return orjson.dumps(before)[:-1] + b',"status":', group


def _times_of(fields: dict[str, Any], count: int) -> list[bytes]:
    """Return for each leaf when it began, how long it took and usually takes, as JSON members.

    `times` and `usual` are taken out of the fields.
    """
    times, usual = fields.pop("times", None), fields.pop("usual", None)
    shown = [b""] * count
    for index, span in enumerate(times[:count] if isinstance(times, list) else ()):
        if isinstance(span, list) and len(span) in (1, 2) and all(map(_is_time, span)):
            shown[index] = b',"started_after":%.1f' % span[0]
            if len(span) == 2:
                shown[index] += b',"duration":%.1f' % max(span[1] - span[0], 0.0)
    for index, seconds in enumerate(usual[:count] if isinstance(usual, list) else ()):
        if _is_time(seconds):
            shown[index] += b',"usual_duration":%.1f' % seconds
    return shown


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value <= MOST_SECONDS
