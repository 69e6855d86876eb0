"""The operator's side: all tasks, workers, connections, their past, and who did what."""

from services.admin.bulk import BulkVerb, BulkWork, NothingToUndo
from services.admin.finding import FindAgain
from services.admin.fleet import Fleet, WorkerNotFound
from services.admin.log import AdminLog
from services.admin.overview import Overview
from services.admin.series import Resolution, Series

__all__ = [
    "AdminLog",
    "BulkVerb",
    "BulkWork",
    "FindAgain",
    "Fleet",
    "NothingToUndo",
    "Overview",
    "Resolution",
    "Series",
    "WorkerNotFound",
]
