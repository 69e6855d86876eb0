"""The cost of a waiting worker: the CPU time of a real `run.py worker` with nothing to do."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from redis import Redis

from tornado_rt.protocol import WORKERS

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 20.0
START_SECONDS = 30.0


def measure(url: str) -> float | None:
    """Return the CPU seconds that a waiting worker takes a second; None without `/proc`."""
    with Redis.from_url(url) as redis, tempfile.TemporaryDirectory() as folder:
        redis.flushall()
        env = {name: value for name, value in os.environ.items() if not name.startswith("RT_")}
        # Nothing listens there: a worker has no business with MongoDB.
        env |= {"RT_REDIS_URL": url, "RT_MONGODB_URL": "mongodb://127.0.0.1:9/"}
        env |= {"RT_DATA_DIR": folder, "RT_LOG_LEVEL": "ERROR"}
        worker = subprocess.Popen([sys.executable, "run.py", "worker"], cwd=ROOT, env=env)
        try:
            _wait_until_it_waits(redis)
            return _cpu_while_idle(worker.pid)
        finally:
            worker.terminate()
            worker.wait()


def _wait_until_it_waits(redis: Redis) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not dict(redis.pubsub_numsub(f"rt:{WORKERS}")).get(f"rt:{WORKERS}".encode()):
        if time.monotonic() > deadline:
            raise TimeoutError("the worker did not start")
        time.sleep(0.1)
    # Its first claim and upkeep are not waiting yet.
    time.sleep(2)


def _cpu_while_idle(pid: int) -> float | None:
    before = _cpu_seconds(pid)
    time.sleep(SECONDS)
    after = _cpu_seconds(pid)
    return None if before is None or after is None else (after - before) / SECONDS


def _cpu_seconds(pid: int) -> float | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def describe(share: float | None) -> list[str]:
    """Return the lines of the report."""
    if share is None:
        return ["What a waiting worker costs was not measured: there is no `/proc`."]
    return [f"A waiting `run.py worker`: {share:.2%} of a core ({SECONDS:.0f} s)."]
