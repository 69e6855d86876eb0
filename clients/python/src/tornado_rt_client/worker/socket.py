"""A worker's connection over a WebSocket.

The library is `websockets`: it has no dependencies, is kept by one who knows the protocol, and its
asyncio client waits for a slow peer instead of storing what is sent.
"""

import asyncio
import contextlib
import ssl as tls
import time
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
)

from tornado_rt_client.errors import ApiError, ConnectionLost, error_of, read_retry_after
from tornado_rt_client.tokens import AsyncToken, authorization_async, expiry_of, token_of
from tornado_rt_client.worker.session import Session

PATH = "/api/ws/worker"
OPEN_SECONDS = 10.0
# A connection that is silently lost must be noticed before the server gives its tasks to others,
# 30 s by default [s].
PING_SECONDS = 10.0
# The server has this long to say goodbye [s].
CLOSE_SECONDS = 3.0
# A message with as many tasks as a worker may take at once, each with its largest parameters [B].
MOST_BYTES = 256 * 1024 * 1024
# The share of a token's life that is left when the next one is sent.
RENEWED_AT = 0.25
# Shortest time between two requests for a token, if their source gives the same one for too long
# [s].
LEAST_RENEWAL_SECONDS = 0.2
# Closed by the server for good (the close codes of its documentation), by the status that says the
# same.
STATUS_OF_CLOSE = {4401: 401, 4403: 403, 4404: 404, 4409: 409, 4429: 429}


class SocketBlocked(Exception):
    """Something on the way does not let WebSockets through; the message says how that showed."""


class WorkerSocket:
    """Opens connections to one server; `ssl` is as `websockets` takes it."""

    def __init__(self, url: str, token: AsyncToken, ssl: tls.SSLContext | None) -> None:
        self._url = "ws" + url.removeprefix("http").rstrip("/") + PATH
        self._token = token
        self._ssl: dict[str, Any] = {} if ssl is None else {"ssl": ssl}

    async def run(self, session: Session, wanted: asyncio.Event) -> AsyncGenerator[None, None]:
        """Connect, and yield after each message that came, until the connection is lost.

        `wanted` is set when the session has something to say. Raise ConnectionLost, SocketBlocked,
        and ApiError when the server refuses this worker.
        """
        socket = await self._open()
        speaking = asyncio.gather(self._speak(socket, session, wanted), self._renew_token(socket))
        # One that fails ends the connection.
        speaking.add_done_callback(lambda _: socket.transport.close())
        try:
            async with contextlib.aclosing(_messages(socket)) as messages:
                async for text in messages:
                    session.receive(text, time.monotonic())
                    yield
        finally:
            await socket.close()
            speaking.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
                await speaking
        raise _error_of_close(socket.close_code, socket.close_reason)

    async def _open(self) -> ClientConnection:
        headers = await authorization_async(self._token)
        try:
            return await connect(
                self._url,
                additional_headers=headers,
                compression=None,
                open_timeout=OPEN_SECONDS,
                ping_interval=PING_SECONDS,
                ping_timeout=PING_SECONDS,
                close_timeout=CLOSE_SECONDS,
                max_size=MOST_BYTES,
                **self._ssl,
            )
        except InvalidStatus as error:
            raise _error_of_status(error) from error
        except (InvalidMessage, InvalidHandshake) as error:
            raise SocketBlocked(str(error)) from error
        except InvalidURI as error:
            raise ValueError(str(error)) from None
        except TimeoutError as error:
            raise SocketBlocked("no answer to the handshake") from error
        except OSError as error:
            raise ConnectionLost(str(error) or type(error).__name__, was_sent=False) from error

    async def _speak(
        self, socket: ClientConnection, session: Session, wanted: asyncio.Event
    ) -> None:
        """Send what the session has to say: all that it has in one turn of the loop together."""
        await socket.send(session.hello(), text=True)
        while True:
            pause = session.pause(time.monotonic())
            if pause:
                await asyncio.sleep(pause)
                if not session.working:
                    await socket.send(session.hello(), text=True)
            else:
                await wanted.wait()
            wanted.clear()
            for frame in session.frames(time.monotonic()):
                await socket.send(frame, text=True)

    async def _renew_token(self, socket: ClientConnection) -> None:
        while True:
            expiry = expiry_of(await token_of(self._token))
            if expiry is None or isinstance(self._token, str):
                return
            left = expiry - time.time()
            await asyncio.sleep(max(left * (1 - RENEWED_AT), LEAST_RENEWAL_SECONDS))
            data = {"token": await token_of(self._token)}
            await socket.send(orjson.dumps({"type": "auth", "data": data}), text=True)


async def _messages(socket: ClientConnection) -> AsyncGenerator[bytes, None]:
    """Yield what comes, until the connection is closed, however that happens."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield await socket.recv(decode=False)


def _error_of_status(error: InvalidStatus) -> Exception:
    status, headers = error.response.status_code, error.response.headers
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return error_of(status, {"title": HTTPStatus(status).phrase})
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        after = read_retry_after(headers.get("Retry-After"))
        return error_of(status, {"title": HTTPStatus(status).phrase}, after)
    return SocketBlocked(f"the handshake was answered by {status}")


def _error_of_close(code: int | None, reason: str | None) -> ApiError | ConnectionLost:
    status = STATUS_OF_CLOSE.get(code or 0)
    if status is not None:
        return error_of(status, {"title": reason or HTTPStatus(status).phrase})
    return ConnectionLost(f"the connection was closed with {code} {reason or ''}".rstrip())
