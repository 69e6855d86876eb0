"""How this product connects to Redis: bounded connections, quick to give up, quick to return."""

import contextlib
from collections.abc import AsyncIterator

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError

CONNECTIONS = 64
# Whoever asks while Redis stands still has his refusal in less than 2 s.
WAIT_SECONDS = 0.5
ANSWER_SECONDS = 1.2
# A maintenance command may take long over a large queue.
MAINTENANCE_SECONDS = 60.0
RETRIES = 2


@contextlib.asynccontextmanager
async def open_redis(url: str, answer_seconds: float = ANSWER_SECONDS) -> AsyncIterator[Redis]:
    """Open a pool; it connects when first used and reconnects by itself.

    A command raises `redis.exceptions.RedisError` within about a second without a server, and
    after `answer_seconds` from one that does not answer. A command whose reply is lost is sent
    again. A blocking read must wait less than `answer_seconds`.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=WAIT_SECONDS,
        socket_connect_timeout=1.0,
        socket_timeout=answer_seconds,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.3), RETRIES, (ConnectionError,)),
    )
    client = Redis.from_pool(pool)
    try:
        yield client
    finally:
        await client.aclose()
