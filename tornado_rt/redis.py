"""How this product connects to Redis: bounded connections, quick to give up, quick to return."""

import asyncio
import builtins
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError, TimeoutError

CONNECTIONS = 64
# Whoever asks while Redis stands still has his refusal in less than 2 s: so long until he has a
# connection, and so long until it brings an answer.
CONNECTION_SECONDS = 0.7
ANSWER_SECONDS = 1.0
# A maintenance command may take long over a large queue.
MAINTENANCE_SECONDS = 60.0
RETRIES = 2


class _Pool(BlockingConnectionPool):
    """Bounds the whole wait for a connection; the base bounds each step of each repetition."""

    async def get_connection(self, *arguments: Any, **named: Any) -> Any:
        """Return a connection that is open. Raise redis.exceptions.TimeoutError."""
        try:
            async with asyncio.timeout(CONNECTION_SECONDS):
                return await super().get_connection(*arguments, **named)  # type: ignore[no-untyped-call]
        except builtins.TimeoutError as error:
            raise TimeoutError(f"no connection within {CONNECTION_SECONDS:g} s") from error


@contextlib.asynccontextmanager
async def open_redis(url: str, answer_seconds: float = ANSWER_SECONDS) -> AsyncIterator[Redis]:
    """Open a pool; it connects when first used and reconnects by itself.

    A command raises `redis.exceptions.RedisError` within about a second without a server, and
    after `answer_seconds` from one that does not answer. A command whose reply is lost is sent
    again. A blocking read must wait less than `answer_seconds`.
    """
    pool = _Pool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=CONNECTION_SECONDS,
        socket_connect_timeout=CONNECTION_SECONDS,
        socket_timeout=answer_seconds,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.3), RETRIES, (ConnectionError,)),
    )
    client = Redis.from_pool(pool)
    try:
        yield client
    finally:
        await client.aclose()
