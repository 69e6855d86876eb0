"""Client of tornado_rt: submit tasks, watch them, send and read notifications, work."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tornado_rt_client.backoff import Backoff
from tornado_rt_client.errors import (
    ApiError,
    BadRequest,
    Conflict,
    ConnectionLost,
    Forbidden,
    Invalid,
    NotFound,
    ProtocolError,
    RealtimeError,
    ServerFault,
    TaskCancelled,
    TaskEnded,
    TaskFailed,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from tornado_rt_client.events import (
    Arrived,
    BatchFinished,
    BatchProgress,
    Changed,
    Counts,
    Event,
    Finished,
    Message,
    Progress,
    Resync,
    TasksChanged,
    TasksListed,
)
from tornado_rt_client.inbox import AsyncInbox, Inbox
from tornado_rt_client.records import (
    BatchSnapshot,
    Estimate,
    Kind,
    Notification,
    Output,
    Schedule,
    Snapshot,
    TaskRecord,
    UnreadCount,
    Why,
)
from tornado_rt_client.schedules import AsyncSchedules, Schedules
from tornado_rt_client.task import AsyncBatch, AsyncTask, Batch, Task
from tornado_rt_client.time_left import ServerClock, TimeLeft, starts_in, time_left
from tornado_rt_client.tokens import Mint

if TYPE_CHECKING:
    from tornado_rt_client.async_client import AsyncClient
    from tornado_rt_client.client import Client
    from tornado_rt_client.worker import Worker

__version__ = "0.1.0"

__all__ = [
    "ApiError",
    "Arrived",
    "AsyncBatch",
    "AsyncClient",
    "AsyncInbox",
    "AsyncSchedules",
    "AsyncTask",
    "Backoff",
    "BadRequest",
    "Batch",
    "BatchFinished",
    "BatchProgress",
    "BatchSnapshot",
    "Changed",
    "Client",
    "Conflict",
    "ConnectionLost",
    "Counts",
    "Estimate",
    "Event",
    "Finished",
    "Forbidden",
    "Inbox",
    "Invalid",
    "Kind",
    "Message",
    "Mint",
    "NotFound",
    "Notification",
    "Output",
    "Progress",
    "ProtocolError",
    "RealtimeError",
    "Resync",
    "Schedule",
    "Schedules",
    "ServerClock",
    "ServerFault",
    "Snapshot",
    "Task",
    "TaskCancelled",
    "TaskEnded",
    "TaskFailed",
    "TaskRecord",
    "TasksChanged",
    "TasksListed",
    "TimeLeft",
    "TooManyRequests",
    "Unauthorized",
    "Unavailable",
    "UnreadCount",
    "Why",
    "Worker",
    "__version__",
    "starts_in",
    "time_left",
]


# They stand on libraries that not everybody needs: imported when they are asked for.
_HEAVY = {"AsyncClient": "async_client", "Client": "client", "Worker": "worker"}


def __getattr__(name: str) -> Any:
    if name in _HEAVY:
        return getattr(import_module(f"{__name__}.{_HEAVY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
