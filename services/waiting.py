"""Say in a code and in words why a task waits."""

from collections.abc import Callable
from typing import Protocol

from services.queue.models import iso_of

# No worker can change these: they are told also while there is none.
FIRST = {"all_paused", "paused", "schedule"}
# These codes differ in their words alone; on the wire they are one.
SHOWN = {"all_paused": "paused", "busy": "worker"}


class Waiting(Protocol):
    """A task that waits, or would: `waiting_for` is the code of what holds it back, "" for none."""

    @property
    def kind(self) -> str:
        """The name of its kind."""

    @property
    def key(self) -> str:
        """The key that limits count it by."""

    @property
    def run_at(self) -> float | None:
        """When it may start [s], None: now."""

    @property
    def waiting_for(self) -> str:
        """The code."""


WORDS: dict[str, Callable[[Waiting], str]] = {
    "all_paused": lambda _: "an admin to resume all kinds",
    "paused": lambda task: f"an admin to resume {task.kind}",
    "schedule": lambda task: f"its time, {iso_of(task.run_at)}" if task.run_at else "its time",
    "user_limit": lambda _: "one of its user's running tasks to end",
    "kind_user_limit": lambda task: f"one of its user's running tasks of {task.kind} to end",
    "key_limit": lambda task: f"a running task of {task.kind} with the key {task.key} to end",
    "key_rate": lambda task: f"the rate of {task.kind} with the key {task.key}",
    "kind_limit": lambda task: f"a running task of {task.kind} to end",
    "rate": lambda task: f"the rate of {task.kind}",
    "global_limit": lambda _: "a running task to end",
    "line": lambda _: "its turn",
    "busy": lambda task: f"a worker that runs {task.kind} to be free",
    "worker": lambda task: f"a worker that runs {task.kind}",
}


def waiting_for(task: Waiting, *, is_served: bool) -> dict[str, str] | None:
    """Return what holds a task back as `{code, message}`; None when it does not wait.

    `is_served`: whether there is a worker that runs its kind.
    """
    code = task.waiting_for
    if not code:
        return None
    if code not in FIRST and not is_served:
        code = "worker"
    told = WORDS.get(code)
    return {"code": SHOWN.get(code, code), "message": told(task) if told else code}
