"""Reading HTTP/1.1 requests within bounds of size and time; what is refused gets an answer.

Tornado parses and writes. It closes without an answer when headers are too large, and closes while
a body is still coming, which resets the connection before its client has read the answer. So one
request is read here: its head within a bound, its body until somebody has answered; then the rest
is read and dropped for a while, so that the answer arrives (RFC 9112 section 9.6).

It is long because one class reads a request in all its forms; its parts would share each field.
"""

import asyncio
import functools
import re
import socket
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

import attrs
import structlog
from tornado import gen
from tornado.http1connection import (
    HTTP1Connection,
    HTTP1ConnectionParameters,
    HTTP1ServerConnection,
    is_transfer_encoding_chunked,
)
from tornado.httputil import (
    HTTPHeaders,
    HTTPInputError,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
    parse_request_start_line,
)
from tornado.iostream import IOStream, SSLIOStream, StreamClosedError

from settings import default
from tornado_rt.head import read_head
from tornado_rt.problems import CONTENT_TYPE, Problem
from tornado_rt.work.texts import phrase

log = structlog.get_logger(__name__)

T = TypeVar("T")

CHUNK_BYTES = 65536
# After an answer: how much more is read and dropped, for how long in all, and without a byte [s].
DRAINED_BYTES = 64 * 1024 * 1024
DRAIN_SECONDS = 30.0
DRAIN_SILENCE_SECONDS = 2.0
# The loop gets its turn after this much while there is always more to read [B].
TURN_BYTES = 256 * 1024
# No body has a length of more digits.
LENGTH_DIGITS = 18
MOST_EMPTY_LINES = 4
# A chunk's size with its extensions, or too much of it.
CHUNK_LINE_BYTES = 1024
CHUNK_LINE = re.compile(rb"[^\n]{0,%d}\n|[^\n]{%d}" % (CHUNK_LINE_BYTES, CHUNK_LINE_BYTES + 1))
SMALL_CHUNK = re.compile(rb"([0-9a-fA-F]{1,4})\r\n")
# Lines end with CRLF and nothing else: a proxy that reads on after a bare LF would see another
# request than this server (RFC 9112 section 7.1).
CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\x00\r\n]*)?\r\n")
ORIGIN = re.compile(rb"\r?\norigin:[ \t]*([!-~]+)[ \t]*\r?\n", re.IGNORECASE)


@attrs.frozen
class RequestBounds:
    """Bounds of one request; sizes in bytes, durations in seconds, 0 for none."""

    header_bytes: int = default("max_header_bytes")
    header_seconds: float = default("header_timeout_seconds")
    idle_seconds: float = default("idle_timeout_seconds")
    body_seconds: float = default("body_timeout_seconds")


class Answered(Exception):
    """The request was answered before its body had come."""


class Owner(Protocol):
    """Learns of a connection's state, and answers requests.

    While it `leaves` each connection closes after the answer to its request.
    """

    leaves: bool

    def start_request(self, server_conn: object, request_conn: Any) -> HTTPMessageDelegate:
        """Return the delegate of one request."""

    def spoke(self, connection: "ServerConnection") -> None:
        """Learn that a whole head has come."""

    def rests(self, connection: "ServerConnection") -> None:
        """Learn that nothing is asked for now: the connection may be closed."""

    def refused(self, connection: "ServerConnection", problem: Problem) -> Problem:
        """Learn that a request was refused that no handler saw; return the problem to answer with.

        It is another one when the peer sends too many of them.
        """

    def extra_headers(self, origin: str) -> dict[str, str]:
        """Return the headers that an answer to a page of this origin needs."""


class ServerConnection(HTTP1ServerConnection):
    """One connection of a client: request after request."""

    def __init__(
        self,
        stream: IOStream,
        params: HTTP1ConnectionParameters,
        context: object,
        bounds: RequestBounds,
    ) -> None:
        super().__init__(stream, params, context)
        self.bounds = bounds
        # Whether a request has come, and is not wholly answered.
        self.is_asked = False

    def start_serving(self, delegate: HTTPServerConnectionDelegate) -> None:
        """Begin to answer requests."""
        loop = asyncio.get_running_loop()
        self._serving_future = loop.create_task(self._server_request_loop(delegate))

    async def _server_request_loop(self, delegate: HTTPServerConnectionDelegate) -> None:
        owner: Any = delegate
        seconds = self.bounds.header_seconds
        try:
            while await Request(self, owner).serve(seconds):
                seconds = self.bounds.idle_seconds
                owner.rests(self)
                await asyncio.sleep(0)
        except (StreamClosedError, asyncio.CancelledError):
            return
        except Exception:
            log.exception("connection_failed")
            self.stream.close()
        finally:
            delegate.on_close(self)


class Request(HTTP1Connection):
    """One request on a connection, and the answer to it."""

    def __init__(self, connection: ServerConnection, owner: Owner) -> None:
        super().__init__(connection.stream, False, connection.params, connection.context)
        self._connection = connection
        self._owner = owner
        self._bounds = connection.bounds
        self._head = b""
        # The target was a whole URL, as a client sends it to a proxy; then it has set the Host.
        self.in_absolute_form = False

    async def serve(self, wait_seconds: float) -> bool:
        """Serve it when it comes within this time; return whether the connection goes on."""
        delegate: HTTPMessageDelegate | None = None
        try:
            if not await self._read_head(wait_seconds):
                return False
            self._connection.is_asked = True
            self._owner.spoke(self._connection)
            start_line, headers = self._parse(self._head)
            delegate = self._owner.start_request(self._connection, self)
            prepared = delegate.headers_received(start_line, headers)
            # Without a body there is nothing that the handler has to be ready for.
            if not self._read_finished:
                if prepared is not None:
                    await prepared
                await self._take_body(delegate, start_line, headers)
            closing, delegate = delegate, None
            if not self._write_finished:
                closing.finish()
            await self._finished()
        except HTTPInputError as error:
            await self._refuse(Problem(400, phrase("this is no request: {error}", error=error)))
            await self._drain()
        except Answered:
            await self._drain()
        except TimeoutError:
            await self._refuse(Problem(408, phrase("the request took too long to come")))
            # Something is still being read: nothing else can be.
            self.close()
        finally:
            if delegate is not None:
                delegate.on_connection_close()
            self._clear_callbacks()
            self._connection.is_asked = False
        return self.stream is not None and not self.stream.closed()

    def write_headers(
        self,
        start_line: RequestStartLine | ResponseStartLine,
        headers: HTTPHeaders,
        chunk: bytes | None = None,
    ) -> "asyncio.Future[None]":
        """Announce that the connection closes: the body has not been read, or the server stops."""
        if not self._read_finished or self._owner.leaves:
            self._disconnect_on_finish = True
            headers["Connection"] = "close"
            # Else Tornado promises a client of HTTP/1.0 what it asked for.
            if self._request_headers is not None:
                self._request_headers.pop("Connection", None)
        return super().write_headers(start_line, headers, chunk)

    async def _read_head(self, wait_seconds: float) -> bool:
        """Read up to the empty line; return whether there is a request."""
        for _ in range(MOST_EMPTY_LINES):
            try:
                self._head = await _within(self.stream.read_bytes(1), wait_seconds)
            except TimeoutError:
                self.close()
                return False
            if self._head not in (b"\r", b"\n"):
                break
        most = self._bounds.header_bytes
        end = _end_of_head(most)
        if (found := end.search(self.stream._read_buffer)) is not None:
            # Most heads come whole.
            self._head += self.stream._consume(found.end())
        else:
            rest = self.stream.read_until_regex(end.pattern)
            self._head += await _within(rest, self._bounds.header_seconds)
        if len(self._head) <= most or not most:
            return True
        await self._refuse(_too_large(self._head, most))
        await self._drain()
        return False

    def _parse(self, head: bytes) -> tuple[RequestStartLine, HTTPHeaders]:
        """Return the start line and the headers. Raise HTTPInputError."""
        line, headers = read_head(head)
        start_line = parse_request_start_line(line)
        self._request_start_line, self._request_headers = start_line, headers
        self._disconnect_on_finish = not self._can_keep_alive(start_line, headers)
        self._read_finished = not _has_body(start_line, headers)
        self.in_absolute_form = start_line.path.lower().startswith(("http://", "https://"))
        if self.in_absolute_form:
            start_line = _in_origin_form(start_line, headers)
        return start_line, headers

    async def _take_body(
        self, delegate: HTTPMessageDelegate, start_line: RequestStartLine, headers: HTTPHeaders
    ) -> None:
        """Read the body. Raise Answered when the answer did not wait for it."""
        if self.stream is None:
            return
        if self._write_finished:
            raise Answered
        expected = headers.get("Expect", "").lower() == "100-continue"
        if expected and start_line.version != "HTTP/1.0":
            self.stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = int(headers.get("Content-Length", "0"))
        if 0 < length <= min(self.stream._read_buffer_size, CHUNK_BYTES, self._max_body_size):
            # All of it has come with the head.
            await self._deliver_body(delegate, await self.stream.read_bytes(length))
            self._read_finished = True
            return
        # When there is no more room, slow senders go before those that wait for an answer.
        self._owner.rests(self._connection)
        body = self._read_body(0, headers, delegate)
        assert body is not None
        await _within(body, self._bounds.body_seconds)
        self._owner.spoke(self._connection)
        self._read_finished = True

    async def _read_chunked_body(self, delegate: HTTPMessageDelegate) -> None:
        work = await self._take_small_chunks(delegate)
        while left := await self._read_chunk_size():
            while left:
                piece = await self.stream.read_bytes(min(left, CHUNK_BYTES), partial=True)
                left -= len(piece)
                await self._deliver_body(delegate, piece)
            if await self._read_line() != b"\r\n":
                raise HTTPInputError(phrase("a chunk does not end where it says"))
            work += CHUNK_LINE_BYTES + await self._take_small_chunks(delegate)
            if work >= TURN_BYTES:
                work = 0
                await asyncio.sleep(0)
        await self._pass_over_trailers()

    async def _take_small_chunks(self, delegate: HTTPMessageDelegate) -> int:
        """Take those that have come together in one step; return their bytes."""
        taken, data = whole_chunks(bytes(self.stream._read_buffer))
        if taken:
            await self.stream.read_bytes(taken)
            await self._deliver_body(delegate, data)
        return taken

    async def _read_chunk_size(self) -> int:
        size = CHUNK_SIZE.fullmatch(await self._read_line())
        if size is None:
            raise HTTPInputError(phrase("a chunk does not begin with its size"))
        return int(size[1], 16)

    async def _pass_over_trailers(self) -> None:
        passed, most = 0, self._bounds.header_bytes
        while (line := await self._read_line()) != b"\r\n":
            if not line.endswith(b"\r\n"):
                raise HTTPInputError(phrase("a trailer does not end with CRLF"))
            passed += len(line)
            if most and passed > most:
                raise HTTPInputError(phrase("the trailers are too large"))

    async def _read_line(self) -> bytes:
        line = await self.stream.read_until_regex(CHUNK_LINE.pattern)
        if not line.endswith(b"\n"):
            raise HTTPInputError(phrase("a line of a chunk is too long"))
        return line

    async def _deliver_body(self, delegate: HTTPMessageDelegate, data: bytes) -> None:
        received = delegate.data_received(data)
        if received is not None:
            await received
        if self._write_finished:
            raise Answered

    def _can_keep_alive(self, start_line: RequestStartLine, headers: HTTPHeaders) -> bool:
        # Tornado knows `close` alone, not in a list (RFC 9110 section 7.6.1).
        options = headers.get("Connection", "").lower()
        if "close" in options and "close" in {one.strip() for one in options.split(",")}:
            return False
        if start_line.version == "HTTP/1.1" and not self.params.no_keep_alive:
            return True
        return super()._can_keep_alive(start_line, headers)

    async def _finished(self) -> None:
        """Wait until the answer is written, or the stream is somebody else's."""
        # Most handlers are that far in this turn of the loop, and nobody has to watch the client.
        await asyncio.sleep(0)
        if self.stream is None or self._finish_future.done():
            return
        if self.stream.closed():
            # A stream that has closed before calls nobody.
            self._on_connection_close()
            return
        self.stream.set_close_callback(self._on_connection_close)
        await self._finish_future

    def _finish_request(self, future: "asyncio.Future[None] | None") -> None:
        if self._read_finished:
            super()._finish_request(future)
        elif not self._finish_future.done():
            # The rest of the body is still read, so that the answer arrives.
            self._finish_future.set_result(None)

    async def _refuse(self, problem: Problem) -> None:
        """Answer what no handler can; nothing when an answer has begun."""
        if self.stream is None or self.stream.closed() or self._response_start_line is not None:
            self.close()
            return
        problem = self._owner.refused(self._connection, problem)
        origin = ORIGIN.search(self._head)
        extra = self._owner.extra_headers(origin[1].decode() if origin else "")
        self.stream.write(refusal(problem, extra))
        self._write_finished = True
        self._finish_future.set_result(None)

    async def _drain(self) -> None:
        """Say that nothing more is written, read on for a while, and close."""
        self._owner.rests(self._connection)
        try:
            await _within(self._finish_future, DRAIN_SECONDS)
            await _within(self.stream.write(b""), DRAIN_SECONDS)
            _shut_writing(self.stream)
            await _within(_read_to_end(self.stream), DRAIN_SECONDS)
        except (TimeoutError, StreamClosedError, OSError):
            pass
        finally:
            self.close()


def whole_chunks(buffer: bytes) -> tuple[int, bytes]:
    """Return how much of a buffer is small chunks that are whole, and what is in them."""
    at, pieces = 0, []
    while (line := SMALL_CHUNK.match(buffer, at)) is not None:
        end = line.end() + int(line[1], 16)
        if end == line.end() or buffer[end : end + 2] != b"\r\n":
            break
        pieces.append(buffer[line.end() : end])
        at = end + 2
    return at, b"".join(pieces)


def refusal(problem: Problem, extra: dict[str, str]) -> bytes:
    """Return a whole answer that tells a problem and closes the connection."""
    body = problem.document()
    headers = {
        "Server": "tornado_rt",
        "Content-Type": CONTENT_TYPE,
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "Connection": "close",
    } | extra
    if problem.retry_after is not None:
        headers["Retry-After"] = problem.retry_after_seconds
    lines = [f"HTTP/1.1 {problem.status_code} {problem.reason}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode("latin1") + b"\r\n\r\n" + body


@functools.cache
def _end_of_head(most: int) -> re.Pattern[bytes]:
    """Return what matches at the end of a head, or where a head is too large."""
    return re.compile(rb"\n\r?\n" + (rb"|(?<=[\s\S]{%d})" % most if most else b""))


def _too_large(head: bytes, most: int) -> Problem:
    if b"\n" in head:
        return Problem(431, phrase("the headers are larger than {most} bytes", most=most))
    return Problem(414, phrase("the address is longer than {most} bytes", most=most))


def _has_body(start_line: RequestStartLine, headers: HTTPHeaders) -> bool:
    """Say whether a body follows. Raise HTTPInputError when that cannot be told for sure."""
    if is_transfer_encoding_chunked(headers):
        if start_line.version == "HTTP/1.0":
            raise HTTPInputError(phrase("HTTP/1.0 has no Transfer-Encoding"))
        return True
    lengths = {one.strip() for one in headers.get("Content-Length", "0").split(",")}
    length = lengths.pop()
    if lengths or not (length.isascii() and length.isdecimal() and len(length) <= LENGTH_DIGITS):
        raise HTTPInputError(phrase("the Content-Length is no length"))
    if "Content-Length" in headers:
        headers["Content-Length"] = length
    return int(length) > 0


def _in_origin_form(start_line: RequestStartLine, headers: HTTPHeaders) -> RequestStartLine:
    """Take the host from a target in absolute form (RFC 9112 section 3.2.2)."""
    try:
        target = urlsplit(start_line.path)
    except ValueError:
        raise HTTPInputError(phrase("the target is no address")) from None
    if not target.netloc:
        raise HTTPInputError(phrase("the target names no host"))
    headers["Host"] = target.netloc
    query = f"?{target.query}" if target.query else ""
    return start_line._replace(path=(target.path or "/") + query)


async def _within(awaitable: Awaitable[T], seconds: float) -> T:
    """Wait no longer than this. Raise TimeoutError; then the awaitable goes on."""
    if not seconds or (isinstance(awaitable, asyncio.Future) and awaitable.done()):
        return await awaitable
    quiet = (StreamClosedError, HTTPInputError, Answered)
    waited: T = await gen.with_timeout(timedelta(seconds=seconds), awaitable, quiet)
    return waited


def _shut_writing(stream: IOStream) -> None:
    # TLS has no half-closed connections that clients know.
    if not isinstance(stream, SSLIOStream):
        stream.socket.shutdown(socket.SHUT_WR)


async def _read_to_end(stream: IOStream) -> None:
    drained = work = 0
    while drained < DRAINED_BYTES:
        piece = stream.read_bytes(CHUNK_BYTES, partial=True)
        drained += len(await _within(piece, DRAIN_SILENCE_SECONDS))
        work += CHUNK_BYTES
        if work >= TURN_BYTES:
            work = 0
            await asyncio.sleep(0)
