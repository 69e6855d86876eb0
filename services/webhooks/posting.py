"""Posts to addresses of others, and says what came of it."""

import asyncio
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import attrs
import structlog
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.simple_httpclient import HTTPTimeoutError, SimpleAsyncHTTPClient

from services.webhooks.addresses import CheckedResolver, NotPublic, check_address
from tornado_rt.bounds import OutOfBounds
from tornado_rt.tracing import calling
from tornado_rt.work import clean_text
from tornado_rt.work.texts import stored_phrase

log = structlog.get_logger(__name__)

# More of an answer is not read.
ANSWER_BYTES = 65536
ANSWER_HEADER_BYTES = 16384
# The longest wait that a receiver may ask for with `Retry-After`.
MOST_RETRY_AFTER_SECONDS = 3600.0
# Tornado's own, for a connection that failed or took too long.
NO_ANSWER = 599
GONE = 410
REASON_LENGTH = 300


@attrs.frozen(kw_only=True)
class Reply:
    """The outcome of one attempt.

    `status` is that of the answer, 0 without one; `error` is empty when it has arrived, else words
    for the receiver's owner, and nothing of our network. `is_refused`: the address is none that may
    be posted to. `retry_after`: how long the receiver asks to be left alone [s].
    """

    status: int = 0
    error: str = ""
    seconds: float = 0.0
    is_refused: bool = False
    retry_after: float = 0.0

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants nothing more from us."""
        return self.status == GONE


class Poster:
    """Posts, each time to an address that is checked then; `allow_private` allows any.

    Any 2xx in `timeout_seconds` is success. Redirects are not followed, as Standard Webhooks
    recommends: a 3xx is a failure.
    """

    def __init__(self, *, allow_private: bool, timeout_seconds: float, at_once: int) -> None:
        self._timeout = timeout_seconds
        self._resolver = CheckedResolver(allow_private)
        # It asks no proxy, whatever the environment names.
        self._client = SimpleAsyncHTTPClient(
            force_instance=True,
            max_clients=max(at_once, 1),
            resolver=self._resolver,
            max_header_size=ANSWER_HEADER_BYTES,
            max_body_size=ANSWER_BYTES,
        )

    def close(self) -> None:
        """Let go of connections and threads."""
        self._client.close()
        self._resolver.close()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Post JSON once; raise nothing but a cancellation."""
        began = time.monotonic()
        try:
            check_address("url", url)
        except (NotPublic, OutOfBounds) as error:
            return _failure(error)
        with calling("POST", url) as call:
            reply, kind = await self._try(url, {**headers, **call.headers}, body)
            call.answered(reply.status, kind)
        return attrs.evolve(reply, seconds=round(time.monotonic() - began, 3))

    async def _try(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[Reply, str]:
        """Return what came of a post, and the type of its error, "" for none."""
        heads: list[str] = []
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._client.fetch(self._request(url, headers, body, heads))
            return Reply(status=response.code), ""
        except Exception as error:
            log.debug("post_failed", error=clean_text(error, REASON_LENGTH))
            status = _status_of(heads)
            if 200 <= status < 300:
                # Cut off in the body of a good answer: the event has come.
                return Reply(status=status), ""
            reply = _failure(error)
            return reply, str(reply.status or type(error).__name__)

    def _request(
        self, url: str, headers: Mapping[str, str], body: bytes, heads: list[str]
    ) -> HTTPRequest:
        parts = urlsplit(url)
        return HTTPRequest(
            # A colon without a port is a good address that Tornado takes for a part of the name.
            parts._replace(netloc=parts.netloc.removesuffix(":")).geturl(),
            method="POST",
            headers={"Content-Type": "application/json", "User-Agent": "tornado_rt", **headers},
            body=body,
            follow_redirects=False,
            connect_timeout=self._timeout,
            request_timeout=self._timeout,
            header_callback=heads.append,
            # The rest of an answer says nothing to us.
            streaming_callback=lambda _: None,
            decompress_response=False,
        )


def _status_of(heads: list[str]) -> int:
    """Return the status of the answer of which these lines have come; 0 of none."""
    match = re.match(r"HTTP/1\.[01] ([2-5]\d\d)\b", heads[0]) if heads else None
    return int(match[1]) if match else 0


def _failure(error: Exception) -> Reply:
    if isinstance(error, HTTPClientError) and error.code != NO_ANSWER:
        asked = error.response.headers.get("Retry-After", "") if error.response else ""
        return Reply(
            status=error.code,
            error=stored_phrase("the receiver answered {code}", code=error.code),
            retry_after=seconds_of(asked),
        )
    if isinstance(error, NotPublic | OutOfBounds):
        return Reply(error=str(error), is_refused=True)
    if isinstance(error, TimeoutError | HTTPTimeoutError):
        return Reply(error=stored_phrase("the receiver did not answer in time"))
    return Reply(error=stored_phrase("the receiver cannot be reached"))


def seconds_of(retry_after: str) -> float:
    """Return what `Retry-After` asks for (RFC 9110 section 10.2.3), up to an hour."""
    if retry_after.isascii() and retry_after.isdecimal():
        # Of more digits the first say enough.
        asked = float(retry_after[:9])
    else:
        try:
            moment = parsedate_to_datetime(retry_after)
            asked = (moment.astimezone(UTC) - datetime.now(UTC)).total_seconds()
        except (ValueError, OverflowError):
            return 0.0
    return min(max(asked, 0.0), MOST_RETRY_AFTER_SECONDS)
