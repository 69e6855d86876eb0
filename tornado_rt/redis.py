"""How this product connects to Redis: bounded connections, quick to give up, quick to return."""

import contextlib
from collections.abc import AsyncIterator

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError

CONNECTIONS = 64
WAIT_SECONDS = 5.0
ANSWER_SECONDS = 3.0
RETRIES = 2


@contextlib.asynccontextmanager
async def open_redis(url: str) -> AsyncIterator[Redis]:
    """Open a pool; it connects when first used and reconnects by itself.

    A command raises `redis.exceptions.RedisError` within about a second without a server, and
    after some seconds from one that does not answer. A command whose reply is lost is sent again. A
    blocking read must wait less than 3 s.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=WAIT_SECONDS,
        socket_connect_timeout=2.0,
        socket_timeout=ANSWER_SECONDS,
        retry=Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.3), RETRIES, (ConnectionError,)),
    )
    client = Redis.from_pool(pool)
    try:
        yield client
    finally:
        await client.aclose()
