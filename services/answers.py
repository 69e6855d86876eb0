"""The answers of users to what running tasks have asked."""

from services.notifications.account import Account
from services.notifications.intents import id_of_event
from services.notifications.owed import Debt, NotificationEvent
from services.queue import QueueService


class AnswerOutlet:
    """Hands an answer to the task that has asked."""

    def __init__(self, queue: QueueService) -> None:
        self._queue = queue

    def wants(self, account: Account, debt: Debt) -> bool:
        """Say whether a task has asked."""
        return debt.event == NotificationEvent.ANSWERED and _note_of(debt) is not None

    async def hand_over(self, debt: Debt) -> None:
        """Keep it as a result of the task. Raise RedisError while Redis is away."""
        if debt.event != NotificationEvent.ANSWERED or (note := _note_of(debt)) is None:
            return
        told = debt.notification
        about, option = told["metadata"], told["answered"]["action"]
        await self._queue.answer(about["task_id"], debt.user_id, about["question"], note, option)


def _note_of(debt: Debt) -> str | None:
    """Return the note by which a task has asked; None: it was somebody else."""
    about = debt.notification.get("metadata", {})
    task_id, name, note = (about.get(one) for one in ("task_id", "question", "note"))
    if not (isinstance(task_id, str) and isinstance(name, str) and isinstance(note, str)):
        return None
    # Anybody may write such metadata, but no other notification is stored under this id.
    own = str(id_of_event(debt.user_id, f"{task_id}:{note}"))
    return note if debt.notification.get("id") == own else None
