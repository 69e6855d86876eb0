"""Metrics that show nothing: a worker of deliveries must not count as one of the users' tasks."""

from prometheus_client import CollectorRegistry, Counter

from tornado_rt.metrics import Metrics


class Uncounted(Metrics):
    """The counts of a worker, in a registry that nobody renders."""

    def __init__(self) -> None:
        # Under a name of its own: processes that share a folder mix counters of one name.
        self.progress_writes = Counter(
            "rt_delivery_reports", "Reports of deliveries", registry=CollectorRegistry()
        )

    def task_ended(self, kind: str, outcome: str, wait_seconds: float, run_seconds: float) -> None:
        """Count nothing."""

    def task_lost(self, kind: str, outcome: str) -> None:
        """Count nothing."""
