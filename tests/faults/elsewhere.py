"""A worker elsewhere, by the Python client: `python -m tests.faults.elsewhere URL TRANSPORT`."""

import logging
import os
import sys

from tests.faults.handler import kind
from tornado_rt_client import Worker


def main(url: str, transport: str) -> None:
    """Work until SIGTERM."""
    logging.basicConfig(level=logging.ERROR)
    token = os.environ["RT_TOKEN"]
    Worker(url, [kind], token=token, concurrency=4, grace_seconds=1.0, transport=transport).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
