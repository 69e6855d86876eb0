"""Where the reports of a run go: to a loop, out of a thread or a process, into a test."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Protocol

from tornado_rt.work.errors import NotSubmitted
from tornado_rt.work.notes import Question
from tornado_rt.work.submitting import Submission

if TYPE_CHECKING:
    from tornado_rt.work.run import Run


class Told:
    """A report that was accepted. It can be awaited or ignored."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


class Sink(Protocol):
    """Takes the reports of a run."""

    def report(self, run: "Run") -> None:
        """Send the run's `fragment()` and `encoded_state()` soon; called at every change.

        Any thread may call it. It may end the handler by raising LeaseLost or CancelledError.
        """

    def check(self) -> None:
        """Raise what `report` would raise: then nobody waits for the handler any more."""

    async def keep(self, name: str, value: bytes) -> None:
        """Keep a once-result before returning. Raise LeaseLost."""

    async def notify(self, title: str, content: str | None, severity: str) -> None:
        """Send a notification to the task's user. Raise LeaseLost."""

    async def ask(self, question: Question, timeout: float | None) -> bytes | None:
        """Ask the task's user; return the answer (JSON), None after `timeout` seconds.

        The answer is kept as a once-result. Raise LeaseLost.
        """

    async def submit(self, submission: Submission) -> str:
        """Submit a task, or find the one that has this name already; return its id.

        The id is kept as a once-result. Raise NotSubmitted, LeaseLost.
        """


class Nowhere:
    """The sink of a run that nobody watches."""

    def report(self, run: "Run") -> None:
        """Do nothing."""

    def check(self) -> None:
        """Do nothing."""

    async def keep(self, name: str, value: bytes) -> None:
        """Do nothing."""

    async def notify(self, title: str, content: str | None, severity: str) -> None:
        """Do nothing."""

    async def ask(self, question: Question, timeout: float | None) -> bytes | None:
        """Say that nobody answers."""
        return None

    async def submit(self, submission: Submission) -> str:
        """Say that nobody takes it."""
        raise NotSubmitted("nobody takes the tasks of this run", 503)
