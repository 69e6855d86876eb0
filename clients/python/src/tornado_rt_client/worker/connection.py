"""Keeps a worker connected: over a WebSocket, else over HTTP, again after every cut."""

import asyncio
import contextlib
import logging
import ssl as tls
import time
from collections.abc import AsyncGenerator, Callable
from enum import StrEnum

import attrs

from tornado_rt_client.backoff import Backoff
from tornado_rt_client.errors import ApiError, ConnectionLost, ProtocolError, Unauthorized
from tornado_rt_client.tokens import AsyncToken
from tornado_rt_client.worker.polling import WorkerPolling
from tornado_rt_client.worker.session import Session
from tornado_rt_client.worker.socket import SocketBlocked, WorkerSocket

logger = logging.getLogger("tornado_rt_client")

# After this many handshakes in a row that something on the way has spoilt, HTTP is used.
MOST_BLOCKED = 2
# HTTP is used for this long before a WebSocket is tried again [s].
POLLING_SECONDS = 600.0


class Transport(StrEnum):
    """The transport of a worker."""

    AUTO = "auto"
    WEBSOCKET = "websocket"
    HTTP = "http"


@attrs.define
class Route:
    """Chooses the next transport, without any I/O; times are of the caller's clock [s]."""

    transport: Transport
    blocked: int = 0
    polls_until: float = 0.0

    def polls(self, now: float) -> bool:
        """Say whether the next connection is over HTTP."""
        if self.transport is not Transport.AUTO:
            return self.transport is Transport.HTTP
        return now < self.polls_until

    def opened(self) -> None:
        """Note that a WebSocket got through."""
        self.blocked = 0

    def note_blocked(self, now: float) -> bool:
        """Note that one did not; say whether to go on over HTTP at once."""
        self.blocked += 1
        if self.transport is not Transport.AUTO or self.blocked < MOST_BLOCKED:
            return False
        self.polls_until = now + POLLING_SECONDS
        return True


class Connection:
    """The connections of one worker, one after another."""

    def __init__(
        self,
        url: str,
        token: AsyncToken,
        *,
        transport: Transport,
        ssl: tls.SSLContext | None,
        backoff: Backoff,
    ) -> None:
        self._polling = WorkerPolling(url, token, ssl)
        self._socket = WorkerSocket(url, token, ssl)
        self._route = Route(transport)
        self._backoff = backoff
        self._failures = 0

    async def keep(self, session: Session, wanted: asyncio.Event, came: Callable[[], None]) -> None:
        """Connect again and again; `came` is called after each message. Raise ApiError for good."""
        while True:
            polls = self._route.polls(time.monotonic())
            error: Exception | None = None
            try:
                if polls:
                    async with contextlib.aclosing(self._polling.run(session, wanted)) as messages:
                        await self._follow(messages, session, came, until=self._route.polls_until)
                else:
                    async with contextlib.aclosing(self._socket.run(session, wanted)) as messages:
                        await self._follow(messages, session, came, until=None)
            except (ConnectionLost, ProtocolError) as lost:
                error = lost
            except SocketBlocked as blocked:
                error = blocked
                if self._route.note_blocked(time.monotonic()):
                    logger.warning("no WebSocket gets through (%s): on over HTTP", blocked)
                    continue
            except ApiError as refusal:
                # One that worked a moment ago needs another token.
                expired = isinstance(refusal, Unauthorized) and session.working
                if not (refusal.is_passing or expired):
                    raise
                error = refusal
            finally:
                session.cut()
            await self._pause(error)

    async def _follow(
        self,
        messages: AsyncGenerator[None, None],
        session: Session,
        came: Callable[[], None],
        *,
        until: float | None,
    ) -> None:
        """Follow one connection, over HTTP until a WebSocket is tried again."""
        async for _ in messages:
            if session.working and self._failures:
                logger.info("connected again")
                self._failures = 0
            if session.working and until is None:
                self._route.opened()
            came()
            if until and time.monotonic() >= until:
                return

    async def _pause(self, error: Exception | None) -> None:
        """Wait before the next connection, at random: not all workers come at once."""
        if error is None:
            return
        self._failures += 1
        after = error.retry_after if isinstance(error, ApiError) else None
        wait = self._backoff.seconds(self._failures, retry_after=after)
        logger.info("%s; connecting again in %.1f s", error, wait)
        await asyncio.sleep(wait)
