"""What the process counts, in Prometheus form."""

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest


class Metrics:
    """The counters of one process, in a registry of their own so that each test has fresh ones."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.connections = Gauge(
            "rt_connections", "Open sockets and streams", ["transport"], registry=registry
        )
        self.delivered = Counter(
            "rt_messages_delivered", "Messages written to subscribers", registry=registry
        )
        self.delivered_bytes = Counter(
            "rt_bytes_delivered", "Bytes written to subscribers", registry=registry
        )
        self.closed_slow = Counter(
            "rt_closed_slow", "Connections closed as too slow", registry=registry
        )
        self.refused = Counter(
            "rt_connections_refused", "Connections over a limit", ["limit"], registry=registry
        )
        self.degraded = Counter(
            "rt_publish_degraded", "Messages that reached only this process", registry=registry
        )
        self.resyncs = Counter(
            "rt_backplane_gaps", "Topics whose subscription was renewed", registry=registry
        )
        self.backplane_up = Gauge(
            "rt_backplane_up", "1 while the Redis subscription is alive", registry=registry
        )
        self.requests = Counter(
            "rt_http_requests", "HTTP answers", ["method", "status"], registry=registry
        )

    def render(self) -> bytes:
        """Return the text exposition format 0.0.4."""
        return generate_latest(self._registry)
