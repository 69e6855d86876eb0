"""Redis as it is run on many machines: a cluster, a master under Sentinel, a server with TLS.

Real redis-server processes on loopback, so set up that a failover takes about a second.
"""

import asyncio
import contextlib
import functools
import os
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.faults.system import START_SECONDS, Child, System, open_client
from tests.ports import free_bus_port, free_port, is_free
from tests.waiting import until
from tornado_rt.stores import find_redis_server

SLOTS = 16384
MASTERS = 3
NODE_TIMEOUT_MS = 1000
SENTINELS = 3
QUORUM = 2
SERVICE = "rt"
JOINED_SECONDS = 40.0
FAILOVER_SECONDS = 15.0


class Node(Child):
    """One redis-server on a port of its own, without a disk."""

    def __init__(self, name: str, folder: Path, port: int, *options: str) -> None:
        self.port = port
        files = folder / name
        files.mkdir()
        command = [
            *(find_redis_server(), *options, "--port", str(port), "--bind", "127.0.0.1"),
            *("--dir", str(files), "--save", "", "--appendonly", "no"),
        ]
        super().__init__(name, command, folder, {})

    @property
    def address(self) -> str:
        """Its host and port."""
        return f"127.0.0.1:{self.port}"

    async def id(self) -> str:
        """Return what it is called in its cluster."""
        name: bytes = await self.ask("CLUSTER", "MYID")
        return name.decode()

    async def ask(self, *command: str | int) -> Any:
        """Send it one command."""
        async with open_client(f"redis://{self.address}") as client:
            return await client.execute_command(*command)

    async def ready(self) -> None:
        """Wait until it answers."""
        await until(self._answers, START_SECONDS, f"{self.name} answers")

    async def listening(self) -> None:
        """Wait until it takes connections; it may want a password before it answers."""
        await until(lambda: not is_free(self.port), START_SECONDS, f"{self.name} listens")

    async def _answers(self) -> bool:
        assert self.running, self.log.read_text()
        with contextlib.suppress(RedisError, OSError):
            return bool(await self.ask("PING"))
        return False


class Nodes:
    """Some servers that belong together."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = list(nodes)

    async def start(self) -> None:
        """Start all and wait until each answers."""
        for node in self.nodes:
            node.start()
        await asyncio.gather(*(node.ready() for node in self.nodes))

    async def end(self) -> None:
        """Kill all."""
        for node in self.nodes:
            if node.running:
                os.kill(node.pid, signal.SIGKILL)
                await node.ended()

    def addresses(self) -> str:
        """All addresses, as a URL lists them."""
        return ",".join(node.address for node in self.nodes)


class ClusterNodes(Nodes):
    """Three masters with a replica each."""

    def __init__(self, folder: Path) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS))
        super().__init__(
            [Node(f"node{n}", folder, free_bus_port(), *options) for n in range(2 * MASTERS)]
        )

    @property
    def url(self) -> str:
        """Where clients find it: any of its nodes."""
        return f"redis+cluster://{self.addresses()}"

    async def start(self) -> None:
        """Start all and join them."""
        await super().start()
        masters = self.nodes[:MASTERS]
        for number, node in enumerate(masters):
            await node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            first, end = number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS
            await node.ask("CLUSTER", "ADDSLOTS", *range(first, end))
        for node in self.nodes[1:]:
            await node.ask("CLUSTER", "MEET", "127.0.0.1", masters[0].port)
        await self._until_all(lambda info: info["cluster_known_nodes"] == str(len(self.nodes)))
        for replica, master in zip(self.nodes[MASTERS:], masters, strict=True):
            await replica.ask("CLUSTER", "REPLICATE", await master.id())
        await self._until_all(lambda info: info["cluster_state"] == "ok")
        for replica in self.nodes[MASTERS:]:
            await until(functools.partial(is_synced, replica), JOINED_SECONDS, "replicas have all")

    async def owner(self, key: str, but: Node | None = None) -> Node:
        """Return the master of a key's slot, as a live node sees it that is none of `but`.

        While a slot is handed over a node may know of none for a moment.
        """
        slot = key_slot(key.encode())
        found = functools.partial(self._owner_of, slot, but)
        return await until(found, JOINED_SECONDS, f"somebody has slot {slot}")

    async def _owner_of(self, slot: int, but: Node | None) -> Node | None:
        witness = next(node for node in self.nodes if node.running and node is not but)
        for first, last, master, *_ in await witness.ask("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == master[1])
        return None

    async def next_owner(self, key: str, old: Node) -> Node:
        """Wait until a key's slot has another master; return it."""

        async def is_taken_over() -> bool:
            return await self.owner(key, but=old) is not old

        await until(is_taken_over, FAILOVER_SECONDS, "another has taken over")
        return await self.owner(key, but=old)

    async def hand_over(self, master: Node, replica: Node) -> None:
        """Have a replica take over from a master that lives."""

        async def is_known() -> bool:
            # Else the master does not answer its request.
            known = await master.ask("CLUSTER", "REPLICAS", await master.id())
            named = any(line.split()[0].decode() == name for line in known)
            return named and await is_synced(replica)

        name = await replica.id()
        await until(is_known, JOINED_SECONDS, "the master knows its replica")
        await replica.ask("CLUSTER", "FAILOVER")

    async def begin_move(self, key: str, target: Node) -> Node:
        """Begin to move a key's slot to another master; return whose it is."""
        source, slot = await self.owner(key), key_slot(key.encode())
        await target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", await source.id())
        await source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", await target.id())
        return source

    async def end_move(self, key: str, source: Node, target: Node) -> None:
        """Move what is in the slot, and the slot."""
        slot = key_slot(key.encode())
        while keys := await source.ask("CLUSTER", "GETKEYSINSLOT", slot, 100):
            await source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
        for node in (target, source):
            await node.ask("CLUSTER", "SETSLOT", slot, "NODE", await target.id())

    async def _until_all(self, holds: Callable[[dict[str, str]], bool]) -> None:
        async def hold() -> bool:
            infos = [_fields(await node.ask("CLUSTER", "INFO")) for node in self.nodes]
            return all(map(holds, infos))

        await until(hold, JOINED_SECONDS, "the nodes are one cluster")


class SentinelNodes(Nodes):
    """A master, a replica, and three that watch them."""

    def __init__(self, folder: Path) -> None:
        self.master = Node("master", folder, free_port())
        self.replica = Node(
            "replica", folder, free_port(), "--replicaof", "127.0.0.1", str(self.master.port)
        )
        self.sentinels = [_sentinel(folder, number, self.master) for number in range(SENTINELS)]
        super().__init__([self.master, self.replica, *self.sentinels])

    @property
    def url(self) -> str:
        """Where clients find it: the sentinels."""
        hosts = ",".join(sentinel.address for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    async def start(self) -> None:
        """Start all and wait until they know each other."""
        await super().start()
        await until(self._is_whole, JOINED_SECONDS, "the sentinels know each other")

    async def _is_whole(self) -> bool:
        for sentinel in self.sentinels:
            others = await sentinel.ask("SENTINEL", "SENTINELS", SERVICE)
            replicas = await sentinel.ask("SENTINEL", "REPLICAS", SERVICE)
            if len(others) < SENTINELS - 1 or not replicas:
                return False
        return await is_synced(self.replica)


def _sentinel(folder: Path, number: int, master: Node) -> Node:
    # It rewrites its configuration, and takes what it watches from there only.
    name = f"sentinel{number}"
    file = folder / f"{name}.conf"
    file.write_text(
        f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} {QUORUM}\n"
        f"sentinel down-after-milliseconds {SERVICE} {NODE_TIMEOUT_MS}\n"
        f"sentinel failover-timeout {SERVICE} 5000\n"
    )
    return Node(name, folder, free_port(), str(file), "--sentinel")


class SharedSystem(System):
    """The product on such a Redis in place of a single server."""

    def __init__(self, make: Callable[[Path], ClusterNodes | SentinelNodes], **of: Any) -> None:
        super().__init__(**of)
        self._make = make

    async def _start(self) -> None:
        self.shared = self._make(self.folder)
        self._stack.push_async_callback(self.shared.end)
        await self.shared.start()
        self._environment["RT_REDIS_URL"] = self.shared.url
        self.mongodb.start()
        await self.mongodb.ready()
        for _ in range(self._counts[0]):
            self.add_server().start()
        for _ in range(self._counts[1]):
            self.add_worker()
        await asyncio.gather(*(server.ready() for server in self.servers))


async def is_synced(replica: Node) -> bool:
    """Say whether a replica has all that its master has."""
    return _fields(await replica.ask("INFO", "replication")).get("master_link_status") == "up"


def _fields(text: Any) -> dict[str, str]:
    if isinstance(text, dict):
        return {name: str(value) for name, value in text.items()}
    lines = text.decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


@contextlib.asynccontextmanager
async def tls_in_front(port: int, tls: ssl.SSLContext, at: int = 0) -> AsyncIterator[int]:
    """Take TLS connections for a server that has none, as stunnel does; yield where."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pass_on(reader, behind_writer), _pass_on(behind_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", at, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
