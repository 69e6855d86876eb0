"""Several server processes over one port.

Each is a whole server on the same stores. They listen on the port by SO_REUSEPORT (socket(7)), and
the kernel spreads new connections over them. We serve nobody: we keep the port, the embedded stores
if there are any, and the processes.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from settings import METRICS_FOLDER, Settings, environment_with, stop_seconds
from tornado_rt.address import bind_address
from tornado_rt.children import STOP_SECONDS, ChildProcess
from tornado_rt.metrics import shared_folder
from tornado_rt.stores import StoreAddresses, open_stores

Address = tuple[socket.AddressFamily, Any]


@contextlib.asynccontextmanager
async def running_processes(settings: Settings, command: Sequence[str]) -> AsyncIterator[int]:
    """Run `settings.processes` servers until the block ends; yield their port.

    `command` starts one when options are added. The first has to start before the others do. Raise
    StoreError, CannotListen, DidNotStart when the first one fails.
    """
    async with contextlib.AsyncExitStack() as stack:
        addresses = stack.enter_context(_held_port(settings))
        port: int = addresses[0][1][1]
        stores = await stack.enter_async_context(open_stores(settings))
        common = [*command, "--port", str(port)]
        # Not on the command line, which everybody on the machine may read.
        environment = environment_with(**_store_settings(settings, stores))
        environment[METRICS_FOLDER] = stack.enter_context(shared_folder())
        children: list[ChildProcess] = []
        stack.push_async_callback(_stop, children, settings)
        for number in range(1, settings.server.processes + 1):
            child = ChildProcess(
                f"process {number}",
                [*common, "--process", str(number)],
                # Until the first one listens nobody does.
                lambda: _listens(*addresses[0]),
                environment=environment,
            )
            children.append(child)
            await child.start()
        yield port


async def _stop(children: list[ChildProcess], settings: Settings) -> None:
    seconds = stop_seconds(settings) + STOP_SECONDS
    await asyncio.gather(*(child.stop(seconds) for child in children))


def _store_settings(settings: Settings, stores: StoreAddresses) -> dict[str, str]:
    # The children read configured addresses themselves.
    urls = {
        "redis_url": "" if settings.stores.redis_url else stores.redis_url,
        "mongodb_url": "" if settings.stores.mongodb_url else stores.mongodb_url,
    }
    return {name: url for name, url in urls.items() if url}


@contextlib.contextmanager
def _held_port(settings: Settings) -> Iterator[list[Address]]:
    """Keep the port, also while none of ours listens. Raise CannotListen."""
    # Without SO_REUSEPORT, which would let us share the port of any server that has set it.
    with contextlib.ExitStack() as probes:
        found = [
            probes.enter_context(one)
            for one in bind_address(settings.server.host, settings.server.port)
        ]
        addresses = [(one.family, one.getsockname()) for one in found]
    with contextlib.ExitStack() as held:
        for family, address in addresses:
            _hold(held.enter_context(socket.socket(family)), address)
        yield addresses


def _hold(sock: socket.socket, address: Any) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    # A socket that does not listen gets no connections.
    sock.bind(address)


async def _listens(family: socket.AddressFamily, address: Any) -> bool:
    with socket.socket(family) as probe:
        probe.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(probe, address)
        except OSError:
            return False
    return True
