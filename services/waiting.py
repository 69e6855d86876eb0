"""Say in a code and in words why a task waits."""

from collections.abc import Callable
from typing import Protocol

from services.queue.models import iso_of
from tornado_rt.work.texts import phrase

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


def _time_of(run_at: float | None) -> str:
    if not run_at:
        return phrase("its time")
    return phrase("its time, {time}", time=iso_of(run_at))


WORDS: dict[str, Callable[[Waiting], str]] = {
    "all_paused": lambda _: phrase("an admin to resume all kinds"),
    "paused": lambda task: phrase("an admin to resume {kind}", kind=task.kind),
    "schedule": lambda task: _time_of(task.run_at),
    "user_limit": lambda _: phrase("one of its user's running tasks to end"),
    "kind_user_limit": lambda task: phrase(
        "one of its user's running tasks of {kind} to end", kind=task.kind
    ),
    "key_limit": lambda task: phrase(
        "a running task of {kind} with the key {key} to end", kind=task.kind, key=task.key
    ),
    "key_rate": lambda task: phrase(
        "the rate of {kind} with the key {key}", kind=task.kind, key=task.key
    ),
    "kind_limit": lambda task: phrase("a running task of {kind} to end", kind=task.kind),
    "rate": lambda task: phrase("the rate of {kind}", kind=task.kind),
    "global_limit": lambda _: phrase("a running task to end"),
    "line": lambda _: phrase("its turn"),
    "busy": lambda task: phrase("a worker that runs {kind} to be free", kind=task.kind),
    "worker": lambda task: phrase("a worker that runs {kind}", kind=task.kind),
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
