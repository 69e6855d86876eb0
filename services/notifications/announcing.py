"""Telling all known users, as a task: it shows its progress, and goes on where it was cut off."""

import asyncio
from typing import Any

import attrs
import structlog

from services.notifications.creation import Once
from services.notifications.models import NotStorable
from services.notifications.sending import SendRequest
from services.notifications.service import NotificationService
from tornado_rt.json_body import structure
from tornado_rt.turns import NoTurn
from tornado_rt.work import Kind, Run
from tornado_rt.work.texts import stored_phrase

log = structlog.get_logger(__name__)

# Only the server makes tasks of such kinds.
NAME = "rt.announcement"
TOGETHER = 200


@attrs.frozen
class Announcement:
    """A notification for all users: the body of `POST /api/notifications`."""

    request: dict[str, Any]


class Announcer:
    """Tells all users; `notifications` is set when there is a service."""

    def __init__(self) -> None:
        self.notifications: NotificationService | None = None
        self.kind = Kind(NAME, Announcement, title=stored_phrase("Announcement"), max_attempts=10)
        self.kind.handler(self._announce)

    async def _announce(self, params: Announcement, run: Run) -> dict[str, int]:
        assert self.notifications is not None
        request = structure(params.request, SendRequest)
        # One that was told before the task was cut off is not told again.
        once = Once(key=f"task:{run.task_id}", print="")
        users = await self.notifications.known_users()
        failed = 0
        for start in range(0, len(users), TOGETHER):
            part = users[start : start + TOGETHER]
            failed += sum(await asyncio.gather(*(self._tell(one, request, once) for one in part)))
            await run.update(
                (start + len(part)) / len(users),
                stored_phrase("{count} users", count=start + len(part)),
            )
        return {"users": len(users), "failed": failed}

    async def _tell(self, user_id: str, request: SendRequest, once: Once) -> bool:
        """Tell one user; say whether that is not possible."""
        assert self.notifications is not None
        while True:
            try:
                # An attempt has one span, however many users there are.
                await self.notifications.store(
                    request.draft(user_id), wording=request.wording, once=once
                )
            except NoTurn as error:
                await asyncio.sleep(error.retry_after)
            except (NotStorable, ValueError) as error:
                log.warning("user_not_told", user_id=user_id, error=error)
                return True
            else:
                return False
