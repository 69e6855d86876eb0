"""A process that does nothing but fire schedules, to be killed.

python -m tests.schedule_process REDIS_URL
"""

import asyncio
import sys

from services.queue import NewTask, QueueService
from services.schedules import ScheduleRunner
from services.submissions import TaskRequest
from tests.queueing import new
from tornado_rt.redis import open_redis


async def make(request: TaskRequest) -> NewTask:
    """Make a task of any kind there is."""
    return new(request.kind, request.params, kind=request.kind)


async def main(url: str) -> None:
    """Fire until killed."""
    async with open_redis(url) as redis:
        await ScheduleRunner(QueueService(redis, max_waiting_per_user=0), make).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
