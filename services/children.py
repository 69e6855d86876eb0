"""Takes the tasks that handlers submit, and says what is refused in the words of `run.submit`."""

import orjson

from services.kinds import KindUnknown, ParamsFault
from services.queue import Conflict, QueueFull, Task
from services.tasks import TaskService
from tornado_rt.problems import Problem, problem_of
from tornado_rt.tracing import within
from tornado_rt.work import NotSubmitted, Submission
from tornado_rt.work.texts import joined

# The status of what is refused. All else is a fault, or an outage.
STATUSES: dict[type[BaseException], int] = {
    KindUnknown: 422,
    ParamsFault: 422,
    QueueFull: 429,
    Conflict: 409,
}
REFUSED: tuple[type[BaseException], ...] = (Problem, *STATUSES)


class Children:
    """Submits the tasks of handlers."""

    def __init__(self, tasks: TaskService) -> None:
        self._tasks = tasks

    async def submit(self, parent: Task, token: str, submission: Submission) -> str | None:
        """Submit a task of an attempt at `parent`, once for its name; return its id.

        None: the token is stale. Raise NotSubmitted.
        """
        try:
            body = orjson.loads(submission.task)
        except ValueError as error:
            raise NotSubmitted(str(error)) from None
        try:
            return await self._tasks.submit_child(parent, token, submission.name, body)
        except REFUSED as error:
            raise _refused(problem_of(error, STATUSES)) from None

    async def submit_for(self, parent: Task, token: str, submission: Submission) -> str | None:
        """Do as `submit` for an attempt elsewhere, whose trace is not that of this moment."""
        with within(parent.job.trace):
            return await self.submit(parent, token, submission)


def _refused(problem: Problem) -> NotSubmitted:
    return NotSubmitted(
        joined(problem.errors or [problem.detail]),
        problem.status_code,
        problem.errors or (),
        problem.retry_after,
    )
