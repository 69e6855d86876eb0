"""`make bench-queue`: this queue beside SAQ, arq, RQ and BullMQ, on one Redis, in one run.

This one three times: with one kind and no limits, as the others are; with all that it has switched
on: four kinds with steps, five priorities, keys, limits and rates that hold nothing back; and by a
worker that has only the address of a server, with one kind.

    python -m benchmarks.queue [--jobs N] [--concurrency N] [--rounds N]

Each runs the same no-op job in a process of its own, from an environment of its own under
`.venv-bench/`, one after another, each round in another order. The table of medians and ratios goes
to `benchmarks/results/queue.md`.
"""

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from benchmarks import idle, latency, scale, tenants
from tornado_rt.stores import find_redis_server

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / ".venv-bench"
RATES = ("enqueue", "process")
RESULTS = ROOT / "benchmarks" / "results" / "queue.md"
PACKAGES = {
    # SAQ imports typing_extensions without asking for it.
    "saq": ["saq[redis,hiredis]~=0.26.4", "typing_extensions"],
    "arq": ["arq~=0.28.0"],
    "rq": ["rq~=3.0.0", "hiredis"],
}
BULLMQ = ("bullmq@~6.7.0", "ioredis@~5.8.0")
PLAIN, FULL, BULLMQ_NAME = "ours", "ours, all switched on", "bullmq"
REMOTE = "ours, worker over WebSocket"
OURS = (PLAIN, FULL)
NAMES = (*OURS, REMOTE, "saq", "arq", "rq", BULLMQ_NAME)
# More arguments of a queue's benchmark.
MORE = {FULL: ["full"], BULLMQ_NAME: [str(ENVIRONMENTS / "bullmq")]}


def prepare(name: str) -> list[str]:
    """Return the command that runs one queue's benchmark. Raise LookupError with why it cannot."""
    if name in OURS:
        return [sys.executable, "-m", "benchmarks.queues.ours"]
    if name == REMOTE:
        return [sys.executable, "-m", "benchmarks.queues.remote"]
    if name == BULLMQ_NAME:
        return _prepare_node()
    folder = ENVIRONMENTS / name
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*pip, *PACKAGES[name]], check=False).returncode:
        raise LookupError(f"{PACKAGES[name][0]} cannot be installed")
    return [python, "-m", f"benchmarks.queues.{name}_queue"]


def _prepare_node() -> list[str]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise LookupError("there is no Node")
    folder = ENVIRONMENTS / "bullmq"
    folder.mkdir(parents=True, exist_ok=True)
    install = [npm, "install", "--silent", "--no-audit", "--prefix", str(folder), *BULLMQ]
    if subprocess.run(install, check=False, stdout=subprocess.DEVNULL).returncode:
        raise LookupError(f"{BULLMQ[0]} cannot be installed")
    return [node, str(ROOT / "benchmarks" / "queues" / "bullmq_queue.mjs")]


@contextmanager
def redis_server() -> Iterator[str]:
    """Run a Redis without persistence on a loopback port."""
    with tempfile.TemporaryDirectory() as folder:
        port = random.randrange(20000, 30000)
        command = [find_redis_server(), "--port", str(port), "--save", "", "--dir", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        url = f"redis://127.0.0.1:{port}/0"
        try:
            with Redis.from_url(url, retry=Retry(ConstantBackoff(0.05), 200)) as redis:
                redis.ping()
            yield url
        finally:
            process.kill()
            process.wait()


def measure(
    command: list[str], url: str, jobs: int, concurrency: int, more: Sequence[str] = ()
) -> dict[str, float]:
    """Run one benchmark on an empty Redis; return its rates [jobs/s]."""
    with Redis.from_url(url) as redis:
        redis.flushall()
    arguments = [url, str(jobs), str(concurrency), *more]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [*command, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=600
    )
    if ran.returncode:
        raise LookupError(ran.stderr.strip().splitlines()[-1])
    rates: dict[str, float] = json.loads(ran.stdout.strip().splitlines()[-1])
    return rates


def compare(url: str, jobs: int, concurrency: int, rounds: int) -> tuple[list[str], list[str]]:
    """Run all queues in turn; return the table's lines and why some are not in it."""
    commands, skipped = {}, []
    for name in NAMES:
        try:
            commands[name] = prepare(name)
        except LookupError as reason:
            skipped.append(f"- {name} was skipped: {reason}")
    rates: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name in random.sample(list(commands), len(commands)):
            found = measure(commands[name], url, jobs, concurrency, MORE.get(name, ()))
            rates[name].append(found)
            print(name, {key: round(rate) for key, rate in rates[name][-1].items()}, flush=True)
    return list(_table(rates)), skipped


def _table(rates: dict[str, list[dict[str, float]]]) -> Iterator[str]:
    yield "| queue | enqueue [1/s] | process [1/s] | ours to it | all switched on, to it |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    medians = {
        name: {key: statistics.median([one[key] for one in found]) for key in found[0]}
        for name, found in rates.items()
    }
    for name, median in medians.items():
        rates_of = [f"{median[key]:.0f}" for key in RATES]
        ratios = [" / ".join(_ratios(medians[own], median)) for own in OURS]
        yield f"| {name} | {' | '.join([*rates_of, *ratios])} |"


def _ratios(ours: dict[str, float], median: dict[str, float]) -> Iterator[str]:
    return (f"{ours[key] / median[key]:.1f}" for key in RATES)


def main() -> None:
    """Read the arguments, measure, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with redis_server() as url:
        table, skipped = compare(url, options.jobs, options.concurrency, options.rounds)
        waits = asyncio.run(latency.measure(url))
        share = idle.measure(url)
        rates = asyncio.run(scale.measure(url))
        tenant_waits = asyncio.run(tenants.measure(url))
    lines = [
        "# The queue, measured",
        "",
        f"`make bench-queue`: {options.jobs} no-op jobs, concurrency {options.concurrency}, "
        f"medians of {options.rounds} rounds; {os.cpu_count()} cores, "
        f"Python {platform.python_version()}. "
        "One process each, and a server for the worker over WebSocket; RQ runs one job at a time, "
        "in its SimpleWorker. "
        "Ratios: enqueue / process.",
        f"“{FULL}”: four kinds with steps, five priorities, keys, limits and rates.",
        "",
        *table,
        *(["", *skipped] if skipped else []),
        "",
        *latency.describe(waits),
        "",
        *idle.describe(share),
        "",
        *scale.describe(rates),
        "",
        *tenants.describe(tenant_waits),
    ]
    RESULTS.write_text("\n".join(lines) + "\n")
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
