"""Leases of workers that are elsewhere: whose they are, and when they end."""

from collections.abc import Sequence

from services.queue.access import QueueAccess
from services.queue.models import LeaseState, TaskState

# The id of a task, and the token of an attempt at it.
Lease = tuple[str, str]


class Leasing(QueueAccess):
    """The verbs of a server for its workers elsewhere."""

    async def extend_task(
        self, task_id: str, token: str, visibility_seconds: float | None = None
    ) -> bool:
        """Keep a claim for another visibility time, by default the queue's.

        Return False when the token is stale.
        """
        seconds = self.visibility_seconds if visibility_seconds is None else visibility_seconds
        return bool(await self.scripts.run("extend", id=task_id, token=token, visibility=seconds))

    async def read_leases(self, leases: Sequence[Lease]) -> list[LeaseState]:
        """Say of each attempt whether it is still its worker's, and why not."""
        if not leases:
            return []
        async with self._reading() as pipe:
            for task_id, _ in leases:
                pipe.hmget(f"{self.prefix}task:{task_id}", ["status", "token", "closed"])
            found = await pipe.execute()
        return [
            _state(token.encode(), *fields)
            for (_, token), fields in zip(leases, found, strict=True)
        ]

    async def shorten_leases(
        self, worker_id: str, session: str, leases: Sequence[Lease], seconds: float
    ) -> int:
        """Let leases end in these seconds at the latest; return how many end sooner.

        Nothing is done when the worker has announced another session: it has come back.
        """
        shortened: int = await self.scripts.run(
            "shorten",
            worker=worker_id,
            session=session,
            leases=[list(lease) for lease in leases],
            seconds=seconds,
        )
        return shortened

    async def tell_stalled(self, seconds: float) -> int:
        """Tell of running tasks whose leases ran out this long ago and that no worker takes back.

        Return of how many; each is told once.
        """
        told: int = await self.scripts.run("tell_stalled", seconds=seconds)
        return told


def _state(
    token: bytes, status: bytes | None, current: bytes | None, closed: bytes | None
) -> LeaseState:
    if status == TaskState.CANCELLED.encode():
        return LeaseState.CANCELLED
    if not token or current != token:
        return LeaseState.ENDED if token and closed == token else LeaseState.LOST
    return LeaseState.YOURS if status == TaskState.PROCESSING.encode() else LeaseState.ENDED
