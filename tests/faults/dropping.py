"""Every way in which event streams are opened and dropped; nothing must be left of them."""

import asyncio
import functools
import random
import time
from collections.abc import Awaitable, Callable, Container

from tests.faults.crowd import SSE, WS, Crowd
from tests.faults.raw import reset_at_close, vanish
from tests.faults.system import Footprint, Server, System
from tests.peers import Peers, Streams, request, upgrade
from tests.waiting import until

# Number of connections that are open at once.
WAVE = 60
DROPPER = "dropper"
DROPPED_SECONDS = 30.0


async def open_stream(peers: Peers, server: Server, token: str) -> Streams:
    """Open an event stream of notifications; return when it has begun."""
    reader, writer = await peers.connect(server.port)
    writer.write(request(SSE, token))
    await reader.readuntil(b"event: connected")
    return reader, writer


async def held(system: System, ports: Container[int]) -> tuple[int, int]:
    """Return how many connections the servers count, and how many sockets of peers at ports."""
    connections = await system.connections()
    return connections, sum(server.client_sockets(ports) for server in system.servers)


async def has_none(system: System, user: str) -> bool:
    """Say whether no connection of a user is open."""
    found = await asyncio.gather(*map(system.stats, system.servers))
    return not any(user in stats["users"] for stats in found)


class Droppers:
    """Every way in which an event stream is opened and dropped."""

    def __init__(self, system: System, peers: Peers, task_id: str) -> None:
        self._peers = peers
        self._finished = f"/api/tasks/{task_id}"
        self._token = system.token(DROPPER)

    @property
    def ways(self) -> list[Callable[[Server], Awaitable[None]]]:
        """Return them all."""
        return [
            self.close,
            self.close_half,
            self.reset,
            self.vanish,
            self.drop_in_the_head,
            self.reset_at_once,
            self.drop_in_the_handshake,
            self.be_ended,
            self.be_refused,
        ]

    async def close(self, server: Server) -> None:
        """Close as a client does that has had enough."""
        _, writer = await self._open(server)
        writer.close()

    async def close_half(self, server: Server) -> None:
        """Send no more but read on; the server ends it."""
        reader, writer = await self._open(server)
        writer.write_eof()
        await reader.read()
        writer.close()

    async def reset(self, server: Server) -> None:
        """Reset the connection."""
        _, writer = await self._open(server)
        reset_at_close(writer.get_extra_info("socket"))
        writer.transport.abort()

    async def vanish(self, server: Server) -> None:
        """Be gone without a word."""
        _, writer = await self._open(server)
        vanish(writer.get_extra_info("socket"))

    async def drop_in_the_head(self, server: Server) -> None:
        """Leave in the middle of the request."""
        _, writer = await self._peers.connect(server.port)
        writer.write(request(SSE, self._token)[:-10])
        await writer.drain()
        writer.close()

    async def reset_at_once(self, server: Server) -> None:
        """Ask, and reset before the answer."""
        _, writer = await self._peers.connect(server.port)
        writer.write(request(SSE, self._token))
        await writer.drain()
        reset_at_close(writer.get_extra_info("socket"))
        writer.transport.abort()

    async def drop_in_the_handshake(self, server: Server) -> None:
        """Ask for a WebSocket, and leave before the answer."""
        _, writer = await self._peers.connect(server.port)
        writer.write(upgrade(WS, self._token))
        await writer.drain()
        writer.transport.abort()

    async def be_ended(self, server: Server) -> None:
        """Follow a task that has ended; the server ends it."""
        reader, writer = await self._peers.connect(server.port)
        writer.write(request(self._finished, self._token))
        assert b"event: finished" in await reader.read()
        writer.close()

    async def be_refused(self, server: Server) -> None:
        """Ask for what is not there."""
        reader, writer = await self._peers.connect(server.port)
        writer.write(request("/api/tasks/none", self._token, "Connection: close"))
        assert b"404" in (await reader.read()).splitlines()[0]
        writer.close()

    async def refused_without_redis(self, server: Server) -> None:
        """Ask while Redis stands still."""
        reader, writer = await self._peers.connect(server.port)
        writer.write(request(SSE, self._token, "Connection: close"))
        assert b"503" in await reader.readline()
        await reader.read()
        writer.close()

    async def _open(self, server: Server) -> Streams:
        return await open_stream(self._peers, server, self._token)


async def drop_streams(system: System, rng: random.Random, count: int) -> None:
    """Open and drop this many, and some more while Redis stands still; return when all are gone."""
    # A process that has just lost a store refuses.
    await asyncio.gather(*(server.ready() for server in system.servers))
    async with Crowd(system, rng, users=0) as crowd:
        task_id = await crowd.submit(0.05, DROPPER)
        await until(crowd.complete, what="the task has ended")
    async with Peers() as peers:
        droppers = Droppers(system, peers, task_id)
        for _ in range(0, count, WAVE):
            ways = rng.choices(droppers.ways, k=WAVE)
            await asyncio.gather(*(way(rng.choice(system.servers)) for way in ways))
        all_dropped = functools.partial(has_none, system, DROPPER)
        await until(all_dropped, DROPPED_SECONDS, "all are dropped")
        system.redis_server.freeze()
        refused = droppers.refused_without_redis
        await asyncio.gather(*(refused(rng.choice(system.servers)) for _ in range(WAVE)))
        system.redis_server.thaw()
        await system.redis_server.ready()


async def at_rest(system: System, wanted: Footprint | None = None) -> tuple[Footprint, int]:
    """Return the footprint when it is as wanted, or all are up and it does not change any more."""
    found = await system.footprint()
    deadline = time.monotonic() + DROPPED_SECONDS
    while time.monotonic() < deadline:
        previous, found = found, await system.footprint()
        all_up = found.pubsub_connections == len(system.servers) + len(system.workers)
        if found == (wanted or previous) and (wanted or all_up):
            break
        await asyncio.sleep(0.2)
    return found, await system.descriptors()
