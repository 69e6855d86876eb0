"""Asks a running server: the Python client without its I/O, over the HTTP client of Tornado."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse
from tornado.httputil import HTTPHeaders, parse_response_start_line, url_concat

from tornado_rt_client.backoff import Backoff
from tornado_rt_client.errors import ApiError, ConnectionLost, RealtimeError, error_of_answer
from tornado_rt_client.events import Event
from tornado_rt_client.following import Following
from tornado_rt_client.request import Attempts, Request
from tornado_rt_client.time_left import ServerClock

T = TypeVar("T")
E = TypeVar("E", bound=Event)

ANSWER_SECONDS = 60.0
CONNECT_SECONDS = 20.0
# A request that the server has taken, or does not answer now, is repeated for this long [s].
PATIENCE_SECONDS = 15.0
# Once it has answered, a server may be away for this long [s]: longer than a restart.
AWAY_SECONDS = 300.0
BACKOFF = Backoff(most=5.0)
# Tornado bounds what comes in one answer; a stream has no end.
MOST_STREAM_BYTES = 2**53
# Errors before a request has left.
NOT_SENT = (ConnectionRefusedError, socket.gaierror)


class BadAddress(ValueError):
    """The address of the server is none."""


class NotAnswered(Exception):
    """The server does not answer, or refuses by this status; the message says why."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Remote:
    """A server at an address; `token` gives the one to ask with, each time anew."""

    def __init__(self, url: str, token: Callable[[], str]) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadAddress(f"url: {url} is no address: it begins with http:// or https://")
        self._url = url.rstrip("/")
        self._token = token
        self._away_since: float | None = None
        # As far as streams tell it.
        self.clock = ServerClock()

    async def send(self, request: Request[T]) -> T:
        """Send a request, again where that may help; return its answer. Raise NotAnswered.

        A server that was never there is told at once.
        """
        began, was_there = time.monotonic(), False
        attempts = Attempts(request, began, BACKOFF, PATIENCE_SECONDS)
        while True:
            try:
                return await self._attempt(request)
            except RealtimeError as error:
                was_there = was_there or not isinstance(error, ConnectionLost) or error.was_sent
                if not was_there:
                    raise self._told(error) from None
                wait = self._pause(attempts, error)
            await asyncio.sleep(wait)

    async def follow(self, following: Following[E]) -> AsyncGenerator[E, None]:
        """Yield the events of a stream up to its end, each once.

        A stream that is cut off goes on where it was. Raise NotAnswered: the server refuses, does
        not answer the first request, or has been away for long.
        """
        following.clock = self.clock
        following.begin(time.monotonic(), None, BACKOFF, 0)
        try:
            while not following.is_over:
                error: ApiError | ConnectionLost | None = None
                try:
                    async with contextlib.aclosing(self._read(following)) as events:
                        async for event in events:
                            yield event
                except ConnectionLost as lost:
                    error = lost
                except ApiError as refusal:
                    following.refused(refusal)
                    error = refusal
                if not following.is_over:
                    await asyncio.sleep(self._wait(following, error))
        except RealtimeError as error:
            raise self._told(error) from None

    def _pause(self, attempts: Attempts, error: RealtimeError) -> float:
        try:
            return attempts.pause(error, time.monotonic())
        except RealtimeError as last:
            raise self._told(last) from None

    def _wait(self, following: Following[Any], error: ApiError | ConnectionLost | None) -> float:
        now = time.monotonic()
        self._away_since = self._away_since or now
        if error is not None and now - self._away_since > AWAY_SECONDS:
            raise error
        return following.pause(now, error)

    async def _attempt(self, request: Request[T]) -> T:
        answering = AsyncHTTPClient(force_instance=True).fetch(
            self._request(
                request.method,
                url_concat(request.path, dict(request.params)),
                request.headers(),
                body=request.content(),
                request_timeout=ANSWER_SECONDS,
            ),
            raise_error=False,
        )
        answer = await self._answer(answering)
        return request.answer(answer.code, answer.headers, answer.body)

    async def _read(self, following: Following[E]) -> AsyncGenerator[E, None]:
        """Yield the events of one connection. Raise ApiError, ConnectionLost, ProtocolError."""
        head: list[str] = []
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        client = AsyncHTTPClient(force_instance=True, max_body_size=MOST_STREAM_BYTES)
        request = self._request(
            "GET",
            following.path,
            following.headers(),
            header_callback=head.append,
            streaming_callback=pieces.put_nowait,
            request_timeout=0,
        )
        answering = asyncio.ensure_future(client.fetch(request, raise_error=False))

        def end(answering: "asyncio.Future[HTTPResponse]") -> None:
            # Looked at, or it would be logged: nobody awaits it when we leave before its end.
            if not answering.cancelled():
                answering.exception()
            pieces.put_nowait(None)

        answering.add_done_callback(end)
        refusal, is_open, now = b"", False, time.monotonic()
        until: float | None = now + following.opening_seconds(now)
        try:
            while (piece := await _next(pieces, until)) is not None:
                if not is_open and (status := _status_of(head)) >= 400:
                    refusal = (refusal + piece)[:65536]
                    continue
                if not is_open:
                    following.opened(status, _headers_of(head).get("Content-Type", ""))
                    is_open = True
                self._away_since = None
                for event in following.receive(piece, time.monotonic()):
                    yield event
                if following.is_over or following.is_cut:
                    return
                until = following.read_until(time.monotonic())
            answer = await self._answer(answering)
            if answer.code >= 400:
                raise error_of_answer(answer.code, answer.headers, refusal)
            if not is_open:
                following.opened(answer.code, answer.headers.get("Content-Type", ""))
        finally:
            client.close()

    async def _answer(self, answering: "asyncio.Future[HTTPResponse]") -> HTTPResponse:
        try:
            return await answering
        except (OSError, HTTPClientError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ConnectionLost(reason, was_sent=not isinstance(error, NOT_SENT)) from None

    def _request(
        self, method: str, path: str, headers: Mapping[str, str], **options: Any
    ) -> HTTPRequest:
        return HTTPRequest(
            self._url + path,
            method=method,
            headers={"Authorization": f"Bearer {self._token()}", **headers},
            connect_timeout=CONNECT_SECONDS,
            follow_redirects=False,
            **options,
        )

    def _told(self, error: RealtimeError) -> NotAnswered:
        """Return an error as one line for people."""
        if isinstance(error, ApiError):
            reasons = error.errors or [error.detail or f"status {error.status}"]
            return NotAnswered("the server refuses: " + "; ".join(reasons), error.status)
        if isinstance(error, ConnectionLost):
            return NotAnswered(f"no server answers at {self._url}: {error}")
        return NotAnswered(f"no tornado_rt answers at {self._url}: {error}")


async def _next(pieces: "asyncio.Queue[bytes | None]", until: float | None) -> bytes | None:
    seconds = None if until is None else until - time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            return await pieces.get()
    except TimeoutError:
        raise ConnectionLost("nothing came for long") from None


def _status_of(head: list[str]) -> int:
    return parse_response_start_line(head[0].strip()).code


def _headers_of(head: list[str]) -> HTTPHeaders:
    return HTTPHeaders.parse("".join(head[1:]))
