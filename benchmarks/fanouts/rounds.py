"""Measurements that every server gets alike."""

import time
from typing import Any

from benchmarks.fanouts.load import LoadClient, Transport
from benchmarks.fanouts.servers import Need, Start, Target

# More than the handshakes that are under way at once, whose memory stays.
WARM_CONNECTIONS = 200
SETTLE_SECONDS = 1.0
# The slowest of the compared servers delivers ten times as many.
SLOWEST_PER_SECOND = 1000
SPARE_SECONDS = 20.0
# Between two messages that are timed, so that the server is idle when the next one comes.
PAUSE_SECONDS = 0.01


def measure(start: Start, need: Need, transport: Transport, messages: int) -> dict[str, float]:
    """Start a server and measure it over one transport. Raise Failed."""
    with start(need) as target:
        warm(target, transport)
        before = target.memory()
        with target.connect(transport, need.connections) as client:
            time.sleep(SETTLE_SECONDS)
            idle = (target.memory() - before) / need.connections
            burst = _burst(target, client, need.connections, messages)
            paced = paced_broadcasts(target, client, need.connections, messages)
            return {
                "rate": burst["messages"] / burst["seconds"],
                "p50": paced["p50"],
                "p99": paced["p99"],
                "memory": idle,
                "connects": need.connections / client.opening_seconds,
                "size": burst["text_bytes"] / burst["messages"],
                "client": burst["client_seconds"] / burst["seconds"],
            }


def warm(target: Target, transport: Transport) -> None:
    """Have what is loaded or made once loaded and made."""
    with target.connect(transport, WARM_CONNECTIONS) as client:
        target.publisher.publish()
        client.wait(WARM_CONNECTIONS, SPARE_SECONDS)
    time.sleep(SETTLE_SECONDS)


def patience(deliveries: int) -> float:
    """Return the longest wait for this many messages [s]."""
    return SPARE_SECONDS + deliveries / SLOWEST_PER_SECOND


def paced_broadcasts(
    target: Target, client: LoadClient, connections: int, messages: int
) -> dict[str, Any]:
    """Publish each message when all have got the one before; return the client's stats."""
    client.reset()
    for number in range(1, messages + 1):
        time.sleep(PAUSE_SECONDS)
        target.publisher.publish()
        client.wait(connections * number, patience(connections))
    return client.stats()


def _burst(target: Target, client: LoadClient, connections: int, messages: int) -> dict[str, Any]:
    """Publish as fast as the server takes messages; return stats, and the client's time [s]."""
    client.reset()
    used = client.cpu_seconds()
    for _ in range(messages):
        target.publisher.publish()
    client.wait(connections * messages, patience(connections * messages))
    return {"client_seconds": client.cpu_seconds() - used, **client.stats()}
