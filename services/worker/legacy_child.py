"""The process of a handler of (task, progress)."""

import contextlib
import os
from multiprocessing.connection import Connection
from typing import Any

from services.analysis import AnalysisStep, AnalysisTask, read_update
from services.worker.loading import import_function
from settings import Settings
from tornado_rt.work import LeaseLost, Told
from tornado_rt.work.attempts.child import Pipe, enter, fields_of, outcome_of
from tornado_rt.work.attempts.fork_guard import end_if_forked
from tornado_rt.work.attempts.target import Rules
from tornado_rt.work.attempts.tracing import Carried


def run_handler(
    path: str,
    settings: Settings,
    rules: Rules,
    task: AnalysisTask,
    steps: list[AnalysisStep],
    carried: Carried | None,
    connection: Connection,
) -> None:
    """Run `MODULE:FUNCTION` of (task, progress) in a carried trace; send what comes of it."""
    cancelling = enter()
    process = os.getpid()
    pipe = Pipe(connection, cancelling)
    progress = PipeProgress(steps, pipe)
    with carried or contextlib.nullcontext():
        ending = outcome_of(
            lambda: import_function(path, settings)(task, progress), rules, cancelling
        )
        end_if_forked(process)
    with contextlib.suppress(LeaseLost):
        pipe.send("ending", fields_of(ending))


class PipeProgress:
    """Reports of a handler of (task, progress), plain function or coroutine."""

    def __init__(self, steps: list[AnalysisStep], pipe: Pipe) -> None:
        self.steps = steps
        self._connection = pipe.connection
        self._pipe = pipe

    def update_progress(self, progress_update: str | dict[str, Any]) -> Told:
        """Send one report; what is returned may be awaited or not. Raise StepUnknown."""
        step, message = read_update(progress_update, self.steps)
        if step is not None:
            self._pipe.send("step", (step, message))
        elif isinstance(progress_update, dict):
            self._pipe.send("message", {"message": message})
        else:
            self._pipe.send("message", message)
        return Told()
