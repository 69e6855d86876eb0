"""Accepting connections within bounds, in all and of one address; the order in which they go.

A connection that has sent no whole head goes first, the oldest before the others, then one that
rests between two requests; one that is being answered stays. Streams and sockets have left the
listener, and have limits of their own in the hub; the descriptors that they hold are seen here by
the numbers that new ones get.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections import OrderedDict
from collections.abc import Iterable
from functools import partial
from typing import Any

import structlog
from tornado.httpserver import HTTPServer, _HTTPRequestContext
from tornado.iostream import IOStream
from tornado.web import Application

from tornado_rt.http1 import RequestBounds, ServerConnection, refusal
from tornado_rt.limits import AcceptBounds, RateLimiter, network_of
from tornado_rt.metrics import Metrics
from tornado_rt.problems import Problem
from tornado_rt.under_way import UnderWay
from tornado_rt.web import CORS_EXPOSED
from tornado_rt.wire import bound_silence
from tornado_rt.work.texts import phrase

log = structlog.get_logger(__name__)

# Connections accepted before the loop turns to those that are there.
ACCEPTED_AT_ONCE = 128
# Accepting rests for this time when there is no descriptor or memory for it [s].
PAUSE_SECONDS = 0.5
EVICTED_AT_ONCE = 16
# The connection failed before it was accepted: the next one may be good (accept(2)).
FAILED = {
    errno.ECONNABORTED,
    errno.EPROTO,
    errno.EPERM,
    errno.ENETDOWN,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
}
# Bytes that may wait in a stream: a pipelined request, a piece of a body.
BUFFERED_BYTES = 256 * 1024
NO_BOUND = 1 << 62

Connections = OrderedDict[ServerConnection, None]


class Listener(HTTPServer):
    """Accepts, and answers through an application."""

    def initialize(  # type: ignore[override]
        self,
        application: Application,
        *,
        requests: RequestBounds,
        accepts: AcceptBounds,
        metrics: Metrics,
        tls: ssl.SSLContext | None = None,
        behind_proxy: bool = False,
    ) -> None:
        super().initialize(
            application,
            ssl_options=tls,
            xheaders=behind_proxy,
            max_body_size=NO_BOUND,
            max_buffer_size=_buffer_size(requests.header_bytes),
        )
        self._application = application
        self._requests = requests
        self._accepts = accepts
        self._metrics = metrics
        # Behind a proxy all connections are the proxy's.
        self._per_address = 0 if behind_proxy else accepts.per_address
        self._silent: Connections = OrderedDict()
        self._resting: Connections = OrderedDict()
        self._by_address: dict[str, Connections] = {}
        self._exhausted = False
        self.leaves = False
        self._all_closed = asyncio.Event()

    def add_sockets(self, sockets: Iterable[socket.socket]) -> None:
        """Accept on these sockets."""
        for one in sockets:
            self._sockets[one.fileno()] = one
            self._handlers[one.fileno()] = partial(self._unwatch, one)
            self._watch(one)

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """Serve a connection that was accepted."""
        context = _HTTPRequestContext(stream, address, self.protocol, None)
        connection = ServerConnection(stream, self.conn_params, context, self._requests)
        self._connections.add(connection)
        self._silent[connection] = None
        self._by_address.setdefault(_home_of(address), OrderedDict())[connection] = None
        connection.start_serving(self)

    def on_close(self, server_conn: object) -> None:
        """Forget a connection that is closed, or that a stream or socket has taken over."""
        assert isinstance(server_conn, ServerConnection)
        super().on_close(server_conn)
        self._forget(server_conn)
        if self.leaves and not self._connections:
            self._all_closed.set()

    async def leave(self, seconds: float) -> None:
        """Accept nothing more, and let what was asked for be answered, for this long [s].

        Then it is refused. All connections are closed in the end.
        """
        self.stop()
        self.leaves = True
        opened: set[Any] = self._connections
        for connection in tuple(opened):
            if not connection.is_asked:
                connection.stream.close()
        if not self._connections:
            self._all_closed.set()
        under_way: UnderWay = self._application.settings["under_way"]
        await under_way.end(partial(self._answered, under_way), seconds)
        await self.close_all_connections()

    async def _answered(self, under_way: UnderWay) -> None:
        await self._all_closed.wait()
        await under_way.over()

    def spoke(self, connection: ServerConnection) -> None:
        """Learn that a whole head has come."""
        self._silent.pop(connection, None)
        self._resting.pop(connection, None)

    def rests(self, connection: ServerConnection) -> None:
        """Learn that nothing is asked for now: the connection may be closed."""
        if self.leaves and not connection.is_asked:
            connection.stream.close()
        elif connection in self._connections:
            self._silent.pop(connection, None)
            self._resting[connection] = None

    def refused(self, connection: ServerConnection, problem: Problem) -> Problem:
        """Count a request that no handler saw; return the problem to answer with.

        It counts towards the rate of its address. Beyond that it is not logged.
        """
        limiter: RateLimiter = self._application.settings["rate_limiter"]
        context: Any = connection.context
        wait = limiter.wait(_home_of(context.address))
        if wait:
            problem = Problem(429, phrase("too many requests"), retry_after=wait)
        else:
            detail = problem.detail[:200]
            log.info("request_refused", status=problem.status_code, detail=detail)
        self._metrics.requests.labels("other", str(problem.status_code)).inc()
        return problem

    def extra_headers(self, origin: str) -> dict[str, str]:
        """Return the headers that an answer to a page of this origin needs."""
        trusted = self._application.settings.get("trusted_origins", ())
        vary = {"Vary": "Origin"} if trusted else {}
        if origin not in trusted:
            return vary
        return vary | {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Expose-Headers": CORS_EXPOSED,
        }

    def _watch(self, sock: socket.socket) -> None:
        asyncio.get_running_loop().add_reader(sock, self._accept, sock)

    def _unwatch(self, sock: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(sock)

    def _accept(self, sock: socket.socket) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            if self._stopped:
                return
            try:
                connection, address = sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in FAILED:
                    self._pause(sock, error)
                    return
            else:
                self._admit(connection, address)

    def _pause(self, sock: socket.socket, error: OSError) -> None:
        """Accept nothing for a while, and make room meanwhile."""
        if not self._exhausted:
            self._exhausted = True
            log.error("accept_paused", error=error)
        self._unwatch(sock)
        for _ in range(EVICTED_AT_ONCE):
            self._make_room()
        asyncio.get_running_loop().call_later(PAUSE_SECONDS, self._resume, sock)

    def _resume(self, sock: socket.socket) -> None:
        if not self._stopped:
            self._watch(sock)

    def _admit(self, connection: socket.socket, address: Any) -> None:
        if self._exhausted:
            self._exhausted = False
            log.warning("accept_resumed")
        own = self._by_address.get(_home_of(address), OrderedDict())
        if self._per_address and len(own) >= self._per_address and not self._make_room(own):
            self._turn_away(connection, "sockets_per_address")
        elif not self._is_full(connection):
            self._take(connection, address)
        elif self._make_room():
            self._take(_renumbered(connection), address)
        else:
            self._turn_away(connection, "sockets")

    def _take(self, connection: socket.socket, address: Any) -> None:
        connection.setblocking(False)
        try:
            bound_silence(connection, self._accepts.peer_timeout)
        except OSError:
            # It has left already.
            connection.close()
        else:
            self._handle_connection(connection, address)

    def _is_full(self, newest: socket.socket) -> bool:
        bounds = self._accepts
        if bounds.total and len(self._connections) >= bounds.total:
            return True
        return bool(bounds.descriptors) and newest.fileno() >= bounds.descriptors

    def _make_room(self, among: Connections | None = None) -> bool:
        """Close a connection that is not being answered; return whether there was one."""
        for candidates in (self._silent, self._resting):
            looked = candidates if among is None else among
            found = next((one for one in looked if one in candidates), None)
            if found is not None:
                self._forget(found)
                self._metrics.refused.labels("sockets_evicted").inc()
                found.stream.close()
                return True
        return False

    def _turn_away(self, connection: socket.socket, limit: str) -> None:
        self._metrics.refused.labels(limit).inc()
        problem = Problem(503, phrase("too many connections; try again"), retry_after=1)
        with connection, contextlib.suppress(OSError):
            if self.ssl_options is None:
                connection.setblocking(False)
                connection.send(refusal(problem, {}))
                connection.shutdown(socket.SHUT_WR)
                # Unread bytes would turn the close into a reset.
                connection.recv(BUFFERED_BYTES)

    def _forget(self, connection: ServerConnection) -> None:
        self._silent.pop(connection, None)
        self._resting.pop(connection, None)
        context: Any = connection.context
        home = _home_of(context.address)
        own = self._by_address.get(home)
        if own is not None:
            own.pop(connection, None)
            if not own:
                del self._by_address[home]


def _buffer_size(header_bytes: int) -> int:
    return max(BUFFERED_BYTES, 2 * header_bytes) if header_bytes else NO_BOUND


def _renumbered(connection: socket.socket) -> socket.socket:
    """Move a socket to the lowest free number, so that clients' stay under their bound."""
    moved = connection.dup()
    connection.close()
    return moved


def _home_of(address: Any) -> str:
    return network_of(address[0]) if isinstance(address, tuple) else "local"
