"""The states of a task and the transitions between them, for people: the scripts make them.

`tests/test_states.py` makes each of them, and finds no other.
"""

from collections.abc import Sequence

from services.queue.models import TaskState

Transition = tuple[TaskState, TaskState, str]

QUEUED, DELAYED, PROCESSING = TaskState.QUEUED, TaskState.DELAYED, TaskState.PROCESSING
COMPLETED, FAILED = TaskState.COMPLETED, TaskState.FAILED
DEAD, CANCELLED = TaskState.DEAD, TaskState.CANCELLED

# From, to, and by what.
TASK_TRANSITIONS: Sequence[Transition] = (
    (DELAYED, QUEUED, "due"),
    (QUEUED, PROCESSING, "claim"),
    (PROCESSING, COMPLETED, "completed"),
    (PROCESSING, FAILED, "TaskError"),
    (PROCESSING, FAILED, "last error"),
    (PROCESSING, DEAD, "last retry"),
    (PROCESSING, DEAD, "last lease"),
    (PROCESSING, DELAYED, "error"),
    (PROCESSING, DELAYED, "Retry"),
    (PROCESSING, QUEUED, "released"),
    (PROCESSING, QUEUED, "lease over"),
    (PROCESSING, CANCELLED, "cancel"),
    (QUEUED, CANCELLED, "cancel"),
    (DELAYED, CANCELLED, "cancel"),
    (FAILED, QUEUED, "run again"),
    (DEAD, QUEUED, "run again"),
    (CANCELLED, QUEUED, "run again"),
)
