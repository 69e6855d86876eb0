"""The parts of a worker that reaches the queue by a server, which the client's distribution has."""

from tornado_rt.work.attempts.attempt import Attempt
from tornado_rt.work.attempts.endings import HANDED_BACK, Ending, one_line, text_of_error
from tornado_rt.work.attempts.fork_guard import loop_guarded
from tornado_rt.work.attempts.guarded_task import guard_tasks
from tornado_rt.work.attempts.kind_target import KindTarget
from tornado_rt.work.attempts.link import Link, Reporter
from tornado_rt.work.attempts.models import Ack, Asked, Claim, Job, Kept, Outcome, Task, TaskState
from tornado_rt.work.attempts.outages import Outages
from tornado_rt.work.attempts.target import BadParams, Target
from tornado_rt.work.attempts.threads import ABANDON_SECONDS
from tornado_rt.work.attempts.tracing import (
    Carry,
    NoSpans,
    attempt_spans,
    carry,
    carry_nothing,
    outcome_name,
    trace_of,
)
from tornado_rt.work.kind import Kind
from tornado_rt.work.notes import Question
from tornado_rt.work.params.loading import KindError, kind_faults, load_kinds
from tornado_rt.work.params.schema import schema_of
from tornado_rt.work.plan import Plan
from tornado_rt.work.submitting import Submission, read_refusal
from tornado_rt.work.values import json_of

__all__ = [
    "ABANDON_SECONDS",
    "HANDED_BACK",
    "Ack",
    "Asked",
    "Attempt",
    "BadParams",
    "Carry",
    "Claim",
    "Ending",
    "Job",
    "Kept",
    "Kind",
    "KindError",
    "KindTarget",
    "Link",
    "NoSpans",
    "Outages",
    "Outcome",
    "Plan",
    "Question",
    "Reporter",
    "Submission",
    "Target",
    "Task",
    "TaskState",
    "attempt_spans",
    "carry",
    "carry_nothing",
    "guard_tasks",
    "json_of",
    "kind_faults",
    "load_kinds",
    "loop_guarded",
    "one_line",
    "outcome_name",
    "read_refusal",
    "schema_of",
    "text_of_error",
    "trace_of",
]
