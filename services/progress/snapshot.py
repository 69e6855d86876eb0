"""A snapshot as it is kept and sent between processes, and as it is shown.

The plan never changes while a task runs, so what is kept names it, and has a tenth of the length;
`show` puts the steps in its place.
"""

import functools
from typing import Any

import orjson

from services.progress.plan import Analyst, make_steps
from tornado_rt.protocol import Message, MessageType

WAITING = "Waiting"


def name_plan(analysts: list[Analyst], research_depth: int) -> str:
    """Return what a kept snapshot has under `plan`."""
    return f"{','.join(analysts)}:{research_depth}"


def show(snapshot: bytes) -> bytes:
    """Return the JSON object with `steps` in the place of `plan`; as it is when it names none.

    There are no steps of a plan that only a later version knows. Raise ValueError when it is no
    snapshot.
    """
    fields = orjson.loads(snapshot)
    if not isinstance(fields, dict) or "plan" not in fields:
        return snapshot
    try:
        steps = _show_steps(str(fields.pop("plan")), *_place(fields))
        fields["steps"] = orjson.Fragment(steps)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a snapshot: {error!r}") from error
    return orjson.dumps(fields)


def show_message(message: Message) -> Message:
    """Return a message as it is shown."""
    if message.type != MessageType.PROGRESS:
        return message
    return Message(message.type, show(message.data), message.id)


def decode_shown(envelope: bytes) -> Message:
    """Read an envelope as it is shown. Raise ValueError when it is none."""
    return show_message(Message.decode(envelope))


def _place(fields: dict[str, Any]) -> tuple[int, str]:
    """Return how many steps are done, and the state of the next."""
    status, done = fields["status"], fields["current_step"]
    if status == "completed":
        return fields["total_steps"], "completed"
    if status in ("failed", "dead"):
        return done, "failed"
    under_way = status == "processing" and fields["message"] != WAITING
    return done, "current" if under_way else "pending"


@functools.lru_cache(maxsize=4096)
def _show_steps(plan: str, done: int, state: str) -> bytes:
    names, _, depth = plan.partition(":")
    try:
        steps = make_steps([Analyst(name) for name in names.split(",")], int(depth))
    except ValueError:
        return b"[]"
    done = max(0, min(done, len(steps)))
    states = ["completed"] * done + [state] + ["pending"] * (len(steps) - done - 1)
    return orjson.dumps(
        [
            {
                "name": step.name,
                "description": step.description,
                "weight": round(step.weight, 4),
                "status": states[index],
            }
            for index, step in enumerate(steps)
        ]
    )
