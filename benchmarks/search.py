"""Search over all tasks: how long it takes, and the memory that its index takes.

    python -m benchmarks.search [--tasks N ...]

Fills a redis-server of its own with tasks of 1,000 users, 20 kinds, 50 tags, and labels of a number
and some of 2,000 words; a tenth has ended, one in 20 of these failed. Asks each question many
times, the first page of 50; the table goes to `benchmarks/results/search.md`.
"""

import argparse
import asyncio
import platform
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from services.queue import Ack, Job, NewTask, Outcome, QueueService, Search, TaskState
from tornado_rt.redis import open_redis
from tornado_rt.stores import find_redis_server

FILE = Path(__file__).resolve().parent / "results" / "search.md"
SIZES = (10_000, 1_000_000)
USERS, KINDS, TAGS, WORDS = 1_000, 20, 50, 2_000
BATCH, ROUNDS, CLAIMED = 500, 20, 50
ENDED_SHARE, FAILED_SHARE = 0.1, 0.05
RARE = "quetzalcoatl"


@contextmanager
def running_redis() -> Iterator[tuple[str, int]]:
    """Run a redis-server on a socket of its own; yield its URL and process id."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "redis.sock"
        command = [str(find_redis_server()), "--port", "0", "--unixsocket", str(path)]
        process = subprocess.Popen([*command, "--save", "", "--logfile", f"{path}.log"])
        try:
            while not path.exists():
                time.sleep(0.01)
            yield f"unix://{path}", process.pid
        finally:
            process.terminate()
            process.wait()


def make_tasks(random_: random.Random, kind: str, count: int, first: int) -> list[NewTask]:
    """Return tasks of one kind with labels and tags of their own."""
    found = []
    for number in range(first, first + count):
        words = " ".join(f"word{int(random_.paretovariate(0.6)) % WORDS}" for _ in range(3))
        label = f"Order {number} {words}" + (f" {RARE}" if number == 77 else "")
        job = Job(label=label, params={"number": number}, tags=(f"tag{number % TAGS}",))
        found.append(NewTask(kind=kind, job=job, first=b'"progress":0.0'))
    return found


async def fill(queue: QueueService, tasks: int) -> None:
    """Make tasks, and end a tenth of them."""
    random_ = random.Random(7)
    for first in range(0, tasks, BATCH):
        kind = f"kind{first // BATCH % KINDS}"
        user = f"user{random_.randrange(USERS)}"
        await queue.create_batch(user, make_tasks(random_, kind, BATCH, first))
    kinds, acks, ended = [f"kind{number}" for number in range(KINDS)], list[Ack](), 0
    while ended < tasks * ENDED_SHARE:
        claims = (await queue.claim("bench", CLAIMED, acks, kinds=kinds)).claims
        acks = [_end(random_, claim.task.task_id, claim.token) for claim in claims]
        ended += len(acks)
    await queue.claim("bench", 0, acks, kinds=())


def _end(random_: random.Random, task_id: str, token: str) -> Ack:
    if random_.random() < FAILED_SHARE:
        error = f"timeout of host{random_.randrange(100)} after 30 s"
        return Ack(task_id, token, Outcome.FAILED, error=error)
    return Ack(task_id, token, Outcome.COMPLETED, result={})


def questions(task_id: str) -> dict[str, Search]:
    """Return what is asked, by its name."""
    failed, completed = (TaskState.FAILED,), (TaskState.COMPLETED,)
    return {
        "everything": Search(),
        "an id": Search(words=task_id),
        "a user": Search(user="user7"),
        "a kind": Search(kind="kind7"),
        "a user and a kind": Search(user="user7", kind="kind7"),
        "a tag": Search(tag="tag7"),
        "failed": Search(statuses=failed),
        "completed, which are the oldest": Search(statuses=completed),
        "running": Search(statuses=(TaskState.PROCESSING,)),
        "queued": Search(statuses=(TaskState.QUEUED,)),
        "a number in a label": Search(words="1234"),
        "a frequent word": Search(words="word1"),
        "a rare word": Search(words=RARE),
        "a rare and a frequent word": Search(words=f"order {RARE}"),
        "two frequent words": Search(words="word1 word2"),
        "two frequent words that never meet": Search(words="order timeout", statuses=completed),
        "a word that nothing has": Search(words="nothing-like-this"),
        "a word of an error": Search(words="host7"),
        "a user, failed, a word of an error": Search(
            user="user7", statuses=failed, words="timeout"
        ),
        "made in a time": Search(since=1.0, until=time.time() - 5.0, kind="kind3"),
    }


def cpu_of(pid: int) -> float:
    """Return how long a process has run on a processor [ms]."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e6


@attrs.frozen
class Measured:
    """A question's times [ms], that of Redis on its processor beside those on the clock."""

    p50: float
    most: float
    redis: float
    hits: int
    is_whole: bool

    def cells(self) -> str:
        """Return the cells of the table."""
        more = "" if self.is_whole else "+"
        return f"{self.p50:.1f} | {self.most:.1f} | {self.redis:.1f} | {self.hits}{more}"


async def ask(queue: QueueService, wanted: Search, pid: int) -> Measured:
    """Ask a question many times."""
    times, on_processor = [], []
    for _ in range(ROUNDS):
        start, cpu = time.perf_counter(), cpu_of(pid)
        page = await queue.search(wanted)
        times.append((time.perf_counter() - start) * 1000)
        on_processor.append(cpu_of(pid) - cpu)
    middle, cpu = statistics.median(times), statistics.median(on_processor)
    return Measured(middle, max(times), cpu, len(page.items), page.next is None)


async def measure(tasks: int) -> tuple[str, dict[str, Measured]]:
    """Return what the memory is, and what was measured of each question."""
    with running_redis() as (url, pid):
        async with open_redis(url) as redis:
            bounds: dict[str, Any] = {"user_limit": 0, "global_limit": 0, "kept_per_user": 0}
            queue = QueueService(redis, max_waiting_per_user=0, **bounds)
            await queue.register_kinds()
            empty = (await redis.info("memory"))["used_memory"]
            began = time.monotonic()
            await fill(queue, tasks)
            took = time.monotonic() - began
            whole = (await redis.info("memory"))["used_memory"] - empty
            [newest] = (await queue.search(Search(limit=1))).items
            found = {}
            for name, wanted in questions(newest.task_id).items():
                found[name] = await ask(queue, wanted, pid)
                print(tasks, name, found[name].cells(), flush=True)
            index = await _index_bytes(redis)
            told = (
                f"{tasks:,} tasks: {whole / tasks:,.0f} bytes a task, of which the index takes "
                f"{index / tasks:,.0f}; filled in {took:.0f} s"
            )
            await queue.close()
            return told, found


async def _index_bytes(redis: Any) -> int:
    """Return what the index takes."""
    taken = 0
    for match in ("{rtq}:found*", "{rtq}:shelf*"):
        async for name in redis.scan_iter(match=match, count=5000):
            taken += await redis.memory_usage(name, samples=0)
    return taken


async def main() -> None:
    """Measure each size, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tasks", type=int, nargs="+", default=SIZES)
    sizes = parser.parse_args().tasks
    results = [await measure(tasks) for tasks in sizes]
    heads = [f"{tasks:,}: p50 | most [ms] | Redis | hits" for tasks in sizes]
    lines = [
        "# Search over all tasks",
        "",
        f"`python -m benchmarks.search`, {platform.processor() or platform.machine()}, "
        f"redis-server on a Unix socket, {ROUNDS} rounds. The first page of 50, `+`: more; "
        "`Redis`: its time on a processor, p50 [ms].",
        "",
        *(f"- {told}" for told, _ in results),
        "",
        f"| question | {' | '.join(heads)} |",
        f"| --- | {' | '.join('---: | ---: | ---: | ---:' for _ in sizes)} |",
    ]
    for name in results[0][1]:
        cells = " | ".join(found[name].cells() for _, found in results)
        lines.append(f"| {name} | {cells} |")
    FILE.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    asyncio.run(main())
