"""The queue as an attempt sees it."""

from collections.abc import Mapping
from typing import Any, Protocol

from tornado_rt.work import NotSubmitted, Plan, Question, Submission
from tornado_rt.work.attempts.models import Asked, Kept, Task


class AttemptQueue(Protocol):
    """The verbs of an attempt, in Redis or behind a server.

    Each takes the token of the claim; what a stale one asks for changes nothing.
    """

    async def report_progress(
        self,
        task_id: str,
        token: str,
        fragment: bytes,
        percent: float,
        *,
        state: bytes | None = None,
        plan: Plan | None = None,
    ) -> bool:
        """Keep and publish the progress of an attempt. Return False when the token is stale."""
        ...

    async def keep_result(self, task_id: str, token: str, name: str, value: bytes) -> bool:
        """Keep a once-result (JSON). Return False when the token is stale."""
        ...

    async def add_note(
        self, task_id: str, token: str, fields: Mapping[str, Any], note_id: str
    ) -> bool:
        """Have a notification made for the user, one for a `note_id`.

        Return False when the token is stale.
        """
        ...

    async def ask(self, task_id: str, token: str, question: Question, note_id: str) -> Asked | None:
        """Have the user asked, unless they are already. Return None when the token is stale."""
        ...

    async def withdraw(self, task_id: str, token: str, name: str) -> Asked | None:
        """Ask no longer. Return None when the token is stale."""
        ...

    async def read_kept(self, task_id: str) -> Kept:
        """Return what earlier attempts left."""
        ...

    async def get_task(self, task_id: str) -> Task | None:
        """Return the task with the time that its attempts have used; None when there is none."""
        ...


class Submitter(Protocol):
    """Takes the tasks that attempts submit, in Redis or behind a server."""

    async def submit(self, parent: Task, token: str, submission: Submission) -> str | None:
        """Submit a task, or find the one that an attempt at `parent` has submitted by this name.

        Return its id, which is kept as a once-result; None when the token is stale. Repeated it
        submits nothing more. Raise NotSubmitted.
        """
        ...


class NoSubmitter:
    """The submitter of a worker whose attempts submit nothing."""

    async def submit(self, parent: Task, token: str, submission: Submission) -> str | None:
        """Refuse it."""
        raise NotSubmitted("this worker takes no tasks of its handlers", 503)


NO_SUBMITTER = NoSubmitter()
