"""The numbers that bound and pace connections, changeable while they are open."""

import ipaddress
import time
from collections import OrderedDict

import attrs

BUCKETS = 10_000


@attrs.define
class Limits:
    """Bounds and intervals; 0 means none, durations are seconds, sizes bytes."""

    ws_heartbeat: float
    sse_heartbeat: float
    task_idle: float
    batch_idle: float
    task_check: float
    batch_check: float
    per_user: int
    per_address: int
    total: int
    pending_bytes: int
    messages_per_second: float
    peer_timeout: float


class RateLimiter:
    """A token bucket for each key, refilled at `rate` per second and holding one second's worth."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, key: str) -> float:
        """Take a token; return 0, or in how many seconds there will be one."""
        if not self._rate:
            return 0.0
        now = time.monotonic()
        size = max(self._rate, 1.0)
        tokens, then = self._buckets.pop(key, (size, now))
        tokens = min(size, tokens + (now - then) * self._rate)
        granted = tokens >= 1
        self._buckets[key] = (tokens - granted, now)
        while len(self._buckets) > BUCKETS:
            self._buckets.popitem(last=False)
        return 0.0 if granted else (1 - tokens) / self._rate


@attrs.frozen
class AcceptBounds:
    """Bounds of the connections of a listener; 0 means none.

    `total` in all and `per_address`: those that are not yet, or not any more, a stream or a socket.
    `descriptors`: the number from which on no descriptor is a client's. `peer_timeout`: how long
    what was sent to a client may stay unacknowledged [s].
    """

    total: int = 0
    per_address: int = 0
    descriptors: int = 0
    peer_timeout: float = 0.0


def network_of(address: str) -> str:
    """Return the key that an address is counted by: itself, or the /64 of an IPv6 host."""
    if ":" not in address:
        return address
    try:
        whole = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(whole.ipv4_mapped or ipaddress.IPv6Network((int(whole) >> 64 << 64, 64)))
