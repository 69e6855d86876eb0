"""Running tasks: the worker, and the handlers that it runs."""

from services.worker.legacy import LegacyTarget
from services.worker.loading import HandlerError
from services.worker.places import warn_of_idle_places
from services.worker.roster import Roster
from services.worker.targets import kind_target, legacy_target, load_targets
from services.worker.worker import Worker
from tornado_rt.work import Retry, TaskError
from tornado_rt.work.attempts.backoff import Backoff
from tornado_rt.work.attempts.kind_target import KindTarget
from tornado_rt.work.attempts.target import BadParams, Prepared, Rules, Target

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
    "kind_target",
    "legacy_target",
    "load_targets",
    "warn_of_idle_places",
]
