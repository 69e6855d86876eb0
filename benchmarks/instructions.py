"""Instructions that Redis needs for a task, at one and at twenty tasks a script.

    python -m benchmarks.instructions [TREE ...]

Needs valgrind. Runs redis-server in callgrind, which counts what the processor does and no time:
the count is the same on a busy machine. Each TREE is a checkout of the product, by default this
one; so two versions are compared in one run. Tasks are submitted, or submitted, claimed and ended.
"""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from redis import Redis

from services.queue import Ack, Job, KindEntry, NewTask, Outcome, QueueService
from tornado_rt.redis import open_redis
from tornado_rt.stores import find_redis_server

JOBS, USERS = 600, 10
SIZES = (1, 20)
START_SECONDS = 60.0
# Callgrind prints this at its end.
COLLECTED = re.compile(r"Collected : (\d+)")
KIND = "no-op"


async def work(url: str, jobs: int, together: int, ends: bool) -> None:
    """Submit tasks, `together` in a script; then claim and end them, as many in a script."""
    async with open_redis(url) as redis:
        queue = QueueService(redis, user_limit=0, global_limit=0, max_waiting_per_user=0)
        await queue.register_kinds([KindEntry(kind=KIND)])
        new = NewTask(kind=KIND, job=Job(label=KIND), first=b'"progress":0.0')
        for first in range(0, jobs, together):
            numbers = range(first, first + together)
            await asyncio.gather(*(queue.enqueue_task(f"user{n % USERS}", new) for n in numbers))
        acks: list[Ack] = []
        while ends and (acks or jobs):
            claims = (await queue.claim("bench", together, acks, kinds=[KIND])).claims
            acks = [Ack(one.task.task_id, one.token, Outcome.COMPLETED) for one in claims]
            jobs -= len(claims)


def count(tree: Path, *arguments: str) -> int:
    """Return the instructions of a Redis that some work is done on."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "redis.sock"
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        # Callgrind would count a wrapper in the program's place.
        server = os.path.realpath(find_redis_server())
        command = [*valgrind, server, "--port", "0", "--unixsocket", str(path), "--save", ""]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as redis:
            deadline = time.monotonic() + START_SECONDS
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            program = [
                sys.executable,
                "-P",
                str(Path(__file__).resolve()),
                "--work",
                f"unix://{path}",
            ]
            own = os.environ | {"PYTHONPATH": str(tree.resolve())}
            subprocess.run([*program, *arguments], cwd=tree, env=own, check=True)
            Redis(unix_socket_path=str(path)).shutdown(nosave=True)
            told = redis.communicate()[1]
        found = COLLECTED.search(told.decode())
        assert found is not None, told
        return int(found[1])


def main(trees: list[Path]) -> None:
    """Print thousands of instructions a task, a line for each tree."""
    print("| version | tasks a script | a submission | a run |\n| --- | ---: | ---: | ---: |")
    for tree in trees:
        for together in SIZES:
            idle, added, ended = (
                count(tree, str(jobs), str(together), ends)
                for jobs, ends in ((0, ""), (JOBS, ""), (JOBS, "ends"))
            )
            costs = [(added - idle) / JOBS / 1000, (ended - added) / JOBS / 1000]
            name = tree.resolve().name
            print(f"| {name} | {together} | {costs[0]:.0f} k | {costs[1]:.0f} k |", flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        url, jobs, together, ends = sys.argv[2:]
        asyncio.run(work(url, int(jobs), int(together), bool(ends)))
    else:
        main([Path(one) for one in sys.argv[1:]] or [Path()])
