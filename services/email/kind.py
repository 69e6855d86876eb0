"""The kind `email`: one mail about what a user has not read after a delay."""

from collections.abc import Sequence
from typing import Any

import attrs
import structlog

from services.channels import StillUnread
from services.email.addresses import Addresses
from services.email.digests import Digests
from services.email.letters import letter
from services.email.links import MailLinks
from services.email.server import MailLater, MailRefused, MailServer
from tornado_rt.work import Kind, Retry, Run, TaskError, clean_line

log = structlog.get_logger(__name__)

NAME = "email"
# Their sum is over a day.
ATTEMPTS = 24
BACKOFF_SECONDS = (10.0, 7200.0)
TIMEOUT_SECONDS = 120.0
REASON_LENGTH = 300


@attrs.frozen(kw_only=True)
class EmailParams:
    """The parameters of a delivery: whose, and the ids of notifications."""

    user_id: str
    ids: list[str]


def email_params(user_id: str, ids: Sequence[str]) -> dict[str, Any]:
    """Return the parameters that mail notifications if they are unread by then."""
    return {"user_id": user_id, "ids": list(ids)}


class Postman:
    """Mails what is unread, and all else of the user that waits to be mailed.

    `server` None: there is none, and nothing is sent.
    """

    def __init__(
        self,
        addresses: Addresses,
        digests: Digests,
        links: MailLinks,
        still_unread: StillUnread,
        *,
        server: MailServer | None,
        sender: str,
    ) -> None:
        self._addresses = addresses
        self._digests = digests
        self._links = links
        self._still_unread = still_unread
        self._server = server
        self._sender = sender

    async def run(self, params: EmailParams, run: Run) -> dict[str, int]:
        """Send; return of how many notifications the mail tells.

        Raise Retry when the mail server may take it later, TaskError when it has refused it.
        """
        user_id, own = params.user_id, set(params.ids)
        due = await self._digests.due(user_id, params.ids)
        choice = await self._addresses.read(user_id)
        wanted = choice.on and not own.isdisjoint(due)
        unread = await self._still_unread(user_id, due) if wanted else []
        # The others have deliveries of their own, after a delay of their own.
        if self._server is None or own.isdisjoint(one["id"] for one in unread):
            await self._digests.settle(user_id, params.ids)
            return {"told": 0}
        try:
            await self._send(self._server, choice.email, user_id, unread, run)
        except MailLater as error:
            log.warning("mail_waits", user_id=user_id, reason=_line(error))
            raise Retry(_line(error)) from None
        except MailRefused as error:
            log.warning("mail_refused", user_id=user_id, reason=_line(error))
            # It may be these that it refuses; the others come with their own delivery.
            await self._digests.settle(user_id, params.ids)
            raise TaskError(_line(error)) from None
        await self._digests.settle(user_id, due)
        return {"told": len(unread)}

    async def _send(
        self,
        server: MailServer,
        recipient: str,
        user_id: str,
        unread: list[dict[str, Any]],
        run: Run,
    ) -> None:
        made = letter(
            unread,
            self._links,
            sender=self._sender,
            recipient=recipient,
            user_id=user_id,
            message_id=run.task_id,
        )
        await server.send(made, self._sender, recipient)


def email_kind(postman: Postman) -> Kind:
    """Return the kind."""
    kind = Kind(
        NAME,
        EmailParams,
        title="E-mail",
        max_attempts=ATTEMPTS,
        backoff=BACKOFF_SECONDS,
        timeout=TIMEOUT_SECONDS,
    )
    kind.handler(postman.run)
    return kind


def _line(error: Exception) -> str:
    return clean_line(str(error), REASON_LENGTH)
