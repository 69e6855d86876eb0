"""Running tasks: the worker, and the handlers that it runs."""

from services.worker.backoff import Backoff
from services.worker.kinds import KindTarget
from services.worker.legacy import LegacyTarget
from services.worker.loading import HandlerError
from services.worker.roster import Roster
from services.worker.target import BadParams, Prepared, Rules, Target
from services.worker.targets import legacy_target, load_targets
from services.worker.worker import Worker
from tornado_rt.work import Retry, TaskError

__all__ = [
    "Backoff",
    "BadParams",
    "HandlerError",
    "KindTarget",
    "LegacyTarget",
    "Prepared",
    "Retry",
    "Roster",
    "Rules",
    "Target",
    "TaskError",
    "Worker",
    "legacy_target",
    "load_targets",
]
