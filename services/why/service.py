"""Answers why."""

from collections.abc import Sequence
from typing import Any

import attrs

from services.notifications.reading import EventTold
from services.queue import QueueService, TaskNotFound
from services.why.causes import cause_of
from services.why.chain import chain_of
from services.why.gathering import Gatherer
from services.why.hearing import hearing, seconds_of
from services.why.words import ToldCause


@attrs.frozen(kw_only=True)
class Why:
    """Why a task is where it is, and all that has happened to it, in order of time.

    `heard`: why its user has heard of its end, or has not; None while it has not ended. `now` [s
    since the epoch] is when it was asked.
    """

    task_id: str
    status: str
    cause: ToldCause
    heard: ToldCause | None
    chain: Sequence[ToldCause]
    now: float

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is on the wire."""
        return {
            "task_id": self.task_id,
            "status": self.status,
            "cause": self.cause.to_dict(),
            "heard": None if self.heard is None else self.heard.to_dict(),
            "chain": [one.with_facts(self.now) for one in self.chain],
        }


class WhyService:
    """Tells why a task is where it is. It reads, and changes nothing."""

    def __init__(self, queue: QueueService, gatherer: Gatherer) -> None:
        self._queue = queue
        self._gatherer = gatherer

    async def explain(self, task_id: str, user_id: str, owner: str | None) -> Why:
        """Explain a task of `owner`, None: of anybody; `user_id` asks.

        Of one that has ended and is kept no more the notification is left. Raise TaskNotFound, also
        for another's; RedisError.
        """
        known = await self._queue.read_facts(task_id)
        if known is None:
            return await self._forgotten(task_id, user_id)
        if owner not in (None, known.task.user_id):
            raise TaskNotFound(task_id)
        facts = await self._gatherer.read(known, sees_all=owner is None)
        return Why(
            task_id=task_id,
            status=known.task.status.value,
            cause=cause_of(facts),
            heard=hearing(facts) if facts.has_ended else None,
            chain=chain_of(facts),
            now=known.now,
        )

    async def _forgotten(self, task_id: str, user_id: str) -> Why:
        told, _ = await self._gatherer.of_event(user_id, task_id)
        if told is None:
            raise TaskNotFound(task_id)
        status = str(told.notification.metadata.get("status", "ended"))
        return Why(
            task_id=task_id,
            status=status,
            cause=ToldCause("forgotten", {"status": status}),
            heard=None,
            chain=_chain_of_forgotten(told),
            now=seconds_of(told.notification.created_at),
        )


def _chain_of_forgotten(told: EventTold) -> list[ToldCause]:
    notification = told.notification
    chain = [
        ToldCause(
            "notified",
            {"notification_id": notification.id},
            seconds_of(notification.created_at),
        )
    ]
    if notification.read_at is not None:
        read_at = seconds_of(notification.read_at)
        chain.append(ToldCause("read", {"user": notification.user_id, "read_at": read_at}, read_at))
    return chain
