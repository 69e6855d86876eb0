"""Runs whose reports are kept in memory."""

import json
from typing import Any

from tornado_rt.work import (
    Plan,
    Question,
    Run,
    Step,
    Submission,
)

FILM = Plan([Step("probe", 5), Step("transcode", 90, "Transcode"), Step("upload", 5)])


class Clock:
    """A clock that a test sets [s]."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Record:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.kept: dict[str, bytes] = {}
        self.notes: list[tuple[str, str | None, str]] = []
        self.questions: list[Question] = []
        self.submissions: list[Submission] = []
        # The answers by the names of questions, as JSON.
        self.answers: dict[str, bytes] = {}

    def report(self, run: Run) -> None:
        run.encoded_state()
        self.reports.append(shown(run))

    def check(self) -> None:
        """Do nothing."""

    async def keep(self, name: str, value: bytes) -> None:
        self.kept[name] = value

    async def notify(self, title: str, content: str | None, severity: str) -> None:
        self.notes.append((title, content, severity))

    async def ask(self, question: Question, timeout: float | None) -> bytes | None:
        self.questions.append(question)
        return self.answers.get(question.name)

    async def submit(self, submission: Submission) -> str:
        self.submissions.append(submission)
        return f"task{len(self.submissions)}"

    @property
    def percents(self) -> list[float]:
        return [one["progress"] for one in self.reports]

    @property
    def messages(self) -> list[str]:
        return [one["message"] for one in self.reports]


def shown(run: Run) -> dict[str, Any]:
    """Return the snapshot as a reader gets it."""
    read: dict[str, Any] = json.loads(b"{" + run.fragment() + b"}")
    return read


def make_run(plan: Plan | None = None, **about: Any) -> tuple[Run, Record]:
    record = Record()
    return Run(record, plan=plan, **about), record


class Failure(Exception):
    """The error of a failing step of the tests."""
