"""A client of a running server: one request, or the events of a task across all disconnects."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest, HTTPResponse

from tornado_rt.protocol import MessageType

ANSWER_SECONDS = 60.0
CONNECT_SECONDS = 20.0
# How long a server may be away, once it has answered: longer than a restart.
AWAY_SECONDS = 300.0
RETRY_SECONDS = 1.0
MOST_WAIT_SECONDS = 5.0
# A connection on which this many heartbeats were missed is lost.
MISSED_HEARTBEATS = 3
# Tornado bounds what comes in one answer; a stream has no end.
MOST_STREAM_BYTES = 2**53
# The statuses after which a server may answer soon.
PASSING = {429, 502, 503, 504}


class BadAddress(ValueError):
    """The address of the server is none."""


class NotAnswered(Exception):
    """The server does not answer, or refuses; the message says why."""


class Lost(Exception):
    """A stream was cut off; its events go on after another request."""


@attrs.frozen
class Event:
    """An event of a stream; `id` is "" for one that is not a place to come back to."""

    type: str
    data: Mapping[str, Any]
    id: str = ""


Events = AsyncGenerator[Event, None]


class EventReader:
    """Reads events (HTML Living Standard, section 9.2.6) from pieces of any length.

    `retry_seconds` is how long the server asks to wait before another request.
    """

    def __init__(self, retry_seconds: float = RETRY_SECONDS) -> None:
        self.retry_seconds = retry_seconds
        self._rest = b""
        self._fields: dict[str, str] = {}

    def feed(self, piece: bytes) -> Iterator[Event]:
        """Yield the events that are whole with this piece."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if not (text := line.rstrip(b"\r").decode(errors="replace")):
                yield from self._take()
                continue
            name, _, value = text.partition(":")
            self._read(name, value.removeprefix(" "))

    def _read(self, name: str, value: str) -> None:
        if name == "retry" and value.isdecimal():
            self.retry_seconds = int(value) / 1000
        elif name == "data" and name in self._fields:
            self._fields[name] += f"\n{value}"
        else:
            self._fields[name] = value

    def _take(self) -> Iterator[Event]:
        fields, self._fields = self._fields, {}
        if "data" in fields:
            with contextlib.suppress(ValueError):
                data = json.loads(fields["data"])
                yield Event(fields.get("event", "message"), data, fields.get("id", ""))


class Remote:
    """A server at an address; `token` gives the one to ask with, each time anew."""

    def __init__(self, url: str, token: Callable[[], str]) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadAddress(f"url: {url} is no address: it begins with http:// or https://")
        self._url = url.rstrip("/")
        self._token = token

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send a body; return the answer. Raise NotAnswered."""
        request = self._request(
            path,
            method="POST",
            body=json.dumps(body),
            headers={"Content-Type": "application/json"},
            request_timeout=ANSWER_SECONDS,
        )
        try:
            answer = await AsyncHTTPClient(force_instance=True).fetch(request, raise_error=False)
        except (OSError, HTTPClientError) as error:
            raise self._silent(error) from None
        if answer.code >= 300:
            raise NotAnswered(refusal(answer.code, answer.body))
        return json.loads(answer.body)

    async def events(self, path: str) -> Events:
        """Yield the events of a stream up to `finished`, each once.

        A stream that is cut off goes on where it was. Raise NotAnswered: the server refuses, does
        not answer the first request, or has been away for long.
        """
        place, away_since, reader = "", None, EventReader()
        while True:
            reader = EventReader(reader.retry_seconds)
            try:
                async with contextlib.aclosing(self._stream(path, place, reader)) as stream:
                    async for event in stream:
                        away_since, place = None, event.id or place
                        yield event
                        if event.type == MessageType.FINISHED:
                            return
                fault = NotAnswered("the stream ended before the task")
            except Lost as error:
                fault = NotAnswered(str(error))
            away_since = away_since or time.monotonic()
            if not place or time.monotonic() - away_since > AWAY_SECONDS:
                raise fault
            wait = min(reader.retry_seconds, MOST_WAIT_SECONDS)
            await asyncio.sleep(random.uniform(wait / 2, wait))

    async def _stream(self, path: str, place: str, reader: EventReader) -> Events:
        """Yield the events of one request. Raise Lost, NotAnswered."""
        pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        client = AsyncHTTPClient(force_instance=True, max_body_size=MOST_STREAM_BYTES)
        request = self._request(
            path,
            headers={"Accept": "text/event-stream"} | ({"Last-Event-ID": place} if place else {}),
            streaming_callback=pieces.put_nowait,
            request_timeout=0,
        )
        answer = asyncio.ensure_future(client.fetch(request, raise_error=False))

        def end(answer: "asyncio.Future[HTTPResponse]") -> None:
            # Looked at, or it would be logged: nobody awaits it when we leave before its end.
            if not answer.cancelled():
                answer.exception()
            pieces.put_nowait(None)

        answer.add_done_callback(end)
        quiet_seconds: float | None = ANSWER_SECONDS
        received = b""
        try:
            while (piece := await _next(pieces, quiet_seconds)) is not None:
                received = (received + piece)[:65536]
                for event in reader.feed(piece):
                    if event.type == MessageType.CONNECTED:
                        quiet_seconds = _quiet_seconds(event)
                    yield event
            self._judge(await self._ended(answer), received)
        finally:
            client.close()

    async def _ended(self, answer: "asyncio.Future[HTTPResponse]") -> HTTPResponse:
        try:
            return await answer
        except (OSError, HTTPClientError) as error:
            raise Lost(str(self._silent(error))) from None

    def _judge(self, answer: HTTPResponse, received: bytes) -> None:
        """Raise what the end of a stream means, unless it ended as streams do."""
        if answer.code in PASSING:
            raise Lost(refusal(answer.code, received))
        kind = answer.headers.get("Content-Type", "")
        if answer.code != 200:
            raise NotAnswered(refusal(answer.code, received))
        if not kind.startswith("text/event-stream"):
            raise NotAnswered(f"{self._url} answers with {kind or 'nothing'} in place of events")

    def _request(self, path: str, headers: Mapping[str, str], **options: Any) -> HTTPRequest:
        return HTTPRequest(
            self._url + path,
            headers={"Authorization": f"Bearer {self._token()}", **headers},
            connect_timeout=CONNECT_SECONDS,
            follow_redirects=False,
            **options,
        )

    def _silent(self, error: Exception) -> NotAnswered:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return NotAnswered(f"no server answers at {self._url}: {reason}")


def refusal(status: int, body: bytes) -> str:
    """Return why a server refuses, in one line: its problem document has the reasons."""
    try:
        problem = json.loads(body)
        reasons = problem.get("errors") or [problem["detail"]]
    except (ValueError, KeyError, AttributeError, TypeError):
        reasons = [f"status {status}"]
    return "the server refuses: " + "; ".join(map(str, reasons))


async def _next(pieces: "asyncio.Queue[bytes | None]", seconds: float | None) -> bytes | None:
    try:
        return await asyncio.wait_for(pieces.get(), seconds)
    except TimeoutError:
        raise Lost(f"nothing came for {seconds:.0f} s") from None


def _quiet_seconds(connected: Event) -> float | None:
    """Return how long a sound stream may be silent [s], None for any time."""
    interval = connected.data.get("heartbeat_interval") or 0
    return MISSED_HEARTBEATS * interval + ANSWER_SECONDS / 4 if interval > 0 else None
