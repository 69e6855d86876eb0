"""The queue as an attempt sees it."""

from collections.abc import Mapping
from typing import Any, Protocol

from tornado_rt.work import Plan, Question
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
