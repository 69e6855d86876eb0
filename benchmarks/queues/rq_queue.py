"""No-op jobs through RQ, whose worker runs one at a time; without its fork for each job."""

import sys
import time

from redis import Redis
from rq import Queue, SimpleWorker

from benchmarks.queues import report


def no_op() -> None:
    """Do nothing."""


def main(url: str, jobs: int) -> None:
    """Enqueue all, then process all."""
    redis = Redis.from_url(url)
    queue = Queue(connection=redis)
    began = time.perf_counter()
    for _ in range(jobs):
        queue.enqueue("benchmarks.queues.rq_queue.no_op")
    enqueued = time.perf_counter()
    worker = SimpleWorker([queue], connection=redis)
    worker.work(burst=True, logging_level="ERROR")
    processed = time.perf_counter()
    assert queue.finished_job_registry.count == jobs
    report(jobs, enqueued - began, processed - enqueued)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
