"""Questions for this product alone: one user among very many, fairness, the cost of heartbeats."""

import json
import statistics
import threading
import time
from http.client import HTTPConnection
from typing import Any

import attrs
from redis import Redis

from benchmarks.fanouts.load import LoadClient, Transport
from benchmarks.fanouts.publishers import HttpPublisher, Publisher, notification
from benchmarks.fanouts.rounds import SETTLE_SECONDS, SPARE_SECONDS, paced_broadcasts, warm
from benchmarks.fanouts.servers import Need, Target, running_ours, user
from benchmarks.programs import Failed, token
from tornado_rt.protocol import Message, MessageType, channel, user_topic
from tornado_rt.stores import running_addresses

NOTIFICATIONS = 300
# Interval of the concurrent request [s]: a probe, not a load.
PROBE_SECONDS = 0.005
BASELINE_SECONDS = 10.0


@attrs.frozen
class Large:
    """Durations in seconds; shares of one core."""

    transport: Transport
    connections: int
    connects: float
    memory: float
    empty_share: float
    silent_share: float
    heartbeat_share: float
    through_http: dict[str, float]
    through_redis: dict[str, float]
    healthz_alone: dict[str, float]
    healthz_broadcast: dict[str, float]
    broadcast: dict[str, float]


def measure(need: Need, transport: Transport, messages: int, idle_seconds: float) -> Large:
    """Start this product and measure it with very many connections. Raise Failed."""
    with running_ours(need) as target:
        warm(target, transport)
        before = target.memory()
        alone = _cpu_share(target, min(BASELINE_SECONDS, idle_seconds))
        with target.connect(transport, need.connections) as client:
            time.sleep(SETTLE_SECONDS)
            memory = (target.memory() - before) / need.connections
            beating = _cpu_share(target, idle_seconds)
            _stop_heartbeats(target)
            silent = _cpu_share(target, idle_seconds)
            # The server has closed it meanwhile; it is opened anew.
            target.publisher.close()
            chosen = user(need.connections // 2)
            http, redis = _by_http(target, chosen), _ByRedis(target, chosen)
            return Large(
                transport,
                need.connections,
                need.connections / client.opening_seconds,
                memory,
                alone,
                silent,
                beating,
                _to_one(http, client),
                _to_one(redis, client),
                _probe_alone(target),
                *_probe_during_broadcasts(target, client, need.connections, messages),
            )


def _stop_heartbeats(target: Target) -> None:
    """Change the settings as an admin does. Raise Failed."""
    changes = {f"{kind}_heartbeat_interval_seconds": 0 for kind in ("ws", "sse")}
    connection = HTTPConnection("127.0.0.1", target.port, timeout=SPARE_SECONDS)
    headers = {"Authorization": f"Bearer {token('publisher', 'rt:admin')}"}
    connection.request("PUT", "/api/settings", json.dumps(changes), headers)
    status = connection.getresponse().status
    connection.close()
    if status != 200:
        raise Failed(f"/api/settings answered {status}")


class _ByRedis:
    """Publishes where the service would, without its write to MongoDB."""

    def __init__(self, target: Target, user_id: str) -> None:
        assert target.data_dir is not None
        self._redis = Redis.from_url(running_addresses(target.data_dir).redis_url)
        self._channel = channel(user_topic(user_id))

    def publish(self) -> None:
        data = {"type": "system", "title": "fan-out", "sent_ns": time.monotonic_ns()}
        message = Message.of(MessageType.NOTIFICATION, data)
        self._redis.publish(self._channel, message.encode())

    def close(self) -> None:
        self._redis.close()


def _by_http(target: Target, user_id: str) -> Publisher:
    def compose() -> str:
        return notification(user_id=user_id)

    path, sender = "/api/notifications", token("publisher", "rt:publish")
    return HttpPublisher(target.port, path, compose, sender)


def _to_one(publisher: Publisher, client: LoadClient) -> dict[str, float]:
    """Publish to the one user, each when the one before has come."""
    client.reset()
    for number in range(1, NOTIFICATIONS + 1):
        publisher.publish()
        client.wait(number, SPARE_SECONDS)
    publisher.close()
    return _quantiles_of(client.stats())


def _cpu_share(target: Target, seconds: float) -> float:
    """Return which share of a core the server uses while nothing is asked of it."""
    used, began = target.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (target.cpu_seconds() - used) / (time.monotonic() - began)


def _probe_alone(target: Target) -> dict[str, float]:
    with _Probe(target) as probe:
        time.sleep(2)
    return probe.quantiles()


def _probe_during_broadcasts(
    target: Target, client: LoadClient, connections: int, messages: int
) -> tuple[dict[str, float], dict[str, float]]:
    with _Probe(target) as probe:
        stats = paced_broadcasts(target, client, connections, messages)
    return probe.quantiles(), _quantiles_of(stats)


class _Probe:
    """Asks for `/healthz` again and again, on one connection, and keeps how long each took."""

    def __init__(self, target: Target) -> None:
        self._connection = HTTPConnection("127.0.0.1", target.port, timeout=SPARE_SECONDS)
        self._seconds: list[float] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "_Probe":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        self._connection.close()

    def quantiles(self) -> dict[str, float]:
        """Return p50, p99 and the longest [s]."""
        cuts = statistics.quantiles(self._seconds, n=100, method="inclusive")
        return {"p50": cuts[49], "p99": cuts[98], "max": max(self._seconds)}

    def _run(self) -> None:
        while not self._ended.wait(PROBE_SECONDS):
            began = time.monotonic()
            self._connection.request("GET", "/healthz")
            self._connection.getresponse().read()
            self._seconds.append(time.monotonic() - began)


def _quantiles_of(stats: dict[str, Any]) -> dict[str, float]:
    return {name: float(stats[name]) for name in ("p50", "p99", "max")}
