"""The base of all verbs of a queue: its scripts and keys in Redis, and its bounds."""

import secrets
from typing import Any

import attrs
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from services.queue.models import Conflict, KeyReused, QueueFull
from services.queue.scripts import Scripts
from services.queue.sent_plans import SentPlans
from settings import QueueOrder, default

FULL_RETRY_SECONDS = 5.0


@attrs.frozen(kw_only=True)
class QueueLimits:
    """Limits over all kinds: tasks that run at once, of a user and in all, 0 for any; the order."""

    user_limit: int = default("queue_user_limit")
    global_limit: int = default("queue_global_limit")
    order: QueueOrder = default("queue_order")


class QueueAccess:
    """A queue in Redis.

    `user_limit`, `global_limit` and `order` hold where nothing else is known in Redis: see
    `register_kinds`. `max_waiting_per_user` bounds waiting tasks; 0 is no bound.
    `upkeep_seconds` is how often it is looked after while nothing falls due,
    `visibility_seconds` is how long a claim lasts, `retention_seconds` how long ended tasks are
    kept (0: forever), `kept_per_user` how many ended tasks, dead tasks and ended batches of each
    user (0: any number; the oldest go first), `history_sorts` of how many sorts of tasks the times
    (0: any number). `max_events` of each task and batch are kept for
    replay; the newest `idempotency_keys_per_user` of each user are remembered (0: any number).
    `scripts` serve also what other services keep under the queue's keys.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        name: str = default("queue_name"),
        user_limit: int = default("queue_user_limit"),
        global_limit: int = default("queue_global_limit"),
        max_waiting_per_user: int = default("queue_max_waiting_per_user"),
        upkeep_seconds: float = default("queue_upkeep_seconds"),
        visibility_seconds: float = default("queue_visibility_seconds"),
        retention_seconds: float = default("queue_retention_seconds"),
        order: QueueOrder = default("queue_order"),
        max_events: int = default("task_events"),
        idempotency_seconds: float = default("queue_idempotency_seconds"),
        idempotency_keys_per_user: int = default("queue_idempotency_keys_per_user"),
        kept_per_user: int = default("queue_kept_per_user"),
        history_sorts: int = default("queue_history_sorts"),
    ) -> None:
        self.prefix = key_prefix(name)
        self.scripts = Scripts(redis, self.prefix, secrets.token_hex(4), max_events)
        self.limits = QueueLimits(user_limit=user_limit, global_limit=global_limit, order=order)
        self.max_waiting_per_user = max_waiting_per_user
        self.upkeep_seconds = upkeep_seconds
        self.visibility_seconds = visibility_seconds
        self.retention_seconds = retention_seconds
        self.idempotency_seconds = idempotency_seconds
        self.idempotency_keys_per_user = idempotency_keys_per_user
        self.kept_per_user = kept_per_user
        self.history_sorts = history_sorts
        self.sent_plans = SentPlans()
        self._redis = redis

    async def close(self) -> None:
        """End the calls that are under way; those who wait for them are cancelled."""
        await self.scripts.close()

    def _reading(self) -> Pipeline:
        # Not a transaction: Redis refuses even to read in one when it is full.
        return self._redis.pipeline(transaction=False)

    def _unless_refused(self, reply: Any) -> Any:
        if reply == b"full":
            raise QueueFull(self.max_waiting_per_user, FULL_RETRY_SECONDS)
        if reply == b"conflict":
            raise KeyReused
        if reply[0] == b"unique":
            raise Conflict(reply[1].decode())
        return reply


def key_prefix(name: str) -> str:
    """Return what every key of a queue begins with: its hash tag."""
    return f"{{{name}}}:"
