"""The queue with all its verbs. Every change of state is one Lua script; see `scripts/`."""

from services.queue.access import key_prefix
from services.queue.adding import Adding, new_id, task_fields
from services.queue.board import Board
from services.queue.claiming import Claiming, new_request
from services.queue.explaining import Explaining
from services.queue.leasing import Leasing
from services.queue.operating import Operating
from services.queue.reading import Reading
from services.queue.searching import Searching
from services.queue.watching import Watching

__all__ = ["QueueService", "key_prefix", "new_id", "new_request", "task_fields"]


class QueueService(
    Adding, Board, Claiming, Leasing, Reading, Searching, Watching, Explaining, Operating
):
    """A queue over Redis; `QueueAccess` says what it takes, each of its bases has some verbs."""
