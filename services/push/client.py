"""Delivery of a push to one browser's push service (RFC 8030)."""

import asyncio
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

import attrs
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from services.push.encryption import encrypt
from services.push.models import PushSubscription
from services.push.vapid import VapidKey
from services.webhooks.addresses import CheckedResolver
from tornado_rt.work.texts import stored_phrase

AT_ONCE = 64
TIMEOUT_SECONDS = 10.0
# More of an answer is not read.
ANSWER_BYTES = 65536
ANSWER_HEADER_BYTES = 16384
# Longest wait that a push service may ask for.
MOST_RETRY_AFTER_SECONDS = 6 * 3600.0
GONE_CODES = {404, 410}
# Answers after which a later attempt may succeed, besides 5xx.
PASSING_CODES = {408, 425, 429}


class PushOutcome(StrEnum):
    """The outcome of a push to one browser."""

    SENT = "sent"
    # The subscription is not known any more.
    GONE = "gone"
    LATER = "later"
    REFUSED = "refused"


class Urgency(StrEnum):
    """The urgency of a push (RFC 8030 section 5.3)."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"


@attrs.frozen
class Envelope:
    """A push to every browser of a user.

    `ttl`: how long it waits for one that is away [s]. `topic`: it replaces an earlier one of the
    same topic that still waits; "" for none.
    """

    text: bytes
    ttl: int
    urgency: Urgency
    topic: str = ""


@attrs.frozen
class PushAnswer:
    """The answer of a push service. `delay`: its Retry-After [s], None if it has none."""

    outcome: PushOutcome
    reason: str = ""
    delay: float | None = None


class PushClient:
    """Posts pushes; private and other special addresses are refused unless `allow_private`."""

    def __init__(self, key: VapidKey, *, allow_private: bool = False) -> None:
        self._key = key
        self._resolver = CheckedResolver(allow_private)
        self._client = SimpleAsyncHTTPClient(
            force_instance=True,
            max_clients=AT_ONCE,
            resolver=self._resolver,
            max_header_size=ANSWER_HEADER_BYTES,
            max_body_size=ANSWER_BYTES,
        )

    def close(self) -> None:
        """Let go of what connects."""
        self._client.close()
        self._resolver.close()

    async def send(self, subscription: PushSubscription, envelope: Envelope) -> PushAnswer:
        """Post to one browser. Never raises but when cancelled."""
        try:
            async with asyncio.timeout(2 * TIMEOUT_SECONDS):
                answer = await self._client.fetch(self._request(subscription, envelope))
        except HTTPClientError as error:
            return _answer_of(error)
        except OSError as error:
            return PushAnswer(
                PushOutcome.LATER,
                stored_phrase("cannot be reached: {error}", error=type(error).__name__),
            )
        except ValueError as error:
            # The address is none, or a private one.
            return PushAnswer(PushOutcome.REFUSED, str(error))
        return PushAnswer(PushOutcome.SENT, str(answer.code))

    def _request(self, subscription: PushSubscription, envelope: Envelope) -> HTTPRequest:
        headers = {
            "Authorization": self._key.authorization(subscription.endpoint),
            "Content-Encoding": "aes128gcm",
            "Content-Type": "application/octet-stream",
            "TTL": str(envelope.ttl),
            "Urgency": envelope.urgency.value,
        }
        return HTTPRequest(
            subscription.endpoint,
            method="POST",
            headers=headers | ({"Topic": envelope.topic} if envelope.topic else {}),
            body=encrypt(envelope.text, subscription.p256dh, subscription.auth),
            follow_redirects=False,
            connect_timeout=TIMEOUT_SECONDS,
            request_timeout=TIMEOUT_SECONDS,
            decompress_response=False,
        )


def _answer_of(error: HTTPClientError) -> PushAnswer:
    reason = f"the push service answered {error.code}"
    if error.code in GONE_CODES:
        return PushAnswer(PushOutcome.GONE, reason)
    # Tornado's own 599 is a connection that failed or took too long.
    if error.code >= 500 or error.code in PASSING_CODES:
        headers = {} if error.response is None else error.response.headers
        return PushAnswer(PushOutcome.LATER, reason, seconds_of(headers.get("Retry-After", "")))
    return PushAnswer(PushOutcome.REFUSED, reason)


def seconds_of(retry_after: str) -> float | None:
    """Return what `Retry-After` asks for (RFC 9110 section 10.2.3) [s]; None if nothing."""
    if re.fullmatch(r"[0-9]{1,9}", retry_after):
        return min(float(retry_after), MOST_RETRY_AFTER_SECONDS)
    try:
        moment = parsedate_to_datetime(retry_after)
        asked = (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(asked, 0.0), MOST_RETRY_AFTER_SECONDS)
