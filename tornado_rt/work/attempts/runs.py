"""The run of a kind's handler: the same on the loop, in a thread, in a process."""

import functools
import json
from collections.abc import Callable, Coroutine
from typing import Any

import orjson

from tornado_rt.work import Kind, Run, Sink, SyncRun
from tornado_rt.work.attempts.endings import text_of_error
from tornado_rt.work.attempts.lessons import Outline
from tornado_rt.work.attempts.models import Kept, Task
from tornado_rt.work.attempts.target import BadParams, Rules
from tornado_rt.work.forecast import Forecast
from tornado_rt.work.params.faults import PLACE, Wrong, refusal
from tornado_rt.work.params.reading import ClassReader

Wait = Callable[[Coroutine[Any, Any, Any]], Any]


def read_params(kind: Kind, task: Task) -> Any:
    """Return the parameters of a task as an object of the kind's class. Raise BadParams."""
    try:
        # The queue has read them from JSON: they are bounded, and nobody else's.
        return ClassReader.of(kind.params_class).read(task.params)
    except Wrong as error:
        fault = refusal(error.faults, PLACE)
        raise BadParams(str(fault)) from None
    except Exception as error:
        raise BadParams(text_of_error(error)) from error


def make_run(
    outline: Outline,
    task: Task,
    sink: Sink,
    wait: Wait | None,
    kept: Kept,
    rules: Rules,
    forecast: Forecast | None,
) -> Run:
    """Return what the handler is given.

    `wait`: how a plain function waits for what runs on the loop; None for an `async def`.
    """
    make = _LoopRun if wait is None else functools.partial(_ThreadRun, wait=wait)
    return make(
        sink,
        task_id=task.task_id,
        kind=outline.kind,
        label=task.label,
        user_id=task.user_id,
        batch_id=task.batch_id,
        attempt=task.attempt,
        plan=outline.plan,
        expected_seconds=outline.expected,
        forecast=forecast,
        kept=kept.results,
        state=_read_state(kept.state),
        trace=task.job.trace,
        most_bytes=rules.result_bytes,
    )


class _LoopRun(Run):
    """A run whose reports cost less than the standard library's JSON."""

    def fragment(self) -> bytes:
        return orjson.dumps(self.snapshot())[1:-1]


class _ThreadRun(SyncRun):
    """The same for a plain function."""

    def fragment(self) -> bytes:
        return orjson.dumps(self.snapshot())[1:-1]


def _read_state(state: bytes) -> dict[str, Any]:
    """Return what an earlier attempt kept; nothing of what cannot be read."""
    try:
        # The standard library wrote it, and reads integers of any size.
        found = json.loads(state) if state else {}
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
