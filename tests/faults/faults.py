"""The faults: each does its harm, lets it last, and has everything run again when it returns."""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable

from tests.faults.system import System, open_client

Fault = Callable[[System, random.Random], Awaitable[None]]

# Redis and MongoDB stand still for this long [s]; the long form takes 10.
FREEZE_SECONDS = float(os.environ.get("RT_FAULT_FREEZE", "2.5"))
OUTAGE_SECONDS = (0.1, 0.8)


async def kill_redis(system: System, rng: random.Random) -> None:
    """Kill Redis and start it on what it had written."""
    await system.redis_server.kill()
    await asyncio.sleep(rng.uniform(*OUTAGE_SECONDS))
    await system.redis_server.restart()


async def freeze_redis(system: System, _: random.Random) -> None:
    """Let Redis stand still for a while."""
    system.redis_server.freeze()
    await asyncio.sleep(FREEZE_SECONDS)
    system.redis_server.thaw()
    await system.redis_server.ready()


async def cut_subscriptions(system: System, rng: random.Random) -> None:
    """Cut every subscription connection, some times one after another."""
    await _cut(system, rng, ["TYPE", "PUBSUB"])


async def cut_connections(system: System, rng: random.Random) -> None:
    """Cut every connection to Redis, some times one after another."""
    await _cut(system, rng, ["TYPE", "PUBSUB"], ["TYPE", "NORMAL", "SKIPME", "YES"])


async def _cut(system: System, rng: random.Random, *which: list[str]) -> None:
    async with open_client(system.redis_server.url) as redis:
        for _ in range(rng.randint(1, 4)):
            for one in which:
                await redis.execute_command("CLIENT", "KILL", *one)  # type: ignore[no-untyped-call]
            await asyncio.sleep(rng.uniform(0, 0.3))


async def kill_mongodb(system: System, rng: random.Random) -> None:
    """Kill MongoDB and start it on what it had written."""
    await system.mongodb.kill()
    await asyncio.sleep(rng.uniform(*OUTAGE_SECONDS))
    await system.mongodb.restart()


async def freeze_mongodb(system: System, _: random.Random) -> None:
    """Let MongoDB stand still for a while."""
    system.mongodb.freeze()
    await asyncio.sleep(FREEZE_SECONDS)
    system.mongodb.thaw()
    await system.mongodb.ready()


async def kill_server(system: System, rng: random.Random) -> None:
    """Kill one server and start it again."""
    server = rng.choice(system.servers)
    await server.kill()
    await asyncio.sleep(rng.uniform(*OUTAGE_SECONDS))
    await server.restart()


async def freeze_server(system: System, rng: random.Random) -> None:
    """Let one server stand still, its subscription cut meanwhile."""
    server = rng.choice(system.servers)
    server.freeze()
    await cut_subscriptions(system, rng)
    await asyncio.sleep(rng.uniform(*OUTAGE_SECONDS))
    server.thaw()
    await server.ready()


async def roll_servers(system: System, _: random.Random) -> None:
    """Stop and start every server, one after another, as a deployment does."""
    for server in tuple(system.servers):
        assert await server.stop() == 0
        await server.restart()


async def kill_worker(system: System, rng: random.Random) -> None:
    """Kill one worker and start it again."""
    worker = rng.choice(system.workers)
    await worker.kill()
    worker.start()


async def freeze_worker(system: System, rng: random.Random) -> None:
    """Let one worker stand still past its leases."""
    worker = rng.choice(system.workers)
    worker.freeze()
    await asyncio.sleep(FREEZE_SECONDS)
    worker.thaw()


async def flush_redis(system: System, _: random.Random) -> None:
    """Delete all that Redis has."""
    async with open_client(system.redis_server.url) as redis:
        await redis.flushall()


async def empty_redis(system: System, _: random.Random) -> None:
    """Kill Redis and start it with nothing, as a failover to an empty replica does."""
    await system.redis_server.kill()
    system.redis_server.empty()
    await system.redis_server.restart()


# These lose tasks by their nature.
LOSING: list[Fault] = [flush_redis, empty_redis]
# These end servers.
ENDING: list[Fault] = [kill_server, roll_servers]
ALL: list[Fault] = [
    *LOSING,
    *ENDING,
    kill_redis,
    freeze_redis,
    cut_subscriptions,
    cut_connections,
    kill_mongodb,
    freeze_mongodb,
    freeze_server,
    kill_worker,
    freeze_worker,
]


def name_of(fault: Fault) -> str:
    """Return the name of a fault."""
    return str(getattr(fault, "__name__", fault))
