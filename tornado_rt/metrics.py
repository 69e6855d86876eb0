"""The counters of a process, in Prometheus form."""

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.registry import Collector

METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def method_label(method: str | None) -> str:
    """Return the label of a method: a client's own word would be a time series."""
    return method if method in METHODS else "other"


@attrs.define
class Tally:
    """Counts of messages: plain numbers, read when somebody asks.

    A client library's counter costs as much as a tenth of a delivery.
    """

    delivered: int = 0
    bytes: int = 0
    conflated: int = 0
    dropped: int = 0
    closed_slow: int = 0


class Metrics:
    """The counters of one process, in a registry of their own so that each test has fresh ones."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.tally = Tally()
        self.refused = Counter(
            "rt_connections_refused", "Connections over a limit", ["limit"], registry=registry
        )
        self.degraded = Counter(
            "rt_publish_degraded", "Messages that reached only this process", registry=registry
        )
        self.resyncs = Counter(
            "rt_backplane_gaps", "Topics whose subscription was renewed", registry=registry
        )
        self.log_gaps = Counter(
            "rt_log_gaps", "Topics found to be behind their log", registry=registry
        )
        self.backplane_up = Gauge(
            "rt_backplane_up", "1 while the Redis subscription is alive", registry=registry
        )
        self.requests = Counter(
            "rt_http_requests", "HTTP answers", ["method", "status"], registry=registry
        )

        self.set_aside = Counter(
            "rt_outbox_set_aside", "Ends of tasks that could not be told", registry=registry
        )
        self.callbacks = Counter(
            "rt_callbacks", "Callbacks by what became of them", ["outcome"], registry=registry
        )

    def register(self, collector: Collector) -> None:
        """Have a scrape ask this one too."""
        self._registry.register(collector)

    def render(self) -> bytes:
        """Return the text exposition format 0.0.4."""
        return generate_latest(self._registry)
