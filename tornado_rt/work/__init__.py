"""The API for authors of work: kinds of tasks, their steps, and the run that a handler is given.

It imports nothing of this server, so that clients can carry it.
"""

from tornado_rt.work.errors import LeaseLost, NotSubmitted, Retry, TaskError
from tornado_rt.work.kind import Kind, Rate, Schedule, format_label
from tornado_rt.work.notes import Question
from tornado_rt.work.pacer import Pacer
from tornado_rt.work.plan import MAX_STEP_LENGTH, MOST_LEAVES, Leaf, Plan, Step
from tornado_rt.work.run import (
    MAX_MESSAGE_LENGTH,
    MOST_STATE_BYTES,
    WAITING,
    Run,
)
from tornado_rt.work.sink import Nowhere, Sink, Told
from tornado_rt.work.submitting import Submission
from tornado_rt.work.sync_run import SyncRun
from tornado_rt.work.values import clean_line, clean_text
from tornado_rt.work.waiting import first_fragment

__all__ = [
    "MAX_MESSAGE_LENGTH",
    "MAX_STEP_LENGTH",
    "MOST_LEAVES",
    "MOST_STATE_BYTES",
    "WAITING",
    "Kind",
    "Leaf",
    "LeaseLost",
    "NotSubmitted",
    "Nowhere",
    "Pacer",
    "Plan",
    "Question",
    "Rate",
    "Retry",
    "Run",
    "Schedule",
    "Sink",
    "Step",
    "Submission",
    "SyncRun",
    "TaskError",
    "Told",
    "clean_line",
    "clean_text",
    "first_fragment",
    "format_label",
]
