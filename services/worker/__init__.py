"""Running tasks: the worker, and the handlers that it runs."""

from services.worker.backoff import Backoff
from services.worker.endings import Retry, TaskError
from services.worker.handlers import Handler, load_handler
from services.worker.loading import HandlerError
from services.worker.roster import Roster
from services.worker.worker import Worker

__all__ = [
    "Backoff",
    "Handler",
    "HandlerError",
    "Retry",
    "Roster",
    "TaskError",
    "Worker",
    "load_handler",
]
