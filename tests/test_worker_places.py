"""A worker that has more places than the limits let it use says so when it starts."""

from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from services.queue import ALL_KINDS, QueueService
from services.worker import warn_of_idle_places


@pytest.mark.gen_test
@pytest.mark.parametrize(
    ("limit", "changed", "concurrency", "told"),
    [
        (3, {}, 4, [(4, 3)]),
        (3, {}, 3, []),
        (0, {}, 50, []),
        # A limit that an admin has set holds.
        (3, {"global_limit": 8}, 8, []),
        (10, {"global_limit": 2}, 8, [(8, 2)]),
    ],
)
async def test_worker_with_places_that_stay_idle_says_so(
    redis: Redis, limit: int, changed: dict[str, Any], concurrency: int, told: list[Any]
) -> None:
    queue = QueueService(redis, user_limit=0, global_limit=limit)
    await queue.register_kinds([])
    if changed:
        await queue.set_limits(ALL_KINDS, changed)
    with capture_logs() as logged:
        await warn_of_idle_places(queue, concurrency)
    await queue.close()
    assert [(one["concurrency"], one["global_limit"]) for one in logged] == told
    assert {one["event"] for one in logged} <= {"places_stay_idle"}
