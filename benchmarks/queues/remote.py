"""No-op jobs through this queue, run by a worker that has only the address of a server.

    python -m benchmarks.queues.remote REDIS_URL JOBS CONCURRENCY

The server is another process, without a worker of its own. It would make a notification of each
end, which the other queues of the benchmark do not: these tasks make none. The worker says how
tasks have ended in frames of as many as there are at the time.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import orjson
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from benchmarks.programs import free_port, running_product, token
from benchmarks.queues import report, spread
from benchmarks.queues.ours import USERS
from services.queue import Job, KindEntry, NewTask, QueueService
from tornado_rt.garbage import collect_seldom
from tornado_rt.redis import open_redis

KIND = {"kind": "no-op", "params_schema": {"type": "object"}}


class NoOpWorker:
    """A worker whose tasks end as soon as they have come. One ack is under way at a time."""

    def __init__(self, url: str, token: str) -> None:
        self._request = HTTPRequest(
            url.replace("http", "ws") + "/api/ws/worker",
            headers={"Authorization": f"Bearer {token}"},
        )
        self._ended: list[dict[str, Any]] = []
        self._is_telling = False
        self.done = 0

    async def open(self, slots: int) -> None:
        """Connect, and say what it does."""
        self._socket = await websocket_connect(self._request)
        await self._say("work", {"worker_id": "bench", "kinds": [KIND], "slots": slots})
        await self._next("working")

    async def run(self, jobs: int) -> None:
        """Run this many jobs."""
        while self.done < jobs:
            frame = await self._next("tasks", "acked")
            items = frame["data"]["items"]
            if frame["type"] == "acked":
                self.done += len(items)
                self._is_telling = False
            else:
                self._ended += [
                    {"task_id": one["task_id"], "token": one["token"], "outcome": "completed"}
                    for one in items
                ]
            if self._ended and not self._is_telling:
                ended, self._ended, self._is_telling = self._ended, [], True
                await self._say("ack", {"items": ended})

    async def _say(self, type_: str, data: dict[str, Any]) -> None:
        await self._socket.write_message(orjson.dumps({"type": type_, "data": data}).decode())

    async def _next(self, *types: str) -> Any:
        while True:
            text = await self._socket.read_message()
            assert text is not None, self._socket.close_code
            frame = orjson.loads(text)
            assert frame["type"] != "error", frame
            if frame["type"] in types:
                return frame


async def main(redis_url: str, jobs: int, concurrency: int) -> None:
    """Enqueue all, then process all."""
    collect_seldom()
    limits: dict[str, Any] = {
        "queue_user_limit": "0",
        "queue_global_limit": "0",
        "queue_max_waiting_per_user": "0",
    }
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        running_product(Path(folder), port, redis_url=redis_url, **limits),
    ):
        worker = NoOpWorker(f"http://127.0.0.1:{port}", token("bench", "rt:work"))
        async with open_redis(redis_url) as redis:
            queue = QueueService(redis, user_limit=0, global_limit=0, max_waiting_per_user=0)
            await queue.register_kinds([KindEntry(kind="no-op")])
            new = NewTask(
                kind="no-op", job=Job(label="no-op"), first=b'"progress":0.0', notify=False
            )

            async def enqueue(number: int) -> None:
                await queue.enqueue_task(f"user{number % USERS}", new)

            began = time.perf_counter()
            await spread(enqueue, jobs, concurrency)
            enqueued = time.perf_counter()
            await worker.open(concurrency)
            await worker.run(jobs)
            processed = time.perf_counter()
    report(jobs, enqueued - began, processed - enqueued)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
