"""The kind `push`: one delivery to all browsers of a user."""

import asyncio
import time
from typing import Any
from urllib.parse import urlsplit

import structlog

from services.channels import StillUnread
from services.push.client import Envelope, PushAnswer, PushClient, PushOutcome
from services.push.messages import PushParams, text_of
from services.push.models import PushSubscription
from services.push.subscriptions import Subscriptions
from tornado_rt.work import Kind, Retry, Run, TaskError
from tornado_rt.work.texts import stored_phrase

log = structlog.get_logger(__name__)

NAME = "push"
# Their sum is over a day.
ATTEMPTS = 24
BACKOFF_SECONDS = (10.0, 7200.0)
TIMEOUT_SECONDS = 120.0
# It takes a subscription away whose pushes are not shown.
NEVER_SILENT = "push.apple.com"


class _Later(Exception):
    """A push service asks for another attempt."""

    def __init__(self, answer: PushAnswer) -> None:
        super().__init__(answer.reason)
        self.answer = answer


class Pusher:
    """Pushes to each subscription once, however many attempts others need."""

    def __init__(
        self,
        subscriptions: Subscriptions,
        client: PushClient,
        still_unread: StillUnread,
        *,
        ttl_seconds: float,
    ) -> None:
        self._subscriptions = subscriptions
        self._client = client
        self._still_unread = still_unread
        self._ttl = ttl_seconds

    async def run(self, params: PushParams, run: Run) -> dict[str, Any]:
        """Push; return how many got it, and of how many the subscription is gone or refused it.

        With the last `answer` of those that did not get it, if there are some.

        Raise Retry when a push service asks for it, TaskError when all have refused.
        """
        ttl = self._ttl_of(params)
        if ttl < 0 or not await self._is_wanted(params, run):
            return _counted([])
        envelope = Envelope(text_of(params), ttl, params.urgency, params.topic)
        chosen = [one for one in await self._find(params) if _takes(one, params)]
        told = await asyncio.gather(
            *(run.once(f"to {one.id}", self._push, one, envelope) for one in chosen),
            return_exceptions=True,
        )
        return _settle(told)

    def _ttl_of(self, params: PushParams) -> int:
        """Return for how long it may still wait; negative when it is too old [s]."""
        age = max(0.0, time.time() - params.at) if params.at and self._ttl else 0.0
        return int(self._ttl - age)

    async def _is_wanted(self, params: PushParams, run: Run) -> bool:
        """Say whether a repeated attempt is still about something unread."""
        if params.withdraws or run.attempt == 1:
            return True
        return bool(await self._still_unread(params.user_id, [params.notification_id]))

    async def _find(self, params: PushParams) -> list[PushSubscription]:
        found = await self._subscriptions.find(params.user_id)
        for one in found:
            if one.is_over:
                await self._subscriptions.discard(one)
        # A push service takes no push that is signed with another key.
        own = self._subscriptions.server_key
        return [one for one in found if not one.is_over and one.server_key == own]

    async def _push(self, subscription: PushSubscription, envelope: Envelope) -> str:
        answer = await self._client.send(subscription, envelope)
        if answer.outcome is PushOutcome.LATER:
            raise _Later(answer)
        about = {"user_id": subscription.user_id, "subscription": subscription.id}
        if answer.outcome is PushOutcome.GONE:
            await self._subscriptions.discard(subscription)
            log.info("push_subscription_gone", **about)
        if answer.outcome is PushOutcome.REFUSED:
            log.warning("push_refused", **about, reason=answer.reason)
        return f"{answer.outcome.value}: {answer.reason}"


def push_kind(pusher: Pusher) -> Kind:
    """Return the kind; its handler uses this process's connections."""
    kind = Kind(
        NAME,
        PushParams,
        title="Push",
        max_attempts=ATTEMPTS,
        backoff=BACKOFF_SECONDS,
        timeout=TIMEOUT_SECONDS,
    )
    kind.handler(pusher.run)
    return kind


def _takes(subscription: PushSubscription, params: PushParams) -> bool:
    if not params.withdraws:
        return True
    host = urlsplit(subscription.endpoint).hostname or ""
    return host != NEVER_SILENT and not host.endswith(f".{NEVER_SILENT}")


def _settle(told: list[Any]) -> dict[str, Any]:
    """Return the counts. Raise what the attempt ends with."""
    for one in told:
        if isinstance(one, BaseException) and not isinstance(one, _Later):
            raise one
    later = [one.answer for one in told if isinstance(one, _Later)]
    if later:
        delays = [one.delay for one in later if one.delay is not None]
        raise Retry(later[0].reason, max(delays, default=None))
    counts = _counted(told)
    if counts["refused"] and not counts["sent"]:
        raise TaskError(
            stored_phrase("every push service has refused it: {answer}", answer=counts["answer"])
        )
    return counts


def _counted(told: list[str]) -> dict[str, Any]:
    """Return the counts of outcomes, each with its reason behind a colon."""
    # An earlier version has kept the outcome alone.
    outcomes = [one.partition(": ") for one in told]
    names = (PushOutcome.SENT, PushOutcome.GONE, PushOutcome.REFUSED)
    counts: dict[str, Any] = {
        name.value: sum(outcome == name for outcome, _, _ in outcomes) for name in names
    }
    others = [reason or outcome for outcome, _, reason in outcomes if outcome != PushOutcome.SENT]
    return counts | ({"answer": others[-1]} if others else {})
