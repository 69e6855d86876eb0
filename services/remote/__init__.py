"""Workers that are elsewhere: they have only the address of the server, and a token."""

from services.remote.bounds import RemoteBounds
from services.remote.claiming import FoundTasks
from services.remote.crew import Working
from services.remote.ends import Answers
from services.remote.items import items_of
from services.remote.requests import ClaimRequest, ExtendRequest, WorkRequest
from services.remote.service import RemoteWork
from services.remote.takers import Port, Session
from services.remote.telling import Answer, Caller

__all__ = [
    "Answer",
    "Answers",
    "Caller",
    "ClaimRequest",
    "ExtendRequest",
    "FoundTasks",
    "Port",
    "RemoteBounds",
    "RemoteWork",
    "Session",
    "WorkRequest",
    "Working",
    "items_of",
]
