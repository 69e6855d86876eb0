"""The numbers that bound and pace connections, some of them changeable while they are open."""

import ipaddress
import time
from collections import OrderedDict
from typing import Any

import attrs

from settings import DAY_SECONDS, MOST_CONNECTIONS_PER_USER, Settings, default
from tornado_rt.bounds import number_of

BUCKETS = 10_000
# Key of a field's metadata: the setting that it starts from.
STARTS_FROM = "starts_from"


def _seconds(seconds: float, least: float = 0.0) -> Any:
    return attrs.field(default=seconds, validator=number_of(least, DAY_SECONDS))


def _starting_from(setting: str, most: float = DAY_SECONDS) -> Any:
    bounds, metadata = number_of(0, most), {STARTS_FROM: setting}
    return attrs.field(default=default(setting), validator=bounds, metadata=metadata)


@attrs.frozen(kw_only=True)
class SystemSettings:
    """Paces and bounds of open connections that an admin may change; in seconds, 0 is none.

    The names are those of the system that this API comes from. Streams here are pushed to; the two
    poll intervals say how often what they follow is compared with its log.
    """

    sse_poll_timeout_seconds: float = _seconds(1.0, 0.1)
    sse_heartbeat_interval_seconds: float = _starting_from("sse_heartbeat_seconds")
    sse_task_max_idle_seconds: float = _seconds(300.0)
    sse_batch_poll_interval_seconds: float = _seconds(2.0, 0.1)
    sse_batch_max_idle_seconds: float = _seconds(600.0)
    ws_heartbeat_interval_seconds: float = _starting_from("ws_heartbeat_seconds")
    ws_max_connections_per_user: int = _starting_from(
        "max_connections_per_user", MOST_CONNECTIONS_PER_USER
    )

    @classmethod
    def of(cls, settings: Settings) -> "SystemSettings":
        """Return them as they are before anybody changed one."""
        starts = {one.name: one.metadata.get(STARTS_FROM) for one in attrs.fields(cls)}
        return cls(**{name: settings.value(source) for name, source in starts.items() if source})


@attrs.define
class Limits:
    """Bounds; 0 means none, durations are seconds, sizes bytes. `live`: those that change."""

    live: SystemSettings
    per_address: int = 0
    total: int = 0
    pending_bytes: int = 0
    messages_per_second: float = 0.0
    peer_timeout: float = 0.0


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
