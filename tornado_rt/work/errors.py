"""Errors by which a handler ends an attempt.

Exception
├── TaskError      final; its text is for the user
├── Retry          run again later
├── LeaseLost      the task is no longer this attempt's
└── NotSubmitted   a task that a handler wants to submit is refused
"""

from collections.abc import Sequence
from datetime import timedelta

from tornado_rt.work.texts import stored_phrase


class TaskError(Exception):
    """Raised by a handler for a final failure, which its text explains to the user."""


class Retry(Exception):
    """Raised by a handler to be run again after `delay`, None for the kind's own.

    `delay` is in seconds, or a timedelta. It is at least 0 and at most 30 days. `Retry(60)` has a
    delay and no reason, `Retry("busy")` a reason and no delay, `Retry("busy", 60)` both.
    """

    def __init__(
        self, reason: str | float | timedelta = "", delay: float | timedelta | None = None
    ) -> None:
        text = reason
        if isinstance(reason, int | float | timedelta):
            if delay is not None:
                raise TypeError("a Retry has one delay, and its reason is a text")
            text, delay = "", reason
        super().__init__(text or stored_phrase("another attempt was asked for"))
        self.delay = delay


class LeaseLost(Exception):
    """The task is no longer this attempt's: it was cancelled, or given to another worker."""


class NotSubmitted(Exception):
    """A task that a handler wants to submit is refused, as `POST /api/tasks` would refuse it.

    `status` is that of HTTP: 422 for what is wrong with it, 429 while too many tasks of the user
    wait, 409 for its unique key. `errors`: what is wrong, one by one. `retry_after` in seconds,
    None where waiting does not help.
    """

    def __init__(
        self,
        reason: str,
        status: int = 422,
        errors: Sequence[str] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.status, self.errors, self.retry_after = status, tuple(errors), retry_after
