"""Running tasks: the worker, and the handlers that it runs."""

from services.worker.endings import Retry, TaskError
from services.worker.handlers import Handler, HandlerError, load_handler
from services.worker.roster import Roster
from services.worker.worker import Backoff, Worker

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
