"""The runner of a kind's claims."""

from typing import Any, Protocol

import attrs

from tornado_rt.work.attempts.backoff import Backoff
from tornado_rt.work.attempts.endings import Ending, end_with_result
from tornado_rt.work.attempts.lessons import Lesson
from tornado_rt.work.attempts.link import Link
from tornado_rt.work.attempts.models import Job, Outcome


class BadParams(Exception):
    """The parameters of a task are none that its handler can be given; the text says why."""


@attrs.frozen(kw_only=True)
class Rules:
    """The rules for the end of attempts.

    They take `timeout_seconds` at most, 0 for any time. `result_bytes` bounds a result as JSON, 0
    for any size; with `any_json` it may be any value, else it is an object. With `retry_errors` an
    exception is tried again, after the time that `backoff` says.
    """

    timeout_seconds: float = 0.0
    result_bytes: int = 0
    any_json: bool = False
    retry_errors: bool = False
    backoff: Backoff = attrs.field(factory=Backoff)

    def of(self, job: Job) -> "Rules":
        """Return the rules of a task, whose own timeout comes first."""
        return attrs.evolve(self, timeout_seconds=job.timeout) if job.timeout else self

    def judge(self, result: object) -> Ending:
        """Return how an attempt ends whose handler returned this."""
        return end_with_result(result, self.result_bytes, any_json=self.any_json)


class Prepared(Protocol):
    """A claim, and the handler that will run it."""

    @property
    def rules(self) -> Rules:
        """The rules for its end."""
        ...

    async def run(self) -> Any:
        """Run the handler; return its result, or an Ending. Raise whatever it raises."""
        ...

    def stop(self) -> None:
        """Tell the handler that the worker stops. Raise whatever it has made of that."""
        ...

    def last_fragment(self, outcome: Outcome, error: str) -> bytes | None:
        """Return the last state of the snapshot. Raise whatever the handler has made of it."""
        ...

    def lesson(self) -> Lesson | None:
        """Return what the task has taught, once `last_fragment` was asked for its completion."""
        ...


class Target(Protocol):
    """The runner of a kind's claims."""

    def prepare(self, link: Link) -> Prepared:
        """Return what will run the claim of this link. Raise BadParams."""
        ...
