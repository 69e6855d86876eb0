"""Ports that nobody listens at, and that no other process of the tests chooses meanwhile.

They are below the range from which the kernel takes ports for outgoing connections (ip(7)), one of
which could else sit on a port before its owner listens, or while it is down.
"""

import contextlib
import itertools
import os
import random
import socket
from collections.abc import Iterator

# Each process of pytest-xdist has a lane of its own.
LANE = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
# A node of a Redis cluster listens for its peers at its port and this.
BUS_OFFSET = 10000


def _lane(start: int, size: int) -> Iterator[int]:
    ports = range(start + LANE * size, start + (LANE + 1) * size)
    return itertools.cycle(random.sample(ports, size))


_PORTS = _lane(24000, 1000)
_BUS_PORTS = _lane(10000, 500)


def free_port() -> int:
    """Return a port, each time another one."""
    return next(filter(is_free, _PORTS))


def free_bus_port() -> int:
    """Return a port for a node of a cluster: the one for its peers is free too."""
    return next(port for port in _BUS_PORTS if is_free(port) and is_free(port + BUS_OFFSET))


def is_free(port: int) -> bool:
    """Say whether nobody listens at it."""
    with socket.socket() as probe, contextlib.suppress(OSError):
        probe.bind(("127.0.0.1", port))
        return True
    return False
