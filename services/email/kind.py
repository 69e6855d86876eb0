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
from services.email.words import WordsOf
from tornado_rt.work import Kind, Retry, Run, TaskError, clean_line
from tornado_rt.work.texts import stored_phrase

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
        words_of: WordsOf,
        server: MailServer | None,
        sender: str,
    ) -> None:
        self._addresses = addresses
        self._digests = digests
        self._links = links
        self._still_unread = still_unread
        self._words_of = words_of
        self._server = server
        self._sender = sender

    async def run(self, params: EmailParams, run: Run) -> dict[str, int]:
        """Send; return of how many notifications the mail tells.

        Raise Retry when the mail server may take it later, TaskError when it has refused it.
        """
        due = await self._digests.due(params.user_id, params.ids)
        unread = await self._find(params, due)
        if unread:
            await self._send(params, unread, run)
        await self._digests.settle(params.user_id, due if unread else params.ids)
        return {"told": len(unread)}

    async def _find(self, params: EmailParams, due: list[str]) -> list[dict[str, Any]]:
        """Return what the mail tells of; nothing if none of the delivery's own is unread.

        The others have deliveries of their own, after a delay of their own.
        """
        own, choice = set(params.ids), await self._addresses.read(params.user_id)
        if self._server is None or not choice.on or own.isdisjoint(due):
            return []
        unread = await self._still_unread(params.user_id, due)
        return [] if own.isdisjoint(one["id"] for one in unread) else unread

    async def _send(self, params: EmailParams, unread: list[dict[str, Any]], run: Run) -> None:
        try:
            await self._hand_over(params.user_id, unread, run)
        except MailLater as error:
            log.warning("mail_waits", user_id=params.user_id, reason=_line(error))
            raise Retry(_line(error)) from None
        except MailRefused as error:
            log.warning("mail_refused", user_id=params.user_id, reason=_line(error))
            # It may be these that it refuses; the others come with their own delivery.
            await self._digests.settle(params.user_id, params.ids)
            raise TaskError(_line(error)) from None

    async def _hand_over(self, user_id: str, unread: list[dict[str, Any]], run: Run) -> None:
        recipient = (await self._addresses.read(user_id)).email
        if self._server is None or not recipient:
            return
        made = letter(
            unread,
            self._links,
            sender=self._sender,
            recipient=recipient,
            user_id=user_id,
            message_id=run.task_id,
            words=await self._words_of(user_id),
        )
        await self._server.send(made, self._sender, recipient)


def email_kind(postman: Postman) -> Kind:
    """Return the kind."""
    kind = Kind(
        NAME,
        EmailParams,
        title=stored_phrase("E-mail"),
        max_attempts=ATTEMPTS,
        backoff=BACKOFF_SECONDS,
        timeout=TIMEOUT_SECONDS,
    )
    kind.handler(postman.run)
    return kind


def _line(error: Exception) -> str:
    return clean_line(str(error), REASON_LENGTH)
